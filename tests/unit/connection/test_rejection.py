"""How a refusal is told, and who comes back too often."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from cases import cases
from handshakes import App, Clock, Knows, Outcome, authenticator, bearer, drive, websocket

from asgi_wsauth import (
    Denied,
    Principal,
    Reason,
    Refused,
    WebSocketAuthMiddleware,
    log_event,
)
from asgi_wsauth.connection import rejection as rejection_module
from asgi_wsauth.connection.rejection import ChosenRejection, Rejection, Rejections

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

ORIGIN = ("origin", "https://chat.example")
BY_CODE, BY_HTTP = "accept_then_close", "http_response"


def test_pages_are_told_by_code_and_programs_by_http_where_it_says_auto() -> None:
    telling = Rejections("auto")
    assert telling.choose(websocket(headers=[ORIGIN]), []) == ChosenRejection(BY_CODE)
    assert telling.choose(websocket(), []) == ChosenRejection(BY_HTTP)
    assert telling.choose(websocket()) == ChosenRejection(BY_HTTP)


@cases("rejection", ["http_response", "close"])
def test_whoever_has_chosen_a_way_gets_that(rejection: Rejection) -> None:
    telling = Rejections(rejection)
    for _ in range(30):
        assert telling.choose(websocket(headers=[ORIGIN]), []) == ChosenRejection(rejection)
        assert telling.choose(websocket(), []) == ChosenRejection(rejection)


def ways(telling: Rejections, times: int, *presented: str, **handshake: Any) -> list[str]:
    """How it is told, one time after another."""
    scope = websocket(**handshake)
    return [telling.choose(scope, presented).rejection for _ in range(times)]


OFTEN = [BY_CODE] * 9 + [BY_HTTP] * 3


@cases("presented", [[], ["bad"], ["a", "b"], ["\ud800"]])
def test_who_brings_the_same_for_the_tenth_time_is_told_by_http(presented: list[str]) -> None:
    telling = Rejections("accept_then_close")
    assert ways(telling, 12, *presented) == OFTEN
    assert ways(telling, 12, "another") == OFTEN
    assert ways(telling, 12, *presented, client=("192.0.2.7", 5)) == OFTEN
    assert ways(telling, 3, *presented, client=("127.0.0.1", 6)) == [BY_HTTP] * 3
    assert ways(telling, 3, *presented, headers=[ORIGIN]) == [BY_CODE] * 3


@cases("peer", [{"client": None}, {"client": ("testclient", 50000), "server": ("testserver", 80)}])
def test_who_has_no_address_is_nobody_who_could_be_known_again(peer: dict[str, Any]) -> None:
    assert ways(Rejections("accept_then_close"), 30, **peer) == [BY_CODE] * 30


def test_the_tenth_time_is_that_within_ten_seconds_and_a_quiet_minute_ends_it() -> None:
    clock = Clock()
    telling = Rejections("accept_then_close", clock)
    for _ in range(30):
        assert ways(telling, 1, "slow") == [BY_CODE]
        clock.now += 1.2
    assert ways(telling, 12, "bad") == OFTEN
    for _ in range(5):
        clock.now += 59
        way = telling.choose(websocket(), ["bad"])
        assert (way.rejection, way.retry_after) == (BY_HTTP, 10.0)
    assert way.repeated == 16
    clock.now += 61
    assert ways(telling, 1, "bad") == [BY_CODE]


def test_memory_is_bounded_and_who_was_seen_longest_ago_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rejection_module, "_MOST", 100)
    telling = Rejections("accept_then_close")
    ways(telling, 12, "often")
    for number in range(1_000):
        ways(telling, 1, f"token{number}")
        if number % 50 == 0:
            assert ways(telling, 1, "often") == [BY_HTTP]
    assert len(telling._streaks) == 100
    assert not any(b"token" in digest for digest in telling._streaks)


@cases("headers", [None, 5, [b"origin"], [(b"origin", b"x", b"y")]])
def test_headers_that_no_server_should_build_are_no_origin(headers: Any) -> None:
    scope = {**websocket(), "headers": headers}
    assert Rejections("auto").choose(scope).rejection == BY_HTTP


# In front of an app

LOOPING = 100


async def loop(door: WebSocketAuthMiddleware, **handshake: Any) -> list[Outcome]:
    return [await drive(door, websocket(**handshake)) for _ in range(LOOPING)]


@cases("reason", [Reason.MISSING, Reason.EXPIRED, Reason.REVOKED, Reason.THROTTLED, Reason.INVALID])
async def test_a_looping_program_is_told_by_http_with_the_tables_status(reason: Reason) -> None:
    refusals: list[Refused] = []

    def keep(event: Any) -> None:
        refusals.append(event)

    denied = Denied(reason, retry_after=33 if reason is Reason.THROTTLED else None)
    auth = authenticator(Knows(bad=denied, good=Principal("alice")), observers=[keep])
    door = WebSocketAuthMiddleware(App(), auth)
    headers = [] if reason is Reason.MISSING else bearer("bad")
    outcomes = await loop(door, headers=headers)
    assert [outcome.accepted for outcome in outcomes] == [True] * 9 + [False] * (LOOPING - 9)
    assert outcomes[0].close == (reason.close_code, reason.phrase)
    start, body = outcomes[-1].sent
    assert start["type"] == "websocket.http.response.start"
    assert start["status"] == reason.http_status
    assert dict(start["headers"])[b"retry-after"] == (
        b"33" if reason is Reason.THROTTLED else b"10"
    )
    assert reason.phrase.encode() in body["body"]
    # Each is counted, and says how often there was one before.
    assert [event.reason for event in refusals] == [reason] * LOOPING
    assert [event.repeated for event in refusals] == [0] * 9 + list(range(9, LOOPING))
    # Others are told as before: pages, who brings something else, and who is good.
    page = await drive(door, websocket(headers=[*headers, ORIGIN]))
    assert page.close == (reason.close_code, reason.phrase)
    other = await drive(door, websocket(headers=bearer("other")))
    assert other.close == (1008, "token_invalid")
    assert (await drive(door, websocket(headers=bearer("good")))).close is None


async def test_50_programs_with_50_expired_tokens_see_their_codes() -> None:
    tokens = {f"expired{number}": Denied(Reason.EXPIRED) for number in range(50)}
    door = WebSocketAuthMiddleware(App(), authenticator(Knows(**tokens), observers=[]))
    for _ in range(2):  # each of them tries once more
        for token in tokens:
            outcome = await drive(door, websocket(headers=bearer(token)))
            assert outcome.close == (4001, "token_expired")


async def test_where_the_server_can_answer_with_no_http_it_is_refused_before_the_accept() -> None:
    door = WebSocketAuthMiddleware(App(), authenticator(observers=[]))
    outcomes = await loop(door, extensions={})
    assert [message["type"] for message in outcomes[-1].sent] == ["websocket.close"]


async def test_its_log_lines_are_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    door = WebSocketAuthMiddleware(App(), authenticator())
    await loop(door)
    assert len(caplog.messages) == 9 + 3
    for number, message in zip((16, 32, 64), caplog.messages[9:], strict=True):
        assert f"repeated={number}" in message
    assert not any("repeated" in message for message in caplog.messages[:9])
    assert not hasattr(caplog.records[0], "repeated")
    assert caplog.records[-1].__dict__["repeated"] == 64


@cases("reason", [Reason.INVALID, Reason.ERROR])
def test_a_repeated_refusal_is_logged_as_often_as_its_number_doubles(
    reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    for repeated in range(9, 5_000):
        log_event(Refused(reason=reason, repeated=repeated))
    assert len(caplog.records) == 9
    assert caplog.records[0].levelno == logging.ERROR if reason is Reason.ERROR else logging.WARNING
