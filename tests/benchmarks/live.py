"""Live sockets of a real uvicorn: the memory of its process, and how soon all are closed."""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psutil
from live_crowd import guarded, listens
from servers import Server, serving
from starlette.responses import JSONResponse

from .echo import CLOSE, UVICORN, dial
from .measure import Row, row
from .revoking import ByHand

GROUP = "live"

_AT_ONCE = 16
_REVOKED = (4004).to_bytes(2, "big")
_GUARDS = ("no guard", "by hand", "ours")
_TITLES = (
    "{}: memory of the process for each of {:,} sockets",
    "all of {1:,} revoked, {0}: to the first close",
    "all of {1:,} revoked, {0}: to the last close",
    "all of {1:,} revoked, {0}: longest turn of the loop",
)


def rows(short: bool) -> Iterator[Row]:
    """Without a guard; a registry by hand; ours with all that may end a socket."""
    size = 200 if short else 5_000
    found = {name: list(_measured(name, size)) for name in _GUARDS}
    for number, title in enumerate(_TITLES):
        baseline = _GUARDS[min(number, 1)]
        for name in _GUARDS[min(number, 1) :]:
            against = None if name == baseline else [found[baseline][number]]
            yield row(
                GROUP,
                title.format(name, size),
                "ms" if number else "B",
                [found[name][number]],
                against=against,
                baseline=None if against is None else title.format(baseline, size),
            )


def _measured(name: str, size: int) -> Iterator[float]:
    """The figures of _TITLES."""
    variant, *arguments = UVICORN
    with (
        serving(variant, "benchmarks.live:app", *arguments, env={"GUARD": name}) as server,
        ExitStack() as stack,
    ):
        process = psutil.Process(server.process.pid)
        _open(server, range(100), stack)  # what is needed for the first ones is there
        before = process.memory_info().rss
        opened = _open(server, range(100, 100 + size), stack)
        yield (process.memory_info().rss - before) / size
        if name != "no guard":
            yield from _revoked(server, opened)


def _open(server: Server, numbers: range, stack: ExitStack) -> list[socket.socket]:
    opened: list[socket.socket] = []
    for number in numbers:
        opened.append(stack.enter_context(dial(server, "/", f"user{number}")))
        if len(opened) >= _AT_ONCE:
            _answered(opened[-_AT_ONCE])
    for tcp in opened[-_AT_ONCE + 1 :]:
        _answered(tcp)
    return opened


def _answered(tcp: socket.socket) -> None:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = tcp.recv(65536)
        assert more, data
        data += more


def _revoked(server: Server, opened: list[socket.socket]) -> Iterator[float]:
    """Milliseconds to the first and the last close, as clients see it; the longest turn."""
    times = []
    with selectors.DefaultSelector() as selector, ThreadPoolExecutor() as pool:
        for tcp in opened:
            selector.register(tcp, selectors.EVENT_READ)
        begin = time.perf_counter()
        longest = pool.submit(server.get, "/revoke")
        while len(times) < len(opened):
            for key, _ in selector.select():
                tcp: Any = key.fileobj
                assert tcp.recv(100)[2:4] == _REVOKED
                times.append(time.perf_counter())
                selector.unregister(tcp)
                tcp.sendall(CLOSE)
        yield (times[0] - begin) * 1e3
        yield (times[-1] - begin) * 1e3
        yield longest.result()


# The server's side

_live = 0
_app: Any
_app, _revocations = listens, None
if os.environ.get("GUARD") == "by hand":
    _app = _revocations = ByHand()
elif os.environ.get("GUARD") == "ours":
    _app, _revocations = guarded()


async def app(scope: Any, receive: Any, send: Any) -> None:
    global _live
    if scope["type"] == "http":
        await JSONResponse(await _revoke_all())(scope, receive, send)
    elif scope["type"] == "websocket":
        _live += 1
        try:
            await _app(scope, receive, send)
        finally:
            _live -= 1


async def _revoke_all() -> float:
    """Revokes all, and tells how many ms the longest turn of the loop took."""
    revoking = asyncio.create_task(_revocations.revoke_session("all"))
    longest, turn = 0.0, time.perf_counter()
    while _live:
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, turn = max(longest, now - turn), now
    await revoking
    return longest * 1e3
