"""The client in Python, which acts on `advice`, against a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pages import blocks
from servers import Server, attempts, free_port, pooled
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from asgi_wsauth import Reason

pytestmark = pytest.mark.live

__all__ = ["attempts"]  # the fixture


PAGE = "docs/guides/clients.md"


class Enough(Exception):
    """The test has seen all that it wants to see."""


@dataclass
class Saw:
    """What happened to the client.

    Attributes:
        told: what it returned; None where the test ended it.
        asked: for each token that it asked for, whether that had to be a fresh one.
        delays: seconds for which it wanted to sleep.
        messages: how many it got.
    """

    told: tuple[str, str] | None = None
    asked: list[bool] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    messages: int = 0


def stay_connected(url: str, *tokens: str, tries: int = 5, messages: int = 1) -> Saw:
    """Run the page's function: it gets one token after the other, and the last one again, until
    it has asked more than so many times, or has so many messages."""
    saw = Saw()

    async def get_token(fresh: bool) -> str:
        if len(saw.asked) == tries:
            raise Enough
        saw.asked.append(fresh)
        return tokens[min(len(saw.asked), len(tokens)) - 1]

    async def handle(message: str | bytes) -> None:
        saw.messages += 1
        if saw.messages == messages:
            raise Enough

    async def sleep(seconds: float) -> None:
        saw.delays.append(seconds)

    (block,) = [block for block in blocks(PAGE) if "def stay_connected" in block]
    names: dict[str, Any] = {}
    exec(compile(block, PAGE, "exec"), names)
    names["asyncio"] = SimpleNamespace(sleep=sleep)
    with suppress(Enough):
        saw.told = asyncio.run(names["stay_connected"](url, get_token, handle))
    return saw


@pytest.fixture(scope="module")
def pooled_server(request: pytest.FixtureRequest) -> Server:
    return pooled(request.config, "uvicorn-websockets")


@pytest.fixture
def server(pooled_server: Server) -> Iterator[Server]:
    with pooled_server.must_stay_quiet():
        yield pooled_server


@pytest.fixture
def url(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("no_proxy", "*")
    return f"ws://127.0.0.1:{server.port}"


def refusals(advice: str) -> Any:
    rows = [reason for reason in Reason if reason.advice == advice]
    return pytest.mark.parametrize("reason", rows, ids=lambda reason: reason.name)


def are_random_below(delays: list[float], *bounds: float) -> bool:
    return all(0 <= delay < bound for delay, bound in zip(delays, bounds, strict=True))


@refusals("stop")
def test_it_stops_and_says_the_phrase(
    url: str, attempts: Callable[[], int], reason: Reason
) -> None:
    saw = stay_connected(f"{url}/guarded", f"deny-{reason.name}")
    assert saw == Saw(("stop", reason.phrase), [False])
    assert attempts() == 1


@refusals("log in again")
def test_it_says_that_somebody_has_to_log_in(
    url: str, attempts: Callable[[], int], reason: Reason
) -> None:
    saw = stay_connected(f"{url}/guarded", f"deny-{reason.name}")
    assert saw == Saw(("log in again", reason.phrase), [False])
    assert attempts() == 1


def test_an_expired_token_is_replaced_at_once(url: str, attempts: Callable[[], int]) -> None:
    saw = stay_connected(f"{url}/guarded", "deny-EXPIRED", "opaque-1")
    assert saw == Saw(None, [False, True], [], 1)
    assert attempts() == 2


def test_a_token_that_is_always_expired_is_no_loop(url: str, attempts: Callable[[], int]) -> None:
    saw = stay_connected(f"{url}/guarded", "deny-EXPIRED")
    assert saw.asked == [False, True, True, True, True]
    assert are_random_below(saw.delays, 1, 2, 4, 8)
    assert attempts() == 5


@refusals("refresh, with backoff")
def test_without_keys_it_brings_a_fresh_token_after_a_delay(url: str, reason: Reason) -> None:
    saw = stay_connected(f"{url}/guarded", f"deny-{reason.name}", "opaque-1")
    assert saw.asked == [False, True]
    assert are_random_below(saw.delays, 1)


@refusals("retry later")
def test_it_comes_back_after_ever_longer_delays(
    url: str, attempts: Callable[[], int], reason: Reason
) -> None:
    saw = stay_connected(f"{url}/guarded", f"deny-{reason.name}", tries=8)
    assert saw.asked == [False] * 8
    assert are_random_below(saw.delays, 1, 2, 4, 8, 16, 30, 30, 30)
    assert attempts() == 8


@pytest.mark.parametrize("path", ["/auto", "/http"])
@refusals("stop")
def test_it_stops_where_it_is_told_by_http(
    url: str, attempts: Callable[[], int], path: str, reason: Reason
) -> None:
    saw = stay_connected(f"{url}{path}", f"deny-{reason.name}")
    assert saw == Saw(("stop", reason.phrase), [False])
    assert attempts() == 1


@pytest.mark.parametrize("path", ["/auto", "/http"])
def test_an_expired_token_is_replaced_where_it_is_told_by_http(url: str, path: str) -> None:
    assert stay_connected(f"{url}{path}", "deny-EXPIRED", "opaque-1") == Saw(
        None, [False, True], [], 1
    )


def test_it_stays_away_for_as_long_as_it_is_told(url: str) -> None:
    saw = stay_connected(f"{url}/auto", "deny-THROTTLED", tries=5)
    assert saw.asked == [False] * 5
    assert saw.delays[:3] == [7, 7, 7]  # Retry-After, where it is more than its own 1, 2 and 4
    assert all(7 <= delay < 16 for delay in saw.delays)


@pytest.mark.parametrize("advised", ["Fri, 31 Dec 2027 23:59:59 GMT", "5"])
@pytest.mark.parametrize("body", ["", "<h1>Bad Gateway</h1>", "[]", "null", '{"error": {}}'])
def test_what_a_proxy_answers_in_the_place_of_the_server_is_an_outage(
    url: str, body: str, advised: str
) -> None:
    def answer(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(502, body)
        response.headers["Retry-After"] = advised
        return response

    with serve(lambda connection: None, "127.0.0.1", 0, process_request=answer) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            port = proxy.socket.getsockname()[1]
            saw = stay_connected(f"ws://127.0.0.1:{port}/", "opaque-1", tries=3)
        finally:
            proxy.shutdown()
            thread.join()
    assert saw.asked == [False, True, False]
    if advised == "5":
        assert saw.delays == [5, 5, 5]


def test_where_nothing_says_why_it_tries_one_fresh_token(
    url: str, attempts: Callable[[], int]
) -> None:
    saw = stay_connected(f"{url}/close", "deny-INVALID")
    assert saw.asked == [False, True, False, False, False]
    assert len(saw.delays) == attempts() == 5


def test_where_no_server_is_it_comes_back_later(url: str) -> None:
    saw = stay_connected(f"ws://127.0.0.1:{free_port()}/", "opaque-1", tries=3)
    assert saw.asked == [False, True, False]
    assert are_random_below(saw.delays, 1, 2, 4)


def test_a_socket_whose_token_ends_comes_back_with_a_fresh_one(
    url: str, server: Server, attempts: Callable[[], int]
) -> None:
    saw = stay_connected(f"{url}/live/sends", "until-2-ann", "deny-INVALID", messages=10_000)
    assert saw.told == ("stop", "token_invalid")
    assert (saw.asked, saw.delays, attempts()) == ([False, True], [], 2)
    assert saw.messages > 0
