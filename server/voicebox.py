"""One loaded checkpoint: its engine thread, how it takes text, voices and recordings."""

from __future__ import annotations

from dataclasses import replace

from sled_tts.model.calibration import METHOD
from sled_tts.model.checkpoint import ModelBundle
from sled_tts.model.config import DEFAULT_CFG_SCALE
from sled_tts.model.tuning import ThreadChoice
from sled_tts.model.voices import codec_fingerprint, network_fingerprint
from sled_tts.server.engine.bridge import EngineBridge
from sled_tts.server.engine.chunks import ChunkPolicy
from sled_tts.server.engine.engine import Engine
from sled_tts.server.engine.limits import FrameBudget
from sled_tts.server.engine.memory import MemoryLimit
from sled_tts.server.engine.placing import place_runner
from sled_tts.server.engine.request import (
    Mode,
    Prompt,
)
from sled_tts.server.engine.scheduler import Policy
from sled_tts.server.engine.state import EngineState
from sled_tts.server.errors import (
    UnsupportedError,
)
from sled_tts.server.hearing import Hearing
from sled_tts.server.service import (
    LoadedModel,
    UtteranceOptions,
    VoiceKind,
)
from sled_tts.server.service import Voice as ListedVoice
from sled_tts.server.sessions.feed import SegmentFeed
from sled_tts.server.sessions.machine import UtteranceMachine
from sled_tts.server.sessions.reading import Reader
from sled_tts.server.sessions.rules import SessionRules
from sled_tts.server.sessions.splitting import SplitPlan
from sled_tts.server.sessions.utterance import LiveUtterance
from sled_tts.server.sessions.voice import Voice
from sled_tts.server.voices.speaker import Speaker, VoicePrompt

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
        kernels: str = "auto",
        threads: ThreadChoice | None = None,
    ) -> None:
        self.bundle = bundle
        held = min(positions or bundle.sled.config.max_position_embeddings, bundle.sled.config.max_position_embeddings)
        frame_rate = bundle.codec.config.sampling_rate / bundle.codec.config.hop_length
        slots = memory.slots(slots, EngineState.stream_bytes(bundle.sled, held), held / frame_rate, bundle.name)
        codec = codec_fingerprint(bundle.codec)
        if bundle.extras.reference_pitch_hz is not None:
            codec += f"-{bundle.extras.reference_pitch_hz:g}hz"
        runner = place_runner(
            bundle.sled,
            bundle.codec,
            bundle.extras.latent_mean,
            bundle.extras.latent_std,
            slots=slots,
            positions=held,
            noise_scale=bundle.extras.noise_scale,
            alignment=bundle.extras.alignment,
            melody=bundle.extras.melody,
            kernels=kernels,
        )
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
                VoicePrompt(voice.text, voice.latents.float().numpy(), voice.register, voice.dynamics),
            )
            for voice in bundle.extras.voices
        )
        self.hearing = Hearing(bundle, self.model)
        self.speaker = Speaker(bundle.name, codec, own, self.hearing.encode)
        if bundle.extras.melody is not None:
            self.speaker = replace(self.speaker, register=self.hearing.register)
        if bundle.extras.calibrate_voices:
            spoken = f"{bundle.extras.noise_scale:g}-{bundle.extras.cloned_cfg_scale:g}"
            network = f"{network_fingerprint(bundle.sled)}-{codec}-{spoken}-{METHOD}"
            if bundle.extras.melody is not None:
                network += "-melody"
            self.speaker = replace(self.speaker, network=network, calibrate=self.hearing.calibrate)

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
        self.hearing.require_room(len(spoken.latents), "voice")
        if self.bundle.takes_blocks:
            return Prompt(spoken.latents, tuple(self.bundle.tokenizer.encode(spoken.text.strip())[:-1])), ""
        if self.mode is Mode.STREAMING and self.bundle.extras.max_segment_chars is not None:
            # Trained on short texts alone: with a transcript before the text it says nothing at all.
            raise UnsupportedError(
                f"{self.model.name} was trained without speech prompts: it cannot speak like a recording", param="voice"
            )
        return Prompt(spoken.latents), spoken.text

    def guidance(self, asked: float | None, cloned: bool) -> float:
        """As a request asks, or what the checkpoint speaks its own voices with, or `cloned` ones."""
        if asked is not None:
            return asked
        return self.bundle.extras.cloned_cfg_scale if cloned else DEFAULT_CFG_SCALE

    def utterance(
        self,
        request: str,
        options: UtteranceOptions,
        spoken: VoicePrompt | None = None,
        by_sentence: bool = False,
        rules: SessionRules | None = None,
    ) -> LiveUtterance:
        """Takes a slot: OverCapacityError when there is none. `request` is its id; it goes on from `spoken`."""
        rules = rules or SessionRules()
        prompt, prefix = self.prompt(spoken)
        voice = Voice(
            utterance_id=request,
            mode=self.mode,
            seed=options.seed,
            cfg_scale=self.guidance(options.cfg_scale, cloned=False),
            max_frames=options.max_frames,
            n=options.n if self.bundle.is_streaming else None,
            m=options.m if self.bundle.is_streaming else None,
            prompt=prompt,
            sampling_rate=self.model.sampling_rate,
            frame_rate=self.model.frame_rate,
            carry_frames=self.carry_frames(options.carry, prompt),
            pauses=rules.pauses,
            timings=options.timings,
            unit_s=self.bundle.extras.speech_unit_s,
            register=None if spoken is None else spoken.register,
            dynamics=None if spoken is None else spoken.dynamics,
            text_lead_s=None if self.bundle.extras.alignment is None else self.bundle.extras.alignment.lead_s,
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
        reader = Reader(rules.unsupported_text) if options.normalize else None
        return LiveUtterance(self.bridge, self.bridge.lease(), machine, self.model, by_sentence, reader, rules.idle)

    def carry_frames(self, wanted: bool | None, prompt: Prompt | None) -> int | None:
        """How much of a segment's end the next one goes on from; None when each begins afresh."""
        if not self.bundle.takes_blocks or not (prompt is None if wanted is None else wanted):
            return None
        return min(int(_CARRIED_S * self.model.frame_rate), self.model.positions // 4)
