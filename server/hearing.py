"""Recordings as one loaded checkpoint hears them: what voices are made of. Blocking throughout."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import soxr

from sled_tts.model.calibration import Calibration
from sled_tts.model.checkpoint import ModelBundle
from sled_tts.model.errors import ModelError
from sled_tts.model.imitating import Recorded, calibrate
from sled_tts.model.melody.register import Register
from sled_tts.model.references import as_known, encode_recording, register_of
from sled_tts.server.engine.request import Float32
from sled_tts.server.errors import BadAudioError, InputTooLongError, UnsupportedError
from sled_tts.server.service import LoadedModel, Reference, ReferenceMode
from sled_tts.server.voices.speaker import VoicePrompt

_CONTINUED_S = 3.0


@dataclass(frozen=True)
class Hearing:
    """`model` says what `bundle` was loaded as."""

    bundle: ModelBundle = field(repr=False)
    model: LoadedModel

    def encode(self, reference: Reference, param: str = "ref_audio") -> Float32:
        """A recording as codec latents `[S, D]`.

        Raises BadAudioError, InputTooLongError beyond half the positions, UnsupportedError for a continuation on a
        checkpoint that takes prompts as blocks: what is said in the first seconds of a recording is not known.
        """
        if reference.mode is ReferenceMode.CONTINUATION and self.bundle.takes_blocks:
            raise UnsupportedError(f"{self.model.name} has no mode 'continuation'", param="mode")
        pcm = self._frames(reference)
        frames = len(pcm) // self.model.hop
        if frames < self.bundle.codec.config.first_chunk_frames:
            raise BadAudioError(f"the reference recording is too short: {len(reference.pcm)} samples", param=param)
        self.require_room(frames, param)
        try:
            known = as_known(self.bundle, pcm)
        except ModelError as error:
            raise BadAudioError(f"the reference recording has {error}", param=param) from None
        return np.ascontiguousarray(encode_recording(self.bundle, known).float().cpu().numpy())

    def register(self, reference: Reference) -> Register | None:
        """Where the pitch of a recording that was encoded lies; None without a melody. ModelError when almost nothing
        in it is voiced."""
        return register_of(self.bundle, self._frames(reference))

    def heard(self, reference: Reference) -> VoicePrompt:
        """A recording that is used once, to go on from. Raises as `encode` does."""
        latents = self.encode(reference)
        try:
            return VoicePrompt(reference.text, latents, register=self.register(reference))
        except ModelError as error:
            raise BadAudioError(f"the reference recording has {error}", param="ref_audio") from None

    def calibrate(self, spoken: VoicePrompt, reference: Reference) -> Calibration:
        """For seconds: what brings a cloned voice nearer to its recording (`model.imitating.calibrate`)."""
        given = Recorded(spoken.latents, spoken.text, self._frames(reference), spoken.register)
        return calibrate(self.bundle, given)

    def require_room(self, frames: int, param: str) -> None:
        """InputTooLongError for a voice of so many frames that it fills more than half the positions."""
        if frames > self.model.positions // 2:
            limit_s = self.model.positions / 2 / self.model.frame_rate
            raise InputTooLongError(
                f"the reference recording is longer than {limit_s:.1f} s, the most that {self.model.name} can use",
                param=param,
            )

    def _frames(self, reference: Reference) -> Float32:
        """At the codec's rate, as far as it is used, in whole frames."""
        pcm, rate, hop = reference.pcm, self.model.sampling_rate, self.model.hop
        if reference.mode is ReferenceMode.CONTINUATION:
            pcm = pcm[: int(_CONTINUED_S * reference.rate)]
        if reference.rate != rate:
            pcm = soxr.resample(pcm, reference.rate, rate, quality="HQ")
        return np.ascontiguousarray(pcm[: len(pcm) // hop * hop], dtype=np.float32)
