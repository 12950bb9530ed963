"""A live socket: what ends it, what the client and the app are told of that, and in which order.

What real servers make of it is in test_wire_live.py; every order of all steps is in
test_session_states.py.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from math import inf
from types import CoroutineType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from doors import EXPIRED, REVOKED, Door, alice
from handshakes import (
    CONNECT,
    NOW,
    App,
    authenticator,
    drive,
    jwt_verifier,
    mint,
    websocket,
)
from insides import slots_of, sockets_of
from sockets import (
    ACCEPT,
    CLOSE,
    LEFT,
    Seat,
    Wire,
    left_over,
    running,
    said,
    settled,
    text,
    until,
)
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect
from strict import listening

from asgi_wsauth import (
    Admitted,
    Authenticator,
    Closed,
    ConnectionLimit,
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
    Refreshed,
    Refused,
    Revocations,
    Sessions,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.connection import endable, phases
from asgi_wsauth.connection.guard import Guard
from asgi_wsauth.connection.phases import STEPS, Phase
from asgi_wsauth.stores.protocols import Notice

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

TELL = "auth.refresh"


# The phases


def test_the_docstring_has_the_table() -> None:
    assert phases.__doc__ is not None
    told: dict[tuple[Phase, str], Phase] = {}
    for line in phases.__doc__.splitlines():
        row = re.fullmatch(r"    (\w+) +((?:[A-Z]+(?:, )?)+|any) +([A-Z]+) +\S.*", line)
        if row is not None:
            step, before, after = row.groups()
            before_it = list(Phase) if before == "any" else [Phase[p] for p in before.split(", ")]
            told |= {(phase, step): Phase[after] for phase in before_it}
    assert told == STEPS


# What ends it


async def streams(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    while True:
        await send(said("tick"))
        await anyio.lowlevel.checkpoint()


async def sleeps(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    await anyio.sleep_forever()


async def reads_and_writes(scope: Any, receive: Any, send: Any) -> None:
    """As most apps do: in two tasks, of which one ends the other."""
    await receive()
    await send(ACCEPT)

    async def read() -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass
        group.cancel_scope.cancel()

    async def write() -> None:
        while True:
            await send(said("tick"))
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(write)


async def never_answers(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await anyio.sleep_forever()


async def never_receives(scope: Any, receive: Any, send: Any) -> None:
    await anyio.sleep_forever()


async def starlettes(scope: Any, receive: Any, send: Any) -> None:
    socket = WebSocket(scope, receive, send)
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


APPS = [Seat(), streams, sleeps, reads_and_writes, never_answers, never_receives, starlettes]


def named(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__).lower()


async def expires(door: Door) -> None:
    door.pass_time(100)


async def is_revoked(door: Door) -> None:
    await door.revocations.revoke_user("alice")


@cases(("end", "told"), [(expires, EXPIRED), (is_revoked, REVOKED)], ids=["expiry", "revocation"])
@cases("app", APPS, ids=named)
async def test_whatever_the_app_does_there_is_one_close(
    app: Any, end: Any, told: tuple[int, str]
) -> None:
    door = Door(Seat() if isinstance(app, Seat) else app, grace=0)
    async with running(door) as wire:
        accepts = app not in (never_answers, never_receives)
        await until(lambda: "accept" in wire.kinds if accepts else door.told)
        await anyio.lowlevel.checkpoint()
        await end(door)
        await until(lambda: wire.close)
    assert wire.close == told
    assert wire.kinds.count("accept") == 1  # a refusal accepts, too
    assert (door.closed.reason, door.closed.close_code) == (
        next(reason for reason in Reason if reason.phrase == told[1]),
        told[0],
    )
    assert door.left_over == []


async def test_it_ends_when_the_time_has_passed_and_not_before() -> None:
    door = Door(Seat(), known={"a": alice(100)})
    async with running(door) as wire:
        await until(lambda: wire.kinds == ["accept"] and wire.waiting)
        door.pass_time(99.9)
        await settled()
        assert wire.kinds == ["accept"]
        door.pass_time(0.1)


async def test_nobody_has_to_look_at_the_clock() -> None:
    door = Door(Seat())
    async with running(door) as wire:
        await until(lambda: wire.kinds == ["accept"])
        door.clock.now += 100
    assert wire.close == EXPIRED


@cases("rejection", ["accept_then_close", "http_response", "close"])
async def test_before_the_app_has_answered_it_is_refused(rejection: Any) -> None:
    door = Door(never_answers, grace=0, rejection=rejection)
    async with running(door) as wire:
        await until(lambda: door.told)
        door.pass_time(100)
    assert (
        wire.kinds
        == {
            "accept_then_close": ["accept", "close"],
            "http_response": ["http.response.start", "http.response.body"],
            "close": ["close"],
        }[rejection]
    )


async def test_between_the_decision_and_the_app() -> None:
    """The clock moves while the handshake is claimed."""

    class Store(MemoryStore):
        async def take_slot(self, slot: Any, /, **more: Any) -> Any:
            door.clock.now += 100
            return await super().take_slot(slot, **more)

    app = Seat()
    door = Door(app, connection_limit=ConnectionLimit(1, Store()))
    async with running(door) as wire:
        pass
    assert wire.close == EXPIRED
    assert door.left_over == []


async def closes(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    await send(CLOSE)


async def answers_with_http(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 404, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"", "more_body": True})
    await anyio.lowlevel.checkpoint()
    await send({"type": "websocket.http.response.body", "body": b""})


async def hears_of_the_client(scope: Any, receive: Any, send: Any) -> None:
    for _ in range(2):
        await receive()


@cases("app", [closes, answers_with_http, hears_of_the_client], ids=named)
@cases("end", [expires, is_revoked], ids=["expiry", "revocation"])
async def test_what_has_just_ended_by_itself_is_not_ended_again(app: Any, end: Any) -> None:
    tidied, proceed = anyio.Event(), anyio.Event()

    async def tidy(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        tidied.set()
        await proceed.wait()

    door = Door(tidy)
    async with running(door, "token=a", LEFT) as wire:
        await tidied.wait()
        before = list(wire.sent)
        await end(door)
        await settled()
        proceed.set()
    assert wire.sent == before
    assert (door.closed.reason, door.closed.close_code) == (None, None)
    assert door.left_over == []


@cases("app", [closes, answers_with_http, hears_of_the_client], ids=named)
async def test_an_app_that_goes_on_without_a_client_has_no_more_than_its_grace(app: Any) -> None:
    async def goes_on(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        await anyio.sleep_forever()

    door = Door(goes_on, grace=0)
    async with running(door, "token=a", LEFT):
        await until(lambda: door.told)
        await settled()
        await door.revocations.revoke_user("alice")
    assert (door.closed.reason, door.closed.close_code) == (None, None)
    assert door.left_over == []


async def test_after_the_apps_own_close_its_sends_raise() -> None:
    errors = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await closes(scope, receive, send)
        for message in (said("more"), CLOSE, ACCEPT):
            with pytest.raises(OSError, match="closed: by the app") as caught:
                await send(message)
            errors.append(caught.value)

    async with running(Door(app)) as wire:
        pass
    assert wire.kinds == ["accept", "close"]
    assert len(errors) == 3


async def test_a_message_of_a_kind_unknown_here_does_not_unguard_the_socket() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.ping"})
        await receive()

    door = Door(app)
    async with running(door) as wire:
        await until(lambda: wire.waiting)
        door.pass_time(100)
    assert wire.close == EXPIRED


async def test_revoked_while_it_is_claimed() -> None:
    """After the verdict and before the socket is registered: nobody would hear of it."""

    class Store(MemoryStore):
        looked_up = 0

        async def get_revocations(self, subjects: Any, /) -> Any:
            self.looked_up += 1
            found = await super().get_revocations(subjects)
            if self.looked_up == 1:
                await door.revocations.revoke_user("alice")
            return found

    store, app = Store(), App()
    door = Door(app)
    door.revocations.store = store
    outcome = await drive(door, websocket("token=a"))
    assert outcome.close == REVOKED
    assert not app.calls
    assert store.looked_up == 2
    assert door.told == ["refused"]
    assert door.left_over == []


async def test_a_store_that_breaks_while_it_is_claimed_admits_nobody() -> None:
    class Short(MemoryStore):
        looked_up = 0

        async def get_revocations(self, subjects: Any, /) -> Any:
            self.looked_up += 1
            return [None] * (len(subjects) if self.looked_up == 1 else 0)

    app = App()
    door = Door(app, known={"secret": alice()})
    door.revocations.store = Short()
    outcome = await drive(door, websocket("token=secret"))
    assert outcome.close == (1011, "internal_error")
    assert not app.calls
    assert door.left_over == []
    (event,) = [event for event in door.events if isinstance(event, Refused)]
    assert event.detail == "the entry: ValueError"


@cases("same_store", [True, False])
async def test_revoked_before_its_slot_is_taken(same_store: bool) -> None:
    class Store(MemoryStore):
        async def take_slot(self, slot: Any, /, **more: Any) -> Any:
            await door.revocations.revoke_user("alice")
            return await super().take_slot(slot, **more)

    app, store = App(), Store()
    door = Door(app, connection_limit=ConnectionLimit(1, store))
    if same_store:
        door.revocations.store = store
    outcome = await drive(door, websocket("token=a"))
    assert outcome.close == REVOKED
    assert not app.calls
    assert door.left_over == []


@cases(("same_store", "looks"), [(True, 1), (False, 2)])
async def test_a_store_of_both_is_asked_on_the_same_way(same_store: bool, looks: int) -> None:
    """For a slot, and once more for what was revoked: each way to a store takes its time."""

    class Store(MemoryStore):
        asked = 0

        async def get_revocations(self, subjects: Any, /) -> Any:
            self.asked += 1
            return await super().get_revocations(subjects)

    store = Store()
    limited = store if same_store else MemoryStore()
    door = Door(Seat(), connection_limit=ConnectionLimit(1, limited))
    door.revocations.store = store
    async with running(door, "token=a", LEFT):
        await until(lambda: door.told)
        assert store.asked == looks


async def test_revoked_after_the_last_look_and_before_the_app() -> None:
    """It is registered by then, and hears of it while it waits for something else."""

    class Store(MemoryStore):
        async def take_slot(self, slot: Any, /, **more: Any) -> Any:
            answer = await super().take_slot(slot, **more)
            await anyio.lowlevel.checkpoint()
            (guard,) = sockets_of(door.revocations)
            guard.end(Denied(Reason.REVOKED))
            guard.end(Denied(Reason.EXPIRED))  # the first one counts
            return answer

    app = App()
    door = Door(app, connection_limit=ConnectionLimit(1, Store()))
    async with running(door) as wire:
        pass
    assert wire.close == REVOKED
    assert not app.calls
    assert door.told == ["refused"]
    assert door.left_over == []


SUBJECTS_OF = {"user": "alice", "token": "jti", "session": "sid"}
SUBJECTS: list[Any] = [
    (kind, name)
    for kind in SUBJECTS_OF
    for name in SUBJECTS_OF.values()
    if name != SUBJECTS_OF[kind]
]


@cases("what", SUBJECTS_OF)
async def test_by_whatever_it_is_revoked(what: str) -> None:
    app = Seat()
    door = Door(app, known={"a": alice(None, token_id="jti", session_id="sid", issued_at=NOW)})
    async with running(door) as wire:
        await until(lambda: app.got)
        for subject in SUBJECTS:
            await door.store.put_revocation(Notice(subject, NOW), ttl=1)
        await settled()
        assert wire.close is None
        revoke: Any = getattr(door.revocations, f"revoke_{what}")
        await revoke(SUBJECTS_OF[what])
    assert wire.close == REVOKED


# In which order


async def test_a_pending_receive_ends_first_then_the_close_goes_out_then_the_app_is_told() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        wire.journal.append("the app is told")

    class Slow(Wire):
        """A server that takes its time to send, and twice that to end a receive."""

        async def receive(self) -> dict[str, Any]:
            try:
                return await self._message()
            except BaseException:
                with anyio.CancelScope(shield=True):
                    for _ in range(2):
                        await settled()
                self.journal.append("receive ended")
                raise

        async def send(self, message: dict[str, Any]) -> None:
            await settled()
            await super().send(message)

    door, wire = Door(app), Slow()
    async with anyio.create_task_group() as group:
        group.start_soon(door, websocket("token=a"), wire.receive, wire.send)
        await until(lambda: wire.waiting and wire.kinds)
        await door.revocations.revoke_user("alice")
    assert wire.journal == ["receive ended", "close", "the app is told"]


@cases("how", ["stays in its receive", "never sends"])
async def test_a_server_that_is_slow_holds_up_nobody(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endable, "_PATIENCE", 0.01)

    class Slow(Wire):
        async def receive(self) -> dict[str, Any]:
            while True:
                try:
                    with anyio.CancelScope(shield="receive" in how):
                        return await super().receive()
                except asyncio.CancelledError:  # which knows of no shield
                    if "receive" not in how:
                        raise

        async def send(self, message: dict[str, Any]) -> None:
            await super().send(message)
            if message["type"] == "websocket.close" and "sends" in how:
                await never.wait()

    never, wire, app = anyio.Event(), Slow(), Seat()
    door = Door(app)
    async with anyio.create_task_group() as group:
        group.start_soon(door, websocket("token=a"), wire.receive, wire.send)
        await until(lambda: wire.waiting and wire.kinds)
        await door.revocations.revoke_user("alice")
        await until(lambda: wire.close)
        if "receive" in how:
            await settled()
            wire.put(text("too late"))
    never.set()
    assert wire.close == REVOKED
    assert app.disconnect == REVOKED
    await until(lambda: door.left_over == [])


async def test_an_accept_on_its_way_arrives_before_the_close() -> None:
    proceed = anyio.Event()

    class Slow(Wire):
        async def send(self, message: dict[str, Any]) -> None:
            if message["type"] == "websocket.accept":
                self.journal.append("accepting")
                await proceed.wait()
            await super().send(message)

    wire = Slow()
    door = Door(Seat(), refresh_message=TELL)
    async with anyio.create_task_group() as group:
        group.start_soon(door, websocket("token=a"), wire.receive, wire.send)
        await until(lambda: wire.journal)
        await door.revocations.revoke_user("alice")
        await settled()
        assert wire.kinds == []
        proceed.set()
    assert wire.kinds == ["accept", "close"]
    assert wire.close == REVOKED
    assert door.left_over == []


@cases("error", [OSError("gone"), RuntimeError("already closed")])
async def test_a_client_that_is_gone_when_it_is_to_be_closed(error: Exception) -> None:
    class Gone(Wire):
        async def send(self, message: dict[str, Any]) -> None:
            await super().send(message)
            if message["type"] == "websocket.close":
                raise error

    wire, app = Gone(), Seat()
    door = Door(app)
    async with anyio.create_task_group() as group:
        group.start_soon(door, websocket("token=a"), wire.receive, wire.send)
        await until(lambda: wire.waiting and wire.kinds)
        await door.revocations.revoke_user("alice")
    assert app.disconnect == REVOKED
    assert wire.close == REVOKED
    assert door.left_over == []


async def test_all_who_receive_are_told_and_whoever_asks_again() -> None:
    got: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)

        async def take() -> None:
            got.append(await receive())

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(take)
        await take()

    door = Door(app)
    async with running(door) as wire:
        await until(lambda: wire.waiting == 2)
        await door.revocations.revoke_user("alice")
    told = {"type": "websocket.disconnect", "code": 4004, "reason": "token_revoked"}
    assert got == [told] * 3
    assert wire.journal == ["receive ended", "receive ended", "close"]


async def test_what_arrives_at_the_same_moment_is_not_taken_for_the_end() -> None:
    app = Seat()
    door = Door(app)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        wire.put(text("the last words"))
        (guard,) = sockets_of(door.revocations)
        guard.end(Denied(Reason.REVOKED))
    assert app.got[1:-1] in ([], [text("the last words")])
    assert app.disconnect == REVOKED
    assert wire.close == REVOKED


@cases("app", [never_receives, never_answers], ids=named)
async def test_an_app_that_never_took_the_connect_gets_it_before_the_disconnect(app: Any) -> None:
    got = []
    proceed = anyio.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        if app is never_answers:
            got.append(await receive())
        await proceed.wait()
        while len(got) < 3:
            got.append(await receive())

    door = Door(late)
    async with running(door) as wire:
        await until(lambda: door.told)
        await door.revocations.revoke_user("alice")
        await until(lambda: wire.close)
        proceed.set()
    assert [message["type"] for message in got] == [
        "websocket.connect",
        *["websocket.disconnect"] * 2,
    ]


# What the app may do afterwards


@cases("message", [said("x"), ACCEPT, {"type": "websocket.http.response.start"}])
async def test_sending_after_the_end_raises_as_asgi_asks(message: dict[str, Any]) -> None:
    """ASGI specification 2.4, "Disconnected client"."""
    raised = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        with pytest.raises(OSError, match="token_revoked") as caught:
            await send(message)
        raised.append(caught.value)

    door = Door(app)
    async with running(door) as wire:
        await until(lambda: wire.waiting)
        await door.revocations.revoke_user("alice")
    assert raised
    assert wire.kinds == ["accept", "close"]


async def test_what_the_app_left_behind_sends_nothing_behind_the_close() -> None:
    seat = Seat()
    door = Door(seat)
    async with running(door) as wire:
        await until(lambda: wire.waiting)
        await door.revocations.revoke_user("alice")
    with pytest.raises(OSError, match="token_revoked"):
        await seat.send(said("x"))
    await seat.send(CLOSE)  # as frameworks do in the end: it is closed, and that is no error
    assert wire.kinds == ["accept", "close"]


class SlowToClose(Wire):
    """A server that is done with a close only when it may proceed."""

    def __init__(self) -> None:
        super().__init__()
        self.proceed = anyio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        await super().send(message)
        if message["type"] == "websocket.close":
            await self.proceed.wait()


async def test_while_the_close_is_on_its_way_nothing_else_is_sent() -> None:
    wire, raised = SlowToClose(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await until(lambda: wire.close)
        with pytest.raises(OSError):
            await send(said("too late"))
        raised.append(True)
        wire.proceed.set()

    door = Door(app)
    async with anyio.create_task_group() as group:
        group.start_soon(door, websocket("token=a"), wire.receive, wire.send)
        await until(lambda: wire.kinds)
        await door.revocations.revoke_user("alice")
    assert raised
    assert wire.close == REVOKED


async def test_after_its_grace_an_app_that_still_runs_is_cancelled() -> None:
    cancelled = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await sleeps(scope, receive, send)
        except BaseException:
            cancelled.append(anyio.current_time())
            raise

    door = Door(app, grace=0.01)
    async with running(door) as wire:
        await until(lambda: wire.kinds)
        ended = anyio.current_time()
        door.pass_time(100)
        assert not cancelled
    assert cancelled[0] >= ended + 0.01
    assert wire.close == EXPIRED
    assert door.left_over == []


async def test_an_app_that_swallows_its_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endable, "_PATIENCE", 0.01)
    swallowed = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal swallowed
        await receive()
        await send(ACCEPT)
        while swallowed < 3:
            try:
                await anyio.sleep_forever()
            except BaseException:
                swallowed += 1

    door = Door(app, grace=0)
    async with running(door) as wire:
        await until(lambda: wire.kinds)
        door.pass_time(100)
    assert swallowed == 3
    assert door.left_over == []
    await anyio.lowlevel.checkpoint()  # and whoever called it is not cancelled


async def test_an_app_that_ends_within_its_grace_is_not_cancelled() -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seat = Seat()
        await seat(scope, receive, send)
        await settled()
        ended.append(seat.disconnect)

    door = Door(app, grace=60)
    async with running(door) as wire:
        await until(lambda: wire.kinds)
        door.pass_time(100)
    assert ended == [EXPIRED]
    assert door.left_over == []


@cases("while_it", ["refreshes", "accepts"])
async def test_what_is_under_way_at_the_end_does_not_prolong_the_grace(while_it: str) -> None:
    proceed = anyio.Event()

    async def slow(credential: Credential, conn: HTTPConnection) -> Principal | None:
        if credential.value == "b":
            await proceed.wait()
        return alice(1000 if credential.value == "b" else 100)

    class Slow(Wire):
        async def send(self, message: dict[str, Any]) -> None:
            await super().send(message)
            if message["type"] == "websocket.accept" and while_it == "accepts":
                await proceed.wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        if while_it == "refreshes":
            with suppress(Denied):
                await scope["wsauth"].refresh("b")
        await anyio.sleep_forever()

    wire = Slow()
    door = Door(app, grace=0.05, refresh_message=TELL)
    door.auth.verifiers = (slow,)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(door, websocket("token=a"), wire.receive, wire.send)
            await until(lambda: wire.kinds)
            await settled()
            door.pass_time(100)
            proceed.set()
    assert wire.close == EXPIRED
    assert door.left_over == []


def group_of(*errors: Exception) -> Exception:
    return ExceptionGroup("several", errors)


def by_disconnect() -> Exception:
    return WebSocketDisconnect(4004)


ERRORS: dict[str, tuple[Callable[[Exception], Exception], bool]] = {
    "our own": (lambda ours: ours, False),
    "Starlette's": (lambda ours: by_disconnect(), False),
    "a group of them": (lambda ours: group_of(ours, by_disconnect()), False),
    "groups in groups": (lambda ours: group_of(ours, group_of(by_disconnect())), False),
    "a group with another": (lambda ours: group_of(ours, LookupError("bug")), True),
    "another": (lambda ours: LookupError("bug"), True),
    "another OSError": (lambda ours: OSError("disk full"), True),
}


@cases(("make", "raises"), ERRORS.values(), ids=ERRORS)
@cases("ended", [True, False])
async def test_an_error_that_only_tells_of_the_end_is_none(
    make: Any, raises: bool, ended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An app that ends like that is not at fault; its other errors are the server's affair."""
    caplog.set_level(logging.DEBUG, "asgi_wsauth")
    error: Exception | None = None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal error
        await receive()
        await send(ACCEPT)
        if not ended:
            error = make(by_disconnect())
            raise error
        await receive()
        try:
            await send(said("x"))
        except OSError as ours:
            error = make(ours)
        raise error  # type: ignore[misc]

    door, wire = Door(app), Wire()
    caught: BaseException | None = None

    async def run() -> None:
        nonlocal caught
        try:
            await door(websocket("token=a"), wire.receive, wire.send)
        except Exception as exc:
            caught = exc

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        if ended:
            await until(lambda: wire.waiting and wire.kinds)
            await door.revocations.revoke_user("alice")
    assert caught is (error if raises or not ended else None)
    told = [f"the app ended with its connection: {type(error).__qualname__}"]
    assert caplog.messages == (told if ended and not raises else [])
    assert door.left_over == []


async def test_what_an_app_raises_when_it_is_cancelled_is_the_servers_affair() -> None:
    async def waits() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("bug")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        async with anyio.create_task_group() as group:
            group.start_soon(waits)
            await anyio.sleep_forever()

    door, wire = Door(app, grace=0), Wire()
    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            group.start_soon(door, websocket("token=a"), wire.receive, wire.send)
            await until(lambda: wire.kinds)
            door.pass_time(100)
    assert caught.value.subgroup(LookupError)
    assert wire.close == EXPIRED
    assert door.left_over == []


@cases("first", ["the end", "the server"])
async def test_an_app_that_the_server_cancels_at_the_same_moment_is_cancelled(first: str) -> None:
    """The server's word counts, whatever else happens: it would wait for ever."""
    after = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await anyio.lowlevel.checkpoint()
        await anyio.sleep_forever()
        after.append("still there")

    door, wire = Door(app), Wire()
    scope = anyio.CancelScope()

    async def serve() -> None:
        with scope:
            await door(websocket("token=a"), wire.receive, wire.send)
            after.append("not cancelled")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            await until(lambda: wire.waiting and wire.kinds)
            (guard,) = sockets_of(door.revocations)
            if first == "the end":
                guard.end(Denied(Reason.REVOKED))
            scope.cancel()
            guard.end(Denied(Reason.REVOKED))
    assert scope.cancelled_caught
    assert after == []
    await until(lambda: wire.close == REVOKED and door.left_over == [])


@pytest.mark.both_loops(False)
@cases("app", [Seat(), streams], ids=["is told", "has returned"])
async def test_a_server_that_shuts_down_is_not_held_up_by_a_close(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers on asyncio cancel the app's task, once."""
    if isinstance(app, Seat):
        monkeypatch.setattr(endable, "_PATIENCE", 0.01)
    door, wire = Door(app), SlowToClose()
    task = asyncio.create_task(door(websocket("token=a"), wire.receive, wire.send))
    await until(lambda: wire.kinds)
    await settled()
    await door.revocations.revoke_user("alice")
    await until(lambda: wire.close)
    await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not wire.proceed.is_set()
    wire.proceed.set()
    await until(lambda: door.left_over == [])


# Closed by the app, through the session


@cases("reason", Reason, ids=lambda reason: reason.name)
async def test_the_app_closes_it_for_a_reason(reason: Reason) -> None:
    app = Seat()
    door = Door(app, close_codes={Reason.REVOKED: 4321})
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await app.session.close(reason)
        code = 4321 if reason is Reason.REVOKED else reason.close_code
        assert wire.close == (code, reason.phrase)  # it waits until that was sent
        await app.session.close()  # and then does nothing
    assert wire.close == app.disconnect == (code, reason.phrase)
    assert (door.closed.reason, door.closed.close_code) == (reason, code)
    await app.session.close()
    assert len(wire.sent) == 2


async def test_it_is_closed_because_it_was_revoked_unless_the_app_says_otherwise() -> None:
    app = Seat()
    async with running(Door(app)) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await app.session.close()
    assert wire.close == REVOKED


@cases("accepts", [True, False])
async def test_an_app_closes_its_own_socket_while_it_does_not_receive(accepts: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if accepts:
            await send(ACCEPT)
        await scope["wsauth"].close(Reason.FORBIDDEN)
        assert (await receive())["type"] == "websocket.disconnect"

    async with running(Door(app)) as wire:
        pass
    assert wire.close == (1008, "forbidden")
    assert wire.kinds == ["accept", "close"]


@cases("accepts", [True, False])
async def test_a_socket_that_nothing_guards_can_be_closed_once(accepts: bool) -> None:
    app = App()

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        if accepts:
            await app(scope, receive, send)
        for _ in range(2):
            await scope["wsauth"].close(Reason.FORBIDDEN)

    door = Door(closing, {"revocations": None}, known={"a": alice(None)})
    outcome = await drive(door, websocket("token=a"))
    assert outcome.close == (1008, "forbidden")


async def test_over_http_there_is_no_socket() -> None:
    raised = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["wsauth"]
        for use in (session.close, lambda: session.refresh("a")):
            with pytest.raises(RuntimeError, match="no socket"):
                await use()
            raised.append(True)

    scope = {**websocket("token=a"), "type": "http", "method": "GET"}
    await HTTPAuthMiddleware(app, Door(App()).auth)(scope, None, None)
    assert raised == [True, True]


# Which sockets are guarded


@cases(
    ("expires_in", "revocations", "options", "guarded"),
    [
        (None, False, {}, False),
        (100, False, {}, True),
        (inf, False, {}, True),
        (100, False, {"enforce_expiry": False}, False),
        (None, True, {}, True),
        (None, False, {"connection_limit": 3}, True),
        (None, False, {"refresh_message": TELL}, True),
    ],
)
async def test_an_app_gets_the_servers_own_objects_where_nothing_can_end_its_socket(
    expires_in: float | None, revocations: bool, options: dict[str, Any], guarded: bool
) -> None:
    app = App()
    if "connection_limit" in options:
        options = {"connection_limit": ConnectionLimit(3, MemoryStore())}
    auth = {} if revocations else {"revocations": None}
    door = Door(app, auth, known={"a": alice(expires_in)}, **options)
    wire = Wire()
    await door(websocket("token=a"), wire.receive, wire.send)
    assert (app.calls[0][1:] != (wire.receive, wire.send)) is guarded
    assert isinstance(getattr(app.calls[0][1], "__self__", None), Guard) is guarded
    assert door.left_over == []


async def test_who_is_nobody_has_nothing_to_be_revoked_and_no_limit() -> None:
    app = App()
    limit = ConnectionLimit(1, MemoryStore())
    door = Door(app, {"required": False}, connection_limit=limit)
    wire = Wire()
    await door(websocket("token=a"), wire.receive, wire.send)
    assert app.calls[0][1:] == (wire.receive, wire.send)
    # Also where something else guards it.
    door = Door(app, {"required": False}, connection_limit=limit, refresh_message=TELL)
    async with running(door), running(door):
        await until(lambda: len(app.calls) == 3)
    assert door.store._revocations == {}
    assert slots_of(limit.store) == {}


async def test_without_expiry_time_ends_nothing() -> None:
    app = Seat()
    door = Door(app, enforce_expiry=False)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(1000)
        await settled()
        wire.put(LEFT)
    assert wire.kinds == ["accept"]
    assert app.got[-1] == LEFT


@cases("expires_in", [1e9, 1e12, 1e300, inf], ids=str)
async def test_an_end_that_is_centuries_away_is_no_overflow(expires_in: float) -> None:
    app = Seat()
    door = Door(app, known={"a": alice(expires_in), "b": alice(100)}, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(1e6)
        wire.put(text(json.dumps({"type": TELL, "token": "a"})))
        await until(lambda: len(wire.sent) == 2)
        told = json.loads(wire.sent[1]["text"])
        assert told == {
            "type": f"{TELL}.ok",
            "expires_at": None if expires_in == inf else NOW + expires_in,
        }
        await settled()
        door.clock.now = NOW
        await app.session.refresh("b")
        door.pass_time(100)
    assert wire.close == EXPIRED
    assert door.left_over == []


@cases("kind", ["accept", "close"])
async def test_a_server_that_fails_to_answer_a_client_that_left_meanwhile(kind: str) -> None:
    left = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

        async def answer() -> None:
            with pytest.raises(OSError, match="gone"):
                await send({"type": f"websocket.{kind}"})

        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            await settled()
            assert (await receive())["type"] == "websocket.disconnect"
            left.set()

    messages = iter([{"type": "websocket.connect"}, LEFT])

    async def receive() -> Any:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        await left.wait()
        raise OSError("gone")

    door = Door(app)
    await door(websocket("token=a"), receive, send)
    assert door.told[0] == "admitted"
    assert not door.left_over


async def test_a_server_that_fails_to_close_after_the_app_has_ended() -> None:
    over = anyio.Event()

    async def send(message: dict[str, Any]) -> None:
        await over.wait()
        raise OSError("gone")

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async with anyio.create_task_group() as group:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def answer() -> None:
                with pytest.raises(OSError, match="gone"):
                    await send({"type": "websocket.close"})

            await receive()
            group.start_soon(answer)
            await settled()

        door = Door(app)
        with anyio.fail_after(5):
            await door(websocket("token=a"), receive, send)
        over.set()
    assert not door.left_over


# Refreshed by the app


async def test_a_refresh_with_what_is_no_text_is_malformed() -> None:
    app = Seat()
    door = Door(app)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        with pytest.raises(Denied) as caught:
            await app.session.refresh(b"a")
        assert (caught.value.reason, caught.value.detail) == (
            Reason.MALFORMED,
            "the token is a bytes",
        )
        wire.put(LEFT)


async def test_a_refresh_moves_the_end() -> None:
    app, known = Seat(), {"a": alice(), "b": alice(500, method="other", scopes=["new"])}
    door = Door(app, known=known)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(50)
        session, user = app.session, app.scope["user"]
        await session.refresh("b")
        assert session.principal is known["b"]
        assert (session.authenticated_at, session.expires_at) == (NOW + 50, NOW + 500)
        assert (session.method, session.fingerprint) == ("other", Credential("b").fingerprint)
        assert app.scope["user"] is user
        assert app.scope["auth"].scopes == ["authenticated"]
        door.pass_time(449)
        await settled()
        assert wire.kinds == ["accept"]
        door.pass_time(1)
    assert wire.close == EXPIRED
    assert door.told == ["admitted", "refreshed", "closed"]
    (event,) = [event for event in door.events if isinstance(event, Refreshed)]
    assert (event.identity, event.method, event.expires_at) == ("alice", "other", NOW + 500)
    assert event.fingerprint == Credential("b").fingerprint


@cases(("sooner", "ends"), [(50, 50), (None, None), (100, 100)])
async def test_a_refresh_may_bring_the_end_nearer_or_take_it_away(sooner: Any, ends: Any) -> None:
    app = Seat()
    door = Door(app, known={"a": alice(100), "b": alice(sooner)})
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await app.session.refresh("b")
        door.pass_time(ends or 10_000)
        await settled()
        assert (wire.close == EXPIRED) is (ends is not None)
        wire.put(LEFT)
    assert door.left_over == []


@cases("auth", [{}, {"revocations": None}], ids=["guarded", "on the server's own send"])
async def test_where_the_credential_never_expires_a_refresh_changes_nothing(auth: Any) -> None:
    """An API key is not made to expire by a token that its owner shows, too."""
    app = Seat()
    door = Door(app, auth, known={"a": alice(None), "b": alice(50)})
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await app.session.refresh("b")
        assert app.session.expires_at is None
        assert app.session.principal is door.knows.known["a"]
        door.pass_time(50)
        wire.put(LEFT)
    assert wire.kinds == ["accept"]


async def no_more(principal: Principal, conn: HTTPConnection) -> Any:
    return None if principal.method == "gone" else principal


@cases(
    ("token", "reason"),
    [
        ("bob", Reason.FORBIDDEN),
        ("?", Reason.INVALID),
        ("", Reason.MALFORMED),
        ("x" * 9000, Reason.MALFORMED),
        ("ä", Reason.MALFORMED),
        ("expired", Reason.EXPIRED),
        ("revoked", Reason.REVOKED),
        ("gone", Reason.REVOKED),
        ("weak", Reason.FORBIDDEN),
        ("broken", Reason.ERROR),
        ("down", Reason.UNAVAILABLE),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else value[:9].replace("ä", "umlaut"),
)
async def test_a_refresh_that_is_refused_changes_nothing(token: str, reason: Reason) -> None:
    app = Seat()
    known = {
        "a": alice(scopes=["chat"]),
        "bob": Principal("bob", scopes=["chat"], expires_at=NOW + 900),
        "expired": Denied(Reason.EXPIRED),
        "revoked": alice(900, scopes=["chat"], token_id="jti"),
        "gone": alice(900, scopes=["chat"], method="gone"),
        "weak": alice(900),
        "broken": ZeroDivisionError("at issuer"),
        "down": Denied(Reason.UNAVAILABLE),
    }
    door = Door(app, {"load_user": no_more}, known=known, required_scopes=["chat"])
    await door.revocations.revoke_token("jti")
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        with pytest.raises(Denied) as caught:
            await app.session.refresh(token)
        assert caught.value.reason is reason
        assert ("it is empty" in caught.value.detail) is (token == "")
        assert app.session.principal is known["a"]
        assert (app.session.expires_at, app.session.fingerprint) == (
            NOW + 100,
            Credential("a").fingerprint,
        )
        await settled()
        assert wire.kinds == ["accept"]
        door.pass_time(100)
    assert wire.close == EXPIRED
    assert door.told == ["admitted", "refused", "closed"]
    (event,) = [event for event in door.events if isinstance(event, Refused)]
    assert (event.reason, event.close_code) == (reason, None)
    assert len(token) < 3 or token not in repr(event.detail)


async def test_without_revocations_a_refresh_asks_no_store() -> None:
    app = Seat()
    door = Door(app, {"revocations": None}, known={"a": alice(100), "b": alice(200)})
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await app.session.refresh("b")
        door.pass_time(200)
    assert wire.close == EXPIRED


async def test_a_refresh_needs_the_scopes_of_every_instance() -> None:
    app = Seat()
    door = Door(app, known={"a": alice(scopes=["one", "two"]), "b": alice(scopes=["one"])})
    inner = WebSocketAuthMiddleware(app, door.auth, required_scopes=["two"])
    outer = WebSocketAuthMiddleware(inner, door.auth, required_scopes=["one"])
    async with running(outer) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        with pytest.raises(Denied, match="forbidden: requires the scopes one two"):
            await app.session.refresh("b")
        wire.put(LEFT)


async def test_a_refresh_is_verified_as_in_the_handshake() -> None:
    """Against the same path and headers, without the credential."""
    conns = []

    async def verifier(credential: Credential, conn: HTTPConnection) -> Principal | None:
        conns.append(conn)
        return alice()

    app = Seat()
    door = Door(app, {"sources": [QueryParam("token")], "allowed_origins": ["https://a.example"]})
    door.auth.verifiers = (verifier,)
    handshake = {"path": "/ws/7", "headers": [("origin", "https://a.example")]}
    async with running(door, "token=a&x=1", **handshake) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await app.session.refresh("b")
        wire.put(LEFT)
    assert [conn.url.path for conn in conns] == ["/ws/7", "/ws/7"]
    assert conns[1].scope["query_string"] == b"x=1"


async def test_a_refresh_that_waits_too_long_is_unavailable() -> None:
    async def hangs(credential: Credential, conn: HTTPConnection) -> Principal | None:
        if credential.value == "b":
            await anyio.sleep_forever()
        return alice()

    app = Seat()
    door = Door(app, {"timeout": 0.01})
    door.auth.verifiers = (hangs,)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        with pytest.raises(Denied) as caught:
            await app.session.refresh("b")
        assert caught.value.reason is Reason.UNAVAILABLE
        wire.put(LEFT)


async def test_where_nothing_can_end_the_socket_a_refresh_is_taken() -> None:
    app = Seat()
    known = {"a": alice(), "b": alice(900)}
    door = Door(app, {"revocations": None}, known=known, enforce_expiry=False)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await app.session.refresh("b")
        assert app.session.expires_at == NOW + 900
        wire.put(LEFT)
    assert door.left_over == []


async def test_a_refresh_after_the_end_is_none() -> None:
    app = Seat()
    door = Door(app, known={"a": alice(), "b": alice(900)})
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(100)
    with pytest.raises(Denied) as refused:
        await app.session.refresh("b")
    assert refused.value.reason is Reason.EXPIRED
    assert wire.close == EXPIRED
    assert door.left_over == []


# A refresh and a revocation at the same time


async def refresh_to_b(app: Seat, refused: list[Denied]) -> None:
    """Go on with "b"; why not, if it is refused, is added to `refused`."""
    try:
        await app.session.refresh("b")
    except Denied as denied:
        refused.append(denied)


class Slow(MemoryStore):
    """Answers when it is told to, with what was there when it was asked."""

    proceed: anyio.Event | None = None
    asked = 0

    async def get_revocations(self, subjects: Any, /) -> Any:
        self.asked += 1
        found = await super().get_revocations(subjects)
        if self.proceed is not None:
            await self.proceed.wait()
        return found


@cases("revoked", ["the old one", "the new one", "the user"])
@cases("moment", [1, 2, 3])
async def test_revoked_while_it_is_refreshed(revoked: str, moment: int) -> None:
    """At whichever moment: during the first look, during the second one, or afterwards."""
    app, store = Seat(), Slow()
    known = {"a": alice(token_id="old", issued_at=NOW), "b": alice(900, token_id="new")}
    door = Door(app, known=known)
    door.revocations.store = store
    refused: list[Denied] = []

    async def revoke() -> None:
        if revoked == "the user":
            await door.revocations.revoke_user("alice")
        else:
            await door.revocations.revoke_token("old" if "old" in revoked else "new")

    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await settled()  # the listener has caught up
        store.asked, store.proceed = 0, anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(refresh_to_b, app, refused)
            for look in (1, 2):
                await until(lambda: store.asked == look)  # noqa: B023 - at once
                if moment == look:
                    await revoke()
                    await settled()
                before, store.proceed = store.proceed, anyio.Event()
                before.set()
            store.proceed.set()
        store.proceed = None
        if moment == 3:
            await revoke()
        await settled()
        if "old" in revoked and moment == 3 and not refused:
            assert wire.close is None  # it is the new one's socket by now
            door.pass_time(900)
            await until(lambda: wire.close == EXPIRED)
        elif "new" in revoked and moment < 3 and refused:
            assert wire.close is None  # it goes on with the old one
            assert app.session.principal is known["a"]
            door.pass_time(100)
            await until(lambda: wire.close == EXPIRED)
        else:
            await until(lambda: wire.close == REVOKED)
    assert door.left_over == []


@cases("failure", ["the new one is revoked", "the store fails", "the app gives up"])
async def test_the_old_one_is_revoked_during_a_refresh_that_fails(failure: str) -> None:
    """As an issuer does that rotates tokens: whoever goes on with the old one is ended."""
    app = Seat()
    known = {"a": alice(token_id="old", issued_at=NOW), "b": alice(900, token_id="new")}
    door = Door(app, known=known)
    scope = anyio.CancelScope()

    class Store(MemoryStore):
        asked = -9

        async def get_revocations(self, subjects: Any, /) -> Any:
            self.asked += 1
            found = await super().get_revocations(subjects)
            if self.asked == 2:  # the second look of the refresh
                await door.revocations.revoke_token("old")
                await settled()
                if "store" in failure:
                    raise OSError("gone")
                if "app" in failure:
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
                return [None, NOW]
            return found

    store = Store()
    door.revocations.store = store
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await settled()  # the listener has caught up
        store.asked = 0
        with scope, pytest.raises(Denied):
            await app.session.refresh("b")
        await until(lambda: wire.close == REVOKED)
    assert app.disconnect == REVOKED


# Refreshed by the client


def asks(token: Any = "b", **more: Any) -> dict[str, Any]:
    return text(json.dumps({"type": TELL, "token": token, **more}))


async def test_the_client_refreshes_and_is_told_how_long_it_may_stay() -> None:
    app = Seat()
    door = Door(app, known={"a": alice(100), "b": alice(500)}, refresh_message=TELL)
    async with running(door) as wire:
        wire.put(text("before"), asks(), text("after"))
        await until(lambda: len(app.got) == 3)
        assert wire.sent[1:] == [
            {
                "type": "websocket.send",
                "text": json.dumps({"type": f"{TELL}.ok", "expires_at": NOW + 500}),
            }
        ]
        door.pass_time(500)
    assert app.got[:-1] == [CONNECT, text("before"), text("after")]
    assert wire.close == EXPIRED
    assert door.told == ["admitted", "refreshed", "closed"]


@cases(
    "message",
    [
        text("auth.refresh"),
        text('{"type": "auth.refresh"'),
        text('["auth.refresh"]'),
        text('{"type": ["auth.refresh"], "token": "b"}'),
        text('{"type": "auth.refresh.ok", "token": "b"}'),
        text('{"type":"chat","text":"auth.refresh","token":"b"}'),
        text('  {"type":"chat", "x" :1e5 }'),
        text(json.dumps({"type": "auth\u002erefresh2", "token": "b"})),
        text("[" * 100_000 + "auth.refresh"),
        text(""),
        {"type": "websocket.receive", "text": None, "bytes": b'{"type": "auth.refresh"}'},
        {"type": "websocket.receive", "bytes": b"\x00"},
        {"type": "websocket.of.a.later.specification"},
    ],
    ids=range(13),
)
async def test_any_other_message_is_the_apps_as_it_came(message: dict[str, Any]) -> None:
    app = Seat()
    door = Door(app, refresh_message=TELL)
    async with running(door) as wire:
        wire.put(message, LEFT)
    assert app.got == [CONNECT, message, LEFT]
    assert app.got[1] is message
    assert wire.kinds == ["accept"]
    assert door.told == ["admitted", "closed"]


async def test_a_token_of_the_greatest_size_fits() -> None:
    token = "b" * 8192
    app = Seat()
    door = Door(app, known={"a": alice(), token: alice(500)}, refresh_message=TELL)
    async with running(door) as wire:
        wire.put(asks(token), LEFT)
    assert app.got == [CONNECT, LEFT]
    assert json.loads(wire.sent[1]["text"])["expires_at"] == NOW + 500


@cases(
    ("message", "reason"),
    [
        (text('{"type": "auth.refresh"}'), Reason.MALFORMED),
        (asks(None), Reason.MALFORMED),
        (asks(7), Reason.MALFORMED),
        (asks("x" * 8193), Reason.MALFORMED),
        (asks("ä"), Reason.MALFORMED),
        (asks("?"), Reason.INVALID),
        (asks("bob"), Reason.FORBIDDEN),
        (asks("expired"), Reason.EXPIRED),
        (asks("down"), Reason.UNAVAILABLE),
        (asks("broken"), Reason.ERROR),
    ],
)
async def test_a_refresh_that_is_refused_closes_the_socket(message: Any, reason: Reason) -> None:
    app = Seat()
    known = {
        "a": alice(),
        "bob": Principal("bob", expires_at=NOW + 900),
        "expired": Denied(Reason.EXPIRED),
        "down": Denied(Reason.UNAVAILABLE),
        "broken": ZeroDivisionError("at issuer"),
    }
    door = Door(app, known=known, refresh_message=TELL)
    async with running(door) as wire:
        wire.put(message, text("behind it"))
    assert wire.close == app.disconnect == (reason.close_code, reason.phrase)
    assert len(app.got) == 2
    assert door.closed.reason is reason
    assert door.left_over == []


async def test_without_the_option_such_a_message_is_the_apps() -> None:
    app = Seat()
    door = Door(app)
    async with running(door) as wire:
        wire.put(asks(), LEFT)
    assert app.got == [CONNECT, asks(), LEFT]


@cases("when", ["before its accept", "after its close"])
async def test_the_app_sees_no_refresh_when_none_can_be_answered_either(when: str) -> None:
    got = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if "close" in when:
            await closes(scope, receive, send)
        else:
            await receive()
        got.append(await receive())

    door = Door(app, known={"a": alice(), "b": alice(500)}, refresh_message=TELL)
    async with running(door, "token=a", asks(), LEFT) as wire:
        pass
    assert got == [LEFT]
    assert wire.kinds == (["accept", "close"] if "close" in when else [])
    assert door.left_over == []


async def test_the_end_comes_while_a_refresh_is_verified() -> None:
    cancelled = anyio.Event()

    async def hangs(credential: Credential, conn: HTTPConnection) -> Principal | None:
        if credential.value == "b":
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()
        return alice()

    app = Seat()
    door = Door(app, refresh_message=TELL)
    door.auth.verifiers = (hangs,)
    async with running(door) as wire:
        wire.put(asks())
        await until(lambda: wire.kinds and not wire.waiting)
        await settled()
        door.pass_time(100)
    assert cancelled.is_set()
    assert wire.close == app.disconnect == EXPIRED
    assert door.left_over == []


async def test_a_refresh_that_arrives_at_the_same_moment_as_the_end_is_not_taken() -> None:
    asked = []

    async def hangs(credential: Credential, conn: HTTPConnection) -> Principal | None:
        asked.append(credential.value)
        if credential.value == "b":
            await anyio.sleep_forever()
        return alice()

    app = Seat()
    door = Door(app, refresh_message=TELL)
    door.auth.verifiers = (hangs,)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        wire.put(asks())
        door.pass_time(100)
    assert asked == ["a"]
    assert wire.close == app.disconnect == EXPIRED
    assert door.left_over == []


@cases("seconds", [100, 0])
async def test_a_refresh_that_is_verified_only_after_the_end_is_not_taken(seconds: float) -> None:
    """The app may refresh in a task that outlives it."""
    verified, proceed = anyio.Event(), anyio.Event()

    async def slow(credential: Credential, conn: HTTPConnection) -> Principal | None:
        if credential.value == "b":
            verified.set()
            await proceed.wait()
            return alice(900)
        return alice()

    app = Seat()
    door = Door(app)
    door.auth.verifiers = (slow,)
    async with anyio.create_task_group() as group:
        refused: list[Denied] = []
        async with running(door) as wire:
            await until(lambda: wire.waiting and wire.kinds)
            group.start_soon(refresh_to_b, app, refused)
            await verified.wait()
            door.pass_time(seconds)
            if not seconds:
                wire.put(LEFT)
        proceed.set()
    assert [denied.reason for denied in refused] == ([Reason.EXPIRED] if seconds else [])
    assert app.session.expires_at == NOW + 100
    assert door.left_over == []


def told_due(wire: Wire) -> list[float]:
    """The ends of which the client was told that they are due."""
    told = [json.loads(message["text"]) for message in wire.sent if "text" in message]
    return [words["expires_at"] - NOW for words in told if words["type"] == f"{TELL}.due"]


@cases(
    ("life", "notice"),
    [(3600, 60), (300, 60), (120, 60), (119, 59.5), (60, 30), (12, 6), (1, 0.5)],
)
async def test_a_client_is_told_a_minute_before_its_end_or_at_half_of_its_time(
    life: float, notice: float
) -> None:
    door = Door(Seat(), known={"a": alice(life)}, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(life - notice - 0.1)
        await settled()
        assert told_due(wire) == []
        door.pass_time(0.1)
        await until(lambda: told_due(wire) == [life])
        door.pass_time(notice)
    assert wire.close == EXPIRED
    assert told_due(wire) == [life]
    assert door.left_over == []


async def test_after_a_refresh_the_new_end_is_told_of() -> None:
    app = Seat()
    door = Door(app, known={"a": alice(200), "b": alice(500)}, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(140)
        await until(lambda: told_due(wire) == [200])
        wire.put(asks())
        await until(lambda: app.session.expires_at == NOW + 500)
        door.pass_time(299)
        await settled()
        assert told_due(wire) == [200]
        door.pass_time(1)
        await until(lambda: told_due(wire) == [200, 500])
        door.pass_time(60)
    assert wire.close == EXPIRED
    assert told_due(wire) == [200, 500]
    assert door.left_over == []


def lives_for(seconds: float, clock: Callable[[], float]) -> Any:
    """A verifier whose every credential lives for so long."""

    async def verify(credential: Credential, conn: HTTPConnection) -> Principal:
        return Principal("alice", expires_at=clock() + seconds)

    return verify


async def test_of_two_receives_the_one_that_waits_still_is_told_of_the_end() -> None:
    got: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def take() -> None:
            got.append(await receive())

        await receive()
        await send(dict(ACCEPT))
        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(take)

    door = Door(app)
    async with running(door) as wire:
        await until(lambda: wire.waiting == 2)
        wire.put(text("hello"))
        await until(lambda: got)
        await door.revocations.revoke_user("alice")
    assert [message["type"] for message in got] == ["websocket.receive", "websocket.disconnect"]
    assert wire.close == REVOKED


@cases(
    ("life", "dues"),
    # In five lives of a token, of which each begins when the one before it is due.
    [(3600, 5), (60, 10), (7, 7), (5, 1), (1, 1)],
    ids=str,
)
@pytest.mark.both_loops(False)
async def test_a_client_that_obeys_at_once_is_told_no_more_than_it_has_to_be(
    life: float, dues: int
) -> None:
    """Each time with a credential that lives as long as the first one did."""
    app = Seat()
    door = Door(app, refresh_message=TELL)
    door.auth.verifiers = (lives_for(life, door.clock),)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        answered, told_at = 0, list[float]()
        for _ in range(600):
            door.pass_time(life / 120)
            await settled()
            while len(told_due(wire)) > answered:
                answered += 1
                told_at.append(door.clock())
                wire.put(asks())
                await settled()
        if not wire.close:
            wire.put(LEFT)
    assert wire.close == (EXPIRED if life <= 5 else None)
    assert dues - 1 <= len(told_at) <= dues
    assert all(later - earlier >= 5 for earlier, later in pairwise(told_at))
    assert len(set(told_due(wire))) == len(told_due(wire))
    assert door.left_over == []


@cases("life", [3600, 60, 1])
async def test_a_client_that_brings_what_it_has_is_told_once(life: float) -> None:
    """A page's cached token, of which the end doesn't move."""
    app = Seat()
    door = Door(app, known={"a": alice(life)}, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(life - min(60, life / 2))
        for _ in range(20):
            wire.put(asks("a"))
            await settled()
        assert told_due(wire) == [life]
        assert len(wire.sent) == 22  # each was answered
        for _ in range(19):
            door.pass_time(min(60, life / 2) / 20)
            wire.put(asks("a"))
            await settled()
        assert told_due(wire) == [life]
        door.pass_time(life)
    assert wire.close == EXPIRED
    assert told_due(wire) == [life]


async def test_a_client_that_alternates_between_two_is_told_of_the_later_end_only() -> None:
    app = Seat()
    known = {"a": alice(100), "b": alice(110)}
    door = Door(app, known=known, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        for _ in range(5):
            for token in ("b", "a"):
                door.pass_time(9)
                wire.put(asks(token))
                await settled()
        door.pass_time(20)
    assert len(told_due(wire)) <= 2
    assert told_due(wire) == sorted(set(told_due(wire)))


async def test_an_end_that_goes_away_is_not_told_of() -> None:
    app = Seat()
    door = Door(app, known={"a": alice(100), "b": alice(None)}, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        wire.put(asks())
        await until(lambda: len(wire.sent) == 2)
        door.pass_time(1000)
        await settled()
        assert told_due(wire) == []
        wire.put(LEFT)


async def test_a_socket_that_may_outlive_its_credential_has_nothing_that_is_due() -> None:
    door = Door(Seat(), refresh_message=TELL, enforce_expiry=False)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(1000)
        await settled()
        assert wire.kinds == ["accept"]
        wire.put(LEFT)


async def test_a_socket_that_is_accepted_late_is_told_at_once() -> None:
    proceed = anyio.Event()
    seat = Seat()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await proceed.wait()
        await seat(scope, receive, send)

    door = Door(late, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: door.told)
        door.pass_time(80)
        proceed.set()
        await until(lambda: told_due(wire) == [100])
        wire.put(LEFT)


async def test_a_refresh_just_as_the_client_is_told_changes_nothing_in_what_it_is_told() -> None:
    app = Seat()
    door = Door(app, known={"a": alice(100), "b": alice(500)}, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(50)
        await app.session.refresh("b")
        await until(lambda: told_due(wire) == [100])
        wire.put(LEFT)
    assert told_due(wire) == [100]


# With the guard's voice


@cases("kind", ["text", "bytes"])
@cases("word", ["due", "ok"])
async def test_no_message_of_the_apps_passes_for_one_of_the_guards(kind: str, word: str) -> None:
    app = Seat()
    door = Door(app, known={"a": alice(), "b": alice(500)}, refresh_message=TELL)
    forged = json.dumps({"type": f"{TELL}.{word}", "expires_at": NOW + 500})
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        with listening() as log:
            for _ in range(3):
                content = forged if kind == "text" else forged.encode()
                await app.send({"type": "websocket.send", kind: content})
        await app.send(said(f"what is {TELL}.due?"))
        wire.put(asks())
        await until(lambda: len(wire.sent) == 3)
        wire.put(LEFT)
    assert wire.sent[1] == said(f"what is {TELL}.due?")
    assert json.loads(wire.sent[2]["text"])["type"] == f"{TELL}.ok"
    names = f"('{TELL}.due', '{TELL}.ok')"
    line = f"not sent: a message of the app's that says {names} in the guard's place"
    assert log.lines == [f"WARNING {line}", *[f"DEBUG {line}"] * 2]


async def test_without_the_option_nobody_has_that_voice() -> None:
    app = Seat()
    door = Door(app)
    forged = said(json.dumps({"type": f"{TELL}.due", "expires_at": NOW + 500}))
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        await app.send(forged)
        wire.put(LEFT)
    assert wire.sent[1] is forged


async def test_nobody_is_told_before_the_accept_or_after_the_end() -> None:
    proceed = anyio.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await proceed.wait()
        await send(ACCEPT)
        await send(CLOSE)

    door = Door(late, known={"a": alice(30)}, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: door.told)
        door.pass_time(1)
        await settled()
        assert wire.sent == []
        proceed.set()
        door.pass_time(1)
    await settled()
    assert wire.kinds == ["accept", "close"]


# One instance inside another


async def test_inside_the_same_authenticator_the_outer_one_ends_it() -> None:
    app = Seat()
    door = Door(app)
    inner = WebSocketAuthMiddleware(app, door.auth, close_codes={Reason.EXPIRED: 4999})
    outer = WebSocketAuthMiddleware(inner, door.auth)
    async with running(outer) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        assert len(sockets_of(door.revocations)) == 1
        door.pass_time(100)
    assert wire.close == app.disconnect == EXPIRED
    assert door.told == ["admitted", "closed"]


async def test_inside_the_same_authenticator_a_limit_of_its_own_counts() -> None:
    """Behind a route, for example, of which each user may have one."""
    store = MemoryStore()
    limit = ConnectionLimit(1, store, overflow="evict_oldest")
    apps = [Seat(), Seat()]
    door = Door(App())
    outer = [
        WebSocketAuthMiddleware(
            WebSocketAuthMiddleware(app, door.auth, connection_limit=limit), door.auth
        )
        for app in apps
    ]
    async with running(outer[0]) as first:
        await until(lambda: first.waiting and first.kinds)
        async with running(outer[1]) as second:
            await until(lambda: first.close == (1013, "too_many_connections"))
            await until(lambda: second.waiting and second.kinds)
            await apps[1].session.refresh("a")
            door.pass_time(100)
    assert apps[0].disconnect == (1013, "too_many_connections")
    assert second.close == apps[1].disconnect == EXPIRED
    assert slots_of(store) == {}
    assert left_over(outer[0], door.clock) == []


async def test_inside_the_same_authenticator_an_end_before_the_apps_answer_is_a_refusal() -> None:
    started = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.append(True)
        await never_answers(scope, receive, send)

    limit = ConnectionLimit(1, MemoryStore(), overflow="evict_oldest")
    door = Door(App())
    inner = WebSocketAuthMiddleware(app, door.auth, connection_limit=limit, grace=0)
    outer = WebSocketAuthMiddleware(inner, door.auth, grace=0)
    async with running(outer, subprotocols=["chat"]) as first:
        await until(lambda: started)
        async with running(outer):
            await until(lambda: first.close == (1013, "too_many_connections"))
            door.pass_time(100)
    assert first.sent[0]["subprotocol"] == "chat"  # or a browser would not let its page see why


async def test_inside_the_same_authenticator_the_outer_ones_terms_of_expiry_count() -> None:
    app = Seat()
    limit = ConnectionLimit(1, MemoryStore())
    door = Door(App(), known={"a": alice(), "b": alice(200)})
    inner = WebSocketAuthMiddleware(app, door.auth, connection_limit=limit, refresh_message=TELL)
    outer = WebSocketAuthMiddleware(inner, door.auth, enforce_expiry=False)
    async with running(outer) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(100)
        wire.put(asks(), LEFT)
    assert app.got == [CONNECT, asks(), LEFT]
    assert wire.kinds == ["accept"]


async def test_inside_the_same_authenticator_only_the_outer_one_hears_of_revocations() -> None:
    app = Seat()
    limit = ConnectionLimit(1, MemoryStore())
    door = Door(App())
    codes = {Reason.REVOKED: 4999}
    inner = WebSocketAuthMiddleware(app, door.auth, connection_limit=limit, close_codes=codes)
    outer = WebSocketAuthMiddleware(inner, door.auth)
    async with running(outer) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        assert len(sockets_of(door.revocations)) == 1
        await door.revocations.revoke_user("alice")
    assert wire.close == app.disconnect == REVOKED
    assert left_over(inner, door.clock) == []


async def test_an_inner_limit_may_be_all_that_guards_a_socket() -> None:
    app = Seat()
    limit = ConnectionLimit(1, MemoryStore())
    door = Door(App(), {"revocations": None}, known={"a": alice(None)})
    inner = WebSocketAuthMiddleware(app, door.auth, connection_limit=limit)
    outer = WebSocketAuthMiddleware(inner, door.auth)
    async with running(outer) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        assert (await drive(outer, websocket("token=a"))).close == (1013, "too_many_connections")
        await app.session.close()
        await app.session.close()
    assert wire.close == app.disconnect == REVOKED
    assert left_over(inner, door.clock) == []


@cases("whose", ["outer", "inner", "both"])
async def test_inside_another_authenticator_each_of_them_may_end_it(whose: str) -> None:
    app = Seat()
    known = {"a": alice(100), "b": alice(200)}
    door = Door(App(), known={"x": known["b" if whose == "inner" else "a"]})
    inner = known["b" if whose == "outer" else "a"]
    other = Door(app, {"clock": door.clock}, known={"x": inner}, grace=60)
    outer = WebSocketAuthMiddleware(other.middleware, door.auth)
    async with running(outer, "token=x") as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(100)
    assert wire.close == app.disconnect == EXPIRED
    assert door.told == other.told == ["admitted", "closed"]
    assert door.left_over == other.left_over == []


# The credential in the first message


async def test_a_first_message_and_then_a_guard() -> None:
    app = Seat()
    door = Door(app, {"sources": [FirstMessage(), QueryParam("token")]})
    hello = text(json.dumps({"type": "auth", "token": "a"}))
    async with running(door, "", hello, text("hi")) as wire:
        await until(lambda: len(app.got) == 2)
        door.pass_time(100)
    assert wire.kinds == ["accept", "close"]
    assert wire.close == app.disconnect == EXPIRED
    assert app.got[:2] == [CONNECT, text("hi")]
    assert door.left_over == []


async def test_a_first_message_and_an_end_before_the_app_accepts() -> None:
    """The client was accepted by then."""
    hello = text(json.dumps({"type": "auth", "token": "a"}))
    for rejection in ("accept_then_close", "http_response", "close"):
        door = Door(never_answers, {"sources": [FirstMessage()]}, grace=0, rejection=rejection)
        async with running(door, "", hello) as wire:
            await until(lambda: door.told)  # noqa: B023 - at once
            door.pass_time(100)
        assert wire.kinds == ["accept", "close"]
        assert wire.close == EXPIRED


# What can be seen of it


async def test_the_app_finds_who_it_is_and_since_when() -> None:
    app = Seat()
    async with running(Door(app), client=("192.0.2.7", 5)) as wire:
        await until(lambda: app.got)
        session = app.session
        assert (session.client, session.method) == ("192.0.2.7", "custom")
        assert (session.authenticated_at, session.expires_at) == (NOW, NOW + 100)
        assert session.fingerprint == Credential("a").fingerprint
        wire.put(LEFT)


RUNNING = asyncio.Task, CoroutineType, FrameType, GeneratorType


def reachable(start: Any) -> Iterator[Any]:
    """All that an app gets to from there: items, attributes, what functions enclose or are bound
    to, and what is referred to weakly. Not what a module or a class has, because that was not
    handed to the app; nor the frames of what is running, which every function finds around
    itself."""
    seen: dict[int, Any] = {}
    todo = [start]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, (type, ModuleType, *RUNNING)):
            continue
        seen[id(thing)] = thing
        yield thing
        if isinstance(thing, weakref.ref):
            todo.append(thing())
        todo += [
            each
            for each in gc.get_referents(thing)
            if not (isinstance(thing, FunctionType) and each is thing.__globals__)
        ]


@pytest.mark.parametrize("inside", ["nothing", "the same authenticator", "another authenticator"])
@pytest.mark.parametrize("protocol", ["websocket", "http"])
@pytest.mark.parametrize("options", ["few", "all"])
async def test_a_walk_through_what_an_app_is_given_finds_no_credential(
    options: str, protocol: str, inside: str
) -> None:
    """However deep the app looks into what it is given: neither its client's nor another's."""
    mine, newer, others = mint(), mint(iat=NOW - 1), mint(sub="bob")
    checked = []

    def found(given: Any) -> list[Any]:
        return [
            thing
            for thing in reachable(given)
            if isinstance(thing, (Credential, Authenticator))
            or (
                isinstance(thing, (str, bytes))
                and any(t in str(thing) for t in (mine, newer, others))
            )
        ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        given = [scope, receive, send]
        assert not found(given)
        if protocol == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
        if scope["user"].identity == "bob":
            await drive(door, handshake(mine))
        elif protocol == "websocket":
            await scope["wsauth"].refresh(newer)
        assert not found(given)
        checked.append(repr(scope["wsauth"]))

    def handshake(token: str) -> dict[str, Any]:
        scope = websocket(f"token={token}")
        return scope if protocol == "websocket" else {**scope, "type": "http", "method": "GET"}

    store = MemoryStore()
    own: dict[str, Any] = {}
    told: dict[str, Any] = {}
    if options == "all":
        own = {"revocations": Revocations(store), "throttle": FailureThrottle("9/minute")}
        told = {"max_age": 60}
    if protocol == "websocket":
        told |= {"refresh_message": TELL}
        if options == "all":
            limits = {"connection_limit": ConnectionLimit(3, store), "recheck": 60}
            told |= {**limits, "sessions": Sessions(store), "handshake_limit": HandshakeLimit()}
    guard = {"websocket": WebSocketAuthMiddleware, "http": HTTPAuthMiddleware}[protocol]
    auth, other = authenticator(jwt_verifier(), **own), authenticator(jwt_verifier())
    inner = {"the same authenticator": auth, "another authenticator": other}.get(inside)
    door = guard(app if inner is None else guard(app, inner), auth, **told)
    await drive(door, handshake(others))
    assert checked == [f"<Session of <Principal '{who}' by jwt>>" for who in ("alice", "bob")]


async def test_what_still_receives_after_the_app_refreshes_nothing() -> None:
    app = Seat()
    door = Door(app, refresh_message=TELL)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        wire.put(LEFT)
    wire.put(asks("a"), LEFT)
    assert await app.receive() == LEFT
    assert wire.kinds == ["accept"]
    assert door.told == ["admitted", "closed"]


async def test_an_app_that_ends_by_itself_leaves_nothing() -> None:
    limit = ConnectionLimit(1, MemoryStore())
    door = Door(App(), connection_limit=limit, refresh_message=TELL)
    for _ in range(3):
        await drive(door, websocket("token=a"))
    assert [type(event) for event in door.events] == [Admitted, Closed] * 3
    assert door.left_over == []


async def test_an_app_that_raises_leaves_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("bug")

    door = Door(app, connection_limit=ConnectionLimit(1, MemoryStore()))
    with pytest.raises(LookupError, match="bug"):
        await drive(door, websocket("token=a"))
    assert (door.closed.reason, door.closed.close_code) == (None, None)
    assert door.left_over == []


# After the end.


@pytest.mark.usefixtures("little_to_collect")
@cases("guarded", [True, False])
async def test_a_socket_that_is_over_leaves_nothing_for_the_garbage_collector(
    guarded: bool,
) -> None:
    """Else its turns would cost a busy server as much as the handshakes."""
    seen: list[weakref.ref[Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(weakref.ref(scope[key]) for key in ("user", "wsauth"))
        await receive()
        await send({"type": "websocket.accept"})

    door = WebSocketAuthMiddleware(app, authenticator(), enforce_expiry=guarded)
    gc.collect()
    gc.disable()
    try:
        await drive(door, websocket(f"token={mint()}"))
        assert [ref() for ref in seen] == [None, None]
    finally:
        gc.enable()


async def test_closing_a_session_whose_socket_is_over_sends_nothing() -> None:
    app = App()
    outcome = await drive(
        WebSocketAuthMiddleware(app, authenticator(), enforce_expiry=False),
        websocket(f"token={mint()}"),
    )
    await app.scope["wsauth"].close()
    assert [message["type"] for message in outcome.sent] == ["websocket.accept"]


async def test_refreshing_a_session_whose_socket_is_over_sends_nothing() -> None:
    app = App()
    door = Door(app, known={"a": alice(100), "b": alice(200)}, refresh_message=TELL)
    outcome = await drive(door, websocket("token=a"))
    await app.scope["wsauth"].refresh("b")
    door.pass_time(200)
    await settled()
    assert outcome.sent == [ACCEPT]
    assert door.left_over == []


async def test_closing_a_session_whose_guarded_app_is_done_sends_nothing() -> None:
    """The server closes that one by itself."""
    door = Door(App(), {"revocations": None}, known={"a": alice(None)})
    limit = ConnectionLimit(1, MemoryStore())
    inner = WebSocketAuthMiddleware(App(), door.auth, connection_limit=limit)

    async def between(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)
        await scope["wsauth"].close()

    outcome = await drive(WebSocketAuthMiddleware(between, door.auth), websocket("token=a"))
    assert outcome.sent == [ACCEPT]
    assert left_over(inner, door.clock) == []
