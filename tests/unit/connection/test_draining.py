"""`drain`: nobody is admitted any more, and open sockets end one after the other.

What real servers make of it is in test_wire_deploys.py.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import inf, nan
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from cases import cases
from doors import Door, alice
from handshakes import App, drive, websocket
from insides import add_crowd, counts_of, open_in
from sockets import CLOSE, LEFT, Seat, Wire, running, settled, text, until

from asgi_wsauth import (
    ConfigurationError,
    ConnectionLimit,
    FailureThrottle,
    FirstMessage,
    MemoryStore,
    Principal,
    Reason,
    Refused,
    Rejection,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.loops.tasks import spawn

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

RESTARTING = (1012, "server_restarting")
KEY = Principal("robot")  # never expires
NO_STORE: dict[str, Any] = {"revocations": None}


def no_guard(app: Any, **more: Any) -> Door:
    """A middleware in which nothing else ends a socket."""
    return Door(app, {**NO_STORE, **more}, known={"a": KEY})


def login_off(app: Any) -> Door:
    return Door(app, {**NO_STORE, "required": False, "no_auth_networks": ["127.0.0.0/8"]})


def limited_inside(app: Any) -> Door:
    door = no_guard(app)
    limit = ConnectionLimit(3, MemoryStore(clock=door.clock))
    door.middleware.app = WebSocketAuthMiddleware(app, door.auth, connection_limit=limit)
    return door


KINDS: dict[str, Callable[[Any], Door]] = {
    "that expire": Door,
    "without a guard": no_guard,
    "without login": login_off,
    "that are limited by an instance inside": limited_inside,
}


async def seats(scope: Any, receive: Any, send: Any) -> None:
    """An app with a seat for each socket."""
    await Seat()(scope, receive, send)


@asynccontextmanager
async def crowd(door: Door, number: int) -> AsyncIterator[list[Wire]]:
    """So many open sockets of this middleware."""
    wires = [Wire() for _ in range(number)]
    async with anyio.create_task_group() as group:
        for wire in wires:
            group.start_soon(door, websocket("token=a"), wire.receive, wire.send)
        await until(lambda: all(wire.sent for wire in wires))
        yield wires
        group.cancel_scope.deadline = anyio.current_time() + 5
    assert not group.cancel_scope.cancelled_caught, "a socket did not end"


class TestANewHandshake:
    """From the call on."""

    @cases("kind", KINDS)
    async def test_is_refused_before_anything_is_verified(self, kind: str) -> None:
        app = App()
        door = KINDS[kind](app)
        assert door.middleware.is_draining is False
        await door.middleware.drain()
        assert door.middleware.is_draining is True
        scope = websocket("token=a&room=1")
        outcome = await drive(door, scope)
        assert (outcome.close, app.calls, door.knows.asked) == (RESTARTING, [], [])
        assert scope["query_string"] == b"room=1"
        (event,) = door.events
        assert isinstance(event, Refused)
        assert (event.reason, event.close_code) == (Reason.RESTARTING, 1012)

    @cases(
        ("rejection", "kind"),
        [("http_response", "websocket.http.response.start"), ("close", "websocket.close")],
    )
    async def test_is_refused_as_configured(self, rejection: Rejection, kind: str) -> None:
        door = Door(App(), rejection=rejection)
        await door.middleware.drain()
        outcome = await drive(door, websocket("token=a"))
        assert outcome.sent[0]["type"] == kind

    async def test_is_told_over_http_to_come_again_soon_and_not_when_all_others_do(self) -> None:
        door = Door(App(), rejection="http_response")
        await door.middleware.drain()
        waits = set()
        for _ in range(100):
            outcome = await drive(door, websocket("token=a"))
            assert outcome.sent[0]["status"] == 503
            waits.add(int(dict(outcome.sent[0]["headers"])[b"retry-after"]))
        assert len(waits) > 1
        assert waits <= {1, 2, 3, 4, 5}

    async def test_counts_against_no_address(self) -> None:
        throttle = FailureThrottle("1/minute")
        door = Door(App(), {"throttle": throttle})
        await door.middleware.drain()
        for _ in range(3):
            assert (await drive(door, websocket("token=wrong"))).close == RESTARTING
        assert not counts_of(throttle)

    async def test_of_a_scope_that_no_server_should_build_is_an_error(self) -> None:
        door = Door(App())
        await door.middleware.drain()
        outcome = await drive(door, websocket("token=a", headers=[]) | {"headers": 5})
        assert outcome.close == (1011, "internal_error")

    async def test_of_an_excluded_path_is_the_apps(self) -> None:
        app = App()
        door = Door(app, exclude=["/public/*"])
        await door.middleware.drain()
        await drive(door, websocket(path="/public/x"))
        assert len(app.calls) == 1


class TestAHandshakeThatHadBegun:
    async def test_is_not_admitted_once_it_was_verified(self) -> None:
        app, slow = App(), anyio.Event()

        async def verify(credential: Any, conn: Any) -> Principal:
            await slow.wait()
            return alice()

        door = Door(app, verifiers=[verify])
        async with running(door) as wire, anyio.create_task_group() as group:
            await settled()
            group.start_soon(door.middleware.drain)
            await settled()
            assert not wire.sent
            slow.set()
        assert (wire.close, app.calls, door.told) == (RESTARTING, [], ["refused"])
        assert door.left_over == []

    @cases("kind", ["that expires", "without a guard"])
    async def test_is_not_admitted_by_its_first_message(self, kind: str) -> None:
        app = App()
        first: dict[str, Any] = {"sources": [FirstMessage()]}
        door = Door(app, first) if kind == "that expires" else no_guard(app, **first)
        async with running(door, "") as wire:
            await until(lambda: wire.sent)
            await door.middleware.drain(over=3)
        assert (wire.close, app.calls, door.knows.asked) == (RESTARTING, [], [])

    @cases("at", ["websocket.connect", "websocket.accept"])
    async def test_is_not_asked_for_a_first_message_any_more(self, at: str) -> None:
        door = Door(App(), {"sources": [FirstMessage()]})
        wire, goes_on = Wire(), anyio.Event()
        reached = False

        async def slowly(kind: str) -> None:
            nonlocal reached
            if kind == at:
                reached = True
                await goes_on.wait()

        async def receive() -> Any:
            message = await wire.receive()
            await slowly(message["type"])
            return message

        async def send(message: Any) -> None:
            await slowly(message["type"])
            await wire.send(message)

        async with anyio.create_task_group() as group:
            group.start_soon(door, websocket(""), receive, send)
            await until(lambda: reached)
            group.start_soon(partial(door.middleware.drain, over=0))
            await settled()
            goes_on.set()
        assert wire.close == RESTARTING
        assert not open_in(door.middleware)

    async def test_that_is_being_refused_is_waited_for(self) -> None:
        door = Door(App())
        silent = Wire()

        async def send(message: dict[str, Any]) -> None:
            silent.sent.append(message)

        async with anyio.create_task_group() as group:
            group.start_soon(door, websocket("token=wrong"), silent.receive, send)
            await until(lambda: len(silent.sent) == 2)
            begun = anyio.current_time()
            await door.middleware.drain(over=0)
            assert anyio.current_time() > begun  # its client has a second to answer
            assert not open_in(door.middleware)
        assert silent.close == (1008, "token_invalid")


class TestAnOpenSocket:
    @cases("kind", KINDS)
    async def test_is_closed(self, kind: str) -> None:
        seat = Seat()
        door = KINDS[kind](seat)
        async with running(door) as wire:
            await until(lambda: wire.sent)
            await door.middleware.drain(over=5)
            assert wire.close == RESTARTING
        assert seat.got[-1]["type"] == "websocket.disconnect"
        assert (door.closed.reason, door.closed.close_code) == (Reason.RESTARTING, 1012)
        assert (door.left_over, open_in(door.middleware)) == ([], [])

    @cases("where", ["inside", "outside"])
    async def test_is_closed_once_whichever_of_two_instances_is_drained(self, where: str) -> None:
        seat = Seat()
        door = Door(seat)
        inner = WebSocketAuthMiddleware(seat, door.auth)
        door.middleware.app = inner
        async with running(door) as wire:
            await until(lambda: wire.sent)
            await (inner if where == "inside" else door.middleware).drain(over=1)
            await inner.drain(over=0)
        assert (wire.close, door.closed.reason) == (RESTARTING, Reason.RESTARTING)
        assert seat.disconnect == RESTARTING

    async def test_has_the_code_that_is_configured(self) -> None:
        seat = Seat()
        for door in (
            Door(seat, close_codes={Reason.RESTARTING: 4012}),
            Door(seat, NO_STORE, known={"a": KEY}, close_codes={Reason.RESTARTING: 4012}),
        ):
            async with running(door) as wire:
                await until(lambda wire=wire: wire.sent)
                await door.middleware.drain(over=0)
            assert wire.close == (4012, "server_restarting")
            assert door.closed.close_code == 4012

    async def test_that_was_closed_by_its_app_or_its_client_is_left_alone(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            if (await receive())["type"] == "websocket.receive":
                await send(CLOSE)
                await receive()

        for end in (text("bye"), LEFT):
            door = Door(app)
            async with running(door) as wire, anyio.create_task_group() as group:
                await until(lambda wire=wire: wire.sent)
                group.start_soon(lambda door=door: door.middleware.drain(over=60))
                await settled()
                wire.put(end)
            assert wire.close in (None, (1000, ""))
            assert door.closed.reason is None

    async def test_that_was_revoked_first_is_told_that(self) -> None:
        door = Door(Seat())
        async with running(door) as wire:
            await until(lambda: wire.sent)
            await door.revocations.revoke_user("alice")
            await until(lambda: wire.close)
            await door.middleware.drain(over=0)
        assert wire.close == (4004, "token_revoked")

    @cases("kind", ["that expires", "without a guard"])
    async def test_whose_app_goes_on_is_not_waited_for(self, kind: str) -> None:
        ended = anyio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await ended.wait()

        door = (Door if kind == "that expires" else no_guard)(app)
        async with running(door) as wire:
            await until(lambda: wire.sent)
            begun = anyio.current_time()
            await door.middleware.drain(over=0)
            assert anyio.current_time() - begun < 4
            assert wire.close == RESTARTING
            ended.set()

    async def test_is_waited_for_until_its_code_was_sent(self) -> None:
        """Its accept has to end first; and its app goes on."""
        ended, accepting, wire = anyio.Event(), anyio.Event(), Wire()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await ended.wait()

        async def send_slowly(message: dict[str, Any]) -> None:
            accepting.set()
            await anyio.sleep(0.6)
            await wire.send(message)

        door = Door(app)
        async with anyio.create_task_group() as group:
            group.start_soon(door, websocket("token=a"), wire.receive, send_slowly)
            await accepting.wait()
            await door.middleware.drain(over=0)
            assert wire.close == RESTARTING
            ended.set()

    async def test_that_its_app_has_not_accepted_is_refused(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await receive()

        door = Door(app)
        async with running(door) as wire:
            await settled()
            await door.middleware.drain(over=0)
        assert (wire.kinds, wire.close) == (["accept", "close"], RESTARTING)


@pytest.mark.slow
class TestTheMoments:
    async def test_are_spread_over_the_time_in_no_order(self) -> None:
        door = no_guard(seats)
        closed: dict[int, float] = {}
        async with crowd(door, 200) as sockets, anyio.create_task_group() as group:
            begun = anyio.current_time()

            async def look() -> None:
                while len(closed) < len(sockets):
                    for number, wire in enumerate(sockets):
                        if wire.close:
                            closed.setdefault(number, anyio.current_time() - begun)
                    await anyio.sleep(0.1)

            group.start_soon(look)
            await door.middleware.drain(over=30)
            took = anyio.current_time() - begun
        assert max(closed.values()) - 0.2 <= took < 32
        assert list(closed) != sorted(closed)
        tenths = Counter(int(moment // 3) for moment in closed.values())
        assert all(2 < tenths[number] < 60 for number in range(10)), tenths

    @cases("kind", ["that expire", "without a guard"])
    async def test_are_one_with_no_time_and_others_have_their_turns(self, kind: str) -> None:
        door = KINDS[kind](seats)
        turns = 0
        async with crowd(door, 100) as sockets, anyio.create_task_group() as group:

            async def count_turns() -> None:
                nonlocal turns
                while not all(wire.close for wire in sockets):
                    turns += 1
                    await anyio.lowlevel.checkpoint()

            group.start_soon(count_turns)
            begun = anyio.current_time()
            await door.middleware.drain(over=0)
            assert anyio.current_time() - begun < 3
            assert {wire.close for wire in sockets} == {RESTARTING}
        assert turns >= 10

    async def test_take_no_task_for_each_socket(self, anyio_backend_name: str) -> None:
        if anyio_backend_name == "trio":
            return
        door = no_guard(seats)
        async with crowd(door, 100), anyio.create_task_group() as group:
            before = len(asyncio.all_tasks())
            group.start_soon(lambda: door.middleware.drain(over=1e6))
            await settled()
            assert len(asyncio.all_tasks()) <= before + 1
            await door.middleware.drain(over=0)

    async def test_of_another_call_are_its_own(self) -> None:
        door = Door(seats)
        async with crowd(door, 10) as sockets, anyio.create_task_group() as group:
            group.start_soon(lambda: door.middleware.drain(over=1000))
            await settled()
            begun = anyio.current_time()
            await door.middleware.drain(over=0)
            assert anyio.current_time() - begun < 3
            assert {wire.close for wire in sockets} == {RESTARTING}
        await door.middleware.drain()  # and when nobody is there any more

    async def test_of_two_calls_at_once_are_all_waited_for(self) -> None:
        door = no_guard(seats)
        async with crowd(door, 3) as sockets, anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(lambda: door.middleware.drain(over=0))
        assert {wire.close for wire in sockets} == {RESTARTING}

    async def test_come_no_more_when_it_is_cancelled_and_still_nobody_is_admitted(self) -> None:
        door = Door(seats)
        async with crowd(door, 3) as sockets:
            with anyio.move_on_after(0.001):
                await door.middleware.drain(over=1e6)
            assert not any(wire.close for wire in sockets)
            assert (await drive(door, websocket("token=a"))).close == RESTARTING
            for wire in sockets:
                wire.put(LEFT)


async def test_the_log_says_how_many_end(caplog: pytest.LogCaptureFixture) -> None:
    door = Door(seats)
    with caplog.at_level(logging.INFO, "asgi_wsauth"):
        async with crowd(door, 3):
            await door.middleware.drain(over=2.5)
    assert "draining: 3 sockets end within 2.5 s" in caplog.messages


@cases("over", [-1, "30", True, None, nan, inf])
async def test_the_time_is_a_number_of_seconds(over: Any) -> None:
    door = Door(App())
    with pytest.raises(ConfigurationError, match="over must be"):
        await door.middleware.drain(over=over)
    assert not door.middleware.is_draining


class Far:
    """Sockets of another event loop, the last of which ends when the time is over."""

    open = (1,)
    is_done = False

    def end_all_from_elsewhere(self, over: float) -> anyio.Event:
        ended = anyio.Event()

        async def end_all() -> None:
            await anyio.sleep(over)
            self.is_done = True
            ended.set()

        spawn(end_all)
        return ended


class TestOtherEventLoops:
    """One middleware may serve several, each in a thread of its own."""

    @pytest.mark.hurried(False)
    async def test_have_their_sockets_closed_there(self) -> None:
        door = Door(seats)
        found: dict[str, list[Wire]] = {}

        async def serve(backend: str) -> None:
            async with crowd(door, 3) as sockets:
                found[backend] = sockets

        backends = ("asyncio", "trio")
        runs = [partial(anyio.run, serve, name, backend=name) for name in backends]
        threads = [threading.Thread(target=run) for run in runs]
        async with crowd(door, 2) as sockets:
            for thread in threads:
                thread.start()
            await until(lambda: len(found) == 2)
            await door.middleware.drain(over=0.1)
            found["here"] = sockets
            closes = [wire.close for wires in found.values() for wire in wires]
            for thread in threads:
                thread.join()
        assert closes == [RESTARTING] * 8
        assert door.left_over == []

    async def test_have_all_of_the_time_though_none_of_their_sockets_are_here(self) -> None:
        door = Door(seats)
        far = Far()
        add_crowd(door.middleware, far)
        await door.middleware.drain(over=300)
        assert far.is_done

    @cases("how", ["closed", "stopped"])
    async def test_that_ended_before_their_sockets_hold_nobody_up(self, how: str) -> None:
        door = no_guard(seats)
        wire = Wire()
        loop = asyncio.new_event_loop()

        async def open_one() -> Any:
            task = asyncio.create_task(door(websocket("token=a"), wire.receive, wire.send))
            while not wire.sent:  # noqa: ASYNC110 - nothing in this task knows
                await asyncio.sleep(0)
            return task

        task: Any = await anyio.to_thread.run_sync(loop.run_until_complete, open_one())
        if how == "closed":
            loop.close()
        begun = anyio.current_time()
        await door.middleware.drain(over=1)
        assert anyio.current_time() - begun < 12
        assert wire.close is None
        if how == "closed":
            task._log_destroy_pending = False
            task.get_coro().close()
        else:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await anyio.to_thread.run_sync(loop.run_until_complete, task)
            loop.close()
