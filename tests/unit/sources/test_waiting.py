"""Who may are waiting to send one, and who has to give way."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from handshakes import App, Knows, authenticator, websocket
from sockets import until

from asgi_wsauth import (
    ConfigurationError,
    Denied,
    FailureThrottle,
    FirstMessage,
    Principal,
    Reason,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.sources.waiting import SaidNothing, WaitingRoom

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

FULL = (1013, "too_many_connections")


def enter(stack: ExitStack, room: WaitingRoom, client: str | None) -> bool:
    try:
        stack.enter_context(room.place(client))
    except Denied as denied:
        assert denied.reason is Reason.TOO_MANY_CONNECTIONS
        return False
    return True


def test_each_address_has_a_share() -> None:
    room = WaitingRoom(100, 2)
    with ExitStack() as stack:
        for client in ("192.0.2.7", "192.0.2.8:5", "2001:db8::1", "unknown"):
            assert [enter(stack, room, client) for _ in range(4)] == [True, True, False, False]
        assert not enter(stack, room, "192.0.2.8:7")  # a port is no part of it
        assert not enter(stack, room, "2001:db8::2")  # and 64 bits are one address
        assert not enter(stack, room, "_hidden")
        assert len(room) == 8
    assert len(room) == 0
    assert not room._of


def test_who_has_no_address_has_no_share_but_all_places() -> None:
    room = WaitingRoom(5, 2)
    with ExitStack() as stack:
        assert [enter(stack, room, None) for _ in range(6)] == [True] * 5 + [False]


def test_where_all_is_full_the_fullest_address_gives_way_with_who_waits_longest() -> None:
    room = WaitingRoom(4, 3)
    with ExitStack() as stack:
        waits = [stack.enter_context(room.place("192.0.2.7")) for _ in range(3)]
        waits.append(stack.enter_context(room.place("192.0.2.8")))
        assert enter(stack, room, "192.0.2.9")
        assert [wait.broken for wait in waits] == [True, False, False, False]
        assert enter(stack, room, "192.0.2.9")  # it had one, and the other one two
        assert [wait.broken for wait in waits] == [True, True, False, False]
        assert not enter(stack, room, "192.0.2.9")  # it has the most now
        assert enter(stack, room, "192.0.2.10")
        assert len(room) == 4
    assert len(room) == 0


def test_bad_configuration_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^FirstMessage: max_waiting_per_client must be"):
        FirstMessage(max_waiting_per_client=0)


def test_what_says_that_nothing_was_said_can_be_pickled() -> None:
    denied = pickle.loads(pickle.dumps(SaidNothing("no first message")))
    assert (denied.reason, denied.detail) == (Reason.MISSING, "no first message")


class Client:
    """One socket of `client`; it says what it is told to, when it is told to."""

    def __init__(self, door: WebSocketAuthMiddleware, client: str) -> None:
        self.door = door
        self.scope = websocket(client=(client, 5))
        self.sent: list[dict[str, Any]] = []
        self._says, self._said = anyio.create_memory_object_stream[dict[str, Any]](10)

    async def run(self) -> None:
        self._says.send_nowait({"type": "websocket.connect"})
        with self._says, self._said:
            await self.door(self.scope, self._said.receive, self.send)

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.leave()

    def say(self, token: str) -> None:
        text = f'{{"type": "auth", "token": "{token}"}}'
        self._says.send_nowait({"type": "websocket.receive", "text": text})

    def leave(self) -> None:
        self._says.send_nowait({"type": "websocket.disconnect", "code": 1001})

    @property
    def waits(self) -> bool:
        return [message["type"] for message in self.sent] == ["websocket.accept"]

    @property
    def close(self) -> tuple[int, str] | None:
        closes = [m for m in self.sent if m["type"] == "websocket.close"]
        return (closes[0]["code"], closes[0]["reason"]) if closes else None


def guarded(source: FirstMessage, **options: Any) -> tuple[App, Callable[[str], Client]]:
    app = App()
    options = {"sources": [source], "observers": [], **options}
    auth = authenticator(Knows(good=Principal("alice")), **options)
    door = WebSocketAuthMiddleware(app, auth)
    return app, lambda client: Client(door, client)


async def test_who_is_silent_gives_way_to_the_good_of_other_addresses() -> None:
    source = FirstMessage(max_waiting=10, max_waiting_per_client=8)
    app, connect = guarded(source)
    silent = [connect("192.0.2.7") for _ in range(8)]
    others = [connect(f"198.51.100.{number}") for number in range(5)]
    async with anyio.create_task_group() as tasks:
        for client in [*silent, *others]:
            tasks.start_soon(client.run)
            await until(lambda: client.sent)  # noqa: B023 - at once
        refused = connect("192.0.2.7")
        tasks.start_soon(refused.run)
        await until(lambda: [c.close for c in silent[:3]] == [FULL] * 3)
        for client in others:
            assert client.waits
            client.say("good")
        await until(lambda: len(app.calls) == 5)
        assert len(source._room) in (5, 6)
        for client in [*silent, refused]:
            if client.close is None:
                client.leave()
    assert len(source._room) == 0


async def test_who_is_to_give_way_before_he_waits_does_not_begin_to() -> None:
    source = FirstMessage(max_waiting=1)
    _, connect = guarded(source)
    first, second = connect("192.0.2.7"), connect("192.0.2.8")
    accepts = anyio.Event()

    async def slowly(message: dict[str, Any]) -> None:
        await accepts.wait()
        first.sent.append(message)

    first.send = slowly  # type: ignore[method-assign]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(second.run)
        await until(lambda: second.waits)
        accepts.set()
        await until(lambda: first.close == FULL)
        second.leave()


async def test_who_lets_the_time_run_out_counts_against_his_address() -> None:
    throttle = FailureThrottle("2/hour")
    _, connect = guarded(FirstMessage(timeout=0.01), throttle=throttle)
    told = []
    for _ in range(4):
        client = connect("192.0.2.7")
        await client.run()
        told.append(client.close)
    assert told == [(1008, "token_missing")] * 2 + [(1013, "too_many_failures")] * 2


async def test_who_leaves_in_time_counts_for_nothing() -> None:
    throttle = FailureThrottle("1/hour")
    _, connect = guarded(FirstMessage(), throttle=throttle)
    for _ in range(3):
        client = connect("192.0.2.7")
        client.leave()
        client._says.send_nowait({"type": "websocket.disconnect", "code": 1001})
        await client.run()
    await throttle.precheck("192.0.2.7")
