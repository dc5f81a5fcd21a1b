"""`sled-tts bench interruption` against a server that speaks without end."""

from __future__ import annotations

from argparse import Namespace

import pytest

from sled_tts.bench.interruption import PROTOCOLS, is_audio, measure, summary
from sled_tts.bench.listeners import Target
from tests.server.routes.fakes import Script, SineService
from tests.server.routes.loopback import eventually, running


async def test_every_protocol_is_interrupted_and_measured() -> None:
    service = SineService(Script(endless=True, chunk_delay_s=0.01))
    async with running(service, wyoming_port=0) as server:
        target = Target(f"http://127.0.0.1:{server.port}")
        wyoming = ("127.0.0.1", server.app.state.sled.wyoming_port)
        rows = await measure(target, Namespace(rounds=2, seed=1), wyoming)
        await eventually(lambda: service.in_use == 0)
    assert set(rows) == {one.name for one in PROTOCOLS} | {"wyoming, left"}
    assert [row["count"] for row in rows.values()] == [2] * len(rows)
    assert all(row["mean_ms"] > 0 for row in rows.values())


def test_figures_are_of_the_rounds_alone() -> None:
    before = {"count": 1.0, "sum": 1.0, "0.01": 1.0, "0.05": 1.0, "+Inf": 1.0}
    after = {"count": 3.0, "sum": 1.06, "0.01": 1.0, "0.05": 3.0, "+Inf": 3.0}
    assert summary(before, after, [3.0, 7.0]) == {
        "count": 2, "mean_ms": pytest.approx(30.0), "most_ms": pytest.approx(50.0), "client_last_audio_ms": 7.0,
    }  # fmt: skip
    beyond = after | {"0.05": 2.0}
    assert summary(before, beyond, [])["most_ms"] is None
    assert summary({}, {}, [])["mean_ms"] is None


@pytest.mark.parametrize(
    ("frame", "audio"),
    [
        (b"\x00", True),
        ('{"audio":"AAAA","alignment":null}', True),
        ('{"audio":null,"isFinal":true}', False),
        ('{"type":"chunk","data":"AAAA"}', True),
        ('{"type":"done","done":true}', False),
    ],
)
def test_audio_is_told_from_the_rest(frame: str | bytes, audio: bool) -> None:
    assert is_audio(frame) is audio
