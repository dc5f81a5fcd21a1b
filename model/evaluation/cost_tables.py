"""Tables 4, 6 and 7: what speaking costs, in operations, in time by part, and in batches.

Times are processor time, which a busy machine changes less than the clock; on an idle one with one thread they are the
same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sled_tts.model.checkpoint import load_bundle
from sled_tts.model.codec.codec import Codec
from sled_tts.model.codec.config import CodecConfig
from sled_tts.model.config import GeneratorConfig, SledConfig
from sled_tts.model.evaluation import published
from sled_tts.model.evaluation.drawing import Drawing, Panel
from sled_tts.model.evaluation.flops import StepFlops, decoder_flops, speaking_flops
from sled_tts.model.evaluation.page import Column, Page
from sled_tts.model.generation import GenerationRequest, generate, seeded_noise
from sled_tts.model.kv_cache import KVCache
from sled_tts.model.sled import Sled

PUBLISHED = "published"
_TEXT_TOKENS = 40
# What a paper's figure "for 10 s of audio" is taken over.
_LONG_S = 10.0
# Frames of a chunk after the first, as the server begins.
_CHUNK = 4


def published_shape() -> tuple[SledConfig, CodecConfig]:
    """The released offline checkpoint (203.6 M parameters) and its codec."""
    config = SledConfig(
        hidden_size=1024, intermediate_size=2752, num_hidden_layers=12, num_attention_heads=16, vocab_size=16384,
        latent_dim=128, generator=GeneratorConfig(depth=6, width=1024, noise_channels=128),
    )  # fmt: skip
    return config, CodecConfig()


@dataclass(frozen=True)
class Subject:
    """A network and its codec, whose costs are asked for."""

    name: str
    sled: Sled
    codec: Codec

    @classmethod
    def of(cls, spec: str, seed: int) -> Subject:
        """A checkpoint, or for `published` its shape with random weights, whose speed is the same."""
        if spec != PUBLISHED:
            bundle = load_bundle(spec)
            return cls(bundle.name, bundle.sled, bundle.codec)
        config, codec = published_shape()
        torch.manual_seed(seed)
        sled = Sled(config)
        sled.init_weights()
        return cls("published shape", sled.prepare_for_inference(), Codec(codec).eval().requires_grad_(False))

    @property
    def frame_rate(self) -> float:
        return self.codec.config.frame_rate

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.sled.parameters())

    def random_text(self, seed: int) -> list[int]:
        """`<s> ... </s>` of 40 ids."""
        rng = torch.Generator().manual_seed(seed)
        vocabulary = self.sled.config.vocab_size
        return [0, *torch.randint(4, vocabulary, (_TEXT_TOKENS - 2,), generator=rng).tolist(), 2]


@dataclass(frozen=True)
class Split:
    """Processor seconds: reading a text of 40 tokens, then a frame's backbone (both rows), generator and decoding, and
    the first chunk (text, the frames that exact decoding needs, and their decoding)."""

    prefill: float
    backbone: float
    generator: float
    decode: float
    first_chunk: float

    def rtf(self, frame_rate: float) -> float:
        """Processor seconds for a second of speech."""
        return (self.backbone + self.generator + self.decode) * frame_rate


@torch.inference_mode()
def measure_split(subject: Subject, frames: int, seed: int) -> Split:
    """Speak `frames` guided frames of random tokens, text first, timing each part."""
    sled, codec = subject.sled, subject.codec
    decoder, first_frames = codec.streaming_decoder(1), codec.config.first_chunk_frames
    cache = KVCache.allocate(sled.config, 2, _TEXT_TOKENS + frames + 1)
    noise = seeded_noise(seed, sled.config.generator.noise_channels)
    spent = dict.fromkeys(("prefill", "backbone", "generator", "decode"), 0.0)

    def timed(part: str, work: Callable[[], Tensor]) -> Tensor:
        began = time.process_time()
        made = work()
        spent[part] += time.process_time() - began
        return made

    def read_text() -> Tensor:
        ids = torch.tensor(subject.random_text(seed))
        both = torch.cat([sled.embed_text(ids), sled.embed_text(ids[-1:])])
        out: Tensor = sled(both, cache, [0, 1], [_TEXT_TOKENS, 1])[[_TEXT_TOKENS - 1, _TEXT_TOKENS]]
        return out

    def decode_chunk(latents: Tensor) -> Tensor:
        return decoder.decode([latents], [0])[0]

    def read_frame(latent: Tensor) -> Tensor:
        out: Tensor = sled(sled.embed_speech(latent.expand(2, -1)), cache, [0, 1], [1, 1])
        return out

    hidden, waiting, first_chunk, decoded = timed("prefill", read_text), list[Tensor](), 0.0, 0
    for frame in range(frames):
        z = hidden[1:] + 2.0 * (hidden[:1] - hidden[1:])
        latent = timed("generator", partial(sled.generator, z, noise(frame)[None]))
        waiting.append(latent)
        if len(waiting) == (_CHUNK if decoded else first_frames):
            timed("decode", partial(decode_chunk, torch.cat(waiting)))
            decoded, waiting = decoded + len(waiting), []
            first_chunk = first_chunk or sum(spent.values())
        if frame + 1 < frames:
            hidden = timed("backbone", partial(read_frame, latent))
    return Split(
        spent["prefill"], spent["backbone"] / (frames - 1), spent["generator"] / frames,
        spent["decode"] / max(decoded, 1), first_chunk,
    )  # fmt: skip


def batch_rtf(subject: Subject, batch: int, frames: int, seed: int) -> float:
    """Processor seconds for a second of speech when `batch` texts are spoken together, codec included."""
    channels = subject.sled.config.generator.noise_channels
    requests = [
        GenerationRequest(subject.random_text(seed + row), seeded_noise(seed + row, channels), frames)
        for row in range(batch)
    ]
    began = time.process_time()
    made = generate(subject.sled, requests, ignore_stop=True)
    subject.codec.decode(torch.stack([one.latents for one in made]))
    return (time.process_time() - began) * subject.frame_rate / (batch * frames)


def gflop_rows(subject: Subject) -> dict[str, Any]:
    """GFLOP of 10 s of speech: as the paper counts (one row, no attention, no codec), and all of it."""
    config, frames = subject.sled.config, round(_LONG_S * subject.frame_rate)
    plain = speaking_flops(config, frames, 1, guided=False, attention=False)
    guided = speaking_flops(config, frames, _TEXT_TOKENS)
    return {
        "gflop_10s": plain / 1e9, "gflop_guided": guided / 1e9,
        "gflop_codec": decoder_flops(subject.codec.config, frames) / 1e9,
        "ahead": StepFlops.of(config).modulation * frames / plain,
    }  # fmt: skip


def table_4(subjects: Sequence[Subject], frames: int, seed: int) -> Page:
    """Size, speed and operations."""
    rows = [
        {
            "system": subject.name, "parameters_b": subject.parameters / 1e9,
            "rtf": measure_split(subject, frames, seed).rtf(subject.frame_rate), **gflop_rows(subject),
        }
        for subject in subjects
    ]  # fmt: skip
    columns = (
        Column("system", "network"), Column("parameters_b", "parameters, billions", ".4g"), Column("rtf", "RTF", ".2f"),
        Column("gflop_10s", "GFLOP for 10 s", ".1f"), Column("gflop_guided", "guided, with attention", ".1f"),
        Column("gflop_codec", "codec", ".1f"), Column("ahead", "share that noise alone decides", ".0%"),
    )  # fmt: skip
    notes = [
        "Operations are counted from the configuration, 2 for each multiply-add; the paper's 280 GFLOP are what its "
        "network costs without guidance, attention and codec. Counted by PyTorch's profiler in the tests. RTF: "
        "processor seconds for a second of speech, guided, codec included, fp32; the paper's is of its own hardware.",
    ]
    return Page(
        "table4", "Table 4: size, speed, operations", _speed_scale(subjects, frames), columns, rows, published.TABLE_4,
        notes, Drawing("Operations", [Panel("GFLOP for 10 s", bars={str(r["system"]): r["gflop_10s"] for r in rows})]),
        {"seed": seed},
    )  # fmt: skip


def table_6(subjects: Sequence[Subject], frames: int, seed: int) -> Page:
    """Where the time of a frame goes, and how long the first chunk takes."""
    splits = {subject.name: (measure_split(subject, frames, seed), subject.frame_rate) for subject in subjects}
    rows: list[dict[str, Any]] = [
        {
            "system": name, "first_ms": 1000 * split.first_chunk, "prefill_ms": 1000 * split.prefill,
            "backbone_ms": 1000 * split.backbone, "generator_ms": 1000 * split.generator,
            "decode_ms": 1000 * split.decode, "rtf": split.rtf(rate),
        }
        for name, (split, rate) in splits.items()
    ]  # fmt: skip
    columns = (
        Column("system", "network"), Column("first_ms", "first chunk, ms", ".0f"),
        Column("prefill_ms", "reading 40 tokens, ms", ".1f"), Column("backbone_ms", "backbone a frame, ms", ".2f"),
        Column("generator_ms", "generator a frame, ms", ".2f"), Column("decode_ms", "decoding a frame, ms", ".2f"),
        Column("rtf", "RTF", ".2f"),
    )  # fmt: skip
    parts = ("backbone", "generator", "decode")
    panels = [
        Panel("ms a frame", bars={part: row[f"{part}_ms"] for part in parts}, x_label=name)
        for name, row in zip(splits, rows, strict=True)
    ]
    note = "Guided, batch 1, fp32, no prompt. The paper's figures for this table were not found, so none stand beside."
    return Page(
        "table6", "Table 6: latency by part", _speed_scale(subjects, frames), columns, rows, notes=[note],
        drawing=Drawing("Time of a frame", panels), settings={"seed": seed},
    )  # fmt: skip


def table_7(subjects: Sequence[Subject], batches: Sequence[int], frames: int, seed: int) -> Page:
    """Speed in batches."""
    rows: list[dict[str, Any]] = [
        {"system": subject.name, "batch": batch, "rtf": batch_rtf(subject, batch, frames, seed)}
        for subject in subjects
        for batch in batches
    ]
    lines = {s.name: [(r["batch"], r["rtf"]) for r in rows if r["system"] == s.name] for s in subjects}
    columns = (Column("system", "network"), Column("batch", "batch", "d"), Column("rtf", "RTF", ".3f"))
    note = (
        "RTF: processor seconds for a second of speech over all streams of a batch, guided, codec included, reading "
        f"the text included, {frames} frames each. On the paper's hardware a batch of 64 costs little more than one "
        "stream; a processor core has no such idle arithmetic."
    )
    return Page(
        "table7", "Table 7: batches", _speed_scale(subjects, frames), columns, rows, published.TABLE_7, [note],
        Drawing("Batches", [Panel("RTF", lines, x_label="batch", log_x=True)]), {"seed": seed},
    )  # fmt: skip


def _speed_scale(subjects: Sequence[Subject], frames: int) -> str:
    names = ", ".join(f"{s.name} ({s.parameters / 1e6:.1f} M, {s.frame_rate:g} frames a second)" for s in subjects)
    return f"Scale: {names}; {frames} frames, random text. The published shape has random weights."
