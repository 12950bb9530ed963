"""Who it is: the pair of issuer and identity, everywhere and in every store; and how it was proved.

Two issuers that both know a user 501, an API key of that name, and tickets for all of them.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import token_hex
from typing import Any

import anyio
import pytest
from cases import cases
from handshakes import NOW, Clock, authenticator, bearer, judged, jwt_verifier, mint, websocket
from insides import slots_of
from redis_servers import KINDS, pooled_redis
from sockets import LEFT, Seat, Wire, running, settled, text, until
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    APIKeyVerifier,
    ConfigurationError,
    ConnectionLimit,
    Credential,
    Denied,
    Event,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    Reason,
    Refused,
    Revocations,
    Tickets,
    WebSocketAuthMiddleware,
    log_event,
)
from asgi_wsauth.redis import RedisStore

pytestmark = [pytest.mark.anyio, pytest.mark.hurried]

A, B = "https://a.example", "https://b.example"
KEYS = {A: "uQ7mZ3xR9tV2nK6wJ4hL8pD1sF5gB0cY", B: "eH2yT8vN4kM6rX1zQ9wL3jP7dG5sC0bF"}
API_KEY = "wsk_pL4mN8bV2cX6zQ1wE5rT9yU3iO7aS0dF"

Name = tuple[str, str]  # a kind of revocation, and what is revoked
NAMES: list[Name] = [("user", "501"), ("token", "t1"), ("session", "s1")]


def token(issuer: str = A, **claims: Any) -> str:
    """A login at one of the issuers: of one user, by one token, in one session, by name."""
    named = {"sub": "501", "jti": "t1", "sid": "s1", "iat": int(NOW) - 60}
    return mint(KEYS[issuer], iss=issuer, **{**named, **claims})


class Site:
    """Sockets and requests behind one policy, in one store."""

    def __init__(self, store: Any, *, limit: int = 100, **options: Any) -> None:
        self.store, self.events = store, list[Event]()
        self.tickets = Tickets(store, clock=lambda: NOW, max_pending_per_user=1)
        self.clock = Clock()
        self.revocations = Revocations(store, clock=self.clock)
        self.verifiers = {issuer: jwt_verifier(KEYS[issuer], issuer=issuer) for issuer in (A, B)}
        self.auth = authenticator(
            *self.verifiers.values(),
            APIKeyVerifier({"501": API_KEY}),
            self.tickets,
            revocations=self.revocations,
            observers=[self.events.append],
            **options,
        )
        self.limit = ConnectionLimit(limit, store)

    @asynccontextmanager
    async def socket(self, presented: str) -> AsyncIterator[tuple[Seat, Wire]]:
        """A socket that is open, or was refused."""
        seat = Seat()
        app = WebSocketAuthMiddleware(
            seat, self.auth, connection_limit=self.limit, refresh_message="auth.refresh"
        )
        async with running(app, f"token={presented}") as wire:
            await until_slowly(lambda: wire.close or (wire.kinds and wire.waiting))
            yield seat, wire
            wire.put(LEFT)

    async def over_http(self, presented: str) -> int:
        """The status of a request."""
        sent: list[Any] = []

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {**websocket(headers=bearer(presented)), "type": "http", "method": "GET"}
        await HTTPAuthMiddleware(answer, self.auth)(scope, receive, send)
        return int(sent[0]["status"])

    async def refuses(self, presented: str) -> bool:
        """Whether it is refused as revoked, over HTTP and as a socket."""
        async with self.socket(presented) as (_, wire):
            close = wire.close
        revoked = close == (4004, "token_revoked")
        assert revoked or close is None, close
        assert await self.over_http(presented) == (401 if revoked else 200)
        return revoked


async def until_slowly(condition: Any) -> None:
    """Wait for what a store on the other end of a network does."""
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - nothing in this task knows
            await anyio.sleep(0.001)


@pytest.fixture(
    params=["memory", *(pytest.param(kind, marks=pytest.mark.live) for kind in KINDS)],
)
def store(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        return MemoryStore()
    target = pooled_redis(request.config, request.param)
    prefix = f"test-{token_hex(8)}"
    return RedisStore.from_url(target.url, cluster=target.is_cluster, prefix=prefix)


# Two issuers, one name


async def test_a_limit_of_one_socket_each_admits_both(store: Any) -> None:
    site = Site(store, limit=1)
    async with site.socket(token(A)) as (one, _), site.socket(token(B)) as (other, wire):
        assert wire.close is None
        assert (one.session.principal.issuer, other.session.principal.issuer) == (A, B)
        async with site.socket(API_KEY) as (key, third):  # nobody's but ours
            assert third.close is None
            assert (key.session.principal.identity, key.session.principal.issuer) == ("501", None)
        for issuer in (A, B):
            async with site.socket(token(issuer)) as (_, second):
                assert second.close == (1013, "too_many_connections")


async def test_the_oldest_socket_that_goes_is_the_same_users(store: Any) -> None:
    site = Site(store)
    site.limit = ConnectionLimit(1, store, overflow="evict_oldest")
    async with (
        site.socket(token(A)) as (_, one),
        site.socket(token(B)) as (_, other),
        site.socket(token(B)) as (_, newer),
    ):
        await until_slowly(lambda: other.close)
        assert other.close == (1013, "too_many_connections")
        assert newer.close is one.close is None


async def test_the_name_of_a_limit_is_no_part_of_a_user() -> None:
    site = Site(MemoryStore())
    limits = [ConnectionLimit(1, site.store, name=name) for name in ("x", "x:y", "x%3Ay")]
    site.auth.verifiers = (site.tickets,)
    async with AsyncExitStack() as stack:
        for limit, identity in zip(limits, ("y:alice", "alice", "alice"), strict=True):
            site.limit = limit
            ticket = await site.tickets.mint(Principal(identity))
            _, wire = await stack.enter_async_context(site.socket(ticket))
            assert wire.close is None
    assert not slots_of(site.store)


@pytest.mark.parametrize("in_band", [False, True])
async def test_a_refresh_with_the_others_token_is_refused(store: Any, in_band: bool) -> None:
    site = Site(store)
    async with site.socket(token(A)) as (seat, wire):
        if in_band:
            wire.put(text(f'{{"type": "auth.refresh", "token": "{token(B)}"}}'))
            await until_slowly(lambda: wire.close)
            assert wire.close == (1008, "forbidden")
        else:
            with pytest.raises(Denied, match="somebody else") as caught:
                await seat.session.refresh(token(B))
            assert caught.value.reason is Reason.FORBIDDEN
            await seat.session.refresh(token(A, exp=int(NOW) + 900))
            assert seat.session.principal.issuer == A
    (refused,) = [event for event in site.events if isinstance(event, Refused)]
    assert (refused.identity, refused.issuer) == ("501", B)


@pytest.mark.parametrize(("kind", "name"), NAMES)
async def test_what_is_revoked_at_one_issuer_leaves_the_other_alone(
    store: Any, kind: str, name: str
) -> None:
    site = Site(store)
    async with site.socket(token(A)) as (_, one), site.socket(token(B)) as (_, other):
        await getattr(site.revocations, f"revoke_{kind}")(name, issuer=A)
        await until_slowly(lambda: one.close)
        await settled()
        assert one.close == (4004, "token_revoked")
        assert other.close is None
        assert await site.refuses(token(A))
        assert not await site.refuses(token(B))
        assert not await site.refuses(API_KEY)
        await getattr(site.revocations, f"revoke_{kind}")(name)  # at every issuer
        await until_slowly(lambda: other.close)
        assert other.close == (4004, "token_revoked")
    assert await site.refuses(token(B))
    assert await site.refuses(API_KEY) is (kind == "user")


@cases(("kind", "name"), NAMES)
async def test_what_is_revoked_at_an_unknown_issuer_is_nobodys(kind: str, name: str) -> None:
    site = Site(MemoryStore())
    for issuer in (A + "/", A.upper(), "https://a", "[]", "None"):
        await getattr(site.revocations, f"revoke_{kind}")(name, issuer=issuer)
    for presented in (token(A), token(B), API_KEY):
        assert not await site.refuses(presented)


@cases("issuer", ["", 5, b"https://a.example", [A], True])
@cases("method", ["revoke_user", "revoke_token", "revoke_session", "block_user", "unblock_user"])
async def test_an_issuer_that_can_be_none_is_an_error(method: str, issuer: Any) -> None:
    """An empty one, above all: from a setting that is missing, it would revoke nobody."""
    revocations = Revocations(MemoryStore())
    until = [math.inf] if method == "block_user" else []
    with pytest.raises(ConfigurationError, match=f"^{method}: issuer must be a string"):
        await getattr(revocations, method)("501", *until, issuer=issuer)


async def test_a_ticket_is_its_logins_issuers(store: Any) -> None:
    site = Site(store)  # where each user may have one ticket that is not used yet
    minted = {}
    for issuer in (A, B):
        async with site.socket(token(issuer)) as (seat, _):
            minted[issuer] = await site.tickets.mint(seat.session.principal)
    async with site.socket(minted[A]) as (one, wire), site.socket(minted[B]) as (other, second):
        assert (one.session.principal.issuer, other.session.principal.issuer) == (A, B)
        await site.revocations.revoke_session("s1", issuer=A)
        await until_slowly(lambda: wire.close)
        assert wire.close == (4004, "token_revoked")
        assert second.close is None


ODD = ["a", "", " ", "[", "[]", "[1]", "[1]a ", "a b", ":", "\x00", "\ud800", "é"]


async def test_whatever_is_in_them_no_pair_is_taken_for_another() -> None:
    """By its names, as by a store and by what is heard of it."""
    store = MemoryStore()
    revocations = Revocations(store, clock=lambda: NOW)
    pairs = [(i or "x", issuer) for i, issuer in itertools.product(ODD, [None, *ODD[2:], "a"])]
    people = {pair: Principal(pair[0], issuer=pair[1]) for pair in dict.fromkeys(pairs)}

    class Socket:
        def __init__(self, principal: Principal) -> None:
            self.principal, self.ended = principal, False

        def end(self, denied: Denied, /) -> None:
            self.ended = True

    sockets = {pair: Socket(principal) for pair, principal in people.items()}
    for socket in sockets.values():
        revocations.register(socket)
    await settled()
    revoked = [pair for pair in people if pair[1] is not None][::7]
    for identity, issuer in revoked:
        await revocations.revoke_user(identity, issuer=issuer)
    await until(lambda: all(sockets[pair].ended for pair in revoked))
    await settled()
    assert {pair for pair in people if sockets[pair].ended} == set(revoked)
    for pair, principal in people.items():
        try:
            await revocations.check(principal)
            assert pair not in revoked
        except Denied:
            assert pair in revoked


@cases("verb", ["revoke_user", "block_user"])
@cases("name", [name for name in ODD if name])
async def test_whatever_is_in_it_a_name_without_an_issuer_is_meant_at_each(
    verb: str, name: str
) -> None:
    revocations = Revocations(MemoryStore(), clock=lambda: NOW)
    await getattr(revocations, verb)(name, *([math.inf] if verb == "block_user" else []))
    for identity, issuer in itertools.product(ODD, [None, *ODD[2:], "a"]):
        try:
            await revocations.check(Principal(identity or "x", issuer=issuer))
            assert identity != name
        except Denied:
            assert identity == name


# One name, several kinds of login


async def legacy(credential: Credential, conn: HTTPConnection) -> Principal | None:
    """A verifier of one's own, which claims to be of the same kind as another."""
    if credential.value != "legacy":
        return None
    return Principal("501", method="jwt", expires_at=NOW + 300)


class Logins:
    """Ways to be 501, whose identity is the same in all of them, and who has no issuer."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.tickets = Tickets(MemoryStore(), clock=lambda: NOW)
        self.keys = APIKeyVerifier({"501": API_KEY})
        verifiers = [self.keys, self.tickets, legacy, jwt_verifier()]
        self.auth = authenticator(*verifiers, observers=[self.events.append, log_event])

    def guard(self, seat: Seat) -> WebSocketAuthMiddleware:
        return WebSocketAuthMiddleware(seat, self.auth, refresh_message="auth.refresh")

    async def credential(self, way: str) -> str:
        """A new one, because a ticket works once."""
        if way.startswith("ticket of "):
            login = await self.credential(way.removeprefix("ticket of "))
            principal = await judged(self.keys, login) or await judged(jwt_verifier(), login)
            assert principal is not None
            return await self.tickets.mint(principal)
        return {"jwt": mint(sub="501"), "key": API_KEY, "legacy": "legacy"}[way]


WAYS = ["jwt", "key", "legacy", "ticket of jwt", "ticket of key"]
SAME = [{way} for way in WAYS] + [{way, f"ticket of {way}"} for way in ("jwt", "key")]
SAME += [{"legacy", "ticket of jwt"}]  # of the login behind a ticket, its method is known


@cases("new", WAYS)
@cases("old", WAYS)
@cases("in_band", [False, True])
async def test_a_refresh_comes_by_the_same_kind_of_login(old: str, new: str, in_band: bool) -> None:
    logins, seat = Logins(), Seat()
    first, second = await logins.credential(old), await logins.credential(new)
    async with running(logins.guard(seat), f"token={first}") as wire:
        await until(lambda: wire.waiting and wire.kinds)
        refused = None
        if in_band:
            wire.put(text(json.dumps({"type": "auth.refresh", "token": second})))
            await until(lambda: len(wire.sent) > 1)
            refused = wire.close
        else:
            try:
                await seat.session.refresh(second)
            except Denied as denied:
                refused = denied.reason.close_code, denied.reason.phrase
        wire.put(LEFT)
    assert refused == (None if {old, new} in SAME else (1008, "forbidden"))


async def test_after_a_refresh_by_a_ticket_the_kind_of_login_is_the_same() -> None:
    logins, seat = Logins(), Seat()
    first = await logins.credential("jwt")
    async with running(logins.guard(seat), f"token={first}") as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await seat.session.refresh(await logins.credential("ticket of jwt"))
        assert (seat.session.method, seat.session.principal.login_method) == ("ticket", "jwt")
        for way, same in (("key", False), ("legacy", False), ("jwt", True)):
            if same:
                await seat.session.refresh(await logins.credential(way))
                continue
            with pytest.raises(Denied, match="another kind of login"):
                await seat.session.refresh(await logins.credential(way))
        wire.put(LEFT)


@cases("way", ["ticket of jwt", "ticket of key"])
async def test_a_ticket_does_not_hide_how_its_login_was_proved(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Both are told, to the app, to observers and in the log."""
    caplog.set_level(logging.INFO, "asgi_wsauth")
    logins, seat = Logins(), Seat()
    async with running(logins.guard(seat), f"token={await logins.credential(way)}") as wire:
        await until(lambda: wire.waiting and wire.kinds)
        wire.put(LEFT)
    proved = {"ticket of jwt": "jwt", "ticket of key": "api_key"}[way]
    user = seat.scope["user"]
    assert (user.method, user.login_method) == ("ticket", proved)
    assert repr(user) == f"<Principal '501' by ticket of {proved}>"
    assert [(e.name, e.method, e.login_method) for e in logins.events] == [
        ("admitted", "ticket", proved),
        ("closed", "ticket", proved),
    ]
    for record in caplog.records:
        assert f" method=ticket login_method={proved} " in record.getMessage()
        assert vars(record)["login_method"] == proved


async def test_only_a_ticket_has_a_login_behind_it() -> None:
    logins = Logins()
    for way in ("jwt", "key", "legacy"):
        seat = Seat()
        async with running(logins.guard(seat), f"token={await logins.credential(way)}") as wire:
            await until(lambda: wire.waiting and wire.kinds)
            wire.put(LEFT)
        assert seat.scope["user"].login_method is None
    assert {event.login_method for event in logins.events} == {None}


# Tokens that don't say when they were issued

DAY = 86400.0


def undated(exp: float | None, **more: Any) -> Principal:
    claims = {} if exp is None else {"exp": exp}
    expires_at = None if exp is None else exp + 30  # with a verifier's leeway
    return Principal("501", claims=claims, expires_at=expires_at, **more)


@cases(
    ("principal", "refused"),
    [
        (undated(NOW + DAY), True),  # it may have been issued a day before
        (undated(NOW + DAY - 20), True),
        (undated(NOW + DAY + 0.5), False),
        (undated(NOW + 300), True),
        (undated(None), True),  # an API key
        (undated(NOW + DAY + 0.5, issued_at=NOW - 1), True),  # which says more than its end
        (undated(NOW + 300, issued_at=NOW + 1), False),
        (Principal("501", expires_at=NOW + DAY + 1), False),  # of a verifier of one's own
        (Principal("501", expires_at=NOW + DAY), True),
        (Principal("501", expires_at=float("inf")), True),  # it has no end
        (Principal("501", claims={"exp": float("inf")}, expires_at=float("inf")), True),
        (Principal("501", claims={"exp": 10**400}, expires_at=NOW + DAY + 1), False),
        (Principal("501", claims={"exp": 10**400}, expires_at=NOW + 1), True),
        (Principal("501", claims={"exp": None}, expires_at=NOW + DAY + 1), False),
        (Principal("501", claims={"exp": "1"}, expires_at=NOW + DAY + 1), False),
        (Principal("501", claims={"exp": True}, expires_at=NOW + DAY + 1), False),
        (Principal("501", claims={"exp": float("nan")}, expires_at=NOW + DAY + 1), True),
    ],
)
async def test_without_iat_a_token_that_ends_late_enough_is_newer(
    principal: Principal, refused: bool
) -> None:
    revocations = Revocations(MemoryStore(), max_token_age=DAY, clock=lambda: NOW)
    await revocations.revoke_user("501")
    try:
        await revocations.check(principal)
        assert not refused
    except Denied as denied:
        assert (denied.reason, refused) == (Reason.REVOKED, True)


async def test_who_logs_in_anew_is_admitted_at_once(store: Any) -> None:
    """As with FastAPI's tutorial, or fastapi-users: tokens of five minutes, without iat."""
    clock = Clock()
    revocations = Revocations(store, max_token_age=300, clock=clock)
    auth = authenticator(
        jwt_verifier(clock=clock), revocations=revocations, clock=clock, observers=()
    )
    limit = ConnectionLimit(100, store)  # whose store is asked about revocations, too

    async def close_of(presented: str) -> Any:
        app = WebSocketAuthMiddleware(Seat(), auth, connection_limit=limit)
        async with running(app, f"token={presented}") as wire:
            await until_slowly(lambda: wire.close or (wire.kinds and wire.waiting))
            wire.put(LEFT)
        return wire.close

    old = mint(exp=int(NOW) + 300)
    assert await close_of(old) is None
    await revocations.revoke_user("alice")
    assert await close_of(old) == (4004, "token_revoked")
    clock.now += 1
    assert await close_of(mint(exp=int(NOW) + 301)) is None
    assert await close_of(old) == (4004, "token_revoked")


async def test_one_warning_says_why_a_credential_without_iat_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    revocations = Revocations(MemoryStore(), max_token_age=DAY, clock=lambda: NOW)
    await revocations.revoke_user("501")
    await revocations.revoke_token("t1")
    for principal in (
        Principal("501", issued_at=NOW),  # it says when
        Principal("502", token_id="t1"),  # it doesn't matter when
    ):
        with pytest.raises(Denied):
            await revocations.check(principal)
    assert caplog.messages == []
    for _ in range(3):
        with pytest.raises(Denied):
            await revocations.check(undated(NOW + 300))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("asgi_wsauth", "WARNING")
    for word in ("iat", "max_token_age", "86400 s"):
        assert word in record.getMessage()
    assert "501" not in record.getMessage()
