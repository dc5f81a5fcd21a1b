"""Every error has one answer."""

from __future__ import annotations

import pytest

from sled_tts.model.errors import AudioInputError, CheckpointError, TokenizerError
from sled_tts.server import errors


def everything(kind: type[errors.SledTtsError]) -> list[type[errors.SledTtsError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in everything(child))]


@pytest.mark.parametrize("kind", everything(errors.SledTtsError))
def test_its_own_row_decides_and_the_message_survives(kind: type[errors.SledTtsError]) -> None:
    reply = errors.reply_for(kind("what happened", param="field"))
    row = next(row for row in errors.ERROR_TABLE if issubclass(kind, row[0]))
    assert (reply.http_status, reply.ws_close) == row[1:]
    assert (reply.message, reply.param) == ("what happened", "field")
    assert reply.code == kind.default_code
    assert (reply.retry_after_s is not None) == (reply.http_status == 503)


def test_no_row_hides_a_later_one() -> None:
    for place, (kind, _, _) in enumerate(errors.ERROR_TABLE):
        assert not any(issubclass(kind, earlier) for earlier, _, _ in errors.ERROR_TABLE[:place]), kind


@pytest.mark.parametrize(
    ("error", "status", "close"),
    [
        (errors.OverCapacityError("full"), 503, 1013),
        (errors.InputTooLongError("long"), 413, 1009),
        (errors.BadJsonError("json"), 400, 1007),
        (errors.NotFoundError("voice"), 404, 1008),
        (AudioInputError("noise"), 422, 1008),
        (TokenizerError("surrogate"), 422, 1007),
        (CheckpointError("gone"), 500, 1011),
    ],
)
def test_what_callers_rely_on(error: Exception, status: int, close: int) -> None:
    assert (errors.reply_for(error).http_status, errors.reply_for(error).ws_close) == (status, close)


def test_an_unexpected_exception_tells_nothing_about_the_inside() -> None:
    reply = errors.reply_for(RuntimeError("/secret/path"))
    assert (reply.http_status, reply.ws_close) == (500, 1011)
    assert "secret" not in reply.message
    assert errors.reply_for(KeyboardInterrupt()).http_status == 500
