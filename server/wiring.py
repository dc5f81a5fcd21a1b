"""Puts the parts together: checkpoints, an engine thread for each, and the door the routes use.

Each loaded checkpoint has its own runner, slots and thread: their shapes share no batch, and a long offline prefill
then never holds back a step of the streaming one. On a CPU both use the same cores either way.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import numpy as np
import soxr
import torch

from sled_tts.model.checkpoint import ModelBundle, load_bundle
from sled_tts.model.errors import ConfigError
from sled_tts.model.quantization import Precision
from sled_tts.model.tuning import ThreadChoice, choose_threads, frame_work
from sled_tts.server.engine.bridge import EngineBridge
from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.request import (
    AudioChunk,
    Failed,
    Finished,
    Mode,
    Prompt,
    SynthesisRequest,
)
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.scheduler import Policy
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.errors import BadAudioError, EngineError, InputTooLongError, NotFoundError
from sled_tts.server.service import (
    LoadedModel,
    Reference,
    ReferenceMode,
    UtteranceOptions,
    WarmUp,
)
from sled_tts.server.sessions.feed import SegmentFeed
from sled_tts.server.sessions.machine import UtteranceMachine, Voice
from sled_tts.server.sessions.splitting import SplitPlan
from sled_tts.server.sessions.utterance import LiveUtterance

_WARM_UP_TEXT = "The quick brown fox jumps over the lazy dog."
_CONTINUED_S = 3.0
# Cautious English speech: what fits into a model's positions without reaching their end.
_CHARS_PER_SECOND, _SAFE_PART = 14.0, 0.6


class Voicebox:
    """One loaded checkpoint and its engine thread."""

    def __init__(
        self,
        bundle: ModelBundle,
        *,
        slots: int,
        device: str,
        positions: int | None = None,
        precision: str = "fp32",
        threads: ThreadChoice | None = None,
    ) -> None:
        self.bundle = bundle
        runner = SledRunner(
            bundle.sled,
            bundle.codec,
            bundle.extras.latent_mean,
            bundle.extras.latent_std,
            slots=slots,
            positions=positions,
        )
        runner.prepare()
        info = runner.info
        budget = FrameBudget(info.frame_rate, bundle.extras.max_frames_per_token / info.frame_rate)
        engine = Engine(runner, Policy(max_rows=slots), ChunkPolicy(info.first_chunk_frames), budget)
        self.bridge = EngineBridge(engine, bundle.name)
        self.model = LoadedModel(
            name=bundle.name,
            kind="streaming" if bundle.is_streaming else "offline",
            sampling_rate=info.sampling_rate,
            hop=info.hop,
            n=info.n,
            m=info.m,
            slots=slots,
            positions=info.positions,
            device=device,
            parameters=sum(p.numel() for p in bundle.sled.parameters()),
            precision=precision,
            threads=None if threads is None else threads.threads,
            thread_times=() if threads is None else threads.times,
        )

    @property
    def mode(self) -> Mode:
        return Mode.STREAMING if self.bundle.is_streaming else Mode.OFFLINE

    def split_plan(self, by_sentence: bool, prompt_s: float = 0.0) -> SplitPlan:
        """How texts for this checkpoint are cut."""
        trained = self.bundle.extras.max_segment_chars
        room_s = self.model.positions / self.model.frame_rate - prompt_s
        fits = max(40, int(room_s * _SAFE_PART * _CHARS_PER_SECOND))
        limit = min(trained, fits) if trained else fits
        if by_sentence:
            return SplitPlan.by_sentence(limit)
        return SplitPlan.trained_on(limit) if trained else SplitPlan.bounded_by(limit)

    def utterance(
        self, options: UtteranceOptions, prompt: Prompt | None = None, prefix: str = "", by_sentence: bool = False
    ) -> LiveUtterance:
        """Takes a slot: OverCapacityError when there is none."""
        voice = Voice(
            utterance_id=uuid.uuid4().hex[:12],
            mode=self.mode,
            seed=options.seed,
            cfg_scale=options.cfg_scale,
            max_frames=options.max_frames,
            n=options.n if self.bundle.is_streaming else None,
            m=options.m if self.bundle.is_streaming else None,
            prompt=prompt,
            sampling_rate=self.model.sampling_rate,
            frame_rate=self.model.frame_rate,
        )
        prompt_s = prompt.frames / self.model.frame_rate if prompt else 0.0
        feed = SegmentFeed(self.bundle.tokenizer, self.split_plan(by_sentence, prompt_s), prefix)
        machine = UtteranceMachine(voice, feed, self.bridge.engine.clock)
        return LiveUtterance(self.bridge, self.bridge.lease(), machine, self.model, by_sentence)

    def encode_prompt(self, reference: Reference) -> Prompt:
        """Blocking: a recording as codec latents.

        Raises BadAudioError, or InputTooLongError beyond half the positions.
        """
        pcm = reference.pcm
        if reference.mode is ReferenceMode.CONTINUATION:
            pcm = pcm[: int(_CONTINUED_S * reference.rate)]
        if reference.rate != self.model.sampling_rate:
            pcm = soxr.resample(pcm, reference.rate, self.model.sampling_rate, quality="HQ")
        frames = len(pcm) // self.model.hop
        if frames < self.bundle.codec.config.first_chunk_frames:
            raise BadAudioError(
                f"the reference recording is too short: {len(reference.pcm)} samples", param="ref_audio"
            )
        if frames > self.model.positions // 2:
            limit_s = self.model.positions / 2 / self.model.frame_rate
            raise InputTooLongError(f"the reference recording is longer than {limit_s:.1f} s", param="ref_audio")
        whole = torch.from_numpy(np.ascontiguousarray(pcm[: frames * self.model.hop], dtype=np.float32))
        latents = self.bundle.codec.encode(whole[None, None].to(self.model.device))[0]
        return Prompt(latents.float().cpu().numpy())

    def warm_up(self) -> WarmUp:
        """Blocking: a real synthesis, so that whatever is slow only once is over before anybody waits for it."""
        ids = tuple(self.bundle.tokenizer.encode(_WARM_UP_TEXT))
        request = SynthesisRequest("warm-up", self.mode, seed=0, token_ids=ids)
        samples = 0
        for event in self.bridge.run(request):
            if isinstance(event, AudioChunk):
                samples += event.pcm.size
            elif isinstance(event, Failed):
                raise event.error
            elif isinstance(event, Finished):
                if event.ttfa_s is None or event.rtf is None:
                    break
                return WarmUp(self.model.name, event.ttfa_s, event.rtf, samples / self.model.sampling_rate)
        raise EngineError(f"the warm-up synthesis of {self.model.name} gave no audio")


class LocalSpeechService:
    """Every loaded model behind one door; see `server.service.SpeechService`."""

    def __init__(self, voices: Sequence[Voicebox]) -> None:
        if not voices:
            raise ConfigError("at least one model must be loaded", param="model")
        names = [v.model.name for v in voices]
        if len(set(names)) != len(names):
            raise ConfigError(f"two loaded models have the same name: {', '.join(names)}", param="model")
        self._voices = tuple(voices)
        for voice in voices:
            voice.bridge.start()

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        return tuple(v.model for v in self._voices)

    @property
    def alive(self) -> bool:
        return all(v.bridge.alive for v in self._voices)

    @property
    def streaming(self) -> EngineBridge | None:
        return next((v.bridge for v in self._voices if v.bundle.is_streaming), None)

    @property
    def offline(self) -> EngineBridge | None:
        return next((v.bridge for v in self._voices if not v.bundle.is_streaming), None)

    def engine_stats(self) -> dict[str, EngineStats]:
        return {v.model.name: v.bridge.stats() for v in self._voices}

    def _choose(self, name: str | None, streaming: bool) -> Voicebox:
        """The named model, or the first of the preferred kind, or whatever is loaded."""
        if name is not None:
            for voice in self._voices:
                if voice.model.name == name:
                    return voice
            raise NotFoundError(f"model {name!r} is not loaded", param="model")
        preferred = [v for v in self._voices if v.bundle.is_streaming is streaming]
        return (preferred or list(self._voices))[0]

    async def warm_up(self) -> WarmUp:
        reports = {v.model.name: await asyncio.to_thread(v.warm_up) for v in self._voices}
        return reports[self._choose(None, streaming=True).model.name]

    async def speak(self, text: str, options: UtteranceOptions, reference: Reference | None = None) -> LiveUtterance:
        voice = self._choose(options.model, streaming=False)
        prompt, prefix = None, ""
        if reference is not None:
            prompt = await asyncio.to_thread(voice.encode_prompt, reference)
            prefix = reference.text
        utterance = voice.utterance(options, prompt, prefix)
        try:
            utterance.append(text)
            utterance.close()
        except BaseException:
            utterance.cancel()
            raise
        return utterance

    def open_stream(self, options: UtteranceOptions) -> LiveUtterance:
        voice = self._choose(options.model, streaming=True)
        return voice.utterance(options, by_sentence=not voice.bundle.is_streaming)

    def close(self) -> None:
        for voice in self._voices:
            voice.bridge.close()


def load_service(
    specs: Sequence[str],
    *,
    slots: int = 16,
    threads: int | None = None,
    device: str = "auto",
    codec: str | None = None,
    precision: str = "auto",
) -> LocalSpeechService:
    """Load one or several checkpoints and start their engines. Blocking; raises ModelError.

    `slots` is the number of utterances at once, for each model; `threads` the cores torch may use, None to measure
    what is best; `device` `auto` is the first GPU, or the CPU. `precision` `auto` is fp32 on a CPU, bf16 on a GPU,
    which has no int8; the codec always runs in fp32.
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
    choice = ThreadChoice(torch.get_num_threads(), ())
    if not on_gpu:
        if threads is None:
            largest = max(bundles, key=lambda bundle: sum(p.numel() for p in bundle.sled.parameters()))
            choice = choose_threads(frame_work(largest.sled, largest.codec))
        for bundle in bundles:
            bundle.sled.release_weights()
    return LocalSpeechService(
        [
            Voicebox(bundle, slots=slots, device=device, precision=held, threads=None if on_gpu else choice)
            for bundle in bundles
        ]
    )
