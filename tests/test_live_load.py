"""Ten thousand sockets at once: what a guard costs each of them, and how they end together."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from handshakes import CONNECT, NOW, Clock, websocket

from asgi_wsauth import (
    Authenticator,
    ConnectionLimit,
    MemoryStore,
    Principal,
    Revocations,
    WebSocketAuthMiddleware,
)

pytestmark = pytest.mark.anyio

MANY = 10_000
SOME = 1_000  # where each is measured, or takes longer


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """No log: it would be kept, and outweigh what is measured."""
    caplog.set_level(logging.CRITICAL, "asgi_wsauth")


async def lasting(credential: Any, conn: Any) -> Principal:
    """A login that nothing ends."""
    return Principal(credential.value)


async def expiring(credential: Any, conn: Any) -> Principal:
    """A login that anything may end."""
    name = credential.value
    return Principal(
        name, issued_at=NOW, expires_at=NOW + 3600, token_id=f"token {name}", session_id="all"
    )


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

        await self._app(websocket(f"token=user{number}"), receive, send)
        self.gone += 1

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
            while self.gone < self.size:
                await anyio.lowlevel.checkpoint()
                most, closed = max(most, self.closed - closed), self.closed
        assert self.closed == self.size
        return most


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def _cost(app: Any) -> tuple[float, int]:
    """What each of many sockets costs: bytes; and how many tasks there are with all of them."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    async with Crowd(app, SOME).here():
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / SOME, len(anyio.get_running_tasks())


def guarded(clock: Any = lambda: NOW) -> tuple[Any, Revocations]:
    """A middleware with everything that may end a socket."""
    store = MemoryStore()
    revocations = Revocations(store, clock=clock)
    auth = Authenticator([expiring], revocations=revocations, clock=clock)
    limit = ConnectionLimit(3, MemoryStore(), overflow="evict_oldest")
    return WebSocketAuthMiddleware(listens, auth, connection_limit=limit), revocations


async def test_a_guarded_socket_takes_1500_bytes_more_at_most_and_no_task(
    traced: None, anyio_backend: str
) -> None:
    unguarded, tasks_without = await _cost(
        WebSocketAuthMiddleware(listens, Authenticator([lasting], clock=lambda: NOW))
    )
    cost, tasks_with = await _cost(guarded()[0])
    # On trio, two of its cancel scopes are half of it.
    assert cost - unguarded < (1500 if anyio_backend == "asyncio" else 3000)
    # One for all timers, one for each store that is listened to.
    assert tasks_with - tasks_without <= 5


@pytest.mark.parametrize("why", ["revoked", "expired"])
async def test_when_all_end_at_once_the_loop_turns_again_after_a_few(
    why: str, anyio_backend: str
) -> None:
    clock = Clock()
    app, revocations = guarded(clock)
    crowd = Crowd(app, MANY if anyio_backend == "asyncio" else SOME)
    async with crowd.here():
        if why == "revoked":
            await revocations.revoke_session("all")
        else:
            clock.now += 3600
        assert await crowd.all_end() < 100
    assert crowd.codes == {4004 if why == "revoked" else 4001}
