"""With a key set, everything but probes, page and schema is refused without it."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import InvalidStatus

from tests.server.routes.fakes import SineService
from tests.server.routes.loopback import connect, running, speak

KEYS = ("first-key", "second-key")


async def test_every_unlisted_path_needs_the_key() -> None:
    async with running(SineService(), api_key=KEYS) as server:
        for path in ("/v1/models", "/v1/audio/voices", "/metrics", "/nothing", "/studio", "/docs/oauth2-redirect"):
            answer = await server.http.get(path)
            assert answer.status_code == 401, path
            assert answer.json()["error"]["type"] == "authentication_error"
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/health/live", "/health/ready", "/openapi.json"):
            assert (await server.http.get(path)).status_code == 200
        assert (await server.http.post("/health/live")).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer first-key"}, 200),
        ({"Authorization": "bearer second-key"}, 200),
        ({"X-API-Key": "second-key"}, 200),
        ({"Authorization": "Bearer First-key"}, 401),
        ({"Authorization": "Basic first-key"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"X-API-Key": ""}, 401),
    ],
)
async def test_keys(headers: dict[str, str], status: int) -> None:
    async with running(SineService(), api_key=KEYS) as server:
        assert (await server.http.get("/v1/models", headers=headers)).status_code == status
        # A key in a URL ends up in logs; only WebSockets, where browsers can do no other, take it there.
        assert (await server.http.get("/v1/models?api_key=first-key")).status_code == 401


async def test_websockets_are_denied_at_the_handshake() -> None:
    async with running(SineService(), api_key=KEYS) as server:
        for url, headers in ((server.ws_url, {}), (server.ws_url + "?api_key=no", {"X-API-Key": "bad"})):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, additional_headers=headers)
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)["error"]["code"] == "unauthorized"
        async with connect(server.ws_url + "?api_key=second-key") as socket:
            assert (await speak(socket, ["a"])).of("done")
        async with connect(server.ws_url, additional_headers={"Authorization": "Bearer first-key"}) as socket:
            assert (await speak(socket, ["a"])).of("done")
