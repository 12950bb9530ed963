"""The budget of refused clients that are not gone yet."""

from __future__ import annotations

import socket
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import ANSWER, CONNECT, Knows, authenticator, websocket
from sockets import until

from asgi_wsauth import FirstMessage, WebSocketAuthMiddleware
from asgi_wsauth.connection.budget import _LEAST, _MOST, Budget, budget
from asgi_wsauth.connection.valve import Valve, valve_of
from asgi_wsauth.loops.timers import timers

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]


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


@pytest.mark.slow
async def test_100_clients_of_one_address_that_answer_all_see_their_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_wsauth.connection.budget._LONGEST_WAIT", 60)  # for a slow machine
    at_once = []

    class Answers(Peer):
        async def receive(self) -> dict[str, Any]:
            if self.sees_its_code:
                at_once.append(len(budget()))
                await anyio.sleep(0.01)
                self.answer()
            return await super().receive()

    peers = [Answers() for _ in range(100)]
    app = door()
    async with anyio.create_task_group() as tasks:
        for peer in peers:
            tasks.start_soon(peer.run, app)
    assert all(peer.sees_its_code for peer in peers)
    assert at_once[:_LEAST] == [1, 2]
    assert max(at_once) == _MOST
    assert len(budget()) == 0


@cases("host", ["192.0.2.1", "2001:db8::"])
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
    assert len(budget()) == _LEAST
    pass_seconds(21)
    assert len(budget()) == 0
    assert budget()._shares == {}
    again = Peer(host)
    again.answer()
    await again.run(app)
    assert again.sees_its_code


async def test_where_a_place_is_waited_for_in_vain_it_is_told_by_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_wsauth.connection.budget._WAIT", 0.05)
    peers, app = [Peer() for _ in range(3)], door()
    async with anyio.create_task_group() as tasks:
        for peer in peers:
            tasks.start_soon(peer.run, app)
        await until(lambda: any(peer.is_done for peer in peers))
        for peer in peers:
            peer.answer()
    assert sorted(peer.sees_its_code for peer in peers) == [False, True, True]


async def test_whoever_waits_while_others_answer_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_wsauth.connection.budget._WAIT", 0.1)
    here, entered = Budget(), []

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
    monkeypatch.setattr("asgi_wsauth.connection.budget._FRESH", 0)
    here = Budget()
    here.add("a")
    here.add("a")
    assert not await here.enter("a", valved=False)


async def test_one_that_the_server_cancels_waits_and_holds_nothing() -> None:
    here = Budget()
    here.add("a")
    here.add("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: here.enter("a", valved=False))
        await until(lambda: here._shares["a"].waiting)
        tasks.cancel_scope.cancel()
    here.leave("a", is_gone=True)
    here.leave("a", is_gone=True)
    assert here._shares == {}


@cases(
    ("host", "valved", "places"),
    [("a", False, _LEAST), (None, False, 8 * _LEAST), ("a", True, 5), (None, True, 40)],
)
async def test_each_place_that_is_free_is_given_to_one_that_waits(
    monkeypatch: pytest.MonkeyPatch, host: str | None, valved: bool, places: int
) -> None:
    here, entered = Budget(), []

    async def enter() -> None:
        entered.append(await here.enter(host, valved=valved))

    monkeypatch.setattr("asgi_wsauth.connection.budget._FRESH", 5)
    for _ in range(places):
        assert await here.enter(host, valved=valved)
    monkeypatch.setattr("asgi_wsauth.connection.budget._WAIT", 60)
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(enter)
        await until(lambda: len(here._shares[host].waiting) == 2)
        for _ in range(2):
            here.leave(host, is_gone=True)
    assert entered == [True] * 2


async def test_of_those_that_wait_none_is_left_to_wait_where_silent_ones_hold_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_wsauth.connection.budget._FRESH", 1)
    monkeypatch.setattr("asgi_wsauth.connection.budget._SILENT", 1)
    monkeypatch.setattr("asgi_wsauth.connection.budget._WAIT", 60)
    here, entered = Budget(), []

    async def enter() -> None:
        entered.append(await here.enter("a", valved=True))

    here.add("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
        await until(lambda: bool(here._shares["a"].waiting))
        ((told, _),) = here._shares["a"].waiting
        here.leave("a", is_gone=False)
        assert told.is_set()
    assert entered == [False]


@cases("valved", [False, True])
async def test_silent_ones_of_some_addresses_leave_the_others_theirs(valved: bool) -> None:
    here = Budget()
    for host in "abcdefgh":
        for _ in range(_LEAST):
            assert await here.enter(host, valved=valved)
            here.leave(host, is_gone=False)
    for _ in range(_LEAST):
        assert await here.enter("another", valved=valved)
    for number in range(500):
        here.add(f"{number}")
        here.leave(f"{number}", is_gone=False)
    assert not await here.enter("the last", valved=valved)  # in all, there may be so many
    pass_seconds(21)
    assert await here.enter("the last", valved=valved)


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
        assert len(budget()) == 4
        for peer in peers:
            peer.answer()
    assert len(budget()) == 0


# What is read.


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's; a mask of zeros is a mask."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | size])
    elif size < 1 << 16:
        head = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + head + bytes(4) + payload


ECHO = frame(8, (4001).to_bytes(2, "big") + b"token_expired")


class Transport:
    """One end of a connection, as asyncio's transport has it.

    Attributes:
        journal: what was done to it, and what its server read.
    """

    def __init__(self, *, encrypted: bool = False, ends: bool = True) -> None:
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.there.setblocking(False)
        self.journal: list[Any] = []
        self._encrypted = encrypted
        self._ends = ends
        self._closing = False

    def get_extra_info(self, name: str) -> Any:
        if name == "ssl_object":
            return object() if self._encrypted else None
        return self.here

    def pause_reading(self) -> None:
        if self.journal[-1:] != ["pause"]:
            self.journal.append("pause")

    def resume_reading(self) -> None:
        data = self.here.recv(65536)
        self.journal.append(data)
        self._closing = self._ends and data in (b"", ECHO)  # the client is gone, or answers

    def is_closing(self) -> bool:
        return self._closing

    def is_taken(self) -> bool:
        """Whether nothing waits to be read."""
        try:
            self.here.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False


class Protocol:
    def __init__(self, transport: Any) -> None:
        self.transport = transport

    async def receive(self) -> Any:
        raise AssertionError


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> Any:
    transport = Transport(**getattr(request, "param", {}))
    yield transport
    transport.here.close()
    transport.there.close()


def valve(transport: Transport) -> Valve:
    found = valve_of(Protocol(transport).receive)
    assert found is not None
    return found


WORDS = [
    b"",
    frame(1, b"a word"),
    frame(2, bytes(5000)),
    frame(1, bytes(70_000)) + frame(9, b"ping") + frame(2, bytes(5000)) + frame(1, b""),
]


@pytest.mark.parametrize("words", WORDS, ids=len)
async def test_of_what_a_client_says_its_server_reads_the_answer_only(
    transport: Transport, words: bytes
) -> None:
    transport.there.send(words + ECHO)
    await valve(transport).until_gone()
    assert transport.journal == ["pause", ECHO, "pause"]


@pytest.mark.parametrize("piece", [1, 7])
async def test_what_comes_in_pieces_is_put_together(transport: Transport, piece: int) -> None:
    data = frame(2, bytes(200)) + ECHO
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(valve(transport).until_gone)
        for at in range(0, len(data), piece):
            transport.there.send(data[at : at + piece])
            await anyio.lowlevel.checkpoint()
    assert transport.journal == ["pause", ECHO, "pause"]


async def test_a_piece_of_an_answer_is_left_until_the_rest_is_there(transport: Transport) -> None:
    here = valve(transport)
    for piece in (ECHO[:1], ECHO[1:8]):
        transport.there.send(piece)
        assert not here._is_to_be_read()
    transport.there.send(ECHO[8:])
    assert here._is_to_be_read()


async def test_a_piece_of_a_size_is_left_until_the_rest_is_there(transport: Transport) -> None:
    here, data = valve(transport), frame(2, bytes(200))
    transport.there.send(data[:3])
    assert not here._is_to_be_read()
    transport.there.send(data[3:50])
    assert not here._is_to_be_read()
    assert transport.is_taken()
    transport.there.send(data[50:] + ECHO)
    assert here._is_to_be_read()


@pytest.mark.parametrize("words", [b"", frame(1, b"a word"), frame(1, b"half a word")[:-4]])
@pytest.mark.parametrize("transport", [{}, {"encrypted": True}], indirect=True, ids=str)
async def test_an_end_is_seen(transport: Transport, words: bytes) -> None:
    transport.there.send(words)
    transport.there.close()
    await valve(transport).until_gone()
    assert transport.journal[-2:] == [b"", "pause"]


async def test_a_reset_is_seen(transport: Transport) -> None:
    transport.here.send(b"this stays unread")
    transport.there.send(frame(1, b"a word"))
    transport.there.close()
    await valve(transport).until_gone()
    assert transport.journal == ["pause", b"", "pause"]


NO_ANSWERS = {
    "a flood": frame(2, bytes(900)) * 3 + ECHO,
    "an answer with more behind it": ECHO + frame(2, bytes(200)),
    "frames without a mask": bytes([0x81, 1, 65]) + ECHO,
    "no frames": b"\x83\x80" + bytes(4) + ECHO,
}


@pytest.mark.parametrize("hangs_up", [False, True])
@pytest.mark.parametrize("kind", NO_ANSWERS)
async def test_nothing_else_is_read(
    transport: Transport, kind: str, hangs_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wsauth.connection.valve._SKIPPED", 1000)
    transport.there.send(NO_ANSWERS[kind] + bytes(200))
    if hangs_up:
        transport.there.shutdown(socket.SHUT_WR)
    with anyio.move_on_after(0.05):
        await valve(transport).until_gone()
    assert transport.journal == ["pause"]
    assert not transport.is_taken()


@pytest.mark.parametrize("transport", [{"encrypted": True}], indirect=True, ids=str)
async def test_of_what_is_encrypted_little_is_read(transport: Transport) -> None:
    transport.there.send(bytes(257))
    with anyio.move_on_after(0.05):
        await valve(transport).until_gone()
    assert transport.journal == ["pause"]
    transport.here.recv(65536)
    transport.there.send(ECHO)
    await valve(transport).until_gone()
    assert transport.journal == ["pause", ECHO, "pause"]


@pytest.mark.parametrize("transport", [{"ends": False}], indirect=True, ids=str)
async def test_a_server_that_does_not_take_it_for_an_end_is_not_asked_for_ever(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wsauth.connection.valve._READS", 2)
    transport.there.close()
    with anyio.move_on_after(0.2):
        await valve(transport).until_gone()
    assert transport.journal == ["pause", b"", "pause", b"", "pause"]


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
