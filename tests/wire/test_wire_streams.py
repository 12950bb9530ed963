"""Streams over HTTP that end with their login: each framework's on each server, and the bytes that
a real client gets.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import httpx2
import pytest
from servers import DEADLINE, USUAL, Seen, Server, serving

pytestmark = pytest.mark.live

FRAMEWORKS = ["/starlette", "/fastapi", "/litestar", "/django"]
LIFE = 3.0  # seconds: so that each stream has begun by then, however much else the machine does


@pytest.fixture(scope="module", params=[*USUAL[:1], "hypercorn", "granian", "daphne"])
def process(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(request.param, "stream_apps:app") as server:
        yield server


@pytest.fixture
def server(process: Server) -> Iterator[Server]:
    with process.must_stay_quiet():
        yield process


usual = pytest.mark.parametrize("process", USUAL[:1], indirect=True)


def streams(server: Server, *paths: str, life: str = str(LIFE), **query: str) -> Iterator[Seen]:
    """What the server answers at these paths, all of them asked at once, when that has ended. A
    body that isn't whole is an error."""
    with ThreadPoolExecutor(len(paths)) as pool:
        yield from pool.map(lambda p: server.ask("GET", p, token=f"s-{life}", **query), paths)


def wait_for_ends(server: Server, user: str, count: int) -> list[str]:
    """How the apps' generators ended, once so many have."""
    deadline = time.monotonic() + DEADLINE
    while len(ends := server.get("/ended", user=user)) < count:
        assert time.monotonic() < deadline, ends
        time.sleep(0.02)
    return ends


def numbers_in(body: bytes) -> list[int]:
    """The events of a stream, of which each is whole."""
    assert not body or body.endswith((b"\n\n", b"\r\n\r\n"))
    lines = body.decode().split()
    return [int(word) for before, word in pairwise(lines) if before == "data:"]


def test_streams_of_every_framework_end_at_expiry(server: Server) -> None:
    user, since = server.new_test(), time.monotonic()
    for seen in streams(server, *FRAMEWORKS, user=user):
        assert time.monotonic() - since >= LIFE
        assert (seen.status, seen.headers["content-type"].split(";")[0]) == (
            200,
            "text/event-stream",
        )
        numbers = numbers_in(seen.body)
        assert numbers == list(range(len(numbers)))
        assert numbers
    assert len(wait_for_ends(server, user, len(FRAMEWORKS))) == len(FRAMEWORKS)


def test_a_stream_that_says_nothing_ends_too(server: Server) -> None:
    user = server.new_test()
    for seen in streams(server, *FRAMEWORKS, user=user, silent="1"):
        assert (seen.status, numbers_in(seen.body)) == (200, [])
    wait_for_ends(server, user, len(FRAMEWORKS))


@usual
def test_streams_of_every_framework_end_when_they_are_revoked(server: Server) -> None:
    user = server.new_test()
    with ThreadPoolExecutor(1) as pool:
        four = pool.submit(lambda: [*streams(server, *FRAMEWORKS, life="for-ever", user=user)])
        deadline = time.monotonic() + DEADLINE
        while server.get("/sent", user=user) < len(FRAMEWORKS):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        other = server.ask("GET", "/starlette", token=f"s-{LIFE}", user=f"{user}.other")
        assert other.status == 200
        assert not four.done()
        server.get("/revoke", user=user)
        since = time.monotonic()
        for seen in four.result(DEADLINE):
            assert len(numbers_in(seen.body)) > 1
    assert time.monotonic() - since < DEADLINE
    wait_for_ends(server, user, len(FRAMEWORKS))
    seen = server.ask("GET", "/starlette", token="s-for-ever", user=user)
    assert (seen.status, seen.json) == (401, {"error": "token_revoked"})


@usual
def test_a_download_that_said_how_long_it_is_is_cut(server: Server) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        server.ask("GET", "/download", token=f"s-{LIFE}", user=server.new_test())
    assert numbers_in(caught.value.partial)


@pytest.mark.parametrize("process", ["hypercorn"], indirect=True)
def test_over_http_2_the_stream_ends_properly(server: Server) -> None:
    given = {"token": f"s-{LIFE}", "user": server.new_test()}
    with httpx2.Client(http1=False, http2=True, trust_env=False, timeout=DEADLINE) as client:
        answer = client.get(f"{server.origin}/starlette", params=given)
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
    assert numbers_in(answer.content)
