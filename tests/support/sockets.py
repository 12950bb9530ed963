"""A live socket by hand: a server and its client without a network, and a clock that is moved."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import trio.testing
from handshakes import ANSWER, CONNECT, Clock, websocket
from insides import (
    has_slots_here,
    listed_here,
    places_of,
    sessions_of,
    slots_of,
    sockets_of,
)

from asgi_wsauth import Session, WebSocketAuthMiddleware
from asgi_wsauth.loops.timers import timers

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 1000}
LEFT = {"type": "websocket.disconnect", "code": 1006}


def text(words: str) -> dict[str, Any]:
    """What a client sends."""
    return {"type": "websocket.receive", "text": words}


def said(words: str) -> dict[str, Any]:
    """What an app sends."""
    return {"type": "websocket.send", "text": words}


class Wire:
    """The server's `receive` and `send`, and the client behind them, which answers a close.

    Attributes:
        sent: all messages that were sent to the client.
        waiting: how many receives are pending.
        journal: receives that ended without a message, and closes, in their order; tests add to it.
    """

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.sent: list[dict[str, Any]] = []
        self.waiting = 0
        self.journal: list[str] = []
        self._messages = deque([CONNECT, *messages])
        self._some = anyio.Event()

    def put(self, *messages: dict[str, Any]) -> None:
        """The client sends these."""
        self._messages.extend(messages)
        self._some.set()

    async def receive(self) -> dict[str, Any]:
        try:
            return await self._message()
        except BaseException:
            self.journal.append("receive ended")
            raise

    async def _message(self) -> dict[str, Any]:
        self.waiting += 1
        try:
            while not self._messages:
                self._some = anyio.Event()
                await self._some.wait()
        finally:
            self.waiting -= 1
        return self._messages.popleft()

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close":
            self.journal.append("close")
            if "accept" in self.kinds:
                self.put(ANSWER)
        self.sent.append(message)

    @property
    def kinds(self) -> list[str]:
        """The types of what was sent, without their prefix."""
        return [message["type"].removeprefix("websocket.") for message in self.sent]

    @property
    def close(self) -> tuple[int, str] | None:
        """Code and reason of the one close, which is the last message; None where there was none.

        Two closes, or anything behind one, are an error.
        """
        closes = [n for n, message in enumerate(self.sent) if message["type"] == "websocket.close"]
        if not closes:
            return None
        assert closes == [len(self.sent) - 1], self.sent
        return (self.sent[-1].get("code", 1000), self.sent[-1].get("reason", ""))


class Seat:
    """An app that accepts, and reads until it is told of the end.

    Attributes:
        session: what it found in its scope.
        got: all that it received.
    """

    session: Session

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.scope: dict[str, Any] = {}
        self.receive: Any = None
        self.send: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.session = scope["wsauth"]
        self.got.append(await receive())
        await send(dict(ACCEPT))
        while self.got[-1]["type"] != "websocket.disconnect":
            self.got.append(await receive())

    @property
    def disconnect(self) -> tuple[int, str]:
        """What it was told of the end."""
        last = self.got[-1]
        assert last["type"] == "websocket.disconnect"
        return last["code"], last.get("reason", "")


async def until(condition: Callable[[], Any]) -> None:
    """Let others run until it holds: at once if it can, in five seconds at most."""
    for _ in range(100):
        if condition():
            return
        await anyio.lowlevel.checkpoint()
    pause = 0.001
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(pause)
            pause = min(1.2 * pause, 0.02)


async def settled() -> None:
    """Let all that can go on do so, until it waits for what only the test or the time can bring."""
    try:
        ready: Any = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    except RuntimeError:
        await trio.testing.wait_all_tasks_blocked()
        return
    for _ in range(30):  # something may go on for ever
        await anyio.lowlevel.checkpoint()
        if not ready:
            return


def pass_time(clock: Clock, seconds: float) -> None:
    """Time passes, and what is due happens."""
    clock.now += seconds
    while timers(clock).run_due():
        pass


@asynccontextmanager
async def running(
    app: Any, query: str = "token=a", *messages: dict[str, Any], **handshake: Any
) -> AsyncIterator[Wire]:
    """A socket with this handshake. It has five seconds to end after the test is done with it."""
    wire = Wire(*messages)
    async with anyio.create_task_group() as group:
        group.start_soon(app, websocket(query, **handshake), wire.receive, wire.send)
        yield wire
        group.cancel_scope.deadline = anyio.current_time() + 5
    assert not group.cancel_scope.cancelled_caught, "the socket did not end"
    assert wire.waiting == 0


@asynccontextmanager
async def open_socket(app: Any, query: str = "token=a") -> AsyncIterator[Wire]:
    """A client that leaves at the end of the block, not before it was answered."""
    async with running(app, query) as wire:
        await until(lambda: wire.sent)
        yield wire
        wire.put(LEFT)


def left_over(middleware: WebSocketAuthMiddleware, clock: Clock) -> list[str]:
    """What still waits for the end of a socket, on this event loop."""
    found = []
    if len(timers(clock)) or len(timers(anyio.current_time)):
        found.append("timer")
    revocations = middleware.authenticator.revocations
    if revocations is not None and sockets_of(revocations):
        found.append("registered socket")
    limit = middleware.connection_limit
    if limit is not None and places_of(limit):
        found.append("place in the process")
    if limit is not None and limit.store is not None:
        if has_slots_here(limit):
            found.append("slot here")
        if slots_of(limit.store):
            found.append("slot in the store")
    sessions = middleware.sessions
    if sessions is not None:
        if listed_here(sessions):
            found.append("session here")
        if sessions_of(sessions.store):
            found.append("session in the store")
    return found
