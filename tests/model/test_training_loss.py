"""The training loss against the naive oracle, value and gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sled_tts.model.errors import ModelError
from sled_tts.model.sled import Sled
from sled_tts.model.training.layout import PromptSpan, compact_streaming_layout, layout_for
from sled_tts.model.training.losses import condition_states, drop_text, energy_distance, sled_loss
from tests.model.factories import TINY, tiny, token_ids
from tests.reference import NaiveSled

Sizes = list[tuple[int, int]]


def _batch(sizes: Sizes, seed: int, *, left: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Padded ids, text mask, latents, speech mask and two noise draws; padding holds rubbish."""
    rng = torch.Generator().manual_seed(seed)
    texts, frames = max(t for t, _ in sizes), max(s for _, s in sizes)
    ids = torch.ones(len(sizes), texts, dtype=torch.long)
    text_mask = torch.zeros(len(sizes), texts, dtype=torch.bool)
    speech_mask = torch.zeros(len(sizes), frames, dtype=torch.bool)
    for row, (length, count) in enumerate(sizes):
        span = slice(texts - length, texts) if left else slice(0, length)
        ids[row, span] = torch.tensor(token_ids(length, seed + row))
        text_mask[row, span] = True
        speech_mask[row, :count] = True
    latents = torch.randn(len(sizes), frames, 10, generator=rng)
    noise = (
        torch.randn(len(sizes), frames, 6, generator=rng),
        torch.randn(len(sizes), frames, 6, generator=rng),
    )
    return ids, text_mask, latents, speech_mask, noise


def _assert_matches_oracle(model: Sled, batch: tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]) -> None:
    config = model.config
    state = {k: v.detach().double().requires_grad_() for k, v in model.state_dict().items()}
    energy, stop = NaiveSled(TINY, state).loss(*batch, config.stream_n, config.stream_m)
    (energy + stop).backward()  # type: ignore[no-untyped-call]
    parts = sled_loss(model, *batch)
    parts.loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(parts.energy.double(), energy, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts.stop.double(), stop, atol=1e-4, rtol=1e-4)
    for name, parameter in model.named_parameters():
        want = state[name].grad
        got = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        torch.testing.assert_close(
            got.double(),
            torch.zeros_like(state[name]) if want is None else want,
            atol=1e-3,
            rtol=1e-3,
            msg=name,
        )


sizes_of = st.lists(st.tuples(st.integers(2, 9), st.integers(1, 9)), min_size=1, max_size=3)
drops = st.lists(st.booleans(), min_size=3, max_size=3)


@settings(max_examples=15, deadline=None)
@given(sizes_of, st.integers(1, 4), st.integers(1, 4), drops, st.integers(0, 50))
def test_streaming(sizes: Sizes, n: int, m: int, dropped: list[bool], seed: int) -> None:
    model, _ = tiny(seed, stream_n=n, stream_m=m)
    ids, text_mask, *rest = _batch(sizes, seed, left=False)
    ids, text_mask = drop_text(ids, text_mask, torch.tensor(dropped[: len(sizes)]), streaming=True, eos=2)
    _assert_matches_oracle(model, (ids, text_mask, *rest))  # type: ignore[arg-type]


@settings(max_examples=10, deadline=None)
@given(sizes_of, drops, st.integers(0, 50))
def test_offline(sizes: Sizes, dropped: list[bool], seed: int) -> None:
    model, _ = tiny(seed)
    ids, text_mask, *rest = _batch(sizes, seed, left=True)
    ids, text_mask = drop_text(ids, text_mask, torch.tensor(dropped[: len(sizes)]), streaming=False, eos=2)
    _assert_matches_oracle(model, (ids, text_mask, *rest))  # type: ignore[arg-type]


def test_compact_rows_do_not_depend_on_their_batch() -> None:
    """Laid out compactly, a row's states are those it has alone; in the reference's layout they are not."""
    sizes = [(11, 7), (4, 9), (6, 3)]
    model, _ = tiny(3, stream_n=3, stream_m=2)
    ids, text_mask, latents, speech_mask, noise = _batch(sizes, 1, left=False)
    differs = False
    for compact in (True, False):
        together = sled_loss(model, ids, text_mask, latents, speech_mask, noise, compact=compact).z
        for row, (length, frames) in enumerate(sizes):
            one = slice(row, row + 1)
            alone = sled_loss(
                model,
                ids[one, :length],
                text_mask[one, :length],
                latents[one, :frames],
                speech_mask[one, :frames],
                (noise[0][one, :frames], noise[1][one, :frames]),
                compact=compact,
            ).z[0]
            same = torch.allclose(together[row, : frames + 1], alone, atol=1e-5)
            assert same or not compact
            differs |= not same
    assert differs


def test_compact_condition_is_the_position_before_the_frame() -> None:
    layout = compact_streaming_layout([5, 2], [3, 4], 2, 2)
    assert layout.text_index.tolist() == [[0, 1, -1, -1, 2, 3, -1, 4], [0, 1, -1, -1, -1, -1, -1, -1]]
    assert layout.speech_index.tolist() == [[-1, -1, 0, 1, -1, -1, 2, -1], [-1, -1, 0, 1, 2, 3, -1, -1]]
    assert layout.condition.tolist() == [[1, 2, 5, 6, 0], [1, 2, 3, 4, 5]]
    assert layout.attention_mask.sum(1).tolist() == [8, 6]


def test_energy_distance_of_one_dimension_by_hand() -> None:
    a, b, y = torch.tensor([[3.0]]), torch.tensor([[-1.0]]), torch.tensor([[1.0]])
    assert energy_distance(a, b, y).tolist() == [0.0]
    assert energy_distance(a, b, y, repulsion=False).tolist() == [4.0]
    assert energy_distance(a, a, y).tolist() == [4.0]


def test_smoothing_keeps_the_gradient_finite_where_samples_coincide() -> None:
    same = torch.zeros(1, 4, requires_grad=True)
    energy_distance(same, same * 1.0, torch.zeros(1, 4), smooth=1e-6).sum().backward()  # type: ignore[no-untyped-call]
    assert same.grad is not None
    assert bool(torch.isfinite(same.grad).all())


def test_the_energy_score_prefers_the_true_distribution() -> None:
    """A proper score: samples of the data's own distribution score better than shifted or collapsed ones."""
    rng = torch.Generator().manual_seed(0)
    draw = torch.randn(3, 20_000, 4, generator=rng)
    true = energy_distance(draw[0], draw[1], draw[2]).mean()
    assert energy_distance(draw[0] + 0.5, draw[1] + 0.5, draw[2]).mean() > true + 0.05
    assert energy_distance(draw[0] * 0.0, draw[1] * 0.0, draw[2]).mean() > true + 0.05


def test_rubbish_in_padding_changes_nothing() -> None:
    model, _ = tiny(3, stream_n=3, stream_m=2)
    ids, text_mask, latents, speech_mask, noise = _batch([(11, 7), (4, 3)], 1, left=False)
    clean = sled_loss(model, ids, text_mask, latents, speech_mask, noise).loss
    dirty_latents = torch.where(speech_mask[..., None], latents, 1e6)
    dirty_ids = torch.where(text_mask, ids, 33)
    dirty = sled_loss(model, dirty_ids, text_mask, dirty_latents, speech_mask, noise).loss
    torch.testing.assert_close(clean, dirty)


def test_training_learns_one_sentence() -> None:
    """From the published initialisation, dropout on, one repeated batch is learnt."""
    torch.manual_seed(0)
    model = tiny(0, stream_n=3, stream_m=4)[0]
    model.init_weights()
    model.train()
    ids, text_mask, latents, speech_mask, _ = _batch([(7, 9), (5, 6)], 1, left=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(150):
        noise = (torch.randn(2, 9, 6), torch.randn(2, 9, 6))
        parts = sled_loss(model, ids, text_mask, latents, speech_mask, noise, smooth=1e-6)
        optimizer.zero_grad()
        parts.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append(float(parts.loss.detach()))
    assert sum(history[-10:]) / 10 < 0.6 * history[0]


@pytest.mark.parametrize("streaming", [True, False])
def test_dropping_keeps_only_the_end_of_text(streaming: bool) -> None:
    ids, text_mask, *_ = _batch([(5, 2), (3, 2)], 1, left=not streaming)
    got_ids, got_mask = drop_text(ids, text_mask, torch.tensor([False, True]), streaming=streaming, eos=2)
    assert torch.equal(got_ids[0], ids[0])
    assert torch.equal(got_mask[0], text_mask[0])
    assert got_mask[1].sum() == 1
    assert got_ids[1][got_mask[1]].tolist() == [2]


def test_a_prompt_is_a_fixed_prefix_of_its_row() -> None:
    """What a prompt's positions hold, and the states on them, do not depend on the text that follows."""
    model, _ = tiny(seed=5, stream_n=2, stream_m=3)
    told, prompt, generator = [1, 7, 8, 9], torch.randn(5, TINY["vae_embed_dim"]), torch.Generator().manual_seed(1)
    states = []
    for target in ([11, 12, 2], [13, 14, 15, 16, 17, 2]):
        ids = torch.tensor([told + target])
        latents = torch.cat([prompt, torch.randn(9, prompt.shape[1], generator=generator)])[None]
        layout = layout_for(
            model.config,
            torch.ones_like(ids, dtype=torch.bool),
            torch.ones(latents.shape[:2], dtype=torch.bool),
            compact=True,
            prompts=[PromptSpan(len(told), len(prompt))],
        )
        assert layout.text_index[0, :9].tolist() == [0, 1, -1, -1, -1, 2, 3, -1, -1]
        assert layout.text_index[0, 9:14].tolist() == [4, 5, -1, -1, -1], "the turns start afresh"
        assert layout.condition[0, 5] == 10, "the target's first frame follows its first n tokens"
        states.append(condition_states(model, ids, latents, layout)[0, :5])
    torch.testing.assert_close(states[0], states[1])


def test_prompts_are_refused_where_the_layout_has_no_place_for_them() -> None:
    mask = torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(ModelError, match="streaming layout"):
        layout_for(tiny(5)[0].config, mask, mask, compact=True, prompts=[PromptSpan(1, 1)])
    with pytest.raises(ModelError, match="compact"):
        layout_for(tiny(5, stream_n=2, stream_m=3)[0].config, mask, mask, prompts=[PromptSpan(1, 1)])
