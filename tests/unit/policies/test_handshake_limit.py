"""`HandshakeLimit`: how often one credential may come back."""

from __future__ import annotations

from typing import Any

import pytest
from cases import cases
from doors import Door, alice
from handshakes import NOW, App, Clock, Knows, authenticator, bearer, drive, mint, websocket

from asgi_wsauth import (
    ConfigurationError,
    ConnectionLimit,
    Cookie,
    Credential,
    Denied,
    FailureThrottle,
    FirstMessage,
    HandshakeLimit,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Refused,
    Tickets,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.options import check_rate
from asgi_wsauth.policies import handshake_limit

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

OFTEN = (1013, "too_many_connections")
KNOWN = {"a": alice(), "b": Principal("bob"), "expired": Denied(Reason.EXPIRED)}


class Site(Door):
    """A middleware with a limit, of which a test moves the clock."""

    def __init__(self, rate: str = "3/minute", auth: Any = None, **options: Any) -> None:
        self.limit_clock = Clock()
        limit = HandshakeLimit(rate, clock=self.limit_clock)
        options = {"known": KNOWN, "handshake_limit": limit, **options}
        super().__init__(App(), auth, **options)

    async def close(self, query: str = "token=a", **handshake: Any) -> Any:
        return (await drive(self, websocket(query, **handshake))).close

    @property
    def refused(self) -> Refused:
        """The last refusal."""
        return [event for event in self.events if isinstance(event, Refused)][-1]


# What is too often


async def test_the_same_credential_comes_as_often_as_the_rate_says_and_no_verifier_is_asked() -> (
    None
):
    site = Site("3/minute")
    assert [await site.close() for _ in range(5)] == [None] * 3 + [OFTEN] * 2
    assert site.knows.asked == ["a"] * 3
    assert await site.close("token=b") is None  # another one


async def test_it_is_told_when_to_come_back_and_may_then() -> None:
    site = Site("2/minute", rejection="http_response")
    for _ in range(2):
        assert await site.close() is None
        site.limit_clock.now += 10.5
    outcome = await drive(site, websocket("token=a"))
    assert outcome.sent[0]["status"] == 429
    assert dict(outcome.sent[0]["headers"])[b"retry-after"] == b"39"
    site.limit_clock.now += 38.9
    assert (await drive(site, websocket("token=a"))).sent[0]["status"] == 429
    site.limit_clock.now += 0.1
    for _ in range(2):
        assert (await drive(site, websocket("token=a"))).accepted
    assert not (await drive(site, websocket("token=a"))).accepted


async def test_every_handshake_counts_whatever_became_of_it() -> None:
    site = Site("3/minute", known={"down": OSError(), **KNOWN})
    for presented, verdict in {
        "expired": (4001, "token_expired"),
        "bad": (1008, "token_invalid"),
        "down": (1011, "internal_error"),
    }.items():
        closes = [await site.close(f"token={presented}") for _ in range(4)]
        assert closes == [verdict] * 3 + [OFTEN]


async def test_it_counts_wherever_the_credential_travels() -> None:
    site = Site("2/minute", {"sources": [FirstMessage()]}, known=KNOWN)
    message = {"type": "websocket.receive", "text": '{"type": "auth", "token": "a"}'}
    connect = {"type": "websocket.connect"}
    closes = []
    for _ in range(3):
        outcome = await drive(site, websocket(), [connect, message])
        closes.append(outcome.close)
    assert closes == [None, None, OFTEN]
    assert site.knows.asked == ["a", "a"]


async def test_by_different_ways_it_is_the_same_credential() -> None:
    site = Site("2/minute")
    assert await site.close("token=a") is None
    assert await site.close("", headers=bearer("a")) is None
    assert await site.close("token=a") == OFTEN


OURS, THEIRS = ("origin", "https://chat.example"), ("origin", "https://evil.example")


@cases(
    ("headers", "verdict"),
    [
        ([THEIRS], (1008, "origin_not_allowed")),
        ([OURS, OURS], (1008, "origin_not_allowed")),
        ([], (1008, "origin_not_allowed")),
    ],
)
async def test_no_page_of_another_site_can_use_up_its_visitors_handshakes(
    headers: Any, verdict: Any
) -> None:
    """A browser sends its cookie whoever's page opens a socket."""
    auth = {"sources": [Cookie("login"), QueryParam()], "allowed_origins": [OURS[1]]}
    site = Site("2/minute", auth)
    cookie = ("cookie", "login=a")
    for _ in range(5):
        assert await site.close("", headers=[cookie, *headers]) == verdict
    closes = [await site.close("", headers=[cookie, OURS]) for _ in range(3)]
    assert closes == [None, None, OFTEN]


async def test_programs_and_pages_that_may_connect_share_a_count() -> None:
    site = Site("2/minute", {"allowed_origins": [OURS[1]]})
    assert await site.close(headers=[("sec-fetch-site", "same-site")]) is None
    assert await site.close(headers=[OURS]) is None
    assert await site.close() == OFTEN


async def test_two_credentials_at_once_are_one_that_is_malformed() -> None:
    site = Site("1/hour")
    closes = [await site.close("token=one", headers=bearer("two")) for _ in range(2)]
    assert closes == [(1008, "token_malformed"), OFTEN]
    names = f"{Credential('one').fingerprint} and {Credential('two').fingerprint}"
    assert site.refused.detail == f"more than 1/hour with the credential {names}"
    assert await site.close("token=one") == (1008, "token_invalid")


async def test_handshakes_without_a_credential_do_not_count() -> None:
    site = Site("1/minute")
    assert [await site.close("") for _ in range(3)] == [(1008, "token_missing")] * 3


async def test_a_refusal_for_coming_too_often_is_no_failed_login() -> None:
    throttle = FailureThrottle("2/hour")
    site = Site("1/minute", {"throttle": throttle})
    closes = [await site.close("token=bad") for _ in range(5)]
    assert closes == [(1008, "token_invalid")] + [OFTEN] * 4
    name = Credential("bad").fingerprint  # by which other events and log lines know it, too
    assert site.refused.detail == f"more than 1/minute with the credential {name}"
    await throttle.precheck("127.0.0.1")


async def test_who_finds_the_process_full_has_not_come() -> None:
    limit = HandshakeLimit("2/minute")
    total = ConnectionLimit(total=1)
    site = Site(handshake_limit=limit, connection_limit=total)
    assert total.in_process is not None
    total.in_process.take(site)
    assert [await site.close() for _ in range(3)] == [OFTEN] * 3
    total.in_process.release(site)
    assert [await site.close() for _ in range(3)] == [None, None, OFTEN]


async def test_a_refresh_is_no_handshake() -> None:
    class Refreshes(App):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await super().__call__(scope, receive, send)
            for _ in range(5):
                await scope["wsauth"].refresh("a")

    auth = authenticator(Knows(**KNOWN))
    door = WebSocketAuthMiddleware(Refreshes(), auth, handshake_limit=HandshakeLimit("1/minute"))
    assert (await drive(door, websocket("token=a"))).close is None
    assert (await drive(door, websocket("token=a"))).close == OFTEN


async def test_many_tabs_that_come_back_at_once_do_not_meet_it_by_default() -> None:
    site = Site(handshake_limit=HandshakeLimit())
    assert [await site.close() for _ in range(60)] == [None] * 60
    assert await site.close() == OFTEN


async def test_a_program_that_keeps_coming_too_often_is_told_over_http() -> None:
    """As for each other refusal: an accepted socket would mean success to its loop."""
    site = Site("1/hour")
    assert [await site.close() for _ in range(10)] == [None] + [OFTEN] * 9
    outcome = await drive(site, websocket("token=a"))
    assert outcome.sent[0]["status"] == 429
    assert dict(outcome.sent[0]["headers"])[b"retry-after"] == b"3600"


# Tickets


async def test_a_ticket_counts_for_the_login_behind_it() -> None:
    tickets = Tickets(MemoryStore(), clock=lambda: NOW, max_pending_per_user=100)
    site = Site("2/minute", verifiers=[tickets])
    people = {
        name: Principal(identity, issuer=issuer)
        for name, identity, issuer in [
            ("alice", "501", "https://a.example"),
            ("other", "501", "https://b.example"),
            ("bob", "502", "https://a.example"),
        ]
    }
    for principal in people.values():
        closes = [await site.close(f"token={await tickets.mint(principal)}") for _ in range(3)]
        assert closes == [None, None, OFTEN]
    assert site.refused.detail == "more than 2/minute with tickets of the same user"
    assert site.refused.identity == "502"
    assert not site.left_over


async def test_a_ticket_that_comes_too_often_is_told_when_to_come_back() -> None:
    tickets = Tickets(MemoryStore(), clock=lambda: NOW)
    site = Site("1/hour", verifiers=[tickets], rejection="http_response")
    assert await site.close(f"token={await tickets.mint(alice())}") is None
    outcome = await drive(site, websocket(f"token={await tickets.mint(alice())}"))
    assert dict(outcome.sent[0]["headers"])[b"retry-after"] == b"3600"


async def test_a_used_ticket_that_comes_again_and_again_counts_too() -> None:
    tickets = Tickets(MemoryStore(), clock=lambda: NOW)
    site = Site("3/minute", verifiers=[tickets])
    used = await tickets.mint(alice())
    expired = (4001, "token_expired")
    assert [await site.close(f"token={used}") for _ in range(4)] == [None, expired, expired, OFTEN]


# Several instances


@pytest.mark.parametrize("same_authenticator", [True, False])
async def test_an_instance_inside_another_counts_by_itself(same_authenticator: bool) -> None:
    auth = authenticator(Knows(**KNOWN))
    inner_auth = auth if same_authenticator else authenticator(Knows(**KNOWN))
    inner = WebSocketAuthMiddleware(App(), inner_auth, handshake_limit=HandshakeLimit("1/hour"))
    outer = WebSocketAuthMiddleware(inner, auth, handshake_limit=HandshakeLimit("2/hour"))
    closes = [(await drive(outer, websocket("token=a"))).close for _ in range(2)]
    assert closes == [None, OFTEN]
    assert (await drive(inner, websocket("token=b"))).close is None
    assert (await drive(outer, websocket("token=b"))).close == OFTEN


async def test_requests_over_http_do_not_count() -> None:
    limit = HandshakeLimit("1/minute")
    auth = authenticator(Knows(**KNOWN))
    guarded = HTTPAuthMiddleware(App(), auth)
    door = WebSocketAuthMiddleware(guarded, auth, handshake_limit=limit, allow_unguarded_http=True)
    scope = {**websocket("token=a"), "type": "http", "method": "GET"}
    for _ in range(3):
        await drive(door, dict(scope))
    assert (await drive(door, websocket("token=a"))).close is None


# What is remembered


def came_too_often(limit: HandshakeLimit, *presented: str) -> bool:
    try:
        limit.count(presented)
    except Denied as denied:
        assert denied.reason is Reason.TOO_MANY_CONNECTIONS
        return True
    return False


def test_memory_is_bounded_and_who_came_longest_ago_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshake_limit, "_MOST", 100)
    limit = HandshakeLimit("1/hour")
    assert not came_too_often(limit, "often")
    assert not came_too_often(limit, "once")
    for number in range(1_000):
        assert not came_too_often(limit, f"token{number}")
        if number % 50 == 0:
            assert came_too_often(limit, "often")
    assert not came_too_often(limit, "once")
    assert len(limit._recent) == 100
    assert {len(digest) for digest in limit._recent} == {16}


def test_what_is_remembered_tells_nothing_of_a_credential() -> None:
    """Not even to who guesses it: each process has a key of its own."""
    limits = [HandshakeLimit("1/hour") for _ in range(2)]
    assert [came_too_often(limit, "token") for limit in limits] == [False, False]
    one, other = ([*limit._recent] for limit in limits)
    assert one != other


def test_what_clients_send_can_not_be_taken_for_something_else() -> None:
    limit = HandshakeLimit("1/hour")
    limit.count_login(Principal("alice", method="ticket"))
    for presented in (["alice"], ["login", "alice"], ["\ud800"]):
        assert not came_too_often(limit, *presented)
        assert came_too_often(limit, *presented)


def test_a_real_token_counts_by_its_text() -> None:
    limit = HandshakeLimit("1/hour")
    assert not came_too_often(limit, mint())
    assert not came_too_often(limit, mint(jti="another"))
    assert came_too_often(limit, mint())


# Its options


@cases(
    ("rate", "expected"),
    [
        ("60/minute", (60, 60)),
        ("1/second", (1, 1)),
        ("100 per 2 hours", (100, 7200)),
        ("5 PER 1 Day", (5, 86400)),
        (" 10 / 30 seconds ", (10, 30)),
        ("10 per minute", (10, 60)),
    ],
)
def test_what_a_rate_says(rate: str, expected: tuple[int, float]) -> None:
    assert check_rate("rate", rate) == expected


@cases(
    "rate",
    [
        *("", "often", "10", "/minute", "0/minute", "5 per 0 hours", "-1/minute", "1.5/minute"),
        *("10/week", "10/minute; 100/hour", "10/minute\n5/day", "٣/minute", "9999999999/day"),
        *(10, None, b"10/minute"),
    ],
)
def test_all_else_is_an_error_that_shows_how_to_write_it(rate: Any) -> None:
    named = (
        'HandshakeLimit: rate must say how many in what time, for example "60/minute" or '
        '"100 per 2 hours", got '
    )
    with pytest.raises(ConfigurationError, match=f"^{named}"):
        HandshakeLimit(rate)


def test_a_clock_that_is_none_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"^HandshakeLimit: clock must be "):
        HandshakeLimit(clock=5)  # type: ignore[arg-type]


def test_what_is_no_limit_is_an_error_of_the_middleware() -> None:
    named = r"^handshake_limit must be a HandshakeLimit, got 5; write for example HandshakeLimit\("
    with pytest.raises(ConfigurationError, match=named):
        Site(handshake_limit=5)


def test_its_repr() -> None:
    assert repr(HandshakeLimit()) == "<HandshakeLimit of 60/minute>"
