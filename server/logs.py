"""Structured logs: structlog for our events, and the same shape for libraries that use `logging`."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any, TextIO

import structlog


def configure_logging(level: str, *, json: bool, stream: TextIO | None = None) -> None:
    """Send every log line, ours and the libraries', to `stream` (stderr) as text or as JSON lines."""
    out = stream or sys.stderr
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Both would print the local variables of every frame by default: texts, recordings, keys; and take a second to.
    renderer: list[Any]
    if json:
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        renderer = [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        renderer = [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    errors = logging.getLogger("uvicorn.error")
    errors.removeFilter(_is_news)
    errors.addFilter(_is_news)
    # Access logs of uvicorn hold the query string, which may hold a key; ours log the path only.
    logging.getLogger("uvicorn.access").disabled = True


def _is_news(record: logging.LogRecord) -> bool:
    """uvicorn calls two things errors that are none of the server's: a WebSocket refused with an HTTP answer, as ours
    are (a wrong key, say), and what a second interrupt cut off, whose traceback may be the message itself."""
    if record.msg == "ASGI callable returned without completing handshake.":
        return False
    if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
        return False
    return not record.getMessage().rstrip().endswith("asyncio.exceptions.CancelledError")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that takes an event name and key-value pairs."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
