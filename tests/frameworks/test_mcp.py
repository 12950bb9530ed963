"""An MCP server behind us: a session belongs to who began it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from handshakes import SECRET
from servers import Server, serving

from asgi_wsauth.testing import make_jwt

pytestmark = pytest.mark.live

API_KEY = "wsk_pL4mN8bV2cX6zQ1wE5rT9yU3iO7aS0dF"


@pytest.fixture(scope="module")
def mcp() -> Iterator[Server]:
    with serving("uvicorn-sansio", "mcp_app:app", env={"API_KEY": API_KEY}) as server:
        yield server


def ask(server: Server, path: str, token: str, message: Any, session: str | None = None) -> Any:
    """What a server says to a message, perhaps of a session."""
    headers = [
        ("Authorization", f"Bearer {token}"),
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
    ]
    if session is not None:
        headers += [("Mcp-Session-Id", session), ("Mcp-Protocol-Version", "2025-06-18")]
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    return server.ask("POST", f"{path}/", headers=headers, body=body)


def begin(server: Server, path: str, token: str) -> str:
    """A new session."""
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
    hello = ask(server, path, token, {"id": 1, "method": "initialize", "params": params})
    assert hello.status == 200, hello
    session = str(hello.headers["mcp-session-id"])
    ready = ask(server, path, token, {"method": "notifications/initialized"}, session)
    assert ready.status == 202
    return session


def goes_on(server: Server, path: str, token: str, session: str) -> bool:
    seen = ask(server, path, token, {"id": 2, "method": "ping"}, session)
    assert seen.status in (200, 404), seen
    assert seen.status == 404 or seen.json["result"] == {}
    return bool(seen.status == 200)


def others() -> dict[str, str]:
    return {
        "another user": make_jwt(SECRET, "bob"),
        "the same name at another issuer": make_jwt(SECRET, "alice", issuer="https://b.example"),
        "an API key of that name": API_KEY,
    }


def test_with_the_readmes_load_user_a_session_is_its_users_own(mcp: Server) -> None:
    alice = make_jwt(SECRET, "alice")
    session = begin(mcp, "/mcp", alice)
    assert goes_on(mcp, "/mcp", alice, session)
    assert goes_on(mcp, "/mcp", make_jwt(SECRET, "alice", expires_in=60), session)  # a new token
    for whose, token in others().items():
        assert not goes_on(mcp, "/mcp", token, session), whose
    assert goes_on(mcp, "/mcp", alice, session)
    assert alice not in mcp.log()


def test_without_it_whoever_knows_a_sessions_id_can_use_it(mcp: Server) -> None:
    """Why the README says so. Where this fails, that server compares owners by itself."""
    alice = make_jwt(SECRET, "alice")
    session = begin(mcp, "/principal", alice)
    assert all(goes_on(mcp, "/principal", token, session) for token in others().values())
