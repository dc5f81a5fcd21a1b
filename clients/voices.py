"""Voices of a server: listed, made of a recording, renamed, deleted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from sled_tts.clients.errors import ServerUnreachableError, SledClientError
from sled_tts.clients.rest import DEFAULT_URL, auth_headers, raise_for_error, root_of


@dataclass(frozen=True)
class VoiceInfo:
    """`alias_of` is the id of the voice that an OpenAI name stands for; `created_at` in seconds since 1970."""

    id: str
    name: str
    kind: str
    created_at: int
    description: str
    alias_of: str | None


@dataclass(frozen=True)
class VoiceClient:
    """Voices may be named by id or by name. Every method raises ServerUnreachableError or SpeechError."""

    base_url: str = DEFAULT_URL
    api_key: str | None = None
    # Adding one takes as long as its network needs to listen to what it makes of it.
    timeout_s: float = 300.0

    def list(self) -> tuple[VoiceInfo, ...]:
        """Voices and aliases, the default voice first."""
        return tuple(_info(voice) for voice in self._ask("GET")["voices"])

    def get(self, voice: str) -> VoiceInfo:
        return _info(self._ask("GET", voice))

    def add(
        self, recording: Path, name: str, consent: str, text: str | None = None, description: str = ""
    ) -> VoiceInfo:
        """Clone a voice. `text` is what is said; `consent` who is heard, and that they agree to this use."""
        fields = {"name": name, "consent": consent, "description": description}
        fields |= {} if text is None else {"ref_text": text}
        try:
            data = recording.read_bytes()
        except OSError as error:
            raise SledClientError(f"{recording}: {error.strerror}") from None
        return _info(self._ask("POST", data=fields, files={"audio_sample": (recording.name, data)}))

    def rename(self, voice: str, name: str) -> VoiceInfo:
        return _info(self._ask("PATCH", self.get(voice).id, json={"name": name}))

    def delete(self, voice: str) -> str:
        """The id of what was deleted."""
        voice_id = self._found(voice)
        self._ask("DELETE", voice_id)
        return voice_id

    def _found(self, voice: str) -> str:
        found = self.get(voice)
        if voice not in (found.id, found.name) and voice.casefold() != found.name.casefold():
            # An OpenAI name: whoever types it does not mean to lose the voice it happens to stand for.
            raise SledClientError(f"{voice!r} only stands for {found.id!r}; name that one")
        return found.id

    def _ask(self, method: str, voice: str | None = None, **content: Any) -> Any:
        url = f"{root_of(self.base_url)}/v1/audio/voices"
        if voice is not None:
            url += f"/{quote(voice, safe='')}"
        try:
            answer = httpx.request(method, url, headers=auth_headers(self.api_key), timeout=self.timeout_s, **content)
        except httpx.TransportError as error:
            raise ServerUnreachableError(f"no server at {self.base_url}: {error}") from error
        raise_for_error(answer)
        return answer.json()


def _info(voice: dict[str, Any]) -> VoiceInfo:
    return VoiceInfo(
        voice["id"], voice["name"], voice["kind"], voice["created_at"], voice["description"], voice["alias_of"]
    )
