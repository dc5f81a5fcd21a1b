"""Names, sizes and equivalences of the network's parts."""

from __future__ import annotations

import pytest
import torch

from sled_tts.model.config import SledConfig
from sled_tts.model.errors import ConfigError
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.layers import RMSNorm
from sled_tts.model.sled import Sled
from tests.model.factories import TINY, tiny, token_ids

PUBLISHED = {
    "architectures": ["SpeechLlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "dropout": 0.1,
    "bos_token_id": 0,
    "diffloss_d": 6,
    "diffloss_w": 1024,
    "eos_token_id": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 2752,
    "max_position_embeddings": 2048,
    "mlp_bias": False,
    "model_type": "speech_llama",
    "noise_channels": 128,
    "num_attention_heads": 16,
    "num_hidden_layers": 12,
    "num_key_value_heads": 16,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "training_cfg": 0.1,
    "transformers_version": "4.47.0",
    "use_cache": True,
    "vae_embed_dim": 128,
    "vocab_size": 16384,
}


def test_the_published_model_has_the_published_tensors() -> None:
    with torch.device("meta"):
        state = Sled(SledConfig.from_dict(PUBLISHED)).state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 203_631_744
    # The published file's 172nd is the loss's pos_weight.
    assert len(state) == 171
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes["model.embed_tokens.weight"] == (16384, 1024)
    assert shapes["model.layers.11.mlp.down_proj.weight"] == (1024, 2752)
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == (1024, 1024)
    assert shapes["z_proj.weight"] == (1024, 128)
    assert shapes["z_proj_ln.bias"] == (1024,)
    assert shapes["eos_head.weight"] == (1, 1024)
    assert shapes["scoreloss.net.res_blocks.5.adaLN_modulation.1.weight"] == (3072, 1024)
    assert shapes["scoreloss.net.final_layer.linear.weight"] == (128, 1024)
    generator = sum(t.numel() for name, t in state.items() if name.startswith("scoreloss.net."))
    assert generator == 34_912_384


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hiden_size": 3}, "hiden_size"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling"),
        ({"num_key_value_heads": 4}, "num_key_value_heads"),
        ({"head_dim": 128}, "head_dim"),
        ({"stream_n": 5}, "stream_n"),
        ({"stream_n": 0, "stream_m": 45}, "stream_n"),
        ({"hidden_size": 1000, "head_dim": None}, "hidden_size"),
    ],
)
def test_a_configuration_that_means_something_else_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        SledConfig.from_dict(PUBLISHED | change)
    assert caught.value.param == named


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match="vae_embed_dim"):
        SledConfig.from_dict({k: v for k, v in PUBLISHED.items() if k != "vae_embed_dim"})
    with pytest.raises(ConfigError, match="vocab_size"):
        SledConfig.from_dict({k: v for k, v in PUBLISHED.items() if k != "vocab_size"})


def test_configuration_survives_a_round_trip() -> None:
    for extra in ({}, {"stream_n": 5, "stream_m": 45}):
        config = SledConfig.from_dict(PUBLISHED | extra)
        assert SledConfig.from_dict(config.to_dict()) == config
        assert config.is_streaming == bool(extra)


def test_an_absent_pad_token_is_the_published_one() -> None:
    assert SledConfig.from_dict({k: v for k, v in TINY.items() if k != "pad_token_id"}).pad_token_id == 1
    assert SledConfig.from_dict(TINY | {"pad_token_id": None}).pad_token_id == 1


def test_modulation_ahead_of_time_is_exact() -> None:
    model, _ = tiny(1)
    rng = torch.Generator().manual_seed(0)
    z, noise = torch.randn(5, 24, generator=rng), torch.randn(5, 6, generator=rng)
    with torch.inference_mode():
        ahead = model.generator.modulation(noise)
        assert torch.equal(model.generator.from_modulation(z, ahead), model.generator(z, noise))


def test_fusing_changes_neither_the_state_dict_nor_the_sound() -> None:
    model, _ = tiny(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def speak() -> torch.Tensor:
        request = GenerationRequest(token_ids(7, 1), seeded_noise(1, 6), 12)
        return generate(model, [request], n=3, m=2, ignore_stop=True)[0].latents

    plain = speak()
    fused = (model.prepare_for_inference(), speak())[1]
    torch.testing.assert_close(plain, fused, atol=1e-5, rtol=1e-5)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_rms_norm_is_computed_in_fp32() -> None:
    """Values whose squares overflow half precision still normalise."""
    norm = RMSNorm(4, 1e-6).half()
    out = norm(torch.tensor([[1000.0, -1000.0, 1000.0, 1000.0]], dtype=torch.float16))
    torch.testing.assert_close(out, torch.tensor([[1.0, -1.0, 1.0, 1.0]], dtype=torch.float16))


def test_dropout_acts_only_while_training() -> None:
    model, _ = tiny(1, dropout=0.5, attention_dropout=0.5, activation_dropout=0.5)
    embeds = torch.randn(1, 6, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.forward_full(embeds), model.forward_full(embeds))
        model.train()
        assert not torch.equal(model.forward_full(embeds), model.forward_full(embeds))


def test_initialisation_makes_the_generator_silent_and_the_backbone_small() -> None:
    torch.manual_seed(0)
    model = tiny(0)[0]
    model.init_weights()
    with torch.no_grad():
        assert float(model.generator(torch.randn(3, 24), torch.randn(3, 6)).abs().max()) == 0.0
        assert 0.015 < float(model.model.embed_tokens.weight.std()) < 0.025
        assert float(model.z_proj.bias.abs().max()) == 0.0
