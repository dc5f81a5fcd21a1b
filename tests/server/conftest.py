"""Errors that tests bring about are logged in short: structlog's own way draws every local variable, for seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True, scope="session")
def short_logs() -> Iterator[None]:
    before = structlog.get_config()
    shown = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(),
    ]
    structlog.configure(processors=shown)
    yield
    structlog.configure(**before)
