"""Written text through the doors of the server: numbers become words, foreign scripts are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.server.routes.conftest import Load
from tests.server.routes.loopback import Heard, Running, connect, running, speak

SPEECH = "/v1/audio/speech"
WRITTEN, WORDS = "It was $5 & 3 km.", "It was five dollars and three kilometers."


async def _post(server: Running, text: str, **changes: Any) -> Any:
    body = {"input": text, "seed": 3, "max_seconds": 1.0, "response_format": "wav"}
    return await server.http.post(SPEECH, json=body | changes)


async def _stream(server: Running, deltas: list[str], **start: Any) -> Heard:
    async with connect(server.ws_url) as socket:
        return await speak(socket, deltas, seed=3, max_seconds=1.0, **start)


async def test_rest_speaks_words_unless_told_not_to(load: Load, offline_folder: Path) -> None:
    async with running(load(offline_folder)) as server:
        written = await _post(server, WRITTEN)
        words = await _post(server, WORDS, normalize=False)
        verbatim = await _post(server, WRITTEN, normalize=False)
    assert written.status_code == words.status_code == 200
    assert written.content == words.content
    assert verbatim.content != words.content
    assert "x-sled-left-out" not in written.headers


async def test_rest_tells_what_it_left_out(load: Load, offline_folder: Path) -> None:
    async with running(load(offline_folder)) as server:
        some = await _post(server, "Some мир words 世界.")
        none = await _post(server, "Привет, мир!")
    assert (some.status_code, some.headers["x-sled-left-out"]) == (200, "cyrillic 5-8, cjk 15-17")
    error = none.json()["error"]
    assert (none.status_code, error["code"], error["param"]) == (422, "unsupported_text", "input")


async def test_the_stream_speaks_words_and_warns(load: Load, streaming_folder: Path) -> None:
    async with running(load(streaming_folder)) as server:
        written = await _stream(server, list(WRITTEN))
        words = await _stream(server, [WORDS], normalize=False)
        foreign = await _stream(server, ["Some м", "ир words."], id="u")
    assert written.pcm == words.pcm
    assert not written.of("warning")
    (warning,) = foreign.of("warning")
    assert (warning["id"], warning["code"], warning["script"]) == ("u", "unsupported_text", "cyrillic")
    assert (warning["begin"], warning["end"], warning["sample"]) == (5, 8, "мир")
