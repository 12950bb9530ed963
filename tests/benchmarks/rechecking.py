"""Rechecks of many live sockets: the longest turn of the event loop, in the steady state and where
all are due at once."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
from handshakes import Clock
from live_crowd import Crowd, expiring, listens

from asgi_wsauth import Authenticator, MemoryStore, Revocations, WebSocketAuthMiddleware
from asgi_wsauth.loops.timers import timers

from .measure import Row, row

GROUP = "rechecking"

_EVERY = 60.0
_LIMIT = "≤ 50"


class _Users:
    """`load_user`, as from a database that takes two turns of the loop."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, principal: Any, conn: Any) -> Any:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        return principal


def _app(clock: Clock, users: _Users) -> Any:
    revocations = Revocations(MemoryStore(), clock=clock)
    auth = Authenticator([expiring], revocations=revocations, load_user=users, clock=clock)
    return WebSocketAuthMiddleware(listens, auth, recheck=_EVERY)


async def _turns(clock: Clock, until: Any) -> float:
    """The longest turn of the loop, in ms of this thread's own time, because a busy machine takes
    turns away; until it is done. A tick of the timers is a part of a turn."""
    longest, turn = 0.0, time.thread_time()
    while not until():
        timers(clock).run_due()
        await anyio.lowlevel.checkpoint()
        now = time.thread_time()
        longest, turn = max(longest, now - turn), now
    return longest * 1e3


async def _measured(size: int) -> dict[str, float]:
    clock, users = Clock(), _Users()
    async with Crowd(_app(clock, users), size).here():
        began, longest = users.asked, 0.0
        gc.collect()
        gc.disable()  # a collection is nobody's but Python's
        try:
            for _ in range(2 * 70):  # half a second each, as in real time
                clock.now += 0.5
                for _ in range(200):
                    longest = max(longest, await _turns(clock, _once()))
            assert users.asked >= began + size
            before = users.asked
            clock.now += 200
            all_at_once = await _turns(clock, lambda: users.asked >= before + size)
        finally:
            gc.enable()
    return {"steady": longest, "all due at once": all_at_once}


def _once() -> Any:
    answers = iter([False, True])
    return lambda: next(answers)


def rows(short: bool) -> Iterator[Row]:
    """In memory, without a network."""
    size, rounds = (500, 1) if short else (10_000, 2)
    logging.getLogger("asgi_wsauth").setLevel(logging.CRITICAL)
    found = [anyio.run(_measured, size) for _ in range(rounds)]
    for title in found[0]:
        name = f"{size:,} sockets, recheck=60, {title}: longest turn of the loop"
        yield row(GROUP, name, "ms", [each[title] for each in found], target=_LIMIT)
