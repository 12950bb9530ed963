"""What a handshake costs beside many live sockets, and with many revocations in the store."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
from handshakes import CONNECT, NOW, websocket
from live_crowd import Crowd, expiring, guarded, listens
from redis_servers import BINARIES, redis_server

from asgi_wsauth import Authenticator, MemoryStore, Notice, Revocations, WebSocketAuthMiddleware
from asgi_wsauth.redis import RedisStore

from .measure import Loop, Row, interleaved, row

GROUP = "growth_live"

_LIMIT = "≤ 1.15"  # what is left is noise
_LEFT = {"type": "websocket.disconnect", "code": 1000}

_AT_ONCE = 20_000  # revocations that are put into Redis, which answers nobody else meanwhile

# Fills a Redis faster than by a round trip for each.
_FILL = """
for number = ARGV[1], ARGV[2] do
    redis.call('SET', KEYS[1] .. redis.sha1hex(number), '0', 'PX', 3600000)
end
"""


async def _discard(message: Any) -> None:
    pass


def _visits(app: Any) -> Callable[[], Awaitable[None]]:
    """A client that comes and goes."""

    async def visit() -> None:
        messages = iter([CONNECT, _LEFT])

        async def receive() -> Any:
            return next(messages)

        await app(websocket("token=visitor"), receive, _discard)

    return visit


def rows(short: bool) -> Iterator[Row]:
    """Python's collector is off, and all that stays is out of its sight, except in the first rows.

    They say what it takes by itself, from any app that has many objects.
    """
    logging.getLogger("asgi_wsauth").setLevel(logging.CRITICAL)
    rounds = 3 if short else 15
    steps = [100, 1_000] if short else [10**n for n in (2, 3, 4, 5, 6)]
    try:
        with _loop(short) as loop:
            yield from _opening(loop, steps[1] if short else steps[2])
        with _loop(short) as loop:
            yield from _sockets(loop, steps[:4], rounds)
        with _loop(short) as loop:
            yield from _revocations(loop, steps, rounds)
        if BINARIES:
            with redis_server() as server, _loop(short) as loop:
                yield from _in_redis(loop, server.url, steps[::2] if rounds > 3 else steps, rounds)
    finally:
        gc.unfreeze()
        gc.enable()


@contextmanager
def _loop(short: bool) -> Iterator[Loop]:
    with Loop(short) as loop:
        try:
            yield loop
        finally:
            loop.run(_all_ended())


async def _all_ended() -> None:
    """What lasts as long as an event loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _set_aside() -> None:
    """Let the collector look at nothing that there is."""
    gc.collect()
    gc.freeze()


# Live sockets


def _opening(loop: Loop, size: int) -> Iterator[Row]:
    taken: list[float] = []
    for collects in (False, True):
        _set_aside()
        (gc.enable if collects else gc.disable)()
        begin = time.process_time()
        loop.run(_opened(guarded()[0], size))
        taken.append((time.process_time() - begin) / size * 1e6)
    off, on = taken
    name = f"opening each of {size:,} sockets that stay"
    yield row(GROUP, name, "µs", [off])
    title = f"{name}, Python's garbage collector on"
    yield row(GROUP, title, "µs", [on], against=[off], baseline=name)


def _sockets(loop: Loop, sizes: list[int], rounds: int) -> Iterator[Row]:
    candidates: dict[str, Callable[[], float]] = {}
    for size in sizes:
        gc.disable()
        app, _ = guarded(lambda: NOW)
        loop.run(_opened(app, size))
        candidates[f"handshake beside {size:,} live sockets"] = loop.per_call(_visits(app))
        _set_aside()
    yield from _compared(candidates, rounds)


_keepers: set[asyncio.Task[None]] = set()


async def _opened(app: Any, size: int) -> None:
    opened = asyncio.Event()
    keeper = asyncio.create_task(_kept(app, size, opened))
    _keepers.add(keeper)  # the loop itself keeps only a weak reference
    keeper.add_done_callback(_keepers.discard)
    await opened.wait()


async def _kept(app: Any, size: int, opened: asyncio.Event) -> None:
    async with Crowd(app, size).here():
        opened.set()
        await asyncio.Event().wait()


# Revocations


def _revocable(store: Any) -> Any:
    revocations = Revocations(store, clock=lambda: NOW)
    auth = Authenticator([expiring], revocations=revocations, clock=lambda: NOW)
    return WebSocketAuthMiddleware(listens, auth)


def _revocations(loop: Loop, sizes: list[int], rounds: int) -> Iterator[Row]:
    candidates: dict[str, Callable[[], float]] = {}
    for size in sizes:
        store = MemoryStore()
        loop.run(_filled(store, size))
        visit = _visits(_revocable(store))
        candidates[f"handshake with {size:,} revocations in memory"] = loop.per_call(visit)
        _set_aside()
    yield from _compared(candidates, rounds)


async def _filled(store: MemoryStore, size: int) -> None:
    for number in range(size):
        await store.put_revocation(Notice(("user", f"somebody {number}"), NOW), ttl=3600)


def _in_redis(loop: Loop, url: str, sizes: list[int], rounds: int) -> Iterator[Row]:
    candidates: dict[str, Callable[[], float]] = {}
    for number, size in enumerate(sizes):
        own = f"{url.removesuffix('/0')}/{number}"
        with redis.Redis.from_url(own) as client:
            for begin in range(1, size + 1, _AT_ONCE):
                end = min(begin + _AT_ONCE - 1, size)
                client.eval(_FILL, 1, "wsauth:revoked:", begin, end)
        visit = _visits(_revocable(RedisStore.from_url(own)))
        title = f"handshake with {size:,} revocations in Redis"
        candidates[title] = partial(_waited, loop, visit, 5 if rounds < 5 else 200)
    yield from _compared(candidates, rounds)


def _waited(loop: Loop, visit: Callable[[], Awaitable[None]], times: int) -> float:
    """µs that each takes, the wait for Redis included."""

    async def all_of_them() -> None:
        for _ in range(times):
            await visit()

    begin = time.perf_counter()
    loop.run(all_of_them())
    return (time.perf_counter() - begin) / times * 1e6


def _compared(candidates: dict[str, Callable[[], float]], rounds: int) -> Iterator[Row]:
    first, *others = candidates
    targets = dict.fromkeys(others, _LIMIT)
    yield from interleaved(GROUP, "µs", candidates, first, rounds, targets=targets)
