"""The package around apps of Falcon, BlackSheep, Sanic, FastHTML, Ariadne and NiceGUI (see
around_apps.py), on a real server, as the README's table says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from handshakes import A_JWT, SECRET
from servers import DEADLINE, Server, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from asgi_wsauth.testing import make_jwt

pytestmark = pytest.mark.live


SUBSCRIBE = {"type": "subscribe", "id": "1", "payload": {"query": "subscription { me }"}}

# For each: where it answers over HTTP, where its socket is, what that is sent, and what it says.
FRAMEWORKS: dict[str, tuple[str, str, list[str], list[str]]] = {
    "falcon": ("/chat", "/chat", ["hi"], ["alice", "hi"]),
    "blacksheep": ("/chat", "/chat", ["hi"], ["alice", "hi"]),
    "sanic": ("/me", "/chat", ["hi"], ["alice", "hi"]),
    "fasthtml": ("/chat", "/chat", ['{"said": "hi"}'], ["alice", "hi"]),
    "ariadne": (
        "/?query={me}",
        "/",
        ['{"type": "connection_init"}', json.dumps(SUBSCRIBE)],
        [
            '{"type":"connection_ack"}',
            '{"type":"next","id":"1","payload":{"data":{"me":"alice"}}}',
        ],
    ),
    "nicegui": ("/", "/_nicegui_ws/socket.io/?EIO=4&transport=websocket", [], []),
}


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    # NiceGUI's client is Socket.IO's, which doesn't understand a socket that closes at once.
    rejection = "http_response" if request.param == "nicegui" else "accept_then_close"
    env = {"FRAMEWORK": request.param, "REJECTION": rejection}
    with serving("uvicorn-websockets", "around_apps:app", env=env) as server:
        yield request.param, server
        log = server.log()
        # Sanic writes one for any client that leaves.
        assert "Traceback" not in log or request.param == "sanic", log
        assert not re.search(rf"token=|{A_JWT}", log), log


def token() -> str:
    return make_jwt(SECRET, "alice")


def socket(server: Server, path: str, token: str | None, **options: Any) -> ClientConnection:
    query = "" if token is None else f"{'&' if '?' in path else '?'}token={token}"
    return connect(f"ws://127.0.0.1:{server.port}{path}{query}", proxy=None, **options)


def test_over_http_it_knows_the_user_and_nobody_else(framework: tuple[str, Server]) -> None:
    name, server = framework
    path = FRAMEWORKS[name][0]
    refused = server.ask("GET", path)
    assert (refused.status, refused.json) == (401, {"error": "token_missing"})
    answer = server.ask("GET", path, headers=[("Authorization", f"Bearer {token()}")])
    assert answer.status == 200
    assert b"alice" in answer.body


def test_a_refused_socket_is_told_why(framework: tuple[str, Server]) -> None:
    name, server = framework
    if name == "nicegui":
        with pytest.raises(InvalidStatus) as refused:
            socket(server, FRAMEWORKS[name][1], None)
        assert refused.value.response.status_code == 401
        return
    with socket(server, FRAMEWORKS[name][1], None) as client:
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(DEADLINE)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "token_missing")


def test_its_socket_knows_the_user(framework: tuple[str, Server]) -> None:
    name, server = framework
    _, path, said, heard = FRAMEWORKS[name]
    protocols: Any = ["graphql-transport-ws"] if name == "ariadne" else None
    with socket(server, path, token(), subprotocols=protocols) as client:
        if name == "nicegui":  # the first packet of Engine.IO
            assert str(client.recv(DEADLINE)).startswith('0{"sid":')
        for text in said:
            client.send(text)
        assert [client.recv(DEADLINE) for _ in heard] == heard
