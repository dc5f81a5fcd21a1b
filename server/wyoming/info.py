"""What this server tells Home Assistant about itself."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sled_tts.server.service import LoadedModel, Voice, VoiceStore

# Home Assistant lists a voice under its languages and hides one without; checkpoints do not say theirs.
_LANGUAGES = ["en"]
_ATTRIBUTION = {"name": "sled-tts", "url": "https://arxiv.org/abs/2505.13181"}


def describe(models: tuple[LoadedModel, ...], voices: VoiceStore) -> dict[str, Any]:
    """Data of an `info` event: one program, every voice."""
    program = _artifact("sled-tts", f"SLED streaming speech: {', '.join(model.name for model in models)}") | {
        "voices": [_voice(voice) for voice in voices.list()],
        "supports_synthesize_streaming": True,
    }
    others: dict[str, list[Any]] = {kind: [] for kind in ("asr", "handle", "intent", "wake", "mic", "snd")}
    return {"tts": [program], **others}


def _voice(voice: Voice) -> dict[str, Any]:
    named = _artifact(voice.id, voice.description or voice.name)
    return named | {"languages": _LANGUAGES, "speakers": None}


def _artifact(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "attribution": _ATTRIBUTION,
        "installed": True,
        "version": _version(),
    }


def _version() -> str | None:
    try:
        return version("sled-tts")
    except PackageNotFoundError:
        return None
