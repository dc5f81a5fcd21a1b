"""What a server's owner decides about every utterance."""

from __future__ import annotations

from dataclasses import dataclass, field

from sled_tts.server.sessions.idle import IdleRules
from sled_tts.server.sessions.pauses import Pauses
from sled_tts.server.sessions.reading import UnsupportedText


@dataclass(frozen=True)
class SessionRules:
    """`unsupported_text`: what becomes of text in scripts that are not spoken; `idle`: of an utterance whose text stops
    coming; `pauses`: what follows a sentence."""

    unsupported_text: UnsupportedText = UnsupportedText.WARN
    idle: IdleRules = field(default_factory=IdleRules)
    pauses: Pauses = field(default_factory=Pauses)
