"""Settings to the parts that keep voices and judge recordings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sled_tts.server.settings import Settings
from sled_tts.server.voices.recordings import ReferenceRules, Transcriber
from sled_tts.server.voices.transcribe import PocketsphinxTranscriber


def reference_rules(settings: Settings) -> ReferenceRules:
    return ReferenceRules(
        max_bytes=settings.max_reference_bytes,
        max_s=settings.max_reference_s,
        max_text_chars=settings.max_text_chars,
    )


def make_transcriber(name: str) -> Transcriber | None:
    """None for `none`. UnsupportedError when its package is missing."""
    return PocketsphinxTranscriber() if name == "pocketsphinx" else None


def voices_dir(settings: Settings) -> Path:
    """Where cloned voices are kept: as set, or else in the user's data folder of this platform."""
    if settings.voices_dir is not None:
        return settings.voices_dir.expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "sled-tts" / "voices"
