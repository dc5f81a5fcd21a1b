"""What goes into the log, and what must not."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sled_tts.server.logs import configure_logging, get_logger


@pytest.fixture
def log_file() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, access = root.handlers[:], root.level, logging.getLogger("uvicorn.access").disabled
    before = structlog.get_config()
    yield io.StringIO()
    structlog.configure(**before)
    root.handlers[:], root.level = handlers, level
    logging.getLogger("uvicorn.access").disabled = access


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
