"""`Sessions`: open sockets that are listed, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import FrozenInstanceError
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from doors import EXPIRED, REVOKED, Door, alice
from handshakes import NOW, Knows, authenticator, drive, websocket
from houses import FAR, House, one, open_in
from insides import listed_here, sessions_of
from sockets import LEFT, Seat, Wire, running, settled, text, until

from asgi_wsauth import (
    ConfigurationError,
    ConnectionLimit,
    Denied,
    HTTPAuthMiddleware,
    MemoryStore,
    Notice,
    Principal,
    Reason,
    Refused,
    RenewedSessions,
    SessionEntry,
    SessionKey,
    Sessions,
    SessionStore,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.redaction import scrubbed

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

TELL = "auth.refresh"


# What is listed


async def test_an_open_socket_is_listed_with_all_that_may_be_told_of_it() -> None:
    house = House(listing={"user_agent": True})
    handshake = {
        "path": "/ws/room",
        "client": ("203.0.113.7", 1234),
        "headers": [("user-agent", "Firefox/150")],
    }
    assert await house.listed() == []
    async with open_in(house, "token=a", **handshake):
        assert await house.sessions.list("alice") == [
            SessionEntry(
                id=house.seat.session.id,
                since=NOW,
                refreshed_at=None,
                client="203.0.113.7",
                path="/ws/room",
                method="custom",
                fingerprint=house.seat.session.fingerprint,
                user_agent="Firefox/150",
            )
        ]
        assert await house.listed("bob") == []
    assert await house.listed() == []
    assert house.left_over == []


async def test_a_socket_is_listed_before_its_app_runs() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(await house.listed())
        assert seen == [scope["wsauth"].id]

    house = House(app)
    await drive(house, websocket("token=a"))
    assert seen
    assert house.left_over == []


async def test_without_the_option_no_user_agent_is_kept() -> None:
    house = House()
    async with open_in(house, headers=[("user-agent", "Firefox/150")]):
        assert (await one(house)).user_agent is None


async def test_entries_can_not_be_changed() -> None:
    house = House()
    async with open_in(house):
        entry = await one(house)
        with pytest.raises(FrozenInstanceError):
            entry.id = "other"  # type: ignore[misc]


async def test_the_oldest_comes_first() -> None:
    house = House()
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(4):
            await stack.enter_async_context(open_in(house))
            opened.append(house.seat.session.id)
            house.clock.now += 1
        assert await house.listed() == opened
    assert house.left_over == []


async def test_without_login_nothing_is_listed() -> None:
    house = House()
    open_house = WebSocketAuthMiddleware(
        house.seat,
        authenticator(house.knows, required=False, no_auth_networks=["127.0.0.0/8"]),
        sessions=house.sessions,
    )
    async with open_in(open_house):
        assert sessions_of(house.sessions.store) == []
        assert listed_here(house.sessions) == []


# Its end


async def test_revocations_in_the_same_store_are_not_concerned() -> None:
    house = House()
    house.sessions.store = house.store
    async with open_in(house) as (wire, _), open_in(house) as (other, _):
        await house.sessions.end(house.seat.session.id)
        await until(lambda: other.close)
        await settled()
        assert (wire.close, other.close) == (None, REVOKED)
    assert house.left_over == []


async def test_a_session_is_ended_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    store = Shaky()
    house = House(store=store)
    async with open_in(house) as (wire, _):
        await settled()
        await house.sessions.end(house.seat.session.id, Reason.FORBIDDEN)
        assert await house.listed() == []
        await until(lambda: wire.close)
        assert wire.close == (1008, "forbidden")
    assert "cut off" not in caplog.text, "it is heard, not found out"
    assert store.remembered == 86400
    assert house.closed.reason is Reason.FORBIDDEN
    assert house.left_over == []


async def test_ended_others_leave_one() -> None:
    house = House(known={"a": alice(FAR), "b": Principal("bob")})
    async with AsyncExitStack() as stack:
        wires, ids = [], []
        for query in ("token=a", "token=a", "token=a", "token=b"):
            wire, _ = await stack.enter_async_context(open_in(house, query))
            wires.append(wire)
            ids.append(house.seat.session.id)
        await house.sessions.end_others("alice", keep=ids[1])
        await until(lambda: wires[0].close and wires[2].close)
        assert [wire.close for wire in wires] == [REVOKED, None, REVOKED, None]
        assert await house.listed() == [ids[1]]
        assert await house.listed("bob") == [ids[3]]
    assert house.left_over == []


async def test_what_is_not_there_can_be_ended() -> None:
    house = House()
    await house.sessions.end("nothing")
    await house.sessions.end_others("nobody", keep="nothing")
    async with open_in(house) as (wire, _):
        await house.sessions.end("nothing")
        await settled()
        assert wire.close is None
    assert house.left_over == []


# Who it is


A, B = "https://a.example", "https://b.example"
PEOPLE = {
    "n": Principal("501"),
    "a": Principal("501", issuer=A),
    "b": Principal("501", issuer=B),
}


@asynccontextmanager
async def all_of_501(house: House) -> AsyncIterator[tuple[dict[str, Wire], dict[str, str]]]:
    async with AsyncExitStack() as stack:
        wires, ids = {}, {}
        for name in PEOPLE:
            wires[name], _ = await stack.enter_async_context(open_in(house, f"token={name}"))
            ids[name] = house.seat.session.id
            house.clock.now += 1
        yield wires, ids


async def test_an_identity_is_meant_at_every_issuer_or_at_one() -> None:
    house = House(known=PEOPLE)
    async with all_of_501(house) as (_, ids):
        assert await house.listed("501") == [ids["n"], ids["a"], ids["b"]]
        assert await house.listed("501", issuer=A) == [ids["a"]]
        assert [entry.issuer for entry in await house.sessions.list("501")] == [None, A, B]
        assert await house.listed("501", issuer="https://c.example") == []


@cases(("issuer", "left"), [(None, ["a"]), (A, ["n", "a", "b"]), (B, ["n", "a"])])
async def test_others_are_ended_at_every_issuer_or_at_one(
    issuer: str | None, left: list[str]
) -> None:
    house = House(known=PEOPLE)
    async with all_of_501(house) as (wires, ids):
        await house.sessions.end_others("501", ids["a"], issuer, Reason.EXPIRED)
        assert await house.listed("501") == [ids[name] for name in left]
        await until(lambda: sum(wire.close == EXPIRED for wire in wires.values()) == 3 - len(left))
        assert [name for name in wires if wires[name].close is None] == left
    assert house.left_over == []


# Its id


async def test_ids_are_random_and_stay_the_same() -> None:
    house = House()
    ids = set()
    for _ in range(3):
        async with open_in(house):
            session = house.seat.session
            assert await house.listed() == [session.id] == [session.id]
            ids.add(session.id)
    assert len(ids) == 3
    assert all(len(id) >= 16 and id.isascii() for id in ids)


async def test_requests_have_ids_too() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([scope["wsauth"].id, scope["wsauth"].id])

    guarded = HTTPAuthMiddleware(app, authenticator(Knows(a=alice())))
    for _ in range(2):
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"token=a"}
        await guarded({**scope, "headers": []}, None, None)
    assert seen[0] == seen[1] != seen[2] == seen[3]


# What changes


@cases("by", ["message", "call"])
async def test_a_refresh_is_told(by: str) -> None:
    house = House(known={"a": alice(100), "b": alice(200)}, refresh_message=TELL)
    async with open_in(house) as (wire, _):
        before = await one(house)
        house.clock.now += 30
        if by == "call":
            await house.seat.session.refresh("b")
        else:
            wire.put(text('{"type": "auth.refresh", "token": "b"}'))
            await until(lambda: "send" in wire.kinds)
        await settled()
        after = await one(house)
        assert (before.refreshed_at, after.refreshed_at) == (None, NOW + 30)
        assert (after.id, after.since) == (before.id, NOW)
        assert after.fingerprint == house.seat.session.fingerprint != before.fingerprint
    assert house.left_over == []


async def test_what_was_closed_here_is_listed_no_more_while_its_app_goes_on() -> None:
    done = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await Seat()(scope, receive, send)
        finally:
            await done.wait()

    house = House(app)
    async with running(house) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        assert len(await house.listed()) == 1
        await house.revocations.revoke_user("alice")
        await until(lambda: wire.close and not listed_here(house.sessions))
        assert await house.listed() == []
        done.set()
    assert house.left_over == []


# No credential


SECRET_ONE = "s3cr3t-cr3d3nt14l"


async def test_no_credential_is_kept() -> None:
    house = House(known={SECRET_ONE: alice(FAR)}, listing={"user_agent": True})
    twice = f"/ws/{SECRET_ONE}/x"
    async with open_in(
        house,
        f"token={SECRET_ONE}",
        path=twice,
        headers=[("user-agent", f"Bot/1 ({SECRET_ONE})")],
    ):
        entry = await one(house)
        assert SECRET_ONE not in repr(entry)
        assert SECRET_ONE not in repr(await house.sessions.store.get_sessions("alice"))
        assert entry.path.startswith("/ws/")
        assert entry.path.endswith("/x")


@cases("depth", [0, 1, 4])
async def test_what_is_cut_off_leaves_no_part_of_a_credential(depth: int) -> None:
    escaped = SECRET_ONE
    if depth:
        escaped = "".join(f"%{'25' * (depth - 1)}{ord(letter):02x}" for letter in SECRET_ONE)
    path = f"/{'a' * 494}{escaped}{'%25' * 20_000}"
    house = House(known={SECRET_ONE: alice(FAR)})
    with patch("asgi_wsauth.connection.listing.scrubbed", wraps=scrubbed) as searched:
        async with open_in(house, f"token={SECRET_ONE}", path=path, raw_path=b"/"):
            assert (await one(house)).path == f"/{'a' * 494}[reda"
    assert max(len(call.args[0]) for call in searched.call_args_list) < 2000


@cases(
    ("sent", "told"),
    [
        ("Firefox/150", "Firefox/150"),
        ("a" * 5000, "a" * 200),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("caf\xe9", "caf\xe9"),
        ("", ""),
        (None, None),
    ],
)
async def test_what_is_told_of_a_user_agent(sent: str | None, told: str | None) -> None:
    house = House(known={"zq": alice(FAR)}, listing={"user_agent": True})
    headers = [] if sent is None else [("user-agent", sent)]
    async with open_in(house, "token=zq", headers=headers):
        assert (await one(house)).user_agent == told


@cases(
    ("handshake", "told"),
    [
        ({"client": None}, (None, "/ws")),
        ({"client": (7, 1)}, (None, "/ws")),
        ({"client": ("x" * 500, 1)}, ("x" * 100, "/ws")),
        ({"path": "/" + "a" * 5000}, ("127.0.0.1", "/" + "a" * 499)),
        ({"path": "/\u202e\ud800"}, ("127.0.0.1", "/\\u202e\\ud800")),
    ],
)
async def test_what_is_told_of_odd_addresses_and_paths(
    handshake: dict[str, Any], told: tuple[str | None, str]
) -> None:
    if "path" in handshake:
        handshake = {**handshake, "raw_path": b"/"}
    house = House(known={"zq": alice(FAR)})
    async with running(Raw(house, handshake), "token=zq") as wire:
        await until(lambda: wire.waiting and wire.kinds)
        entry = await one(house)
        assert (entry.client, entry.path) == told
        wire.put(LEFT)


class Raw:
    """A server that changes the scope."""

    def __init__(self, app: Any, more: dict[str, Any]) -> None:
        self.app, self.more = app, more

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app({**scope, **self.more}, receive, send)


# Instances inside others


async def test_a_socket_is_listed_once_by_the_outer_one() -> None:
    house = House()
    other = Sessions(MemoryStore())
    for inner in (house.sessions, other):
        seat = Seat()
        house = House(seat)
        house.middleware.app = WebSocketAuthMiddleware(
            seat,
            house.auth,
            connection_limit=ConnectionLimit(1, MemoryStore()),  # for which it has a guard
            sessions=house.sessions if inner is not other else other,
        )
        async with open_in(house):
            assert await house.listed() == [seat.session.id]
            assert await other.list("alice") == []
        assert house.left_over == []


async def test_it_is_listed_by_an_inner_one_where_the_outer_one_lists_nothing() -> None:
    seat = Seat()
    outer = Door(seat, known={"a": alice(FAR), "b": alice(FAR)})
    sessions = Sessions(MemoryStore(), clock=outer.clock)
    inner = WebSocketAuthMiddleware(seat, outer.auth, sessions=sessions)
    outer.middleware.app = inner
    async with running(outer) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        (entry,) = await sessions.list("alice")
        assert entry.id == seat.session.id
        outer.clock.now += 5
        await seat.session.refresh("b")
        await settled()
        (entry,) = await sessions.list("alice")
        assert entry.refreshed_at == NOW + 5
        await sessions.end(entry.id)
        await until(lambda: wire.close)
        assert wire.close == REVOKED
    assert sessions_of(sessions.store) == []
    assert listed_here(sessions) == []


async def test_two_decisions_are_two_entries() -> None:
    seat = Seat()
    outer = House(seat)
    auth = authenticator(Knows(a=Principal("service")))
    outer.middleware.app = WebSocketAuthMiddleware(seat, auth, sessions=outer.sessions)
    async with open_in(outer):
        assert await outer.listed("service") == [seat.session.id]
        assert len(await outer.listed()) == 1
    assert outer.left_over == []


# Stores that fail


class Shaky(MemoryStore):
    """A store that can be down, that has a lease, and that forgets."""

    lease: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.calls: list[str] = []
        self.remembered = 0.0

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if self.down:
            raise OSError(call)

    async def put_sessions(self, sessions: Sequence[tuple[SessionKey, str]], /) -> None:
        self._note("put")
        await super().put_sessions(sessions)

    async def renew_sessions(self, keys: Sequence[SessionKey], /) -> RenewedSessions:
        self._note("renew")
        return await super().renew_sessions(keys)

    async def get_sessions(self, owner: str, /) -> Sequence[tuple[str, str]]:
        self._note("get")
        return await super().get_sessions(owner)

    async def drop_session(self, key: SessionKey, /) -> None:
        self._note("drop")
        await super().drop_session(key)

    async def end_sessions(self, ids: Sequence[str], how: str, /, *, ttl: float) -> None:
        self._note("end")
        self.remembered = ttl
        await super().end_sessions(ids, how, ttl=ttl)

    def forget(self) -> None:
        """As a server that was started again."""
        self._sessions.clear()
        self._owned.clear()


class Leased(Shaky):
    lease = 3.0


async def test_a_store_that_fails_refuses_new_sockets() -> None:
    store = Shaky()
    house = House(store=store)
    store.down = True
    outcome = await drive(house, websocket("token=a"))
    assert outcome.close == (1013, "verifier_unavailable")
    (refused,) = house.events
    assert isinstance(refused, Refused)
    assert "MemoryStore" in refused.detail
    store.down = False
    assert house.left_over == []


async def test_a_store_that_fails_is_told_to_who_lists_and_ends() -> None:
    store = Shaky()
    house = House(store=store)
    async with open_in(house) as (wire, _):
        id = house.seat.session.id
        store.down = True
        for asking in (
            house.sessions.list("alice"),
            house.sessions.end(id),
            house.sessions.end_these([id]),
            house.sessions.end_others("alice", "other"),
        ):
            with pytest.raises(Denied) as caught:
                await asking
            assert caught.value.reason is Reason.UNAVAILABLE
            assert "MemoryStore" in caught.value.detail
        store.down = False
        await settled()
        assert wire.close is None
        assert await house.listed() == [id]
    assert house.left_over == []


async def test_what_can_not_be_dropped_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    store = Shaky()
    house = House(store=store)
    async with open_in(house):
        store.down = True
    assert "a session in <MemoryStore with 0 tickets> stays: OSError" in caplog.text
    assert listed_here(house.sessions) == []


async def test_entries_come_back_when_the_store_does(caplog: pytest.LogCaptureFixture) -> None:
    store = Leased()
    house = House(known={"a": alice(100), "b": alice(200)}, store=store)
    async with open_in(house) as (wire, _):
        store.down = True
        told = "sessions in <MemoryStore with 0 tickets> can't be renewed: OSError"
        await until(lambda: told in caplog.text)
        await anyio.sleep(5)
        assert caplog.text.count("can't be renewed") == 1
        house.clock.now += 7
        await house.seat.session.refresh("b")
        stale = "a session in <MemoryStore with 0 tickets> is stale: OSError"
        await until(lambda: stale in caplog.text)
        store.forget()
        store.down = False
        await until(lambda: listed(store))
        entry = await one(house)
        assert (entry.id, entry.refreshed_at) == (house.seat.session.id, NOW + 7)
        await until(lambda: "are renewed again" in caplog.text)
        assert wire.close is None
    assert house.left_over == []


async def test_a_refresh_that_the_store_missed_is_told_with_the_next_renewal() -> None:
    store = Leased()
    house = House(known={"a": alice(100), "b": alice(200)}, store=store)
    async with open_in(house):
        store.down = True
        await house.seat.session.refresh("b")
        await settled()
        store.down = False
        fingerprint = house.seat.session.fingerprint
        with anyio.fail_after(60):
            while (await one(house)).fingerprint != fingerprint:  # noqa: ASYNC110
                await anyio.sleep(1)
        store.calls.clear()
        await anyio.sleep(10)
        assert "put" not in store.calls, "it is told once"
    assert house.left_over == []


def listed(store: MemoryStore) -> list[Any]:
    return [*store._sessions]


async def test_entries_are_renewed_for_as_long_as_there_are_any() -> None:
    store = Leased()
    house = House(store=store)
    async with open_in(house), open_in(house):
        await anyio.sleep(1)
        store.calls.clear()
        await anyio.sleep(30)
        assert 25 <= store.calls.count("renew") <= 32, "a third of the lease"
    await until(lambda: not renews(house.sessions))
    store.calls.clear()
    await anyio.sleep(60)
    assert "renew" not in store.calls


def renews(sessions: Sessions) -> bool:
    here: Any = sessions._here.get()
    return bool(here.leases.is_running)


# What happens at once


class Slow(Shaky):
    """A store whose puts wait until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: anyio.Event | None = None
        self.waiting = 0

    async def put_sessions(self, sessions: Sequence[tuple[SessionKey, str]], /) -> None:
        if self.gate is not None:
            self.waiting += 1
            await self.gate.wait()
        await super().put_sessions(sessions)


async def test_of_two_refreshes_the_later_one_is_told() -> None:
    store = Slow()
    house = House(known={"a": alice(100), "b": alice(200), "c": alice(300)}, store=store)
    async with open_in(house):
        await settled()
        gate = store.gate = anyio.Event()
        house.clock.now += 1
        await house.seat.session.refresh("b")
        await until(lambda: store.waiting == 1)
        store.gate = None
        house.clock.now += 1
        await house.seat.session.refresh("c")
        await settled()
        gate.set()
        await settled()
        entry = await one(house)
        assert entry.refreshed_at == NOW + 2
        assert entry.fingerprint == house.seat.session.fingerprint
    assert house.left_over == []


async def test_a_socket_that_closes_while_it_is_put_leaves_nothing() -> None:
    store = Slow()
    house = House(known={"a": alice(100), "b": alice(200)}, store=store)
    async with open_in(house):
        await settled()
        store.gate = anyio.Event()
        await house.seat.session.refresh("b")
        await until(lambda: store.waiting == 1)
    store.gate.set()
    await settled()
    assert house.left_over == []


async def test_a_client_that_leaves_while_it_is_put_leaves_nothing() -> None:
    store = Slow()
    house = House(store=store)
    store.gate = anyio.Event()
    async with running(house) as wire:
        await until(lambda: store.waiting)
        wire.put(LEFT)
    assert house.left_over == []
    assert house.told == ["abandoned"]


async def test_a_session_that_is_ended_before_its_app_runs_is_refused() -> None:
    class Ended(MemoryStore):
        async def put_sessions(self, sessions: Any, /) -> None:
            await super().put_sessions(sessions)
            if not seen:
                seen.append(sessions)
                (((_, id), _),) = sessions
                await house.sessions.end(id)
                await until(lambda: not listed(self))
                await settled()

    seen: list[Any] = []
    house = House(known={"zq": alice(FAR)}, store=Ended())
    async with running(house, "token=zq") as wire:
        await until(lambda: wire.close)
        assert wire.close == REVOKED
    (refused,) = house.events
    assert isinstance(refused, Refused)
    assert refused.detail == "its session was ended"
    assert house.left_over == []


async def test_who_finds_no_slot_is_not_listed() -> None:
    limit = ConnectionLimit(1, MemoryStore())
    house = House(connection_limit=limit)
    async with open_in(house):
        listed = await house.listed()
        outcome = await drive(house, websocket("token=a"))
        assert outcome.close == (1013, "too_many_connections")
        assert await house.listed() == listed
    assert house.left_over == []


class Stuck(MemoryStore):
    """A store that takes forever to take back a slot."""

    is_asked = False

    async def release_slot(self, slot: Any, /) -> None:
        self.is_asked = True
        await anyio.sleep_forever()


async def test_a_slot_that_is_not_given_back_in_time_keeps_nobody_on_the_list() -> None:
    house = House(connection_limit=ConnectionLimit(1, Stuck()))
    async with open_in(house):
        pass
    assert await house.listed() == []
    assert house.left_over == ["slot in the store"]  # until its lease ends


@pytest.mark.both_loops(False)  # trio has no such thing
async def test_nor_does_a_server_that_cancels_it_meanwhile() -> None:
    """As Daphne does where an app takes too long to end."""
    store = Stuck()
    house, wire = House(connection_limit=ConnectionLimit(1, store)), Wire()
    task = asyncio.ensure_future(house(websocket("token=a"), wire.receive, wire.send))
    await until(lambda: wire.kinds)
    wire.put(LEFT)
    await until(lambda: store.is_asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await house.listed() == []
    assert house.left_over == ["slot in the store"]


async def test_an_end_that_was_not_heard_is_found_out() -> None:
    store = Leased()
    house = House(store=store)
    async with open_in(house) as (wire, _):
        await settled()
        store._watches.clear()  # as where a process is cut off
        await house.sessions.end(house.seat.session.id, Reason.EXPIRED)
        await until(lambda: wire.close)
        assert wire.close == EXPIRED
    assert house.left_over == []


async def test_other_notices_and_reasons_of_other_versions() -> None:
    store = Shaky()
    house = House(store=store)
    async with open_in(house) as (wire, _):
        await settled()
        id = house.seat.session.id
        store.calls.clear()
        for subject in (("slot", id), ("user", id), ("ended", "other"), ("ended", id)):
            assert store.calls == []
            store._tell(Notice(subject, 0.0))  # type: ignore[arg-type]
            await settled()
        assert store.calls == ["renew"]
        assert wire.close is None, "it is the store that says what was ended"
        await store.end_sessions([id], "a_reason_to_come", ttl=60)
        await until(lambda: wire.close)
        assert wire.close == REVOKED
    assert house.left_over == []


class Plain:
    """A socket that only notes its end."""

    principal = alice()
    stamp = None

    def __init__(self, number: int, ended: list[str]) -> None:
        self.id, self._ended = f"number {number}", ended

    def end(self, denied: Denied, /) -> None:
        self._ended.append(self.id)

    def entry(self, *, user_agent: bool) -> SessionEntry:
        return SessionEntry(
            id=self.id,
            since=0.0,
            refreshed_at=None,
            client=None,
            path="/ws",
            method="jwt",
            fingerprint=None,
            user_agent=None,
        )


async def test_many_are_ended_and_others_have_their_turns() -> None:
    ended: list[str] = []
    sockets = [Plain(number, ended) for number in range(100)]
    sessions = Sessions(MemoryStore())
    for socket in sockets:
        await sessions.register(socket)
    await settled()
    await sessions.end_others("alice", "none")
    assert await sessions.list("alice") == []
    counts = [0]
    with anyio.fail_after(5):
        while len(ended) < 100:
            await anyio.lowlevel.checkpoint()
            counts.append(len(ended))
    assert max(after - before for before, after in pairwise(counts)) <= 10
    for socket in sockets:
        await sessions.unregister(socket)


async def test_more_than_one_exchange_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wsauth.policies.sessions._BATCH", 2)
    store = Leased()
    house = House(store=store)
    async with AsyncExitStack() as stack:
        wires = [(await stack.enter_async_context(open_in(house)))[0] for _ in range(5)]
        store.forget()
        await until(lambda: len(listed(store)) == 5)
        store.calls.clear()
        await house.sessions.end_others("alice", "none")
        assert store.calls.count("end") == 3
        await until(lambda: all(wire.close for wire in wires))
    assert house.left_over == []


class Deaf(MemoryStore):
    watch: Any = None


class Endless(MemoryStore):
    end_sessions: Any = None


@cases(
    ("build", "message"),
    [
        (
            lambda: Sessions(None),  # type: ignore[arg-type]
            "Sessions: store must be a MemoryStore, .*, got None, which has no method put_sessions",
        ),
        (lambda: Sessions(Deaf()), "Sessions: store .* has no method watch"),
        (lambda: Sessions(Endless()), "Sessions: store .* has no method end_sessions"),
        (
            lambda: Sessions(MemoryStore(), user_agent=1),  # type: ignore[arg-type]
            "Sessions: user_agent must be",
        ),
        (
            lambda: Sessions(MemoryStore(), clock=5.0),  # type: ignore[arg-type]
            "Sessions: clock must be",
        ),
        (
            lambda: WebSocketAuthMiddleware(Seat(), authenticator(), sessions=MemoryStore()),  # type: ignore[arg-type]
            "sessions must be a Sessions, got .*; write for example Sessions\\(MemoryStore",
        ),
    ],
)
def test_bad_configuration_is_named(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        build()


@cases(
    ("ask", "message"),
    [
        (lambda s: s.list(None), 'list: identity must be a string, for example "alice", got None'),
        (
            lambda s: s.list("a", ""),
            'list: issuer must be a string, for example "https://id.example", got',
        ),
        (lambda s: s.end(""), 'end: id must be a string, for example "an id that list'),
        (lambda s: s.end("a", "revoked"), "end: reason must be a Reason, .* Reason.REVOKED$"),
        (lambda s: s.end_others(5, "a"), "end_others: identity must be"),
        (lambda s: s.end_others("a", None), 'end_others: keep must .* "an id that list'),
        (lambda s: s.end_others("a", "b", 5), "end_others: issuer must be"),
        (lambda s: s.end_others("a", "b", None, 4004), "end_others: reason must be a Reason"),
    ],
)
async def test_bad_arguments_are_named(ask: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        await ask(Sessions(MemoryStore()))


def test_it_is_a_store_for_sessions() -> None:
    assert isinstance(MemoryStore(), SessionStore)
    assert repr(Sessions(MemoryStore())) == "<Sessions in <MemoryStore with 0 tickets>>"
