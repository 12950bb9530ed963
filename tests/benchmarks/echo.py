"""A server process with an app that greets and echoes, behind one guard a path; and its client."""

from __future__ import annotations

import gc
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from handshakes import SECRET, mint
from servers import Server, serving
from starlette.responses import JSONResponse

from .measure import Row, interleaved, row

UVICORN = ("uvicorn-sansio", "--ws-ping-interval", "3600")  # the clients here answer no pings
HELLO = b"hello"
GREETING = bytes([129, len(HELLO)]) + HELLO  # a text frame
CLOSE = bytes([136, 130, 0, 0, 0, 0, 3, 232])  # masked with zeros, code 1000


def token() -> str:
    return mint(exp=int(time.time()) + 3600)


@contextmanager
def echo_server() -> Iterator[Server]:
    """uvicorn as it comes, with this module's app."""
    name, *arguments = UVICORN
    with serving(name, "benchmarks.echo:app", *arguments, env={"SECRET": SECRET}) as server:
        yield server


def dial(server: Server, path: str, presented: str) -> socket.socket:
    """A connection whose handshake was sent."""
    tcp = server.handshake(path, token=presented)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tcp


def greeted(tcp: socket.socket) -> None:
    """Wait until the server has greeted."""
    data = b""
    while not data.endswith(GREETING):
        more = tcp.recv(65536)
        assert more, data
        data += more


def visit(server: Server, path: str, presented: str) -> Iterator[None]:
    """One connection from the handshake to the end, in steps; others run between them."""
    with dial(server, path, presented) as tcp:
        yield
        greeted(tcp)
        tcp.sendall(CLOSE)
        yield
        while tcp.recv(65536):
            pass


def visits(server: Server, path: str, presented: str, count: int, at_once: int) -> None:
    """So many connections, `at_once` of them on their way at any time, so that the server never
    waits for the client."""
    begun = (visit(server, path, presented) for _ in range(count))
    going: deque[Iterator[None]] = deque()
    while True:
        new = next(begun, None) if len(going) < at_once else None
        if new is None and not going:
            return
        step = new or going.popleft()
        if next(step, step) is None:
            going.append(step)


def compared(
    group: str,
    what: str,
    server: Server,
    work: Mapping[str, Callable[[], int]],
    rounds: int,
    *,
    rates: Mapping[str, str] = {},
    baselines: Mapping[str, str] = {},
    costs: Mapping[str, str] = {},
) -> Iterator[Row]:
    """Rows of how many of `what` are done in a second, and of what each takes of the server.

    The second is the better figure: the first has the client in it, and all else on the machine.

    Args:
        work: name -> what does many of them, and tells how many. All are compared with the first.
        rates: name -> what the ratio of its rate should be.
        baselines: names whose rates are compared with another one than the first: name -> other.
        costs: name -> what the ratio of its CPU time should be.
    """
    titled = f"{{}}: {what} a second".format
    names = list(map(titled, work))
    taken: dict[str, list[float]] = {name: [] for name in work}

    def once(name: str) -> float:
        cpu, begin = server.get("/cpu"), time.perf_counter()
        count = work[name]()
        lasted = time.perf_counter() - begin
        taken[name].append((server.get("/cpu") - cpu) / count * 1e6)
        return count / lasted

    candidates = {title: partial(once, name) for title, name in zip(names, work, strict=True)}
    yield from interleaved(
        group,
        "per s",
        candidates,
        names[0],
        rounds,
        baselines={titled(name): titled(other) for name, other in baselines.items()},
        targets={titled(name): target for name, target in rates.items()},
    )
    first = taken[next(iter(work))][-rounds:]
    titles = [f"{name}: CPU time of the server for each" for name in work]
    for title, name in zip(titles, work, strict=True):
        against = None if title == titles[0] else first
        baseline = None if title == titles[0] else titles[0]
        taken_by, target = taken[name][-rounds:], costs.get(name, "")
        yield row(group, title, "µs", taken_by, against=against, baseline=baseline, target=target)


# The server's side


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": HELLO.decode()})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def _guards() -> dict[str, Any]:
    from alternatives import Backend
    from starlette.middleware.authentication import AuthenticationMiddleware

    from asgi_wsauth import Authenticator, JWTVerifier, VerdictCache, WebSocketAuthMiddleware

    from .floor import Floor

    # One of the others there turns everybody's log on, which uvicorn leaves off.
    logging.getLogger().setLevel(logging.WARNING)

    def ours(cache: VerdictCache | None = None, **options: Any) -> WebSocketAuthMiddleware:
        verifier = JWTVerifier(SECRET, algorithms=["HS256"], cache=cache)
        return WebSocketAuthMiddleware(echo, Authenticator([verifier]), **options)

    return {
        "/none": echo,
        "/starlette": AuthenticationMiddleware(echo, Backend()),
        "/ours": ours(),
        "/unguarded": ours(enforce_expiry=False),
        "/cached": ours(VerdictCache()),
        "/floor": Floor(echo),
    }


_GUARDS = _guards() if "SECRET" in os.environ else {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await _GUARDS[scope["path"]](scope, receive, send)
    elif scope["type"] == "http":
        await JSONResponse(time.process_time())(scope, receive, send)


gc.freeze()  # so that collecting looks only at what came after the imports
