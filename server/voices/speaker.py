"""What a loaded checkpoint has to do with voices: what it goes on from, and how it is corrected in a cloned one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from sled_tts.model.calibration import Calibration
from sled_tts.model.errors import ModelError
from sled_tts.model.melody.dynamics import Dynamics
from sled_tts.model.melody.register import Register
from sled_tts.server.engine.request import Float32
from sled_tts.server.logs import get_logger
from sled_tts.server.service import Reference, Voice
from sled_tts.server.voices.entry import VoiceEntry
from sled_tts.server.voices.folder import VoiceFolder

log = get_logger(__name__)


@dataclass(frozen=True)
class VoicePrompt:
    """What a network goes on from: `latents [S, D]`, the codec's, fp32, and what they say; `register` is where its
    melody lies, `dynamics` what becomes of its sound after that."""

    text: str = field(repr=False)
    latents: Float32 = field(repr=False)
    register: Register | None = None
    dynamics: Dynamics | None = field(default=None, repr=False)

    def calibrated(self, calibration: Calibration) -> VoicePrompt:
        """With as much of the recording, which this is the whole of, as `calibration` is for. ValueError when it is for
        a longer one."""
        opening, register = calibration.opening, self.register
        if register is not None and calibration.hz is not None:
            register = replace(register, hz=calibration.hz)
        whole = replace(self, register=register, dynamics=calibration.dynamics)
        if opening is None:
            return whole
        if opening.frames > len(self.latents) or opening.letters > len(self.text):
            raise ValueError(f"a calibration for {opening}, and {len(self.latents)} frames, {len(self.text)} letters")
        text, latents = self.text[: opening.letters], self.latents[: opening.frames]
        return replace(whole, text=text, latents=np.ascontiguousarray(latents))


@dataclass(frozen=True)
class Speaker:
    """One checkpoint.

    `codec` tells codecs with different latents apart; `encode` is blocking: a recording to latents `[S, D]`, errors
    naming its second argument. The first of `own` is the default; without any it speaks without a prompt. `calibrate`,
    if cloned voices are to be calibrated, blocks for seconds; `network` tells what it finds from other networks'.
    `register` is blocking as well: where the pitch of a recording lies, for a checkpoint with a melody.
    """

    model: str
    codec: str
    own: tuple[tuple[Voice, VoicePrompt], ...]
    encode: Callable[[Reference, str], Float32] = field(repr=False)
    network: str = ""
    calibrate: Callable[[VoicePrompt, Reference], Calibration] | None = field(default=None, repr=False)
    register: Callable[[Reference], Register | None] | None = field(default=None, repr=False)


def registered(speaker: Speaker, folder: VoiceFolder, entry: VoiceEntry) -> Register | None:
    """From the voice's folder, or measured, which is kept; None for a checkpoint without a melody."""
    measure = speaker.register
    if measure is None:
        return None

    def listen(pcm: Float32, rate: int) -> Float32:
        found = measure(Reference(pcm, rate, entry.text))
        if found is None:
            raise ModelError("no melody")
        return np.array([[found.hz, found.spread, found.locked_hz or 0.0]], dtype=np.float32)

    try:
        ((hz, spread, locked_hz),) = folder.register(entry, speaker.codec, listen).tolist()
        return Register(hz, spread, locked_hz or None)
    except (ModelError, ValueError) as error:
        log.warning("pitch of a voice not found", voice=entry.id, problem=str(error))
        return None


def calibrated(speaker: Speaker, folder: VoiceFolder, entry: VoiceEntry, prompt: VoicePrompt) -> VoicePrompt:
    """From the voice's folder, or by listening, which is kept. The prompt as it was, and a log line, when that tells
    nothing, and for a checkpoint that is not corrected."""
    listen = speaker.calibrate
    if listen is None:
        return prompt

    def hear(pcm: Float32, rate: int) -> dict[str, Float32]:
        return listen(prompt, Reference(pcm, rate, entry.text)).arrays()

    try:
        return prompt.calibrated(Calibration.of(folder.correction(entry, speaker.network, hear)))
    except (ModelError, ValueError, RuntimeError) as error:  # also a device without memory to listen with
        log.warning("voice not calibrated", voice=entry.id, model=speaker.model, problem=str(error))
        return prompt
