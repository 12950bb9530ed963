"""Run as a program: `python live_crowd.py asyncio 10000` tells as JSON what many guarded sockets
cost, and how they end together. A process of its own: measuring coverage takes memory, too."""

from __future__ import annotations

import gc
import json
import logging
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
from handshakes import CONNECT, NOW, Clock, websocket

from asgi_wsauth import (
    Authenticator,
    ConnectionLimit,
    MemoryStore,
    Principal,
    Revocations,
    Sessions,
    WebSocketAuthMiddleware,
)


async def lasting(credential: Any, conn: Any) -> Principal:
    """A login that nothing ends."""
    return Principal(credential.value)


async def expiring(credential: Any, conn: Any) -> Principal:
    """A login that anything may end."""
    name = credential.value
    return Principal(
        name, issued_at=NOW, expires_at=NOW + 3600, token_id=f"token {name}", session_id="all"
    )


async def issued(credential: Any, conn: Any) -> Principal:
    """A login by a provider."""
    issuer = "https://login.example.com/realms/main"
    return Principal(credential.value, issuer=issuer, expires_at=NOW + 3600)


async def listens(scope: Any, receive: Any, send: Any) -> None:
    """The app of them all."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        pass


class Crowd:
    """Idle sockets, and how many of them were closed."""

    def __init__(self, app: Any, size: int) -> None:
        self.size = size
        self.open = self.closed = self.gone = 0
        self.codes: set[int] = set()
        self._ending, self._ended = anyio.Event(), anyio.Event()
        self._app = app

    async def _socket(self, number: int) -> None:
        connects = iter([CONNECT])

        async def receive() -> Any:
            for connect in connects:
                return connect
            return await anyio.sleep_forever()

        async def send(message: Any) -> None:
            if message["type"] == "websocket.accept":
                self.open += 1
            else:
                self.closed += 1
                self.codes.add(message["code"])
                self._ending.set()

        scope = websocket(f"token=user{number}", path="/ws/chat/rooms/1000")
        await self._app(scope, receive, send)
        self.gone += 1
        if self.gone == self.size:
            self._ended.set()

    @asynccontextmanager
    async def here(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            for number in range(self.size):
                tasks.start_soon(self._socket, number)
                if number % 100 == 0:
                    await anyio.lowlevel.checkpoint()
            while self.open < self.size:
                await anyio.lowlevel.checkpoint()
            yield
            tasks.cancel_scope.cancel()

    async def all_end(self) -> int:
        """Wait until all have ended; the most that were closed between two turns of the loop."""
        most = closed = 0
        with anyio.fail_after(60):
            await self._ending.wait()
            while self.closed < self.size:
                await anyio.lowlevel.checkpoint()
                most, closed = max(most, self.closed - closed), self.closed
            await self._ended.wait()
        assert self.closed == self.size
        return most


async def _cost(app: Any) -> tuple[float, int]:
    """What each of many sockets costs: bytes; and how many tasks there are with all of them."""
    for _ in range(10):  # what is left of another crowd
        await anyio.lowlevel.checkpoint()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    async with Crowd(app, SIZE).here():
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / SIZE, len(anyio.get_running_tasks())


def guarded(clock: Any = lambda: NOW) -> tuple[Any, Revocations]:
    """A middleware with everything that may end a socket."""
    store = MemoryStore()
    revocations = Revocations(store, clock=clock)
    auth = Authenticator([expiring], revocations=revocations, clock=clock)
    limit = ConnectionLimit(3, MemoryStore(), overflow="evict_oldest")
    return WebSocketAuthMiddleware(listens, auth, connection_limit=limit), revocations


async def cost() -> dict[str, float]:
    """Bytes for each socket, and tasks for all of them, over what unguarded ones take."""
    tracemalloc.start()
    unguarded, tasks_without = await _cost(
        WebSocketAuthMiddleware(listens, Authenticator([lasting], clock=lambda: NOW))
    )
    bytes_with, tasks_with = await _cost(guarded()[0])
    tracemalloc.stop()
    return {"bytes": bytes_with - unguarded, "tasks": tasks_with - tasks_without}


async def cost_of_an_entry() -> float:
    """Bytes for each socket that is listed, in a store in memory."""
    auth = Authenticator([issued], clock=lambda: NOW)
    tracemalloc.start()
    without, _ = await _cost(WebSocketAuthMiddleware(listens, auth))
    listed = WebSocketAuthMiddleware(listens, auth, sessions=Sessions(MemoryStore()))
    bytes_with, _ = await _cost(listed)
    tracemalloc.stop()
    return bytes_with - without


async def ends(why: str) -> dict[str, Any]:
    """What becomes of them when all end at once."""
    clock = Clock()
    app, revocations = guarded(clock)
    crowd = Crowd(app, SIZE)
    async with crowd.here():
        if why == "revoked":
            await revocations.revoke_session("all")
        else:
            clock.now += 3600
        return {"most": await crowd.all_end(), "codes": sorted(crowd.codes)}


async def main() -> dict[str, Any]:
    return {
        "cost": await cost(),
        "entry": await cost_of_an_entry(),
        "revoked": await ends("revoked"),
        "expired": await ends("expired"),
    }


if __name__ == "__main__":
    SIZE = int(sys.argv[2])
    # No log: it would be kept, and outweigh what is measured.
    logging.getLogger("asgi_wsauth").setLevel(logging.CRITICAL)
    print(json.dumps(anyio.run(main, backend=sys.argv[1])))
