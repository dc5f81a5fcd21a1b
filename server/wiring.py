"""Puts the parts together: checkpoints, an engine thread for each, and the door the routes use.

Each loaded checkpoint has its own runner, slots and thread: their shapes share no batch, and a long offline prefill
then never holds back a step of the streaming one. On a CPU both use the same cores either way.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sled_tts.model.checkpoint import load_bundle
from sled_tts.model.errors import ConfigError
from sled_tts.model.quantization import Precision
from sled_tts.model.tuning import ThreadChoice, choose_threads, frame_work
from sled_tts.server.engine.bridge import EngineBridge
from sled_tts.server.engine.memory import AUTO_SHARE, MemoryLimit, available_memory
from sled_tts.server.engine.placing import EIGHT_BITS
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.errors import NotFoundError
from sled_tts.server.service import (
    LoadedModel,
    Reference,
    UtteranceOptions,
    Voice,
    VoiceKind,
    WarmUp,
)
from sled_tts.server.sessions.opening import OpeningUtterance
from sled_tts.server.sessions.rules import SessionRules
from sled_tts.server.sessions.utterance import LiveUtterance
from sled_tts.server.voicebox import Voicebox
from sled_tts.server.voices.catalogue import VoiceCatalogue
from sled_tts.server.voices.folder import VoiceFolder
from sled_tts.server.voices.ledger import Source
from sled_tts.server.voices.recordings import ReferenceRules, Transcriber
from sled_tts.server.voices.speaker import VoicePrompt
from sled_tts.server.warming import warm_up

# A voice, and what to go on from.
_Known = tuple[Voice, VoicePrompt | None]


class LocalSpeechService:
    """Every loaded model behind one door; see `server.service.SpeechService`."""

    def __init__(
        self,
        boxes: Sequence[Voicebox],
        folder: VoiceFolder | None = None,
        rules: ReferenceRules | None = None,
        transcriber: Transcriber | None = None,
        sessions: SessionRules | None = None,
    ) -> None:
        if not boxes:
            raise ConfigError("at least one model must be loaded", param="model")
        names = [box.model.name for box in boxes]
        if len(set(names)) != len(names):
            raise ConfigError(f"two loaded models have the same name: {', '.join(names)}", param="model")
        self._boxes = tuple(boxes)
        self._sessions = sessions or SessionRules()
        self.voices = VoiceCatalogue([box.speaker for box in boxes], folder, rules, transcriber)
        for box in boxes:
            box.bridge.start()

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        return tuple(box.model for box in self._boxes)

    @property
    def alive(self) -> bool:
        return all(box.bridge.alive for box in self._boxes)

    @property
    def streaming(self) -> EngineBridge | None:
        return next((box.bridge for box in self._boxes if box.bundle.is_streaming), None)

    @property
    def offline(self) -> EngineBridge | None:
        return next((box.bridge for box in self._boxes if not box.bundle.is_streaming), None)

    def engine_stats(self) -> dict[str, EngineStats]:
        return {box.model.name: box.bridge.stats() for box in self._boxes}

    def _choose(self, name: str | None, streaming: bool) -> Voicebox:
        """The named model, or the first of the preferred kind, or whatever is loaded."""
        if name is not None:
            for box in self._boxes:
                if box.model.name == name:
                    return box
            raise NotFoundError(f"model {name!r} is not loaded", param="model")
        preferred = [box for box in self._boxes if box.bundle.is_streaming is streaming]
        return (preferred or list(self._boxes))[0]

    async def warm_up(self) -> WarmUp:
        reports = {box.model.name: await asyncio.to_thread(warm_up, box) for box in self._boxes}
        await asyncio.to_thread(self.voices.encode_stored)
        return reports[self._choose(None, streaming=True).model.name]

    async def speak(self, text: str, options: UtteranceOptions, reference: Reference | None = None) -> LiveUtterance:
        box = self._choose(options.model, streaming=False)
        if reference is not None:
            prompt = await asyncio.to_thread(box.hearing.heard, reference)
            utterance = self._begin(box, options, prompt, "recording", None)
        else:
            voice, stored = await asyncio.to_thread(self.voices.prompt, options.voice, box.model.name)
            utterance = self._begin(box, options, stored, _source(voice), voice.id)
        try:
            utterance.append(text)
            utterance.close()
        except BaseException:
            utterance.cancel()
            raise
        return utterance

    def open_stream(self, options: UtteranceOptions) -> LiveUtterance | OpeningUtterance[_Known]:
        box = self._choose(options.model, streaming=True)
        by_sentence = not box.bundle.is_streaming
        cloned = self.voices.resolve(options.voice).kind is VoiceKind.CLONED
        cfg_scale = box.guidance(options.cfg_scale, cloned)

        def fetch() -> _Known:
            return self.voices.prompt(options.voice, box.model.name)

        def begin(known: _Known) -> LiveUtterance:
            voice, prompt = known
            return self._begin(box, options, prompt, _source(voice), voice.id, by_sentence)

        if self.voices.at_hand(options.voice, box.model.name):
            return begin(fetch())
        return OpeningUtterance(box.model, by_sentence, cfg_scale, box.bridge.lease(), fetch, begin)

    def _begin(
        self,
        box: Voicebox,
        options: UtteranceOptions,
        prompt: VoicePrompt | None,
        cloned: Source | None,
        voice_id: str | None,
        by_sentence: bool = False,
    ) -> LiveUtterance:
        """Takes a slot; a cloned voice is noted down once it has one, and has a guidance of its own."""
        request = uuid.uuid4().hex[:12]
        options = replace(options, cfg_scale=box.guidance(options.cfg_scale, cloned is not None))
        utterance = box.utterance(request, options, prompt, by_sentence, self._sessions)
        if cloned is not None:
            self.voices.ledger.used(cloned, voice=voice_id, request=request, model=box.model.name)
        return utterance

    def close(self) -> None:
        for box in self._boxes:
            box.bridge.close()


def _source(voice: Voice) -> Source | None:
    return "stored" if voice.kind is VoiceKind.CLONED else None


def load_service(
    specs: Sequence[str],
    *,
    slots: int = 16,
    kv_memory_bytes: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    codec: str | None = None,
    precision: str = "auto",
    kv_precision: str = "auto",
    kernels: str = "auto",
    melody: bool = True,
    voices_dir: Path | None = None,
    rules: ReferenceRules | None = None,
    transcriber: Transcriber | None = None,
    sessions: SessionRules | None = None,
) -> LocalSpeechService:
    """Load one or several checkpoints and start their engines. Blocking; raises ModelError.

    `slots` is the number of utterances at once, for each model, fewer when their caches exceed `kv_memory_bytes`,
    which all models share (None: most of the memory that is free); `threads` the cores torch may use, None to measure
    what is best; `device` `auto` is the first GPU, or the CPU. `precision` `auto` is fp32 on a CPU, bf16 on a GPU,
    which has no int8; the codec always runs in fp32. Cloned voices are kept in `voices_dir`, without it there are
    none; `rules` and `transcriber` are for the recordings they are made of; `sessions` is for every utterance. A GPU
    takes `kernels` `auto`, `triton` or `torch`; with `kv_precision` `fp8` it holds keys and values in 8 bits, if the
    checkpoint bears that. Without `melody`, a checkpoint that has one speaks at one pitch.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    on_gpu = device.startswith("cuda")
    held = Precision(("bf16" if on_gpu else "fp32") if precision == "auto" else precision)
    if on_gpu and held is Precision.INT8:
        raise ConfigError("precision int8 is for CPUs; a GPU takes bf16 or fp32", param="precision")
    if threads is not None:
        torch.set_num_threads(threads)
    dtype = torch.bfloat16 if on_gpu and held is Precision.BF16 else torch.float32
    bundles = [load_bundle(spec, codec=codec, device=device, dtype=dtype, precision=held) for spec in specs]
    bundles = bundles if melody else [bundle.without_melody() for bundle in bundles]
    choice = ThreadChoice(torch.get_num_threads(), ())
    if not on_gpu:
        if threads is None:
            largest = max(bundles, key=lambda bundle: sum(p.numel() for p in bundle.sled.parameters()))
            choice = choose_threads(frame_work(largest.sled, largest.codec))
        for bundle in bundles:
            bundle.sled.release_weights()
    for bundle in bundles:
        if kv_precision == "fp8":
            bundle.sled.cache_dtype = EIGHT_BITS
    memory = _memory_limit(kv_memory_bytes, device).shared(len(bundles))
    return LocalSpeechService(
        [
            Voicebox(
                bundle,
                slots=slots,
                memory=memory,
                device=device,
                precision=held,
                kernels=kernels,
                threads=None if on_gpu else choice,
            )
            for bundle in bundles
        ],
        VoiceFolder(voices_dir) if voices_dir is not None else None,
        rules,
        transcriber,
        sessions,
    )


def _memory_limit(asked: int | None, device: str) -> MemoryLimit:
    """Bytes for the caches: those asked for, or a share of what is free now that the weights are loaded."""
    if asked is not None:
        return MemoryLimit(asked, asked=True)
    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else available_memory()
    return MemoryLimit(None if free is None else int(AUTO_SHARE * free))
