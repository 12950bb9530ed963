"""Revoking one user, and all users, of many live sockets: how soon each is closed, and for how long
nobody else has his turn meanwhile."""

from __future__ import annotations

import gc
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
from handshakes import CONNECT, NOW
from live_crowd import Crowd, expiring, listens
from redis_servers import BINARIES, redis_server
from starlette.websockets import WebSocket

from asgi_wsauth import Authenticator, MemoryStore, Revocations, WebSocketAuthMiddleware
from asgi_wsauth.redis import RedisStore

from .measure import Row, row

GROUP = "revoking"

_USERS = 20  # who are revoked one at a time


class ByHand:
    """What people write: the sockets of each user, and a loop that closes them."""

    def __init__(self) -> None:
        self._sockets: dict[str, set[WebSocket]] = defaultdict(set)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        socket = WebSocket(scope, receive, send)
        mine = self._sockets[socket.query_params["token"]]
        mine.add(socket)
        await socket.accept()
        try:
            async for _ in socket.iter_text():
                pass
        finally:
            mine.discard(socket)

    async def revoke_user(self, identity: str) -> None:
        for socket in self._sockets.pop(identity, ()):
            await socket.close(4004)

    async def revoke_session(self, session_id: str) -> None:
        for identity in list(self._sockets):
            await self.revoke_user(identity)


def _ours(store: Any) -> tuple[Any, Any]:
    revocations = Revocations(store, clock=lambda: NOW)
    auth = Authenticator([expiring], revocations=revocations, clock=lambda: NOW)
    return WebSocketAuthMiddleware(listens, auth), revocations


def _by_hand() -> tuple[Any, Any]:
    app = ByHand()
    return app, app


class _Timed(Crowd):
    """Knows when each was closed."""

    @property
    def closed(self) -> int:
        return len(self.times)

    @closed.setter
    def closed(self, number: int) -> None:
        if number:
            self.times.append(time.perf_counter())
        else:
            self.times: list[float] = []


def _served(app: Any) -> Any:
    """`app` behind what a server does: it takes a few handshakes at a time, and tells the app that
    its socket is closed."""
    entrance = anyio.Semaphore(50)

    async def socket(scope: Any, receive: Any, send: Any) -> None:
        connects = iter([CONNECT])
        closed = anyio.Event()

        async def receive_next() -> Any:
            for connect in connects:
                return connect
            await closed.wait()
            return {"type": "websocket.disconnect", "code": 4004}

        async def send_on(message: Any) -> None:
            await send(message)
            if message["type"] == "websocket.accept":
                entrance.release()
            else:
                closed.set()

        await entrance.acquire()
        await app(scope, receive_next, send_on)

    return socket


async def _closing(
    crowd: _Timed, revoke: Callable[[str], Awaitable[None]], whom: str, until: int
) -> tuple[float, float, float, float]:
    """Milliseconds to the first close, to the last, and until their apps have ended; and the
    longest turn of the loop meanwhile."""
    before, longest = crowd.closed, 0.0
    async with anyio.create_task_group() as tasks:
        begin = turn = time.perf_counter()
        tasks.start_soon(revoke, whom)
        while crowd.gone < until:
            await anyio.lowlevel.checkpoint()
            now = time.perf_counter()
            longest, turn = max(longest, now - turn), now
    first, last = crowd.times[before], crowd.times[-1]
    return (first - begin) * 1e3, (last - begin) * 1e3, (turn - begin) * 1e3, longest * 1e3


_ONE = "one user of {}: to the close"
_ONE_TURN = "one user of {}: longest turn of the loop"
_ALL = (
    "all of {}: to the first close",
    "all of {}: to the last close",
    "all of {}: until their apps have ended",
    "all of {}: longest turn of the loop",
)


async def _round(make: Callable[[], tuple[Any, Any]], size: int) -> dict[str, list[float]]:
    app, revocations = make()
    crowd = _Timed(_served(app), size)
    found: dict[str, list[float]] = defaultdict(list)
    gc.collect()
    gc.disable()  # a collection is nobody's but Python's
    try:
        async with crowd.here():
            assert not crowd.closed, f"some were refused, with {crowd.codes}"
            for number in range(_USERS):
                revoke = revocations.revoke_user
                _, last, _, turn = await _closing(crowd, revoke, f"user{number}", number + 1)
                found[_ONE].append(last)
                found[_ONE_TURN].append(turn)
            times = await _closing(crowd, revocations.revoke_session, "all", size)
            for title, value in zip(_ALL, times, strict=True):
                found[title].append(value)
    finally:
        gc.enable()
    return found


def rows(short: bool) -> Iterator[Row]:
    """By hand, ours in memory, ours through Redis; all in memory, without a network to clients."""
    size, rounds = (500, 1) if short else (10_000, 2)
    logging.getLogger("asgi_wsauth").setLevel(logging.CRITICAL)
    with redis_server() if BINARIES else nullcontext() as redis:
        makers: dict[str, Callable[[], tuple[Any, Any]]] = {
            "by hand": _by_hand,
            "ours": lambda: _ours(MemoryStore()),
        }
        if redis is not None:
            prefixes = map("round{}".format, count())  # or who was revoked before would stay so
            makers["ours, through Redis"] = lambda: _ours(
                RedisStore.from_url(redis.url, prefix=next(prefixes))
            )
        found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in makers}
        for _ in range(rounds):
            for name, make in makers.items():
                for title, values in anyio.run(_round, make, size).items():
                    found[name][title] += values
    for title in (_ONE, _ONE_TURN, *_ALL):
        for name, measured in found.items():
            yield _row(title.format(f"{size:,}"), name, measured[title], found["by hand"][title])


def _row(title: str, name: str, measured: list[float], by_hand: list[float]) -> Row:
    if name == "by hand":
        return row(GROUP, f"{title}, {name}", "ms", measured)
    baseline = f"{title}, by hand"
    return row(GROUP, f"{title}, {name}", "ms", measured, against=by_hand, baseline=baseline)
