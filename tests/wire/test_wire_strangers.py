"""Strangers at real servers: those that reconnect for ever, that guess in parallel, and that come
over a Unix socket."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from looping import loops
from servers import DEADLINE, EVERYTHING, HERE, USUAL, UVICORN, Server, only, serving, usual_and
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.live

_numbers = count(1)


@pytest.fixture(scope="module", params=USUAL)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(request.param, "stranger_apps:app") as server:
        yield server


@pytest.fixture
def door() -> Callable[..., str]:
    """A path of this test's own."""
    number = next(_numbers)
    return lambda kind: f"/{kind}/{number}"


def code(server: Server, close: int, phrase: str) -> tuple[int, str]:
    """What a client of this server sees of a close: Daphne sends few codes, and no reasons."""
    if server.name != "daphne":
        return close, phrase
    return {1008: 3000, 1013: 4013}.get(close, close), ""


def seen_by_a_page(server: Server, path: str) -> Any:
    return server.talk(path, headers=[("Origin", server.origin)]).close


@usual_and("daphne")
@pytest.mark.parametrize("query", ["", "?token=expired", "?token=revoked"])
def test_an_endless_loop_ends_or_slows_down_and_pages_see_their_codes(
    server: Server, door: Callable[..., str], query: str
) -> None:
    path = door("door") + query
    connections, status = asyncio.run(loops(server, path))
    assert connections <= 40
    assert status == (403 if server.name == "daphne" else 401)
    expected = {
        "": (1008, "token_missing"),
        "?token=expired": (4001, "token_expired"),
        "?token=revoked": (4004, "token_revoked"),
    }[query]
    assert seen_by_a_page(server, path) == code(server, *expected)
    other = server.talk(door("door"), token="another")
    assert other.close == code(server, 1008, "token_invalid")
    assert server.talk(door("door"), token="good").messages == ["hello"]
    # Of what comes often, a line each time that its number has doubled.
    refusals = [line for line in server.log().splitlines() if f"path={door('door')} " in line]
    repeated = [int(n) for line in refusals for n in re.findall(r" repeated=(\d+)", line)]
    assert len(refusals) - len(repeated) <= 14
    assert all(number & (number - 1) == 0 for number in repeated)
    assert len(set(repeated)) == len(repeated)


def test_a_client_that_is_locked_out_and_reconnects_for_ever_is_told_for_how_long(
    server: Server, door: Callable[..., str]
) -> None:
    path = door("throttled") + "?token=bad"
    connections, status = asyncio.run(loops(server, path))
    assert connections <= 40
    answered = server.talk(path)
    if server.name == "daphne":
        assert (status, answered.status) == (403, 403)
    else:
        assert (status, answered.status) in ((401, 401), (401, 429), (429, 429))
        assert 1 <= int(answered.headers["retry-after"]) <= 60
    assert seen_by_a_page(server, path) == code(server, 1013, "too_many_failures") or (
        seen_by_a_page(server, path) == code(server, 1008, "token_invalid")
    )


def test_programs_with_their_own_expired_tokens_see_their_codes(
    server: Server, door: Callable[..., str]
) -> None:
    path = door("door")
    number = 200 if EVERYTHING and server.name in UVICORN else 20
    asyncio.run(loops(server, f"{path}?token=expired"))

    async def all_of_them() -> Counter[Any]:
        seen: Counter[Any] = Counter()
        places = asyncio.Semaphore(20)

        async def one(token: int) -> None:
            async with places:
                for _ in range(2):  # it tries once more
                    url = f"ws://127.0.0.1:{server.port}{path}?token=expired{token}"
                    async with connect(url, proxy=None, open_timeout=30) as ws:
                        with suppress(ConnectionClosed):
                            await ws.recv()
                        seen[ws.close_code, ws.close_reason] += 1

        await asyncio.gather(*map(one, range(number)))
        return seen

    assert asyncio.run(all_of_them()) == {code(server, 4001, "token_expired"): 2 * number}


def test_auto_tells_pages_by_code_and_programs_by_http(
    server: Server, door: Callable[..., str]
) -> None:
    path = door("door-auto") + "?token=expired"
    assert server.talk(path).status == (403 if server.name == "daphne" else 401)
    assert seen_by_a_page(server, path) == code(server, 4001, "token_expired")


# Guesses in parallel


@only("uvicorn-websockets")
@pytest.mark.parametrize("protocol", ["ws", "http"])
def test_of_guesses_in_parallel_no_more_are_judged_than_the_rate_says(
    server: Server, door: Callable[..., str], protocol: str
) -> None:
    path = door("throttled")

    async def http_guess(token: str) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        request = f"GET {path}?token={token} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1])

    async def ws_guess(token: str) -> Any:
        url = f"ws://127.0.0.1:{server.port}{path}?token={token}"
        async with connect(url, proxy=None, open_timeout=60) as ws:
            with suppress(ConnectionClosed):
                await ws.recv()
            return ws.close_code

    async def all_of_them(tokens: list[str]) -> Counter[Any]:
        guess = http_guess if protocol == "http" else ws_guess
        return Counter(await asyncio.gather(*map(guess, tokens)))

    good = asyncio.run(all_of_them([f"slow-good{n}" for n in range(20)]))
    assert good == ({200: 20} if protocol == "http" else {None: 20})
    told = asyncio.run(all_of_them([f"slow-bad{n}" for n in range(60)]))
    assert server.get(f"/judged/{path.rpartition('/')[2]}") == 10
    assert told == ({401: 10, 429: 50} if protocol == "http" else {1008: 10, 1013: 50})


# Unix sockets


@pytest.fixture
def by_unix_socket(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """uvicorn on a Unix socket, and its log."""
    path, log = tmp_path / "socket", tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--uds", str(path), "stranger_apps:app"],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 3 * DEADLINE
        while not accepts(path):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield path, log
    finally:
        process.terminate()
        process.wait(DEADLINE)


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.connect(str(path))
        return True
    return False


def ask(path: Path, target: str, **headers: str) -> int:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(path))

    connection = Connection("app")
    try:
        connection.request("GET", target, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_by_a_unix_socket_what_was_forwarded_is_not_let_in_as_local(
    by_unix_socket: tuple[Path, Path],
) -> None:
    path, log = by_unix_socket
    assert ask(path, "/off/1") == 200
    assert ask(path, "/off/1", **{"X-Forwarded-For": "127.0.0.1"}) == 403
    assert ask(path, "/off/1", Forwarded="for=127.0.0.1") == 403
    assert ask(path, "/off/1", **{"X-Real-IP": "203.0.113.5"}) == 403
    assert ask(path, "/off/1", **UPGRADE) == 101  # admitted, or refused by a code
    assert ask(path, "/off/1", **UPGRADE, **{"X-Forwarded-For": "127.0.0.1"}) == 101
    for _ in range(12):
        assert ask(path, "/throttled/1?token=bad") == 401  # is never locked out
    text = log.read_text()
    assert text.count("every client without an address is 'local'") == 1
    assert text.count("counts nothing for peers without an address") == 1
    assert len([line for line in text.splitlines() if "websocket refused" in line]) == 1
