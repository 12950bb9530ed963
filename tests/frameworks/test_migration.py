"""docs/migration.md: what people have, and what they get, seen by the clients of a real server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

import django_site
import jwt
import pytest
from django.conf import settings
from frames import CLOSE, TEXT, Close, Wire, together
from handshakes import SECRET
from migration_apps import SECTIONS, WAYS, sections, slug
from pages import blocks
from servers import Server, serving
from starlette.applications import Starlette
from starlette.authentication import AuthenticationBackend
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    django_site.make_tables()
    env = {"SITE_DATABASE": django_site.DATABASE, "SECRET": SECRET}
    with serving("uvicorn-websockets", "migration_apps:app", env=env) as running:
        yield running


@dataclass
class Client:
    """One client of one of the page's apps."""

    server: Server
    app: str
    way: str  # where it sends its token

    async def open(self, token: str | None, *, origin: str = django_site.ORIGIN) -> Wire:
        headers = [("Origin", origin)]
        if self.way == "cookie" and token:
            headers.append(("Cookie", f"sessionid={token}"))
        query = token if self.way == "query" else None
        wire = await Wire.open(self.server, self.app, headers=headers, token=query)
        if self.way == "message" and token:
            wire.send(token)
        return wire


async def told(wire: Wire) -> str:
    """What comes of a handshake, in the page's words."""
    if wire.status != 101:
        assert wire.status == 403
        return "HTTP 403, in a page 1006"
    wire.send("hello")
    opcode, payload = await wire.frame() or (0, b"")
    if opcode == TEXT:
        assert payload.endswith(b"hello")
        return "admitted"
    assert opcode == CLOSE
    return closed((int.from_bytes(payload[:2], "big"), payload[2:].decode()))


def closed(close: Close | None) -> str:
    assert close is not None
    return f"{close[0]} `{close[1]}`" if close[1] else str(close[0])


@dataclass
class Someone:
    """A user, and whatever proves who it is in a section's apps."""

    heading: str
    server: Server
    session: str = ""

    def __post_init__(self) -> None:
        self.name = self.server.new_test()
        self.user = django_site.make_user(self.name)
        if WAYS[self.heading] == "cookie":
            body = json.dumps({"username": self.name, "password": django_site.PASSWORD}).encode()
            seen = self.server.ask("POST", "/site/login", body=body)
            self.session = SimpleCookie(seen.headers["set-cookie"])["sessionid"].value

    def token(self, key: str | None = None, expires_in: float | None = 300) -> str:
        claims: dict[str, Any] = {"sub": self.name}
        if "token middleware" in self.heading:
            key = key or settings.SECRET_KEY
            claims |= {"user_id": self.user.pk, "token_type": "access", "jti": self.name}
        if expires_in is not None:
            claims["exp"] = time.time() + expires_in
        return self.session or jwt.encode(claims, key or SECRET, algorithm="HS256")

    def log_out(self) -> None:
        headers = [("Cookie", f"sessionid={self.session}")]
        assert self.server.ask("POST", "/site/logout", headers=headers).status == 200

    def lock(self) -> None:
        assert self.server.ask("POST", f"/site/lock/{self.name}").status == 200


LIFE = 6  # seconds, within which sockets are opened
OTHER = "another secret, and long enough for this"

# Handshakes: what a client sends.
SENT: dict[str, Callable[[Someone], str | None]] = {
    "no token": lambda user: None,
    "a bad token": lambda user: user.token(OTHER),
    "an expired token": lambda user: user.token(expires_in=-5),
    "a token without `exp`": lambda user: user.token(expires_in=None),
    "no session": lambda user: None,
    "an unknown session": lambda user: "x" * 32,
    "a token of a locked user": lambda user: (user.lock(), user.token())[1],
    "a page of another site": lambda user: user.token(),
}
# Open sockets: what happens then.
HAPPENS: dict[str, Callable[[Someone], object]] = {
    "silence": lambda user: None,
    "the token expires": lambda user: None,
    "the user logs out": Someone.log_out,
    "the user is locked": Someone.lock,
}


async def both_see(before: Client, after: Client, row: str, user: Someone) -> tuple[str, str]:
    """What the clients of the two apps see."""
    if row in SENT:
        token = await asyncio.to_thread(SENT[row], user)
        more = {"origin": "https://evil.example"} if "another site" in row else {}
        first, second = [await told(await one.open(token, **more)) for one in (before, after)]
        return first, second
    if row == "silence":
        old, new = await before.open(None), await after.open(None)
    else:
        token = user.token(expires_in=LIFE if "expires" in row else 300)
        old, new = await before.open(token), await after.open(token)
        assert [await told(old), await told(new)] == ["admitted", "admitted"]
    await asyncio.to_thread(HAPPENS[row], user)
    end = closed(await new.close_frame())
    if row == "silence":
        old.send(user.token())
    assert await told(old) == "admitted"  # still
    return "the socket stays open", end


async def both_logs(before: Client, after: Client, user: Someone) -> tuple[str, str]:
    """Whether the server's log has what was sent to each of the two apps."""
    tokens = user.token(expires_in=100), user.token(expires_in=200)
    for client, token in zip((before, after), tokens, strict=True):
        assert await told(await client.open(token)) == "admitted"
    log = before.server.log()
    old, new = ("yes" if token in log else "no" for token in tokens)
    return old, new


@dataclass
class Looks:
    """What the page says of all rows of all tables, and what was seen."""

    rows: list[tuple[str, ...]]
    seen: list[tuple[str, ...]]
    first_release: list[list[str]]


@pytest.fixture(scope="module")
def looks(server: Server) -> Looks:
    """All of it at the same time, because some wait for the end of a token."""
    rows = [
        (heading, *row)
        for heading in WAYS
        for row in re.findall(
            r"^\| (\w[^|]*) \| ([^|]+) \| ([^|]+) \|$",
            sections(SECTIONS[heading], "###")["What changes for clients"],
            re.MULTILINE,
        )
    ]

    def look(heading: str, row: str, user: Someone) -> Coroutine[Any, Any, tuple[str, str]]:
        before, after = (
            Client(server, f"/{slug(heading)}/{when}", WAYS[heading])
            for when in ("before", "after")
        )
        if row == "the token in uvicorn's log":
            return both_logs(before, after, user)
        return both_see(before, after, row, user)

    first_release, *seen = together(
        first_release_sees(server, Someone("A FastAPI dependency", server)),
        *(look(heading, row, Someone(heading, server)) for heading, row, *_ in rows),
    )
    pairs = [(*row[:2], *pair) for row, pair in zip(rows, seen, strict=True)]
    return Looks(rows, pairs, first_release)


FIRST_RELEASE = {"/with-403": "HTTP 403, in a page 1006", "/with-4401": "4401 `token_invalid`"}


async def first_release_sees(server: Server, user: Someone) -> list[list[str]]:
    """Clients of each app: a new one, an old one with a bad token, and one whose token expires;
    the latter at the app that it is to become, too."""
    token, bad, expiring = user.token(), user.token(OTHER), user.token(expires_in=LIFE)
    clock = await Client(server, "/a-fastapi-dependency/after", "query").open(expiring)
    clients = [Client(server, app, "query") for app in FIRST_RELEASE]
    open_sockets = [await client.open(expiring) for client in clients]
    seen = []
    for client in clients:
        offered = [("Sec-WebSocket-Protocol", f"bearer, {token}")]
        new = await Wire.open(server, client.app, headers=offered)
        seen.append([await told(new), await told(await client.open(bad))])
    end = closed(await clock.close_frame())
    still = [await told(socket) for socket in open_sockets]
    return [*seen, [end, *still]]


def test_what_changes_for_clients(looks: Looks) -> None:
    assert len(looks.rows) == 27
    assert looks.seen == looks.rows


def test_the_first_release_looks_as_before_to_old_clients_and_takes_both_ways(
    looks: Looks,
) -> None:
    *handshakes, ends = looks.first_release
    assert handshakes == [["admitted", refusal] for refusal in FIRST_RELEASE.values()]
    assert ends == ["4001 `token_expired`", "admitted", "admitted"]  # the old ones are open still


def test_every_block_is_run() -> None:
    assert len(blocks("docs/migration.md")) == 2 * len(WAYS) + 1


def test_fact_a_backend_that_returns_none_lets_everybody_in() -> None:
    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> None:
            return None

    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(websocket.user.is_authenticated)

    app = AuthenticationMiddleware(Starlette(routes=[WebSocketRoute("/", chat)]), Backend())
    with TestClient(app).websocket_connect("/") as socket:
        assert socket.receive_json() is False
