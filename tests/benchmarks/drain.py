"""What it takes to close all sockets before a process ends: by `middleware.drain`, and by hand in
one go. The `deploys` group is about real processes, and clients that come back."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from handshakes import NOW
from live_crowd import expiring, listens

from asgi_wsauth import Authenticator, WebSocketAuthMiddleware

from .crowd import ByHand, Crowd
from .measure import Loop, Row, Turns, compared, in_turns

_BY_HAND = "by hand, all at once"

_Close = Callable[[], Awaitable[None]]


def _by_hand() -> tuple[Any, _Close]:
    app = ByHand()
    return app, partial(app.end_all, 1012)


def _ours(over: float) -> tuple[Any, _Close]:
    auth = Authenticator([expiring], clock=lambda: NOW)
    app = WebSocketAuthMiddleware(listens, auth)
    return app, partial(app.drain, over=over)


async def _closed(
    make: Callable[[], tuple[Any, _Close]], size: int, turns: Turns
) -> tuple[float, float]:
    """µs of CPU time that each socket takes until its app has ended; and, in another go, because it
    is looked at in each turn, the longest turn of the loop in ms."""
    users = [f"user{number}" for number in range(size)]
    app, close = make()
    crowd = Crowd(app)
    await crowd.enter(users)
    begin = time.process_time()
    await close()
    await crowd.gone.reaches(size)
    taken = time.process_time() - begin
    app, close = make()
    crowd = Crowd(app)
    await crowd.enter(users)
    with turns.timed() as longest:
        await close()
        await crowd.gone.reaches(size)
        return taken / size * 1e6, longest()


def rows(short: bool) -> Iterator[Row]:
    """In memory, without a network."""
    size, over, rounds = (500, 0.2, 1) if short else (10_000, 5.0, 5)
    logging.getLogger("asgi_wsauth").setLevel(logging.CRITICAL)
    makers: dict[str, Callable[[], tuple[Any, _Close]]] = {
        _BY_HAND: _by_hand,
        "ours, drain(over=0)": partial(_ours, 0),
        f"ours, drain(over={over:g})": partial(_ours, over),
    }
    turns = Turns()
    with Loop(short, turns) as loop:

        def once(make: Callable[[], tuple[Any, _Close]]) -> Any:
            return loop.run(_closed(make, size, turns))

        measures = {name: partial(once, make) for name, make in makers.items()}
        made = in_turns(measures, rounds, warm_up=0 if short else 1)
    for number, (title, unit) in enumerate(
        [("CPU time of each socket", "µs"), ("longest turn of the loop", "ms")]
    ):
        figures = {name: [each[number] for each in found] for name, found in made.items()}
        yield from compared(f"drain of {size:,} sockets, {title}", unit, figures, _BY_HAND)
