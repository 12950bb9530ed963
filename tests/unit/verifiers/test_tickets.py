"""Tickets: what they are, what a store gets to see of them, and whom they let in.

How a page comes by one is in test_http.py.
"""

from __future__ import annotations

import gc
import json
import re
import tracemalloc
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import (
    NOW,
    App,
    Clock,
    admits,
    authenticator,
    connected,
    drive,
    judge,
    jwt_verifier,
    mint,
    websocket,
)
from insides import tickets_of
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    Admitted,
    APIKeyVerifier,
    ConfigurationError,
    Credential,
    Denied,
    Event,
    FailureThrottle,
    HTTPAuthMiddleware,
    InternalCredential,
    MemoryStore,
    Principal,
    Reason,
    Refused,
    Tickets,
    TicketStore,
    WebSocketAuthMiddleware,
)

pytestmark = [pytest.mark.anyio, pytest.mark.hurried]

INVALID, EXPIRED, UNAVAILABLE, NOT_MINE = (
    Reason.INVALID,
    Reason.EXPIRED,
    Reason.UNAVAILABLE,
    None,
)
ALICE = Principal("alice", method="jwt")
SHAPE = re.compile(r"wst_[A-Za-z0-9_-]{43}")
UNKNOWN = "wst_" + "A" * 43
PAGE = [("origin", "https://chat.example")]  # is always told by a close code


def issuer(clock: Callable[[], float] = lambda: NOW, **options: Any) -> Tickets:
    """Tickets in a store of their own, both with this clock."""
    return Tickets(**{"store": MemoryStore(clock=clock), "clock": clock, **options})


class Recording:
    """A store that remembers all that it was handed."""

    def __init__(self) -> None:
        self.store = MemoryStore(clock=lambda: NOW)
        self.handed: list[Any] = []

    async def put_ticket(self, *args: Any, **kwargs: Any) -> None:
        self.handed += [*args, *kwargs.values()]
        await self.store.put_ticket(*args, **kwargs)

    async def take_ticket(self, digest: str, /) -> str | None:
        self.handed.append(digest)
        return await self.store.take_ticket(digest)


class Answers:
    """A store whose answers a test chooses: what to raise, or which record to give."""

    def __init__(self, put: Any = None, take: Any = None) -> None:
        self.answers = {"put": put, "take": take}

    async def put_ticket(self, *args: Any, **kwargs: Any) -> None:
        await self._answer("put")

    async def take_ticket(self, digest: str, /) -> Any:
        return await self._answer("take")

    async def _answer(self, operation: str) -> Any:
        answer = self.answers[operation]
        if isinstance(answer, Exception):
            raise answer
        if answer is hang:
            await anyio.sleep_forever()
        return answer

    def __repr__(self) -> str:
        return "<a store>"


async def hang() -> None:
    """Stands for an operation that never ends."""


# What a ticket is


async def test_a_ticket_is_32_bytes_in_base64url() -> None:
    ticket = await issuer().mint(ALICE)
    assert SHAPE.fullmatch(ticket)
    assert len(urlsafe_b64decode(ticket.removeprefix("wst_") + "=")) == 32


async def test_no_two_tickets_are_alike() -> None:
    tickets = issuer(max_pending_per_user=500)
    minted = [await tickets.mint(ALICE) for _ in range(500)]
    assert len(set(minted)) == 500
    raw = [urlsafe_b64decode(ticket.removeprefix("wst_") + "=") for ticket in minted]
    for place in range(32):  # every byte of it is random
        assert len({ticket[place] for ticket in raw}) > 100


async def test_it_lets_its_principal_in() -> None:
    tickets = issuer()
    principal = await judge(tickets, await tickets.mint(ALICE))
    assert isinstance(principal, Principal)
    assert principal.identity == "alice"
    assert principal.method == "ticket"


@cases(
    "login",
    [
        Principal("alice"),
        Principal(
            "alice",
            scopes=["chat:read", "chat:write"],
            claims={"sub": "alice", "exp": 1, "aud": ["a", "b"], "ü": {"x": [None, True, 1.5]}},
            issued_at=NOW - 100.5,
            expires_at=NOW + 3600.25,
            token_id="jti-1",
            session_id="sid-1",
            display_name="Alice Ä. \u202e",
            method="jwt",
            issuer="https://id.example/ä",
        ),
        Principal("alice", method="ticket", login_method="api_key"),
        Principal('a"b\\\ud800\x00', display_name=""),
        Principal("alice", expires_at=float("inf")),
    ],
    ids=["the least", "the most", "by a ticket", "odd characters", "no end in sight"],
)
async def test_all_that_the_login_proved_is_carried_on(login: Principal) -> None:
    tickets = issuer()
    principal = await judge(tickets, await tickets.mint(login))
    assert isinstance(principal, Principal)
    assert vars(principal) == {
        **vars(login),
        "method": "ticket",
        "login_method": login.login_method or login.method,
    }


async def test_the_socket_ends_with_the_login_and_not_with_the_ticket() -> None:
    tickets, app = issuer(ttl=30), App()
    for expires_at in (NOW + 3600, None):
        ticket = await tickets.mint(Principal("alice", expires_at=expires_at))
        app = App()
        guarded = WebSocketAuthMiddleware(app, authenticator(tickets))
        await drive(guarded, websocket(f"token={ticket}"))
        assert app.scope["wsauth"].expires_at == expires_at
        assert app.scope["wsauth"].method == "ticket"


# What the store gets to see


def all_within(thing: Any) -> str:
    """Everything that can be reached from `thing`, written down."""
    seen: dict[int, Any] = {}
    todo = [thing]
    while todo:
        this = todo.pop()
        if id(this) in seen or isinstance(this, type) or callable(this):
            continue
        seen[id(this)] = this
        if isinstance(this, dict):
            todo += [*this.keys(), *this.values()]
        elif isinstance(this, (list, tuple, set, frozenset)):
            todo += this
        todo.append(getattr(this, "__dict__", None))
    return "\n".join(repr(this) for this in seen.values())


async def test_the_store_holds_nothing_of_a_ticket_but_its_hash() -> None:
    store = MemoryStore()
    tickets = Tickets(store)
    minted = [
        await tickets.mint(Principal("alice", claims={"sub": "alice"}), path="/ws", client="::1")
        for _ in range(3)
    ]
    await judge(tickets, minted[0], path="/ws", client=("::1", 1))
    state = all_within(store)
    assert "alice" in state  # it is all of the state
    for ticket in minted:
        for part in (ticket, ticket.removeprefix("wst_"), ticket[4:24], ticket[-20:]):
            assert part not in state
            assert part not in all_within(tickets)
        assert urlsafe_b64decode(ticket[4:] + "=").hex() not in state


async def test_nothing_of_a_ticket_but_its_hash_is_handed_to_a_store() -> None:
    store = Recording()
    tickets = Tickets(store, clock=lambda: NOW)
    ticket = await tickets.mint(ALICE, origin="https://chat.example")
    assert await admits(tickets, ticket, headers=[("origin", "https://chat.example")])
    put, record, owner, limit, ttl, taken = store.handed
    assert re.fullmatch("[0-9a-f]{64}", put)
    assert put == taken
    assert (owner, limit, ttl) == ("alice", 20, 60)
    assert ticket[4:24] not in repr(store.handed)
    assert json.loads(record)["principal"]["identity"] == "alice"


async def test_a_repr_says_where_tickets_are_kept_and_no_more() -> None:
    tickets = issuer()
    await tickets.mint(ALICE)
    assert repr(tickets) == "<Tickets in <MemoryStore with 1 tickets>>"


# Whose credential it is


OTHERS = {
    "nothing": "",
    "a letter": "x",
    "the beginning of a ticket": "wst",
    "a hyphen for the underscore": "wst-" + "A" * 43,
    "in capitals": "WST_" + "A" * 43,
    "a letter in front": "x" + UNKNOWN,
    "a space in front": " " + UNKNOWN,
    "an internal credential": "wsi_" + "A" * 43,
    "an API key": "wsk_" + "A" * 43,
    "a JWT": mint(),
}


@cases("presented", OTHERS.values(), ids=OTHERS)
async def test_what_is_no_ticket_is_not_mine(presented: str) -> None:
    store = Recording()
    assert await judge(Tickets(store), presented) is NOT_MINE
    assert store.handed == []


MALFORMED = {
    "nothing more": "",
    "a letter more": "A",
    "too short": "A" * 42,
    "too long": "A" * 44,
    "far too long": "A" * 100_000,
    "padded": "A" * 42 + "=",
    "the other base64": "A" * 42 + "+",
    "a line feed for a letter": "A" * 42 + "\n",
    "a line feed behind": "A" * 43 + "\n",
    "a NUL": "A" * 42 + "\x00",
    "a space": " " + "A" * 42,
    "a letter that is not ASCII": "A" * 42 + "ä",
    "full-width letters": "Ａ" * 43,
}


@cases("rest", MALFORMED.values(), ids=MALFORMED)
async def test_what_begins_like_a_ticket_and_is_none_never_reaches_the_store(rest: str) -> None:
    store = Recording()
    assert await judge(Tickets(store), f"wst_{rest}") is INVALID
    assert store.handed == []


@cases("first", ["tickets", "the others"])
async def test_the_order_of_the_chain_does_not_matter(first: str) -> None:
    tickets, internal = issuer(), InternalCredential()
    others = [jwt_verifier(), internal, APIKeyVerifier({"ci": "Kq8rT2vX5yB1nM4cZ7wL0sD3"})]
    auth = authenticator(*([tickets, *others] if first == "tickets" else [*others, tickets]))
    for presented, method in (
        (await tickets.mint(ALICE), "ticket"),
        (mint(), "jwt"),
        (internal.value, "internal"),
        ("Kq8rT2vX5yB1nM4cZ7wL0sD3", "api_key"),
    ):
        app = App()
        await drive(WebSocketAuthMiddleware(app, auth), websocket(f"token={presented}"))
        assert app.scope["wsauth"].method == method


@cases("presented", ["good", "used", UNKNOWN, "wst_short"])
async def test_a_verifier_behind_is_not_asked_about_tickets(presented: str) -> None:
    asked: list[str] = []

    async def lookup(digest: str) -> Principal | None:
        asked.append(digest)
        return Principal("anybody")

    tickets = issuer()
    ticket = await tickets.mint(ALICE)
    if presented == "used":
        await judge(tickets, ticket)
    auth = authenticator(tickets, APIKeyVerifier(lookup=lookup))
    query = f"token={ticket if presented in ('good', 'used') else presented}"
    app = App()
    await drive(WebSocketAuthMiddleware(app, auth), websocket(query))
    assert bool(app.calls) is (presented == "good")
    assert asked == []


async def test_two_issuers_with_stores_of_their_own_do_not_know_each_others_tickets() -> None:
    one, other = issuer(), issuer()
    ticket = await one.mint(ALICE)
    assert await judge(other, ticket) is INVALID
    assert await admits(one, ticket)


async def test_two_issuers_with_one_store_are_as_one() -> None:
    store = MemoryStore()
    one, other = Tickets(store), Tickets(store)
    ticket = await one.mint(ALICE)
    assert await admits(other, ticket)
    assert await judge(one, ticket) is EXPIRED


# Once


async def test_a_ticket_works_once() -> None:
    tickets = issuer()
    ticket = await tickets.mint(ALICE)
    assert await admits(tickets, ticket)
    assert await judge(tickets, ticket) is EXPIRED
    assert await judge(tickets, ticket) is EXPIRED


@cases(("passed", "verdict"), [(0, EXPIRED), (54.999, EXPIRED), (55, INVALID)])
async def test_a_used_ticket_is_expired_for_as_long_as_a_late_one(
    passed: float, verdict: Reason
) -> None:
    clock = Clock()
    tickets = issuer(clock)
    ticket = await tickets.mint(ALICE)
    clock.now += 5
    assert await admits(tickets, ticket)
    clock.now += passed
    assert await judge(tickets, ticket) is verdict


async def test_no_throttle_counts_a_used_ticket_or_one_that_had_to_go() -> None:
    tickets = issuer(max_pending_per_user=1)
    gone, used = [await tickets.mint(ALICE) for _ in range(2)]
    assert await admits(tickets, used)
    auth = authenticator(jwt_verifier(), tickets, throttle=FailureThrottle("1/hour"))
    over_http = HTTPAuthMiddleware(App(), auth)
    socket = WebSocketAuthMiddleware(App(), auth)
    for ticket in [gone, used] * 10:
        outcome = await drive(over_http, websocket(f"token={ticket}", type="http", method="GET"))
        assert outcome.sent[1]["body"] == b'{"error": "token_expired"}'
        outcome = await drive(socket, websocket(f"token={ticket}", headers=PAGE))
        assert outcome.close == (4001, "token_expired")
    assert (await drive(socket, websocket(f"token={UNKNOWN}"))).close == (1008, "token_invalid")
    locked = (1013, "too_many_failures")
    assert (await drive(socket, websocket(f"token={mint()}"))).close == locked


class Forgetful:
    """A store of somebody's own, with the two methods that it takes and no more."""

    def __init__(self) -> None:
        store = MemoryStore()
        self.put_ticket, self.take_ticket = store.put_ticket, store.take_ticket


async def test_a_store_without_a_memory_knows_no_used_ticket() -> None:
    tickets = Tickets(Forgetful())
    ticket = await tickets.mint(ALICE)
    assert await admits(tickets, ticket)
    assert await judge(tickets, ticket) is INVALID


async def test_a_memory_that_fails_is_unavailable() -> None:
    class Failing(MemoryStore):
        async def had_ticket(self, digest: str, /) -> bool:
            raise OSError("redis://user:hunter2@cache")

    tickets = Tickets(Failing())
    assert await admits(tickets, await tickets.mint(ALICE))
    assert await judge(tickets, UNKNOWN) is UNAVAILABLE


async def test_an_unknown_ticket_is_invalid() -> None:
    tickets = issuer()
    ticket = await tickets.mint(ALICE)
    assert await judge(tickets, UNKNOWN) is INVALID
    flipped = ticket[:-1] + ("A" if ticket[-1] != "A" else "B")
    assert await judge(tickets, flipped) is INVALID
    assert await judge(tickets, ticket[:4] + ticket[4:].swapcase()) is INVALID
    assert await admits(tickets, ticket)


class Slow:
    """A store on the other end of a network: others run before it answers."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.put_ticket = self.store.put_ticket

    async def take_ticket(self, digest: str, /) -> str | None:
        await anyio.lowlevel.checkpoint()
        record = await self.store.take_ticket(digest)
        await anyio.lowlevel.checkpoint()
        return record


@cases(
    ("store", "again"),
    [(MemoryStore, (4001, "token_expired")), (Slow, (1008, "token_invalid"))],
)
async def test_of_100_handshakes_with_one_ticket_exactly_one_is_admitted(
    store: Callable[[], TicketStore], again: Any
) -> None:
    tickets = Tickets(store())
    ticket = await tickets.mint(ALICE)
    seen: list[Event] = []
    app = App()
    guarded = WebSocketAuthMiddleware(
        app, authenticator(jwt_verifier(), tickets, observers=[seen.append])
    )
    closes: list[Any] = []

    async def connect() -> None:
        await anyio.lowlevel.checkpoint()
        scope = websocket(f"token={ticket}", headers=PAGE)
        closes.append((await drive(guarded, scope, receive=connected())).close)

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(connect)
    assert len(app.calls) == 1
    assert Counter(closes) == {None: 1, again: 99}
    assert len([event for event in seen if isinstance(event, Admitted)]) == 1
    assert len([event for event in seen if isinstance(event, Refused)]) == 99


# In time


@cases(
    ("passed", "verdict"),
    [
        (0, "admitted"),
        (29.999, "admitted"),
        (30, EXPIRED),
        (59.999, EXPIRED),
        (60, INVALID),
        (86_400, INVALID),
    ],
)
@cases("use", [None, "a mint", "a take"])
async def test_a_late_ticket_is_expired_for_as_long_again_as_it_worked(
    passed: float, verdict: Any, use: str | None
) -> None:
    clock = Clock()
    tickets = issuer(clock)
    ticket = await tickets.mint(ALICE)
    clock.now += passed
    if use == "a mint":
        await tickets.mint(Principal("bob"))
    elif use == "a take":
        await judge(tickets, UNKNOWN)
    result = await judge(tickets, ticket)
    assert verdict == ("admitted" if isinstance(result, Principal) else result)


async def test_a_late_ticket_is_gone_after_one_look() -> None:
    clock = Clock()
    tickets = issuer(clock)
    ticket = await tickets.mint(ALICE)
    clock.now += 30
    assert await judge(tickets, ticket) is EXPIRED
    clock.now -= 30
    assert await judge(tickets, ticket) is EXPIRED


async def test_only_what_was_issued_here_can_be_late() -> None:
    clock = Clock()
    tickets, elsewhere = issuer(clock), issuer(clock)
    ticket = await elsewhere.mint(ALICE)
    clock.now += 30
    assert await judge(tickets, ticket) is INVALID


@cases("ttl", [0.5, 1, 45, 86_399])
async def test_the_time_to_live_is_an_option(ttl: float) -> None:
    clock = Clock()
    tickets = issuer(clock, ttl=ttl)
    assert tickets.ttl == ttl
    for passed, admitted in ((ttl * 0.99, True), (ttl, False)):
        clock.now = NOW
        ticket = await tickets.mint(ALICE)
        clock.now += passed
        assert await admits(tickets, ticket) is admitted


@cases(("ends_in", "lifetime"), [(5, 5), (29.5, 29.5), (30, 30), (31, 30), (1e9, 30), (None, 30)])
async def test_a_login_that_ends_sooner_ends_its_ticket(
    ends_in: float | None, lifetime: float
) -> None:
    clock = Clock()
    tickets = issuer(clock)
    login = Principal("alice", expires_at=None if ends_in is None else NOW + ends_in)
    assert tickets.lifetime(login) == lifetime
    for passed, verdict in (
        (lifetime - 0.001, "admitted"),
        (lifetime, EXPIRED),
        (2 * lifetime - 0.001, EXPIRED),
        (2 * lifetime, INVALID),
    ):
        clock.now = NOW
        ticket = await tickets.mint(login)
        clock.now += passed
        result = await judge(tickets, ticket)
        assert verdict == ("admitted" if isinstance(result, Principal) else result)


@cases("ended", [0, 0.001, 1e6])
async def test_a_login_that_has_ended_gets_no_ticket(ended: float) -> None:
    store = Recording()
    tickets = Tickets(store, clock=lambda: NOW)
    with pytest.raises(Denied) as caught:
        await tickets.mint(Principal("alice", expires_at=NOW - ended))
    assert caught.value.reason is EXPIRED
    assert caught.value.detail == "the login behind the ticket has ended"
    assert store.handed == []


async def test_the_default_clock_is_unix_time() -> None:
    tickets = Tickets(MemoryStore())
    assert await admits(tickets, await tickets.mint(ALICE))
    with pytest.raises(Denied):
        await tickets.mint(Principal("alice", expires_at=1_700_000_000))
    assert tickets.lifetime(Principal("alice", expires_at=4e9)) == 30


# Where it works

HERE = {"path": "/ws/chat", "headers": [("origin", "https://chat.example")]}
BINDINGS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    # what it is bound to, the handshake, whether it is admitted
    "to nothing": ({}, HERE, True),
    "to nothing, from a bare handshake": ({}, {"client": None}, True),
    "its path": ({"path": "/ws/chat"}, {"path": "/ws/chat"}, True),
    "another path": ({"path": "/ws/chat"}, {"path": "/ws/terminal"}, False),
    "a path below": ({"path": "/ws"}, {"path": "/ws/chat"}, False),
    "a path above": ({"path": "/ws/chat"}, {"path": "/ws"}, False),
    "its path and a slash": ({"path": "/ws/chat"}, {"path": "/ws/chat/"}, False),
    "its path in capitals": ({"path": "/ws/chat"}, {"path": "/WS/chat"}, False),
    "its path, not decoded": ({"path": "/ws/ä b"}, {"path": "/ws/%C3%A4%20b"}, False),
    "a path with odd characters": (
        {"path": "/ws/ä b\n%"},
        {"path": "/ws/ä b\n%", "raw_path": b""},
        True,
    ),
    "the root": ({"path": "/"}, {"path": "/"}, True),
    "its client": ({"client": "192.0.2.7"}, {"client": ("192.0.2.7", 9)}, True),
    "another client": ({"client": "192.0.2.7"}, {"client": ("192.0.2.77", 9)}, False),
    "no client": ({"client": "192.0.2.7"}, {"client": None}, False),
    "no client, as bound": ({"client": ""}, {"client": None}, True),
    "a client without a name": ({"client": "192.0.2.7"}, {"client": ("", 0)}, False),
    "everything": (
        {"path": "/ws/chat", "origin": "https://chat.example", "client": "::1"},
        {**HERE, "client": ("::1", 9)},
        True,
    ),
    "everything but the path": (
        {"path": "/ws", "origin": "https://chat.example", "client": "::1"},
        {**HERE, "client": ("::1", 9)},
        False,
    ),
    "everything but the origin": (
        {"path": "/ws/chat", "origin": "https://b.example", "client": "::1"},
        {**HERE, "client": ("::1", 9)},
        False,
    ),
    "everything but the client": (
        {"path": "/ws/chat", "origin": "https://chat.example", "client": "::2"},
        {**HERE, "client": ("::1", 9)},
        False,
    ),
}


@cases(("bound", "handshake", "admitted"), BINDINGS.values(), ids=BINDINGS)
async def test_a_ticket_works_only_where_it_is_bound_to_and_is_gone_anyway(
    bound: dict[str, Any], handshake: dict[str, Any], admitted: bool
) -> None:
    tickets = issuer()
    ticket = await tickets.mint(ALICE, **bound)
    if admitted:
        assert await admits(tickets, ticket, **handshake)
    else:
        assert await judge(tickets, ticket, **handshake) is INVALID
    right = {
        "path": bound.get("path", "/ws"),
        "headers": [("origin", bound.get("origin", "https://chat.example"))],
        "client": (bound.get("client", "127.0.0.1"), 1),
        "raw_path": b"",
    }
    assert await judge(tickets, ticket, **right) is EXPIRED  # a mismatch has used it up
    assert await admits(tickets, await tickets.mint(ALICE, **bound), **right)


@cases(
    ("bound", "origins", "admitted"),
    [
        ("https://chat.example", ["https://chat.example"], True),
        ("https://chat.example", ["HTTPS://Chat.Example:443"], True),
        ("HTTPS://CHAT.example:443", ["https://chat.example"], True),
        ("http://localhost:3000", ["http://localhost:3000"], True),
        ("https://chat.example", ["https://chat.example:8443"], False),
        ("https://chat.example", ["http://chat.example"], False),
        ("https://chat.example", ["https://chat.example.evil"], False),
        ("https://chat.example", ["https://chat.example."], False),
        ("https://chat.example", ["https://chat.example/"], False),
        ("https://chat.example", ["null"], False),
        ("https://chat.example", [""], False),
        ("https://chat.example", [], False),
        ("https://chat.example", ["https://chat.example", "https://chat.example"], False),
        ("https://chat.example", ["https://chat.example", "https://evil.example"], False),
        ("https://chat.example", ["https://evil.example", "https://chat.example"], False),
        ("null", ["null"], True),
        ("null", ["NULL"], False),
        ("null", ["https://chat.example"], False),
        ("null", [""], False),
        ("null", [], False),
        ("null", ["null", "null"], False),
        (None, [], True),
        (None, ["https://evil.example"], True),
        (None, ["null", "https://chat.example"], True),
    ],
)
async def test_origins_are_compared_as_origins(
    bound: str | None, origins: list[str], admitted: bool
) -> None:
    tickets = issuer()
    ticket = await tickets.mint(ALICE, origin=bound)
    headers = [("origin", origin) for origin in origins]
    result = await judge(tickets, ticket, headers=headers)
    assert isinstance(result, Principal) if admitted else result is INVALID
    right = [("origin", bound or "https://chat.example")]
    assert await judge(tickets, ticket, headers=right) is EXPIRED  # it was used


UNKNOWN_HERE = (
    "the ticket is unknown in <MemoryStore with 1 tickets>; who issued it needs the same store"
)


@cases(
    ("changed", "why"),
    [
        ({"ticket": UNKNOWN}, UNKNOWN_HERE),
        ({"used": True}, "the ticket was already used, or was dropped for newer ones"),
        ({"ticket": UNKNOWN + "A"}, "this is not a ticket"),
        ({"passed": 30}, "the ticket came too late"),
        ({"path": "/ws/terminal"}, "the ticket is for another path"),
        ({"headers": []}, "the ticket is for another origin"),
        ({"client": ("::2", 1)}, "the ticket is for another client address"),
    ],
)
async def test_the_log_says_why_a_ticket_was_refused(changed: dict[str, Any], why: str) -> None:
    clock = Clock()
    tickets = issuer(clock)
    ticket = await tickets.mint(ALICE, path="/ws/chat", origin="https://chat.example", client="::1")
    handshake = {**HERE, "client": ("::1", 1), **changed}
    clock.now += handshake.pop("passed", 0)
    if handshake.pop("used", False):
        assert await admits(tickets, ticket, **handshake)
    credential = Credential(handshake.pop("ticket", ticket))
    with pytest.raises(Denied) as caught:
        await tickets(credential, HTTPConnection(websocket(**handshake)))
    assert caught.value.detail == why


async def test_a_late_ticket_in_the_wrong_place_is_late() -> None:
    """So whoever has it is told what helps: a new one."""
    clock = Clock()
    tickets = issuer(clock)
    ticket = await tickets.mint(ALICE, path="/ws/chat")
    clock.now += 30
    assert await judge(tickets, ticket, path="/ws/terminal") is EXPIRED


async def test_a_foreign_origin_burns_no_ticket() -> None:
    tickets = issuer()
    ticket = await tickets.mint(ALICE)
    seen: list[Event] = []
    app = App()
    guarded = WebSocketAuthMiddleware(
        app,
        authenticator(tickets, allowed_origins=["https://chat.example"], observers=[seen.append]),
    )
    for origin in ("https://evil.example", "null"):
        scope = websocket(f"token={ticket}", headers=[("origin", origin)])
        assert (await drive(guarded, scope)).close == (1008, "origin_not_allowed")
    scope = websocket(f"token={ticket}", headers=[("origin", "https://chat.example")])
    assert (await drive(guarded, scope)).accepted
    assert app.scope["user"].identity == "alice"
    assert [event.name for event in seen] == ["refused", "refused", "admitted", "closed"]


async def test_a_ticket_for_one_path_is_refused_on_another_and_gone_afterwards() -> None:
    tickets, app = issuer(), App()
    ticket = await tickets.mint(ALICE, path="/ws/chat")
    guarded = WebSocketAuthMiddleware(app, authenticator(tickets))
    for path, close in (
        ("/ws/terminal", (1008, "token_invalid")),
        ("/ws/chat", (4001, "token_expired")),
    ):
        outcome = await drive(guarded, websocket(f"token={ticket}", path=path))
        assert outcome.close == close
    assert not app.calls


# How many


@cases("limit", [1, 2, 5])
async def test_past_max_pending_the_oldest_of_the_same_user_go(limit: int) -> None:
    tickets = issuer(max_pending_per_user=limit)
    bobs = await tickets.mint(Principal("bob"))
    minted = [await tickets.mint(ALICE) for _ in range(limit + 2)]
    verdicts = [await judge(tickets, ticket) for ticket in minted]
    assert verdicts[:2] == [EXPIRED, EXPIRED]  # so their pages ask for others
    assert all(isinstance(verdict, Principal) for verdict in verdicts[2:])
    assert await admits(tickets, bobs)


async def test_what_was_used_makes_room() -> None:
    tickets = issuer(max_pending_per_user=2)
    first, second = [await tickets.mint(ALICE) for _ in range(2)]
    assert await admits(tickets, second)
    third = await tickets.mint(ALICE)
    assert await admits(tickets, first)
    assert await admits(tickets, third)


async def test_by_default_twenty_may_be_pending() -> None:
    tickets = issuer()
    minted = [await tickets.mint(ALICE) for _ in range(21)]
    assert [await admits(tickets, ticket) for ticket in minted] == [False] + [True] * 20


@pytest.mark.usefixtures("little_to_collect")
@pytest.mark.slow
async def test_thousands_of_tickets_that_nobody_uses_leave_no_memory_behind() -> None:
    clock = Clock()
    store = MemoryStore(max_tickets=500, clock=clock)
    tickets = Tickets(store, clock=clock)
    for number in range(1_500):
        await tickets.mint(Principal(f"user {number}"))
        if number % 100 == 0:
            assert len(tickets_of(store)) <= 500
    gc.collect()
    tracemalloc.start()  # from here on: it takes its time, and by now old ones make room for new
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(500):
            await tickets.mint(Principal(f"late user {number}"))
        full, _ = tracemalloc.get_traced_memory()
        assert repr(store) == "<MemoryStore with 500 tickets>"
        clock.now += 2 * tickets.ttl
        await tickets.mint(ALICE)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert full - before > 500 * 300  # bytes: all that is in the store was counted
    assert after - before < (full - before) / 10
    assert repr(store) == "<MemoryStore with 1 tickets>"
    state = all_within(store)
    assert "alice" in state
    assert "user" not in state


# What mint refuses


@cases("principal", [None, "alice", {"sub": "alice"}, object(), Principal])
async def test_a_ticket_is_for_a_principal(principal: Any) -> None:
    store = Recording()
    with pytest.raises(TypeError, match=r"^principal must be a Principal, got "):
        await Tickets(store).mint(principal)
    assert store.handed == []


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@cases(
    "value",
    [object(), {1, 2}, b"bytes", NOW.as_integer_ratio, 1j, CIRCLE, DEEP],
    ids=lambda value: type(value).__name__,
)
async def test_claims_that_json_can_not_hold_are_a_type_error(value: Any) -> None:
    store = Recording()
    with pytest.raises(TypeError, match="JSON"):
        await Tickets(store).mint(Principal("alice", claims={"x": {"y": [value]}}))
    assert store.handed == []


NO_PATHS = ["", "ws", "ws/chat", "*", " /ws", "\n/ws", "?", "/?", "/ws?room=1", "/ws#top"]
NO_PATHS += ["https://chat.example/ws", "wss://chat.example"]


@cases("path", NO_PATHS)
async def test_a_path_that_no_handshake_has_is_refused_by_name(path: str) -> None:
    store = Recording()
    with pytest.raises(ValueError, match=r"^path must be a path") as caught:
        await Tickets(store).mint(ALICE, path=path)
    assert repr(path) in str(caught.value)
    assert store.handed == []


NO_ORIGINS = ["", "*", "NULL", "chat.example", "https://", "https://chat.example/"]
NO_ORIGINS += ["https://chat.example.", "https://*.example", "https://a.example,https://b.example"]


@cases("origin", NO_ORIGINS)
async def test_an_origin_that_no_browser_sends_is_refused_by_name(origin: str) -> None:
    store = Recording()
    with pytest.raises(ValueError, match=r"^origin must be an origin") as caught:
        await Tickets(store).mint(ALICE, origin=origin)
    assert repr(origin) in str(caught.value)
    assert store.handed == []


# The store fails


class Broken(Exception):
    """What a store's client library may raise."""


FAILURES = [Broken("password=hunter2"), OSError("gone"), TimeoutError(), KeyError("x")]


@cases("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_a_store_that_can_not_keep_it_issues_none(failure: Exception) -> None:
    with pytest.raises(Denied) as caught:
        await Tickets(Answers(put=failure)).mint(ALICE)
    assert caught.value.reason is UNAVAILABLE
    assert caught.value.__cause__ is failure
    assert caught.value.detail == f"<a store>: {type(failure).__name__}"


@cases("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_a_store_that_can_not_be_asked_admits_nobody(failure: Exception) -> None:
    tickets = Tickets(Answers(take=failure))
    ticket = await tickets.mint(ALICE)
    with pytest.raises(Denied) as caught:
        await tickets(Credential(ticket), HTTPConnection(websocket()))
    assert caught.value.reason is UNAVAILABLE
    assert caught.value.__cause__ is failure
    assert caught.value.detail == f"<a store>: {type(failure).__name__}"


async def test_behind_a_broken_store_no_verifier_is_asked() -> None:
    asked: list[str] = []

    async def anybody(credential: Credential, conn: HTTPConnection) -> Principal | None:
        asked.append(credential.value)
        return Principal("anybody")

    tickets = Tickets(Answers(take=Broken("password=hunter2")))
    app, seen = App(), list[Event]()
    guarded = WebSocketAuthMiddleware(app, authenticator(tickets, anybody, observers=[seen.append]))
    outcome = await drive(guarded, websocket(f"token={UNKNOWN}"))
    assert outcome.close == (1013, "verifier_unavailable")
    assert "hunter2" not in repr(outcome.sent)
    (event,) = seen
    assert isinstance(event, Refused)
    assert "Broken: password=hunter2" in str(event.traceback)  # for the log only
    assert UNKNOWN not in repr(event)
    assert not app.calls
    assert not asked


async def test_a_store_that_hangs_is_unavailable_at_the_deadline() -> None:
    app = App()
    auth = authenticator(Tickets(Answers(take=hang)), timeout=0.01)
    outcome = await drive(
        WebSocketAuthMiddleware(app, auth), websocket(f"token={UNKNOWN}"), receive=connected()
    )
    assert outcome.close == (1013, "verifier_unavailable")
    assert not app.calls


RUBBISH: dict[str, Any] = {
    "an empty string": "",
    "no JSON": "{",
    "null": "null",
    "a number": "1",
    "a list": "[]",
    "an empty object": "{}",
    "too deep": "[" * 100_000,
    "no string": object(),
    "True": True,
    "no principal": '{"until": 1e99, "path": null, "origin": null, "client": null}',
    "a principal that is none": (
        '{"until": 1e99, "path": null, "origin": null, "client": null, "principal": "alice"}'
    ),
    "an identity that is none": (
        '{"until": 1e99, "path": null, "origin": null, "client": null,'
        ' "principal": {"identity": ""}}'
    ),
    "another method": (
        '{"until": 1e99, "path": null, "origin": null, "client": null,'
        ' "principal": {"identity": "alice", "method": "jwt"}}'
    ),
    "no binding": '{"until": 1e99, "principal": {"identity": "alice"}}',
    "a time that is none": (
        '{"until": "later", "path": null, "origin": null, "client": null,'
        ' "principal": {"identity": "alice"}}'
    ),
}


@cases("record", RUBBISH.values(), ids=RUBBISH)
async def test_a_store_that_gives_rubbish_admits_nobody(record: Any) -> None:
    async def anybody(credential: Credential, conn: HTTPConnection) -> Principal | None:
        return Principal("anybody")

    app = App()
    auth = authenticator(Tickets(Answers(take=record)), anybody)
    outcome = await drive(WebSocketAuthMiddleware(app, auth), websocket(f"token={UNKNOWN}"))
    assert outcome.close == (1011, "internal_error")
    assert not app.calls


# Configuration


class OnlyPuts:
    async def put_ticket(self, *args: Any, **kwargs: Any) -> None: ...


class OnlyTakes:
    async def take_ticket(self, digest: str) -> None: ...


class PutsNothing(OnlyTakes):
    put_ticket = None


@cases(
    ("options", "named"),
    [
        (
            {"store": None},
            "store must be a MemoryStore, .*, got None, .* put_ticket",
        ),
        (
            {"store": {}},
            "store must be a MemoryStore, .*, got {}, .* put_ticket",
        ),
        (
            {"store": "redis://localhost"},
            "store must be a MemoryStore, .*, got a str; write Redis",
        ),
        ({"store": OnlyPuts()}, "store .* has no method take_ticket"),
        (
            {"store": OnlyTakes()},
            "store must be a MemoryStore, .*, got ",
        ),
        (
            {"store": PutsNothing()},
            "store must be a MemoryStore, .*, got ",
        ),
        (
            {"store": MemoryStore},
            "store must be a MemoryStore, .*, got ",
        ),
        *(
            ({"ttl": ttl}, "ttl must be a positive number of seconds and at most 86399, got ")
            for ttl in (0, -1, float("nan"), float("inf"), 86_400, "30", None, True, [30])
        ),
        *(
            (
                {"max_pending_per_user": limit},
                "max_pending_per_user must be a positive integer, got ",
            )
            for limit in (0, -1, 1.5, 5.0, "5", None, True)
        ),
    ],
)
def test_bad_configuration_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^Tickets: {named}"):
        Tickets(**{"store": MemoryStore(), **options})
