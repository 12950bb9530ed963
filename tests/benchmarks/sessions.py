"""What it takes to list open sockets and to end them: a client that comes and goes, and is listed
meanwhile, beside one that isn't; and listing and ending by `Sessions`, in memory and through Redis,
beside a dict by hand.

It is the CPU time of this process. Redis has its own. Nobody's token is decoded, and so the ratios
are higher than those of whole admissions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import count
from typing import Any

from handshakes import CONNECT, NOW, websocket
from live_crowd import expiring, listens
from redis_servers import BINARIES, redis_server

from asgi_wsauth import Authenticator, MemoryStore, Sessions, WebSocketAuthMiddleware
from asgi_wsauth.redis import RedisStore

from .crowd import ByHand, Crowd
from .measure import Loop, Row, Turns, compared, in_turns, interleaved

_SOCKETS = 4  # of each user whose sockets are listed and ended
_LIST = f"list of a user with {_SOCKETS} sockets"
_END = "end of a socket, until its app has ended"
_END_OTHERS = "end_others of a user with 3 sockets, until two apps have ended"
_TURN = "end_others of a user with {:,} sockets: longest turn of the loop"

_LEASE = 3600.0  # seconds; it is renewed when nothing is measured any more
_PATIENCE = 60.0  # seconds: a busy machine is to fail nothing
_LEFT = {"type": "websocket.disconnect", "code": 1000}


class _Site:
    """An app with sockets, and what lists and ends them."""

    def __init__(self, app: Any, sessions: Any) -> None:
        self.app = app
        self.sessions = sessions
        self.crowd = Crowd(app)

    async def measured(self, names: list[str]) -> dict[str, float]:
        """µs that each call takes, for users with several sockets."""
        crowd, sessions = self.crowd, self.sessions
        await crowd.enter([name for name in names for _ in range(_SOCKETS)])
        ids = [[_id(entry) for entry in await sessions.list(name)] for name in names]
        begin = time.process_time()
        for name in names:
            await sessions.list(name)
        found = {_LIST: time.process_time() - begin}
        gone = crowd.gone.value + len(names)
        begin = time.process_time()
        for first, *_ in ids:
            await sessions.end(first)
        await crowd.gone.reaches(gone)
        found[_END] = time.process_time() - begin
        gone += (_SOCKETS - 2) * len(names)
        begin = time.process_time()
        for name, (*_, last) in zip(names, ids, strict=True):
            await sessions.end_others(name, keep=last)
        await crowd.gone.reaches(gone)
        found[_END_OTHERS] = time.process_time() - begin
        for *_, last in ids:
            await sessions.end(last)
        await crowd.gone.reaches(gone + len(names))
        return {title: taken / len(names) * 1e6 for title, taken in found.items()}

    async def longest_turn(self, turns: Turns, many: int) -> float:
        """Of the loop, in ms, while a user's sockets are ended."""
        await self.crowd.enter(["somebody"] * many)
        gone = self.crowd.gone.value + many
        with turns.timed() as longest:
            await self.sessions.end_others("somebody", keep="another")
            await self.crowd.gone.reaches(gone)
            return longest()


def _id(entry: Any) -> str:
    return str(entry["id"] if isinstance(entry, dict) else entry.id)


def _guarded(sessions: Sessions | None) -> WebSocketAuthMiddleware:
    auth = Authenticator([expiring], timeout=_PATIENCE, clock=lambda: NOW)
    return WebSocketAuthMiddleware(listens, auth, sessions=sessions)


def _ours(store: Any) -> _Site:
    sessions = Sessions(store, clock=lambda: NOW)
    return _Site(_guarded(sessions), sessions)


def _by_hand() -> _Site:
    app = ByHand()
    return _Site(app, app)


def rows(short: bool) -> Iterator[Row]:
    size, many, rounds = (500, 100, 1) if short else (10_000, 1_000, 10)
    logging.getLogger("asgi_wsauth").setLevel(logging.CRITICAL)
    turns = Turns()
    with redis_server() if BINARIES else nullcontext() as redis, Loop(short, turns) as loop:
        sites = {"by hand": _by_hand(), "ours": _ours(MemoryStore())}
        if redis is not None:
            url = f"{redis.url}?socket_timeout={_PATIENCE}&socket_connect_timeout={_PATIENCE}"
            sites["ours, through Redis"] = _ours(RedisStore.from_url(url, lease=_LEASE))
        for site in sites.values():
            loop.run(site.crowd.enter([f"user{number}" for number in range(size)]))
        yield from _admissions(loop, sites, size, 2 * rounds)
        numbers = count()

        def once(site: _Site) -> dict[str, float]:
            number = next(numbers)
            names = [f"guest{number}x{other}" for other in range(10 if short else 200)]
            found: dict[str, float] = loop.run(site.measured(names))
            return {**found, _TURN: loop.run(site.longest_turn(turns, many))}

        measures = {name: partial(once, site) for name, site in sites.items()}
        made = in_turns(measures, rounds, warm_up=0 if short else 1)
    for title in (_LIST, _END, _END_OTHERS, _TURN):
        figures = {name: [each[title] for each in found] for name, found in made.items()}
        group, unit = f"sessions, {title.format(many)}", "ms" if title == _TURN else "µs"
        yield from compared(group, unit, figures, "by hand")


def _admissions(loop: Loop, sites: dict[str, _Site], size: int, rounds: int) -> list[Row]:
    apps = {"not listed": _guarded(None)}
    apps |= {f"listed, {name}": site.app for name, site in sites.items() if name != "by hand"}
    candidates = {name: loop.per_call(_visits(app)) for name, app in apps.items()}
    group = f"sessions, a client that comes and goes beside {size:,} sockets"
    return interleaved(group, "µs", candidates, "not listed", rounds)


def _visits(app: Any) -> Callable[[], Any]:
    """A client that comes and goes."""

    def visit() -> Any:
        messages = iter([CONNECT, _LEFT])

        async def receive() -> Any:
            return next(messages)

        return app(websocket("token=visitor"), receive, _discard)

    return visit


async def _discard(message: Any) -> None:
    pass
