"""Synchronous client of `POST /v1/audio/speech`."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sled_tts.clients.errors import IncompleteAudioError, ServerUnreachableError, SpeechError

DEFAULT_URL = "http://127.0.0.1:8000"


def root_of(url: str) -> str:
    """A server's address, also where its user has added `/v1` to it, as the base URL of OpenAI's clients ends."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def auth_headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def raise_for_error(response: httpx.Response) -> None:
    """Turn an error answer into SpeechError with the server's message, code and field."""
    if response.is_success:
        return
    response.read()
    try:
        error = response.json()["error"]
        raise SpeechError(error["message"], code=str(error.get("code")), param=error.get("param"))
    except (ValueError, KeyError, TypeError):
        raise SpeechError(f"the server answered HTTP {response.status_code}", code=str(response.status_code)) from None


@dataclass(frozen=True)
class SledClient:
    """Whole texts to audio.

    >>> for part in SledClient().speech("Hello."):  # doctest: +SKIP
    ...     file.write(part)
    """

    base_url: str = DEFAULT_URL
    api_key: str | None = None
    timeout_s: float = 120.0

    def speech(
        self,
        text: str,
        *,
        response_format: str = "wav",
        seed: int | None = None,
        cfg_scale: float | None = None,
        ref_audio: Path | None = None,
        ref_text: str | None = None,
        **extra: Any,
    ) -> Iterator[bytes]:
        """Encoded audio as it is generated.

        Raises ServerUnreachableError, SpeechError, or IncompleteAudioError when the body broke off.
        """
        body: dict[str, Any] = {"input": text, "response_format": response_format, **extra}
        body |= {"seed": seed} if seed is not None else {}
        body |= {"cfg_scale": cfg_scale} if cfg_scale is not None else {}
        if ref_audio is not None:
            body |= {"ref_audio": base64.b64encode(ref_audio.read_bytes()).decode(), "ref_text": ref_text}
        url = f"{root_of(self.base_url)}/v1/audio/speech"
        timeout = httpx.Timeout(self.timeout_s, connect=5.0)
        try:
            with httpx.stream("POST", url, json=body, headers=auth_headers(self.api_key), timeout=timeout) as response:
                raise_for_error(response)
                yield from response.iter_bytes()
        except httpx.ConnectError as error:
            raise ServerUnreachableError(f"no server at {self.base_url}: {error}") from error
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            raise IncompleteAudioError(f"the audio broke off: {error}", code="incomplete") from error

    def is_ready(self) -> bool:
        """Whether the server has spoken its warm-up and takes requests."""
        try:
            return httpx.get(f"{root_of(self.base_url)}/health/ready", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False
