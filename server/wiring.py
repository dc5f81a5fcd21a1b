"""Puts the parts together: checkpoints, an engine thread for each, and the door the routes use.

Each loaded checkpoint has its own runner, slots and thread: their shapes share no batch, and a long offline prefill
then never holds back a step of the streaming one. On a CPU both use the same cores either way.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soxr
import torch

from sled_tts.model.checkpoint import ModelBundle, load_bundle
from sled_tts.model.errors import ConfigError, ModelError
from sled_tts.model.pitch import lock_pitch, median_pitch, nearest_pitch
from sled_tts.model.quantization import Precision
from sled_tts.model.tuning import ThreadChoice, choose_threads, frame_work
from sled_tts.model.voices import codec_fingerprint
from sled_tts.server.engine.bridge import EngineBridge
from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.memory import AUTO_SHARE, MemoryLimit, available_memory
from sled_tts.server.engine.request import (
    AudioChunk,
    Failed,
    Finished,
    Float32,
    Mode,
    Prompt,
    SynthesisRequest,
)
from sled_tts.server.engine.runner import SledRunner
from sled_tts.server.engine.scheduler import Policy
from sled_tts.server.engine.state import EngineState
from sled_tts.server.engine.stats import EngineStats
from sled_tts.server.errors import (
    BadAudioError,
    EngineError,
    InputTooLongError,
    NotFoundError,
    UnsupportedError,
)
from sled_tts.server.service import (
    LoadedModel,
    Reference,
    ReferenceMode,
    UtteranceOptions,
    VoiceKind,
    WarmUp,
)
from sled_tts.server.service import Voice as ListedVoice
from sled_tts.server.sessions.feed import SegmentFeed
from sled_tts.server.sessions.idle import IdleRules
from sled_tts.server.sessions.machine import UtteranceMachine, Voice
from sled_tts.server.sessions.reading import Reader, UnsupportedText
from sled_tts.server.sessions.splitting import SplitPlan
from sled_tts.server.sessions.utterance import LiveUtterance
from sled_tts.server.voices.catalogue import Speaker, VoiceCatalogue, VoicePrompt
from sled_tts.server.voices.folder import VoiceFolder
from sled_tts.server.voices.ledger import Source
from sled_tts.server.voices.recordings import ReferenceRules, Transcriber

_WARM_UP_TEXT = "The quick brown fox jumps over the lazy dog."
_CONTINUED_S = 3.0
_UNLIMITED = MemoryLimit(None)
# As much of a segment's end as prompts had in training.
_CARRIED_S = 4.0
# Cautious English speech: what fits into a model's positions without reaching their end.
_CHARS_PER_SECOND, _SAFE_PART = 14.0, 0.6


class Voicebox:
    """One loaded checkpoint and its engine thread."""

    def __init__(
        self,
        bundle: ModelBundle,
        *,
        slots: int,
        memory: MemoryLimit = _UNLIMITED,
        device: str,
        positions: int | None = None,
        precision: str = "fp32",
        threads: ThreadChoice | None = None,
    ) -> None:
        self.bundle = bundle
        held = min(positions or bundle.sled.config.max_position_embeddings, bundle.sled.config.max_position_embeddings)
        frame_rate = bundle.codec.config.sampling_rate / bundle.codec.config.hop_length
        slots = memory.slots(slots, EngineState.stream_bytes(bundle.sled, held), held / frame_rate, bundle.name)
        codec = codec_fingerprint(bundle.codec)
        runner = SledRunner(
            bundle.sled,
            bundle.codec,
            bundle.extras.latent_mean,
            bundle.extras.latent_std,
            slots=slots,
            positions=positions,
            noise_scale=bundle.extras.noise_scale,
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
            stream_bytes=info.stream_bytes,
            device=device,
            parameters=sum(p.numel() for p in bundle.sled.parameters()),
            precision=precision,
            threads=None if threads is None else threads.threads,
            thread_times=() if threads is None else threads.times,
        )
        own = tuple(
            (
                ListedVoice(voice.id, voice.name, VoiceKind.BUILT_IN, description=voice.description),
                VoicePrompt(voice.text, voice.latents.float().numpy()),
            )
            for voice in bundle.extras.voices
        )
        self.speaker = Speaker(bundle.name, codec, own, self.encode)

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

    def prompt(self, spoken: VoicePrompt | None) -> tuple[Prompt | None, str]:
        """What an engine goes on from, and the text that opens every segment for it.

        A streaming checkpoint trained with prompt blocks takes voice and text as one block in front. InputTooLongError
        for a voice that fills more than half the positions.
        """
        if spoken is None:
            return None, ""
        self._require_room(len(spoken.latents), "voice")
        if self.mode is Mode.STREAMING and self.bundle.extras.speech_prompts:
            return Prompt(spoken.latents, tuple(self.bundle.tokenizer.encode(spoken.text.strip())[:-1])), ""
        if self.mode is Mode.STREAMING and self.bundle.extras.max_segment_chars is not None:
            # Trained on short texts alone: with a transcript before the text it says nothing at all.
            raise UnsupportedError(
                f"{self.model.name} was trained without speech prompts: it cannot speak like a recording", param="voice"
            )
        return Prompt(spoken.latents), spoken.text

    def utterance(
        self,
        request: str,
        options: UtteranceOptions,
        spoken: VoicePrompt | None = None,
        by_sentence: bool = False,
        unsupported_text: UnsupportedText = UnsupportedText.WARN,
        idle: IdleRules | None = None,
    ) -> LiveUtterance:
        """Takes a slot: OverCapacityError when there is none. `request` is its id; it goes on from `spoken`."""
        prompt, prefix = self.prompt(spoken)
        voice = Voice(
            utterance_id=request,
            mode=self.mode,
            seed=options.seed,
            cfg_scale=options.cfg_scale,
            max_frames=options.max_frames,
            n=options.n if self.bundle.is_streaming else None,
            m=options.m if self.bundle.is_streaming else None,
            prompt=prompt,
            sampling_rate=self.model.sampling_rate,
            frame_rate=self.model.frame_rate,
            carry_frames=self.carry_frames(options.carry, prompt),
            timings=options.timings,
            unit_s=self.bundle.extras.speech_unit_s,
        )
        opening = max(prompt.frames if prompt else 0, voice.carry_frames or 0)
        prompt_s = opening / self.model.frame_rate
        plan = self.split_plan(by_sentence, prompt_s)
        feed = SegmentFeed(
            self.bundle.tokenizer,
            plan,
            prefix,
            after_prompt=bool(prompt and prompt.ids),
            carried=voice.carry_frames is not None,
        )
        machine = UtteranceMachine(voice, feed, self.bridge.engine.clock)
        reader = Reader(unsupported_text) if options.normalize else None
        return LiveUtterance(self.bridge, self.bridge.lease(), machine, self.model, by_sentence, reader, idle)

    def carry_frames(self, wanted: bool | None, prompt: Prompt | None) -> int | None:
        """How much of a segment's end the next one goes on from; None when each begins afresh."""
        able = self.mode is Mode.STREAMING and self.bundle.extras.speech_prompts
        if not able or not (prompt is None if wanted is None else wanted):
            return None
        return min(int(_CARRIED_S * self.model.frame_rate), self.model.positions // 4)

    def encode(self, reference: Reference, param: str = "ref_audio") -> Float32:
        """Blocking: a recording as codec latents `[S, D]`.

        Raises BadAudioError, InputTooLongError beyond half the positions, UnsupportedError for a continuation on a
        checkpoint that takes prompts as blocks: what is said in the first seconds of a recording is not known.
        """
        pcm = reference.pcm
        if reference.mode is ReferenceMode.CONTINUATION:
            if self.bundle.is_streaming and self.bundle.extras.speech_prompts:
                raise UnsupportedError(f"{self.model.name} has no mode 'continuation'", param="mode")
            pcm = pcm[: int(_CONTINUED_S * reference.rate)]
        if reference.rate != self.model.sampling_rate:
            pcm = soxr.resample(pcm, reference.rate, self.model.sampling_rate, quality="HQ")
        frames = len(pcm) // self.model.hop
        if frames < self.bundle.codec.config.first_chunk_frames:
            raise BadAudioError(f"the reference recording is too short: {len(reference.pcm)} samples", param=param)
        self._require_room(frames, param)
        pcm = self._at_its_pitch(pcm[: frames * self.model.hop], param)
        whole = torch.from_numpy(np.ascontiguousarray(pcm, dtype=np.float32))
        latents = self.bundle.codec.encode(whole[None, None].to(self.model.device))[0]
        return np.ascontiguousarray(latents.float().cpu().numpy())

    def _at_its_pitch(self, pcm: Float32, param: str) -> Float32:
        """As the checkpoint knows speech: at one of its constant pitches, if it has any."""
        pitches = self.bundle.extras.pitches_hz
        if not pitches:
            return pcm
        wave, rate = pcm.astype(np.float64), self.model.sampling_rate
        try:
            return lock_pitch(wave, rate, nearest_pitch(median_pitch([wave], rate), pitches)).astype(np.float32)
        except ModelError as error:
            raise BadAudioError(f"the reference recording has {error}", param=param) from None

    def _require_room(self, frames: int, param: str) -> None:
        if frames > self.model.positions // 2:
            limit_s = self.model.positions / 2 / self.model.frame_rate
            raise InputTooLongError(
                f"the reference recording is longer than {limit_s:.1f} s, the most that {self.model.name} can use",
                param=param,
            )

    def warm_up(self) -> WarmUp:
        """Blocking: a real synthesis, so that whatever is slow only once is over before anybody waits for it."""
        prompt, prefix = self.prompt(self.speaker.own[0][1] if self.speaker.own else None)
        feed = SegmentFeed(
            self.bundle.tokenizer, SplitPlan.bounded_by(1000), prefix, after_prompt=bool(prompt and prompt.ids)
        )
        feed.append(_WARM_UP_TEXT)
        feed.close()
        ids = tuple(feed.segments[0].ids)
        request = SynthesisRequest("warm-up", self.mode, seed=0, token_ids=ids, prompt=prompt)
        samples = 0
        for event in self.bridge.run(request):
            if isinstance(event, AudioChunk):
                samples += event.pcm.size
            elif isinstance(event, Failed):
                raise event.error
            elif isinstance(event, Finished):
                if event.ttfa_s is None or event.rtf is None:
                    break
                self._enter_voices(ids)
                return WarmUp(self.model.name, event.ttfa_s, event.rtf, samples / self.model.sampling_rate)
        raise EngineError(f"the warm-up synthesis of {self.model.name} gave no audio")

    def _enter_voices(self, ids: tuple[int, ...]) -> None:
        """Read and decode the other built-in voices' prompt blocks, which are kept from then on."""
        for _, spoken in self.speaker.own[1:]:
            prompt, _ = self.prompt(spoken)
            if prompt is not None and prompt.ids:
                request = SynthesisRequest("warm-up", self.mode, seed=0, token_ids=ids, prompt=prompt, max_frames=1)
                for event in self.bridge.run(request):
                    if isinstance(event, Failed):
                        raise event.error


class LocalSpeechService:
    """Every loaded model behind one door; see `server.service.SpeechService`."""

    def __init__(
        self,
        boxes: Sequence[Voicebox],
        folder: VoiceFolder | None = None,
        rules: ReferenceRules | None = None,
        transcriber: Transcriber | None = None,
        unsupported_text: UnsupportedText = UnsupportedText.WARN,
        idle: IdleRules | None = None,
    ) -> None:
        if not boxes:
            raise ConfigError("at least one model must be loaded", param="model")
        names = [box.model.name for box in boxes]
        if len(set(names)) != len(names):
            raise ConfigError(f"two loaded models have the same name: {', '.join(names)}", param="model")
        self._boxes = tuple(boxes)
        self._unsupported_text, self._idle = unsupported_text, idle
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
        reports = {box.model.name: await asyncio.to_thread(box.warm_up) for box in self._boxes}
        await asyncio.to_thread(self.voices.encode_stored)
        return reports[self._choose(None, streaming=True).model.name]

    async def speak(self, text: str, options: UtteranceOptions, reference: Reference | None = None) -> LiveUtterance:
        box = self._choose(options.model, streaming=False)
        if reference is not None:
            prompt = VoicePrompt(reference.text, await asyncio.to_thread(box.encode, reference))
            utterance = self._begin(box, options, prompt, "recording", None)
        else:
            voice, stored = await asyncio.to_thread(self.voices.prompt, options.voice, box.model.name)
            source: Source | None = "stored" if voice.kind is VoiceKind.CLONED else None
            utterance = self._begin(box, options, stored, source, voice.id)
        try:
            utterance.append(text)
            utterance.close()
        except BaseException:
            utterance.cancel()
            raise
        return utterance

    def open_stream(self, options: UtteranceOptions) -> LiveUtterance:
        box = self._choose(options.model, streaming=True)
        voice, prompt = self.voices.prompt(options.voice, box.model.name)
        source: Source | None = "stored" if voice.kind is VoiceKind.CLONED else None
        return self._begin(box, options, prompt, source, voice.id, by_sentence=not box.bundle.is_streaming)

    def _begin(
        self,
        box: Voicebox,
        options: UtteranceOptions,
        prompt: VoicePrompt | None,
        cloned: Source | None,
        voice_id: str | None,
        by_sentence: bool = False,
    ) -> LiveUtterance:
        """Takes a slot; a cloned voice is noted down once it has one."""
        request = uuid.uuid4().hex[:12]
        utterance = box.utterance(request, options, prompt, by_sentence, self._unsupported_text, self._idle)
        if cloned is not None:
            self.voices.ledger.used(cloned, voice=voice_id, request=request, model=box.model.name)
        return utterance

    def close(self) -> None:
        for box in self._boxes:
            box.bridge.close()


def load_service(
    specs: Sequence[str],
    *,
    slots: int = 16,
    kv_memory_bytes: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    codec: str | None = None,
    precision: str = "auto",
    voices_dir: Path | None = None,
    rules: ReferenceRules | None = None,
    transcriber: Transcriber | None = None,
    unsupported_text: UnsupportedText = UnsupportedText.WARN,
    idle: IdleRules | None = None,
) -> LocalSpeechService:
    """Load one or several checkpoints and start their engines. Blocking; raises ModelError.

    `slots` is the number of utterances at once, for each model, fewer when their caches exceed `kv_memory_bytes`,
    which all models share (None: most of the memory that is free); `threads` the cores torch may use, None to measure
    what is best; `device` `auto` is the first GPU, or the CPU. `precision` `auto` is fp32 on a CPU, bf16 on a GPU,
    which has no int8; the codec always runs in fp32. Cloned voices are kept in `voices_dir`, without it there are
    none; `rules` and `transcriber` are for the recordings they are made of. `unsupported_text` is what becomes of
    text in scripts that are not spoken.
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
    memory = _memory_limit(kv_memory_bytes, device).shared(len(bundles))
    return LocalSpeechService(
        [
            Voicebox(
                bundle, slots=slots, memory=memory, device=device, precision=held, threads=None if on_gpu else choice
            )
            for bundle in bundles
        ],
        VoiceFolder(voices_dir) if voices_dir is not None else None,
        rules,
        transcriber,
        unsupported_text,
        idle,
    )


def _memory_limit(asked: int | None, device: str) -> MemoryLimit:
    """Bytes for the caches: those asked for, or a share of what is free now that the weights are loaded."""
    if asked is not None:
        return MemoryLimit(asked, asked=True)
    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else available_memory()
    return MemoryLimit(None if free is None else int(AUTO_SHARE * free))
