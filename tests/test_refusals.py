"""The budget of refused clients that are not gone yet."""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import count
from typing import Any

import anyio
import pytest
from handshakes import ANSWER, CONNECT, Knows, authenticator, websocket
from sockets import until

from asgi_wsauth import FirstMessage, WebSocketAuthMiddleware
from asgi_wsauth.refusals import _LEAST, _MOST, Refusals, refusals
from asgi_wsauth.timers import timers
from asgi_wsauth.valve import Valve, valve_of

pytestmark = pytest.mark.anyio


_numbers = count()


class Peer:
    """A refused client of an address."""

    def __init__(self, host: str | None = "192.0.2.1") -> None:
        self.client = None if host is None else (host, 1)
        self.sent: list[str] = []
        self.is_done = False
        self._answers = anyio.Event()
        self._said = [CONNECT]

    async def receive(self) -> dict[str, Any]:
        if self._said:
            return self._said.pop()
        await self._answers.wait()
        return ANSWER

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message["type"].removeprefix("websocket."))

    def answer(self) -> None:
        self._answers.set()

    async def run(self, door: Any) -> None:
        # Each brings another: who comes back with the same is told by HTTP for that reason.
        scope = websocket(f"token=bad{next(_numbers)}", client=self.client)
        await door(scope, self.receive, self.send)
        self.is_done = True

    @property
    def sees_its_code(self) -> bool:
        return self.sent == ["accept", "close"]

    @property
    def sees_http(self) -> bool:
        return self.sent == ["http.response.start", "http.response.body"]


def door(**options: Any) -> WebSocketAuthMiddleware:
    return WebSocketAuthMiddleware(lambda *_: None, authenticator(Knows(), **options))


def pass_seconds(seconds: float) -> None:
    """Have what is due by then happen now."""
    here = timers(anyio.current_time)
    clock, here._clock = here._clock, lambda: anyio.current_time() + seconds
    try:
        while here.run_due():
            pass
    finally:
        here._clock = clock


async def test_500_clients_of_one_address_that_answer_all_see_their_code() -> None:
    at_once = []

    class Answers(Peer):
        async def receive(self) -> dict[str, Any]:
            if self.sees_its_code:
                at_once.append(len(refusals()))
                await anyio.sleep(0.01)
                self.answer()
            return await super().receive()

    peers = [Answers() for _ in range(500)]
    app = door()
    async with anyio.create_task_group() as tasks:
        for peer in peers:
            tasks.start_soon(peer.run, app)
    assert all(peer.sees_its_code for peer in peers)
    assert at_once[:_LEAST] == [1, 2]
    assert max(at_once) == _MOST
    assert len(refusals()) == 0


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::"])
async def test_of_those_that_do_not_answer_few_are_accepted(host: str) -> None:
    peers = [Peer(host if ":" not in host else f"{host}{i}") for i in range(40)]
    app = door()
    async with anyio.create_task_group() as tasks:
        for peer in peers:
            tasks.start_soon(peer.run, app)
        await until(lambda: sum(peer.sees_its_code for peer in peers) == _LEAST)
        other = Peer("198.51.100.1")
        tasks.start_soon(other.run, app)
        await until(lambda: other.sees_its_code)  # they are nobody else's budget
        other.answer()
    assert sum(peer.sees_its_code for peer in peers) == _LEAST
    assert sum(peer.sees_http for peer in peers) == len(peers) - _LEAST
    late = Peer(host)
    await late.run(app)
    assert late.sees_http
    assert len(refusals()) == _LEAST
    pass_seconds(21)
    assert len(refusals()) == 0
    assert refusals()._shares == {}
    again = Peer(host)
    again.answer()
    await again.run(app)
    assert again.sees_its_code


async def test_where_a_place_is_waited_for_in_vain_it_is_told_by_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_wsauth.refusals._WAIT", 0.05)
    peers, app = [Peer() for _ in range(3)], door()
    async with anyio.create_task_group() as tasks:
        for peer in peers:
            tasks.start_soon(peer.run, app)
        await until(lambda: any(peer.is_done for peer in peers))
        for peer in peers:
            peer.answer()
    assert sorted(peer.sees_its_code for peer in peers) == [False, True, True]


async def test_whoever_waits_while_others_answer_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wsauth.refusals._WAIT", 0.1)
    here, entered = Refusals(), []

    async def enter() -> None:
        entered.append(await here.enter("a", valved=False))

    for _ in range(5):
        here.add("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
        await anyio.sleep(0.06)
        here.leave("a", is_gone=True)  # one of too many still
        await anyio.sleep(0.06)
        assert entered == []
        for _ in range(3):
            here.leave("a", is_gone=True)
    assert entered == [True]


async def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wsauth.refusals._FRESH", 0)
    here = Refusals()
    here.add("a")
    here.add("a")
    assert not await here.enter("a", valved=False)


async def test_one_that_the_server_cancels_waits_and_holds_nothing() -> None:
    here = Refusals()
    here.add("a")
    here.add("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: here.enter("a", valved=False))
        await until(lambda: here._shares["a"].waiting)
        tasks.cancel_scope.cancel()
    here.leave("a", is_gone=True)
    here.leave("a", is_gone=True)
    assert here._shares == {}


async def test_peers_without_an_address_have_a_generous_share() -> None:
    peers, app = [Peer(None) for _ in range(8 * _LEAST)], door()
    async with anyio.create_task_group() as tasks:
        for peer in peers:
            tasks.start_soon(peer.run, app)
        await until(lambda: all(peer.sees_its_code for peer in peers))
        for peer in peers:
            peer.answer()


async def test_who_was_accepted_before_is_always_told_by_its_code() -> None:
    class Talks(Peer):
        def __init__(self) -> None:
            super().__init__()
            auth = '{"type": "auth", "token": "bad"}'
            self._said = [{"type": "websocket.receive", "text": auth}, CONNECT]

    app = door(sources=[FirstMessage()])
    peers = [Talks() for _ in range(4)]

    async def run(peer: Peer) -> None:
        await app(websocket(client=peer.client), peer.receive, peer.send)

    async with anyio.create_task_group() as tasks:
        for peer in peers:
            tasks.start_soon(run, peer)
        await until(lambda: all(peer.sees_its_code for peer in peers))
        assert len(refusals()) == 4
        for peer in peers:
            peer.answer()
    assert len(refusals()) == 0


# What is read.


class Transport:
    """One end of a connection, as asyncio's transport has it."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.journal: list[str] = []
        self._closing = False

    def get_extra_info(self, name: str) -> Any:
        return self.here if name == "socket" else None

    def pause_reading(self) -> None:
        self.journal.append("pause")

    def resume_reading(self) -> None:
        self.journal.append("resume")
        self._closing = len(self.here.recv(65536)) in (0, 8)  # the client is gone, or answers

    def is_closing(self) -> bool:
        return self._closing


class Protocol:
    def __init__(self, transport: Any) -> None:
        self.transport = transport

    async def receive(self) -> Any:
        raise AssertionError


@pytest.fixture
def transport() -> Any:
    transport = Transport()
    yield transport
    transport.here.close()
    transport.there.close()


def valve(transport: Transport) -> Valve:
    found = valve_of(Protocol(transport).receive)
    assert found is not None
    return found


@pytest.mark.parametrize("end", [lambda there: there.send(bytes(8)), lambda there: there.close()])
async def test_an_answer_is_read_and_an_end_is_seen(
    transport: Transport, end: Callable[[socket.socket], Any]
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(valve(transport).until_gone)
        await anyio.sleep(0.03)
        assert transport.journal == ["pause"]
        transport.there.send(b"a word")
        await until(lambda: "resume" in transport.journal)
        end(transport.there)
    assert transport.journal.count("resume") == 2
    assert transport.journal[-1] == "pause"


async def test_a_flood_is_not_read(transport: Transport) -> None:
    transport.there.send(bytes(10_000))
    with anyio.move_on_after(0.1):
        await valve(transport).until_gone()
    assert set(transport.journal) == {"pause"}


@pytest.mark.parametrize("kind", ["no method", "no transport", "closed", "another"])
async def test_where_reading_can_not_be_stopped_there_is_no_valve(
    transport: Transport, kind: str
) -> None:
    async def function() -> Any:
        raise AssertionError

    closed = Transport()
    closed.here.close()
    closed.there.close()
    receives = {
        "no method": function,
        "no transport": Peer().receive,
        "closed": Protocol(closed).receive,
        "another": Protocol(object()).receive,
    }
    assert valve_of(receives[kind]) is None
