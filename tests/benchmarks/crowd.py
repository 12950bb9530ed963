"""Sockets without a network, which stay until the app closes them, and what people write to find
them by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from math import inf
from secrets import token_hex
from typing import Any

from handshakes import CONNECT, websocket
from starlette.websockets import WebSocket

__all__ = ["ByHand", "Count", "Crowd"]

_AT_ONCE = 50  # handshakes that are on their way


class Count:
    """A number, and whoever waits until it is high enough: without a look at each turn, which would
    count as time that is used."""

    def __init__(self) -> None:
        self.value = 0
        self._goal = inf
        self._reached = asyncio.Event()

    def add(self) -> None:
        """One more."""
        self.value += 1
        if self.value >= self._goal:
            self._reached.set()

    async def reaches(self, goal: int) -> None:
        """Wait until it is that high."""
        if self.value < goal:
            self._goal = goal
            await self._reached.wait()
            self._goal, self._reached = inf, asyncio.Event()


class Crowd:
    """The sockets of an app. Each is told that it is closed, as by a server, and so its app ends.

    Attributes:
        opened: how many were accepted.
        gone: how many of their apps have ended.
    """

    def __init__(self, app: Any) -> None:
        self.opened = Count()
        self.gone = Count()
        self._codes: set[int] = set()
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()  # the loop has only weak references

    async def enter(self, users: Sequence[str]) -> None:
        """Open a socket for each of these, and wait until all are open."""
        opened, gone = self.opened.value, self.gone.value
        for begin in range(0, len(users), _AT_ONCE):
            part = users[begin : begin + _AT_ONCE]
            for user in part:
                task = asyncio.create_task(self._socket(user))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            opened += len(part)
            await self.opened.reaches(opened)
        assert self.gone.value == gone, f"some were refused, with {self._codes}"

    async def _socket(self, user: str) -> None:
        connects: Iterator[Any] = iter([CONNECT])
        closed = asyncio.Event()
        was_opened = False

        async def receive() -> Any:
            for connect in connects:
                return connect
            await closed.wait()
            return {"type": "websocket.disconnect", "code": 4004}

        async def send(message: Any) -> None:
            nonlocal was_opened
            if message["type"] == "websocket.accept":
                was_opened = True
                self.opened.add()
            else:
                self._codes.add(message["code"])
                closed.set()

        try:
            await self._app(websocket(f"token={user}", path="/ws/chat/rooms/1000"), receive, send)
        finally:
            self.gone.add()
            if not was_opened:
                self.opened.add()  # or `enter` would wait for ever


class ByHand:
    """The sockets of each user in a dict.

    Attributes:
        sockets: user -> id -> socket.
    """

    def __init__(self) -> None:
        self.sockets: dict[str, dict[str, WebSocket]] = {}
        self._users: dict[str, str] = {}  # id -> user
        self._since: dict[str, float] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        socket = WebSocket(scope, receive, send)
        user, id = socket.query_params["token"], token_hex(8)
        self.sockets.setdefault(user, {})[id] = socket
        self._users[id], self._since[id] = user, time.time()
        await socket.accept()
        try:
            async for _ in socket.iter_text():
                pass
        finally:
            del self.sockets[user][id], self._users[id], self._since[id]
            if not self.sockets[user]:
                del self.sockets[user]

    async def list(self, user: str) -> list[dict[str, Any]]:
        """As much as a page shows of each."""
        return [
            {"id": id, "since": self._since[id], "client": socket.client, "path": socket.url.path}
            for id, socket in self.sockets.get(user, {}).items()
        ]

    async def end(self, id: str) -> None:
        """Close one."""
        await self.sockets[self._users[id]][id].close(4004)

    async def end_others(self, user: str, keep: str) -> None:
        """Close all that a user has but one."""
        for id, socket in [*self.sockets.get(user, {}).items()]:
            if id != keep:
                await socket.close(4004)

    async def end_all(self, code: int) -> None:
        """Close everybody's."""
        for mine in [*self.sockets.values()]:
            for socket in [*mine.values()]:
                await socket.close(code)
