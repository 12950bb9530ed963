"""docs/guides/sessions.md: what it shows, run as it stands there."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from handshakes import SECRET, bearer, mint, now, websocket
from http_calls import call, request
from pages import blocks

from asgi_wsauth import MemoryStore

pytestmark = pytest.mark.anyio

APP, CODE = blocks("docs/guides/sessions.md")
REDIS = 'RedisStore.from_url(os.environ["REDIS_URL"])'


def defined(code: str, **names: Any) -> Any:
    exec(code, names)
    return names


class Client:
    """A client with an open socket."""

    def __init__(self, app: Any, token: str, path: str = "/ws") -> None:
        self.scope = websocket(path=path, headers=bearer(token))
        self.app = app
        self.sent: list[Any] = []
        self.greeted, self.closed = anyio.Event(), anyio.Event()
        self._incoming = iter([{"type": "websocket.connect"}])

    async def run(self) -> None:
        await self.app(self.scope, self._receive, self._send)

    async def _receive(self) -> Any:
        for message in self._incoming:
            return message
        await self.closed.wait()
        return {"type": "websocket.disconnect", "code": 1005}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.closed.set()
        elif message["type"] == "websocket.send":
            self.greeted.set()

    @property
    def close(self) -> tuple[int, str]:
        return self.sent[-1]["code"], self.sent[-1]["reason"]


async def test_both(monkeypatch: pytest.MonkeyPatch) -> None:
    assert REDIS in APP
    monkeypatch.setenv("SECRET", SECRET)
    page = defined(APP.replace(REDIS, "MemoryStore()"), MemoryStore=MemoryStore)
    app, sessions = page["app"], page["sessions"]
    laptop, phone, bob = (
        mint(sub=sub, jti=jti, exp=now() + 300)
        for sub, jti in [("alice", "1"), ("alice", "2"), ("bob", "3")]
    )
    clients = [Client(app, token) for token in (laptop, phone, bob)]

    async def ask(token: str, method: str = "GET", path: str = "/", query: str = "") -> Any:
        scope = request(method, query, path=f"/sessions{path}", headers=bearer(token))
        return (await call(app, scope)).json

    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(client.run)
            await client.greeted.wait()
        listed = (await ask(laptop))["sessions"]
        assert [entry["current"] for entry in listed] == [True, False]
        for entry, client in zip(listed, clients, strict=False):
            assert entry["id"] in client.sent[1]["text"]
        assert await ask(laptop, "DELETE", query="keep=current") == {"ended": 1}
        await clients[1].closed.wait()
        assert (await ask(bob, "DELETE", f"/{listed[0]['id']}"))["error"] == "session_not_found"
        admin = mint(sub="root", scope="admin", exp=now() + 300)
        assert await ask(admin, "DELETE", query="user=bob&keep=current") == {"ended": 1}
        await clients[2].closed.wait()

        left = await defined(CODE)["lock"](sessions, "alice", listed[0]["id"])
        assert left == 1
        assert await ask(laptop, "DELETE", f"/{listed[0]['id']}") == {"ended": 1}
    assert {client.close for client in clients} == {(4004, "token_revoked")}
