"""`ConnectionLimit(total=)`: how many sockets a process may have."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from doors import Door, alice
from handshakes import CONNECT, App, Knows, authenticator, connected, drive, websocket
from insides import places_of, slots_of
from servers import DEADLINE
from sockets import LEFT, Seat, open_socket, running, settled, until

from asgi_wsauth import (
    ConfigurationError,
    ConnectionLimit,
    Denied,
    FailureThrottle,
    FirstMessage,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Refused,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.policies.total import Total

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

FULL = (1013, "too_many_connections")


def iter_receive(*messages: Any) -> Any:
    """A client that says this."""
    said = iter(messages)

    async def receive() -> Any:
        return next(said)

    return receive


class Slow:
    """A verifier that says what it knows when it is let go on."""

    def __init__(self) -> None:
        self.asked = 0
        self.goes_on = anyio.Event()

    async def __call__(self, credential: Any, conn: Any) -> Principal:
        self.asked += 1
        await self.goes_on.wait()
        return Principal(credential.value)


# How many get in


async def test_a_full_process_refuses_before_it_looks_at_a_credential() -> None:
    limit = ConnectionLimit(total=2)
    door = Door(Seat(), connection_limit=limit)
    async with open_socket(door), open_socket(door):
        assert places_of(limit) == 2
        for query in ("token=a", "token=bad", ""):
            assert (await drive(door, websocket(query))).close == FULL
        assert door.knows.asked == ["a", "a"]
        refused = [event for event in door.events if isinstance(event, Refused)]
        assert {event.reason for event in refused} == {Reason.TOO_MANY_CONNECTIONS}
        assert refused[-1].detail == "2 are open in this process"
    assert places_of(limit) == 0
    async with open_socket(door) as wire:
        assert wire.close is None
    assert door.left_over == []


async def test_its_refusal_has_no_credential_in_the_servers_log() -> None:
    """A server logs from its own scope when it answers."""
    limit = ConnectionLimit(total=1)
    door = Door(Seat(), connection_limit=limit, rejection="http_response")
    async with open_socket(door):
        scope = websocket("token=hunter2&a=b")
        outcome = await drive(door, scope)
    assert outcome.sent[0]["status"] == 429
    assert b"hunter2" not in scope["query_string"]


async def test_a_program_is_told_when_to_come_back() -> None:
    for limit in (ConnectionLimit(total=1), ConnectionLimit(1, MemoryStore())):
        door = Door(Seat(), connection_limit=limit, rejection="auto")
        async with open_socket(door):
            outcomes = [await drive(door, websocket("token=a")) for _ in range(5)]
        headers = [dict(outcome.sent[0]["headers"]) for outcome in outcomes]
        assert all(5 <= int(told[b"retry-after"]) <= 15 for told in headers)


async def test_a_full_process_accepts_nobody_to_ask_for_a_first_message() -> None:
    limit = ConnectionLimit(total=1)
    auth = {"sources": [FirstMessage(), QueryParam("token")]}
    door = Door(Seat(), auth, connection_limit=limit, rejection="http_response")
    async with open_socket(door):
        outcome = await drive(door, websocket())
    assert [message["type"] for message in outcome.sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]


async def test_of_those_that_were_being_verified_only_as_many_get_in() -> None:
    slow, app, limit = Slow(), Seat(), ConnectionLimit(total=3)
    door = WebSocketAuthMiddleware(app, authenticator(slow), connection_limit=limit)
    refused = []

    async def connect(number: int) -> None:
        scope = websocket(f"token=user{number}")
        refused.append((await drive(door, scope, receive=connected())).close)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(connect, number)
        await until(lambda: slow.asked == 10)
        assert places_of(limit) == 0  # so strangers can't fill the house
        slow.goes_on.set()
        await until(lambda: len(refused) == 7 and len(app.got) == 3)
        assert refused == [FULL] * 7
        assert places_of(limit) == 3
        group.cancel_scope.cancel()
    assert places_of(limit) == 0


async def test_who_is_let_in_without_a_login_counts() -> None:
    limit = ConnectionLimit(total=1)
    door = Door(Seat(), {"required": False}, connection_limit=limit)
    async with open_socket(door, ""):
        assert (await drive(door, websocket())).close == FULL
    assert places_of(limit) == 0


async def test_paths_that_are_not_guarded_do_not_count() -> None:
    limit = ConnectionLimit(total=1)
    door = WebSocketAuthMiddleware(
        App(), authenticator(), connection_limit=limit, exclude=["/public"]
    )
    async with open_socket(Door(Seat(), connection_limit=limit)):
        assert (await drive(door, websocket(path="/public"))).close is None
        assert (await drive(door, websocket())).close == FULL


async def test_each_users_limit_holds_beside_it() -> None:
    store = MemoryStore()
    limit = ConnectionLimit(1, store, total=2)
    known = {name: Principal(name) for name in ("alice", "bob", "carol")}
    door = Door(Seat(), known=known, connection_limit=limit)
    async with open_socket(door, "token=alice"):
        assert (await drive(door, websocket("token=alice"))).close == FULL
        assert places_of(limit) == 1  # who has too many of his own holds no place
        async with open_socket(door, "token=bob"):
            assert (await drive(door, websocket("token=carol"))).close == FULL
            assert set(slots_of(store)) == {":alice", ":bob"}
    assert slots_of(store) == {}
    assert places_of(limit) == 0


async def test_middlewares_with_the_same_limit_share_it_and_others_do_not() -> None:
    limit = ConnectionLimit(total=1)
    one, same = (Door(Seat(), connection_limit=limit) for _ in range(2))
    other = Door(Seat(), connection_limit=ConnectionLimit(total=1))
    async with open_socket(one), open_socket(other):
        assert (await drive(same, websocket("token=a"))).close == FULL
        assert (await drive(other, websocket("token=a"))).close == FULL


@pytest.mark.parametrize("same_authenticator", [True, False])
async def test_an_instance_inside_another_counts_by_itself(same_authenticator: bool) -> None:
    inner, outer = ConnectionLimit(total=1), ConnectionLimit(total=2)
    auth = authenticator(Knows(a=alice()))
    inner_auth = auth if same_authenticator else authenticator(Knows(a=alice()))
    inside = WebSocketAuthMiddleware(Seat(), inner_auth, connection_limit=inner)
    door = WebSocketAuthMiddleware(inside, auth, connection_limit=outer)
    async with open_socket(door):
        assert (await drive(door, websocket("token=a"), receive=connected())).close == FULL
        assert (places_of(outer), places_of(inner)) == (1, 1)
    assert (places_of(outer), places_of(inner)) == (0, 0)


async def test_alone_it_puts_nothing_between_the_app_and_the_server() -> None:
    app = Seat()
    auth = authenticator(Knows(a=Principal("alice")))
    door = WebSocketAuthMiddleware(app, auth, connection_limit=ConnectionLimit(total=1))
    async with open_socket(door) as wire:
        assert app.receive == wire.receive
        assert app.send == wire.send


async def test_its_refusals_are_no_failed_logins() -> None:
    throttle = FailureThrottle("1/hour")
    door = Door(Seat(), {"throttle": throttle}, connection_limit=ConnectionLimit(total=1))
    async with open_socket(door):
        for _ in range(3):
            assert (await drive(door, websocket("token=bad"))).close == FULL
    await throttle.precheck("127.0.0.1")


# Places are given back


async def test_whatever_becomes_of_a_handshake_or_its_app_its_place_is_free() -> None:
    class Fails(App):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await super().__call__(scope, receive, send)
            raise OSError("of the app")

    class Down(MemoryStore):
        async def take_slot(self, *_: Any, **__: Any) -> Any:
            raise OSError("of the store")

    async def no_such_user(principal: Any, conn: Any) -> None:
        return None

    total = ConnectionLimit(total=1)
    fails = Door(Fails(), connection_limit=total)
    locked = Door(App(), {"load_user": no_such_user}, connection_limit=total)
    scoped = Door(App(), connection_limit=total, required_scopes=["chat"])
    down = Door(App(), connection_limit=(both := ConnectionLimit(1, Down(), total=1)))
    for _ in range(2):
        assert (await drive(fails, websocket("token=bad"))).close == (1008, "token_invalid")
        with pytest.raises(OSError, match="of the app"):
            await drive(fails, websocket("token=a"))
        assert (await drive(locked, websocket("token=a"))).close == (4004, "token_revoked")
        assert (await drive(scoped, websocket("token=a"))).close == (1008, "forbidden")
        assert (await drive(down, websocket("token=a"))).close == (1013, "verifier_unavailable")
    assert (places_of(total), places_of(both)) == (0, 0)


async def test_whoever_is_refused_after_all_holds_none_while_that_is_told() -> None:
    limit = ConnectionLimit(1, MemoryStore(), total=5)
    door = Door(Seat(), connection_limit=limit)
    held = []

    async def send(message: Any) -> None:
        held.append(places_of(limit))

    async with open_socket(door):
        await door(websocket("token=a"), iter_receive(CONNECT, LEFT), send)
    assert held == [1, 1]  # of the other one


async def test_a_handshake_that_the_server_cancels_keeps_none() -> None:
    class Waits(MemoryStore):
        async def take_slot(self, *_: Any, **__: Any) -> Any:
            taking.set()
            await anyio.sleep_forever()

    taking = anyio.Event()
    limit = ConnectionLimit(1, Waits(), total=1)
    door = Door(Seat(), connection_limit=limit)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: drive(door, websocket("token=a"), receive=connected()))
        await taking.wait()
        assert places_of(limit) == 1
        group.cancel_scope.cancel()
    assert places_of(limit) == 0


@pytest.mark.parametrize("limited", [True, False])
async def test_an_app_that_the_server_cancels_keeps_none(limited: bool) -> None:
    limit = ConnectionLimit(1, MemoryStore(), total=1) if limited else ConnectionLimit(total=1)
    app = Seat()
    door = Door(app, connection_limit=limit)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: drive(door, websocket("token=a"), receive=connected()))
        await until(lambda: app.got)
        assert places_of(limit) == 1
        group.cancel_scope.cancel()
    assert places_of(limit) == 0


async def test_a_client_that_leaves_while_it_is_verified_keeps_none() -> None:
    slow, limit = Slow(), ConnectionLimit(total=1)
    door = WebSocketAuthMiddleware(App(), authenticator(slow), connection_limit=limit)
    async with running(door) as wire:
        await until(lambda: slow.asked)
        wire.put(LEFT)
    assert places_of(limit) == 0


async def test_a_socket_that_is_ended_here_frees_its_place() -> None:
    limit = ConnectionLimit(total=1)
    door = Door(Seat(), connection_limit=limit)
    async with running(door) as wire:
        await until(lambda: wire.sent)
        door.pass_time(200)
        await until(lambda: wire.close)
    await settled()
    assert places_of(limit) == 0
    assert door.left_over == []


# Threads


@pytest.mark.both_loops(False)
@pytest.mark.hurried(False)
async def test_event_loops_in_several_threads_count_together() -> None:
    limit = ConnectionLimit(total=3)
    door = WebSocketAuthMiddleware(
        Seat(), authenticator(Knows(a=Principal("alice"))), connection_limit=limit
    )
    all_tried, may_leave = threading.Barrier(4, timeout=DEADLINE), threading.Event()
    closes: list[Any] = []

    async def site() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                wire = await stack.enter_async_context(open_socket(door))
                closes.append(wire.close)
            await anyio.to_thread.run_sync(all_tried.wait)
            await anyio.to_thread.run_sync(may_leave.wait)

    backends = ("asyncio", "trio", "asyncio")
    threads = [
        threading.Thread(target=anyio.run, args=(site,), kwargs={"backend": b}) for b in backends
    ]
    for thread in threads:
        thread.start()
    try:
        await anyio.to_thread.run_sync(all_tried.wait)
        assert sorted(closes, key=str) == [FULL] * 3 + [None] * 3
        assert places_of(limit) == 3
    finally:
        may_leave.set()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert places_of(limit) == 0


def test_the_last_place_goes_to_only_one_of_many_threads() -> None:
    total = Total(100)
    got: list[object] = []

    def ask(sockets: Iterator[object]) -> None:
        for socket in sockets:
            try:
                total.take(socket)
            except Denied:
                continue
            got.append(socket)

    threads = [
        threading.Thread(target=ask, args=(iter([object() for _ in range(1_000)]),))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(total) == len(got) == 100
    for socket in [*got, object()]:
        total.release(socket)
    assert len(total) == 0


# Its options


@cases(
    ("options", "named"),
    [
        ({}, "limit or total must be given; write for example ConnectionLimit\\(3, Me"),
        ({"total": None}, "limit or total must be given"),
        ({"total": 0}, "total must be a positive integer, got 0"),
        ({"total": True}, "total"),
        ({"total": 1.5}, "total"),
        ({"total": "5000"}, "total"),
        (
            {"limit": 3},
            "store must be a MemoryStore, .*, got None",
        ),
        (
            {"limit": 3, "total": 5},
            "store must be a MemoryStore, .*, got None",
        ),
        ({"store": MemoryStore()}, "limit must be a positive integer, got None"),
        ({"store": MemoryStore(), "total": 5}, "limit must be a positive integer, got None"),
        ({"limit": 3, "store": MemoryStore(), "total": 0}, "total must be a positive integer"),
        ({"total": 5, "overflow": "evict_oldest"}, "limit must be given with overflow and name"),
        ({"total": 5, "name": "chat"}, "limit must be given with overflow and name"),
        ({"total": 5, "name": 5}, "name must be a string, got 5"),
    ],
)
def test_bad_configuration_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^ConnectionLimit: {named}"):
        ConnectionLimit(**options)


def test_what_is_no_limit_is_an_error_of_the_middleware() -> None:
    named = r"^connection_limit must be a ConnectionLimit, got 5; write for example ConnectionL"
    with pytest.raises(ConfigurationError, match=named):
        Door(App(), connection_limit=5)


def test_their_reprs() -> None:
    assert repr(ConnectionLimit(total=5)) == "<ConnectionLimit of 5 in all>"
    both = ConnectionLimit(3, MemoryStore(), total=5)
    assert repr(both) == "<ConnectionLimit of 3 in <MemoryStore with 0 tickets>, 5 in all>"
