"""What can go wrong in a client."""

from __future__ import annotations


class SledClientError(Exception):
    """Base of the client's errors."""


class ServerUnreachableError(SledClientError):
    """No server answered at the URL."""


class SpeechError(SledClientError):
    """The server refused, or could not finish. `code` and `param` are the server's own."""

    def __init__(self, message: str, *, code: str = "error", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class IncompleteAudioError(SpeechError):
    """The audio ended before the server said it was complete."""
