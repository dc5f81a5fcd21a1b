"""The described HTTP interface under requests that a machine made up: right ones, wrong ones, hostile ones."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from tests.server.routes.fakes import SineService
from tests.server.routes.loopback import eventually, running

schemathesis = pytest.importorskip("schemathesis")

# For each operation and each kind of request.
_EXAMPLES = 6
_SETTINGS = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def _check(case: Any) -> int:
    """No request may be a fault of the server, and every refusal has the one shape."""
    response = case.call(timeout=60)
    told = f"{case.method} {case.formatted_path} {case.query} {str(case.body)[:300]}: {response.content[:300]!r}"
    assert response.status_code < 500, told
    if response.status_code >= 400 and case.method != "HEAD":
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, told
        assert error["message"], told
    return int(response.status_code)


def _ask(operation: Any, mode: Any) -> set[int]:
    """The statuses of a few requests."""
    statuses: set[int] = set()

    @_SETTINGS
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        statuses.add(_check(case))

    # What takes nothing cannot be asked wrongly.
    with suppress(Unsatisfiable):
        ask()
    return statuses


def _fuzz(url: str) -> dict[str, set[int]]:
    """Statuses by operation."""
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    operations = [result.ok() for result in schemathesis.openapi.from_url(url).get_all_operations()]
    return {one.label: set().union(*(_ask(one, mode) for mode in modes)) for one in operations}


async def test_no_request_is_a_fault_of_the_server() -> None:
    service = SineService()
    async with running(service) as server:
        seen = await asyncio.to_thread(_fuzz, f"http://127.0.0.1:{server.port}/openapi.json")
        await eventually(lambda: service.in_use == 0)
        assert (await server.http.post("/v1/audio/speech", json={"input": "still here"})).status_code == 200
    assert {"POST /v1/audio/speech", "POST /tts/bytes", "POST /v1/speak", "GET /v1/models"} <= set(seen)
    assert 200 in seen["POST /v1/audio/speech"]
    assert {422, 400} & seen["POST /v1/audio/speech"]
