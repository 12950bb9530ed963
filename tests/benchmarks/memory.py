"""What many live sockets take, and how many tasks there are for them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import live_crowd
from handshakes import NOW
from live_crowd import expiring, guarded, listens

from asgi_wsauth import Authenticator, MemoryStore, Sessions, WebSocketAuthMiddleware

from .measure import Row, row

GROUP = "memory"

_EXPIRY = "ours, expiry only"


def _ours(**options: Any) -> WebSocketAuthMiddleware:
    return WebSocketAuthMiddleware(listens, Authenticator([expiring], clock=lambda: NOW), **options)


_GUARDS: dict[str, Callable[[], Any]] = {
    "no guard": lambda: listens,
    "ours, unguarded": lambda: _ours(enforce_expiry=False),
    _EXPIRY: _ours,
    "ours, everything on": lambda: guarded()[0],
    "ours, listed": lambda: _ours(sessions=Sessions(MemoryStore())),
}


def rows(short: bool) -> Iterator[Row]:
    """Each measured in a process of its own; and what a guard adds."""
    size = 1_000 if short else 10_000
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(_cost, size), _GUARDS)
        costs = dict(zip(_GUARDS, found, strict=True))
    for name, (taken, _) in costs.items():
        yield row(GROUP, f"{name}: memory of a socket", "B", [taken])
    unguarded = costs["ours, unguarded"][0]
    for name, (taken, _) in list(costs.items())[2:]:
        title, most = f"{name}: more than unguarded", 1000 if name == _EXPIRY else 2000
        yield row(GROUP, title, "B", [taken - unguarded], target=f"≤ {most}")
    title = "ours, listed: an entry in Sessions, its store included"
    entry = costs["ours, listed"][0] - costs[_EXPIRY][0]
    yield row(GROUP, title, "B", [entry], target="≤ 500")
    for name, (_, tasks) in costs.items():
        title = f"{name}: tasks besides the app's own {size:,}"
        yield row(GROUP, title, "tasks", [tasks], target="≤ 5")


def _cost(size: int, name: str) -> tuple[float, int]:
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", name, str(size)],
        cwd=Path(__file__).parent.parent,
        check=True,
        stdout=subprocess.PIPE,
    )
    taken, tasks = json.loads(told.stdout)
    return taken, tasks


async def _measured(name: str) -> tuple[float, int]:
    tracemalloc.start()
    taken, tasks = await live_crowd._cost(_GUARDS[name]())
    return taken, tasks - live_crowd.SIZE - 1  # this one


if __name__ == "__main__":
    live_crowd.SIZE = int(sys.argv[2])
    # No log: it would be kept, and outweigh what is measured.
    logging.getLogger("asgi_wsauth").setLevel(logging.CRITICAL)
    print(json.dumps(anyio.run(_measured, sys.argv[1])))
