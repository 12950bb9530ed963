"""The docs' comparison with what people use today, line by line, on a real server.

A line that becomes untrue, because somebody mended something, must go from
docs/explanation/alternatives.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from frames import Wire, run
from handshakes import SECRET
from pages import PAGES
from servers import DEADLINE, Server, once_in, serving

from asgi_wsauth.testing import make_jwt

pytestmark = pytest.mark.live

ALTERNATIVES: dict[str, tuple[Any, bool, bool]] = {
    # what a refused client gets: an HTTP status, or a close; whether the log has the token; whether
    # an open socket stays when the token expires
    "starlette": (403, True, True),
    "fastapi": (403, True, True),
    "litestar": (403, False, True),  # it reads the header only, which a page can't set
    "channels": (403, True, True),
    "by-hand": (403, True, True),
    "ours": ((1008, "token_invalid"), False, False),
}
each = pytest.mark.parametrize("name", ALTERNATIVES)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("uvicorn-websockets", "alternatives:app", env={"SECRET": SECRET}) as server:
        yield server


def handshake(name: str, token: str) -> dict[str, Any]:
    if name == "litestar":
        return {"headers": [("Authorization", f"Bearer {token}")]}
    return {"token": token}


@each
def test_what_a_refused_client_is_told(server: Server, name: str) -> None:
    token = make_jwt("another secret, and long enough for this")
    seen = server.talk(f"/{name}/", **handshake(name, token))
    assert (seen.close or seen.status) == ALTERNATIVES[name][0]


@each
def test_what_the_servers_log_has_of_the_token(server: Server, name: str) -> None:
    token, begin = make_jwt(SECRET, name), len(server.log())
    seen = server.talk(f"/{name}/", **handshake(name, token))
    assert seen.messages == [name]
    log = once_in("connection closed", lambda: server.log()[begin:])  # the last line
    assert (token in log) is ALTERNATIVES[name][1]


def test_which_sockets_outlive_the_login(server: Server) -> None:
    async def talk() -> list[str]:
        sockets = {}
        for name in ALTERNATIVES:
            token = make_jwt(SECRET, name, expires_in=DEADLINE / 2)  # and so long to get in
            sockets[name] = await Wire.open(server, f"/{name}/", **handshake(name, token))
            assert await sockets[name].message() == name
        # Ours was opened last: when it is told, all have expired.
        assert await sockets["ours"].close_frame() == (4001, "token_expired")
        open_still = []
        for name, socket in sockets.items():
            socket.send("hello")
            if await socket.frame() == (1, b"hello"):
                open_still.append(name)
        return open_still

    assert run(talk()) == [name for name, row in ALTERNATIVES.items() if row[2]]


def test_the_docs_say_the_same() -> None:
    page = PAGES["docs/explanation/alternatives.md"]
    said = re.findall(r"^\| [^|]+ \| (\w+)[^|]* \| (yes|no)[^|]* \| (yes|no) \|$", page, re.M)
    assert said == [
        (str(1006 if told == 403 else told[0]), *("yes" if is_so else "no" for is_so in rest))
        for told, *rest in ALTERNATIVES.values()
    ]
