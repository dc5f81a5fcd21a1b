"""A key that an ElevenLabs client owes: without one in its headers it may bring it in the first message."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from sled_tts.server.auth import deferred_check
from sled_tts.server.errors import AuthenticationError
from sled_tts.server.routes.elevenlabs_messages import Incoming

# How long a connection may stay without it.
_TIMEOUT_S = 10.0


@dataclass
class OwedKey:
    """`check` tells whether a key is right; None once nothing is owed."""

    check: Callable[[str], bool] | None
    _since: float = field(default_factory=time.monotonic, init=False)

    @classmethod
    def of(cls, scope: MutableMapping[str, Any]) -> OwedKey:
        """Of a connection."""
        return cls(deferred_check(scope))

    def left_s(self) -> float | None:
        """How long a client may take still; None where nothing is owed. Raises AuthenticationError after that."""
        if self.check is None:
            return None
        left = self._since + _TIMEOUT_S - time.monotonic()
        if left <= 0:
            raise AuthenticationError("the first message has to bring an API key", param="xi_api_key")
        return left

    def take(self, incoming: Incoming) -> None:
        """The first message pays. Raises AuthenticationError."""
        if self.check is None:
            return
        key = incoming.offered_key
        if key is None or not self.check(key):
            what = "the API key is wrong" if key else "the first message has to bring an API key"
            raise AuthenticationError(what, param="xi_api_key")
        self.check = None
