"""What a loaded checkpoint has to do with voices: what it goes on from, and how it is corrected in a cloned one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sled_tts.model.calibration import Calibration
from sled_tts.model.errors import ModelError
from sled_tts.server.engine.request import Float32
from sled_tts.server.logs import get_logger
from sled_tts.server.service import Reference, Voice
from sled_tts.server.voices.entry import VoiceEntry
from sled_tts.server.voices.folder import VoiceFolder

log = get_logger(__name__)


@dataclass(frozen=True)
class VoicePrompt:
    """What a network goes on from: `latents [S, D]`, the codec's, fp32, and what they say; `calibration` is of what it
    says then."""

    text: str = field(repr=False)
    latents: Float32 = field(repr=False)
    calibration: Calibration | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Speaker:
    """One checkpoint.

    `codec` tells codecs with different latents apart; `encode` is blocking: a recording to latents `[S, D]`, errors
    naming its second argument. The first of `own` is the default; without any it speaks without a prompt. `calibrate`,
    if cloned voices are to be calibrated, blocks for seconds; `network` tells what it finds from other networks'.
    """

    model: str
    codec: str
    own: tuple[tuple[Voice, VoicePrompt], ...]
    encode: Callable[[Reference, str], Float32] = field(repr=False)
    network: str = ""
    calibrate: Callable[[VoicePrompt], Calibration] | None = field(default=None, repr=False)


def calibrated(speaker: Speaker, folder: VoiceFolder, entry: VoiceEntry, prompt: VoicePrompt) -> Calibration | None:
    """From the voice's folder, or by listening, which is kept. None, and a log line, when that tells nothing, and for a
    checkpoint that is not corrected."""
    listen = speaker.calibrate
    if listen is None:
        return None
    try:
        return Calibration.unstacked(folder.correction(entry, speaker.network, lambda: listen(prompt).stacked()))
    except (ModelError, ValueError, RuntimeError) as error:  # also a device without memory to listen with
        log.warning("voice not calibrated", voice=entry.id, model=speaker.model, problem=str(error))
        return None
