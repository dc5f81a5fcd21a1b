"""What goes into the log, and what must not."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import traceback
from collections.abc import Iterator

import pytest
import structlog
from websockets.exceptions import InvalidStatus

from sled_tts.server.logs import configure_logging, get_logger
from tests.server.routes.fakes import SineService
from tests.server.routes.loopback import connect, running


@pytest.fixture
def log_file() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, access = root.handlers[:], root.level, logging.getLogger("uvicorn.access").disabled
    before, filters = structlog.get_config(), logging.getLogger("uvicorn.error").filters[:]
    yield io.StringIO()
    structlog.configure(**before)
    root.handlers[:], root.level = handlers, level
    logging.getLogger("uvicorn.access").disabled = access
    logging.getLogger("uvicorn.error").filters[:] = filters


@pytest.mark.parametrize("as_json", [True, False])
def test_tracebacks_hold_places_but_no_values(log_file: io.StringIO, as_json: bool) -> None:
    configure_logging("info", json=as_json, stream=log_file)

    def fail(api_key: str) -> None:
        raise ValueError("what went wrong")

    for log in (get_logger("ours"), logging.getLogger("theirs")):
        try:
            fail("k-" + "3" * 20)
        except ValueError as error:
            log.error("it failed", exc_info=error)
    told = log_file.getvalue()
    assert told.count("what went wrong") >= 2
    assert told.count("test_logs") >= 2, "where it happened"
    assert "k-3333" not in told
    if as_json:
        events = [json.loads(line) for line in told.splitlines()]
        assert [(event["event"], event["logger"]) for event in events] == [
            ("it failed", "ours"),
            ("it failed", "theirs"),
        ]


async def test_a_refused_handshake_is_no_error_of_the_server(log_file: io.StringIO) -> None:
    configure_logging("info", json=False, stream=log_file)
    async with running(SineService(), api_key=("right",)) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.ws_url)
        assert refused.value.response.status_code == 401
        await asyncio.sleep(0.1)
    assert "[error" not in log_file.getvalue()


def test_what_a_second_interrupt_cuts_off_is_no_error_and_what_fails_is(log_file: io.StringIO) -> None:
    configure_logging("info", json=False, stream=log_file)
    errors = logging.getLogger("uvicorn.error")
    for error in (asyncio.CancelledError(), RuntimeError("broken")):
        try:
            raise error
        except BaseException as raised:
            errors.error("Exception in ASGI application", exc_info=raised)
            errors.error(traceback.format_exc())
    told = log_file.getvalue()
    assert "CancelledError" not in told
    assert told.count("RuntimeError: broken") == 2
