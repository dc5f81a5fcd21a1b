"""What other threads ask of the engine: posted to its inbox, applied between two steps."""

from __future__ import annotations

from dataclasses import dataclass

from sled_tts.server.engine.outlet import Outlet
from sled_tts.server.engine.request import SynthesisRequest


@dataclass(frozen=True)
class Admit:
    """Start a request on a slot already taken from the pool; a `leased` slot stays taken when it ends."""

    request: SynthesisRequest
    slot: int
    outlet: Outlet
    leased: bool = False


@dataclass(frozen=True)
class Tokens:
    """More text for the stream on `slot`, if it is still `request_id`'s; `final` ends the text."""

    slot: int
    outlet: Outlet
    ids: tuple[int, ...]
    final: bool


@dataclass(frozen=True)
class Cancel:
    """Stop the stream on `slot`, if it is still this one."""

    slot: int
    outlet: Outlet


@dataclass(frozen=True)
class Release:
    """Give a leased slot back, after whatever was posted before."""

    slot: int


@dataclass(frozen=True)
class Wake:
    """A reader has made room, or the thread should look at its stop flag."""


Command = Admit | Tokens | Cancel | Release | Wake
