"""A deploy under thousands of open sockets: two new workers take over from two old ones, which get
a SIGTERM; and what becomes of the sockets, with `drain` and without it, with clients that wait as
wsauth.js does and with clients that come back at once, with and without the issuer's keys at hand.

Clients come back to the new workers only, as behind a load balancer; an old one that is draining is
out of its rotation.

`python -m tests.benchmarks.deploys PICTURE.svg` prints the table of docs/guides/deploys.md, and
draws its picture.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import psutil
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from handshakes import now
from issuer import Handler, issuing
from servers import Server, serving

from asgi_wsauth import (
    JWKS,
    Authenticator,
    JWTVerifier,
    WebSocketAuthMiddleware,
    drain_on_signal,
)

from .echo import CLOSE, GREETING, HELLO, UVICORN
from .measure import Row, row

_WORKERS = 2
_TICK = 0.1  # seconds between two looks at how many are open
_SIZE, _OVER = 5_000, 15.0  # sockets, and the seconds over which they are drained
_CPU_LOOKS = 6  # between which the use of the CPU is counted
_AT_ONCE = 50
_LOST = 1006, b""
# What wsauth.js does: full jitter below a bound that doubles, which is larger where a server says
# "later" to all of them at once: uvicorn, when it ends. `drain` takes its time.
_BASE, _SPREAD, _CAP = 1.0, 10.0, 30.0
_TOLD_ALL_AT_ONCE = {(1012, b"")}


class Case(NamedTuple):
    """One deploy."""

    drains: bool
    waits: bool
    is_cold: bool

    def __str__(self) -> str:
        return f"{_DRAINS[self.drains]}, {_WAITS[self.waits]}, {_COLD[self.is_cold]}"


_DRAINS = {False: "at once", True: "drained"}
_WAITS = {False: "come back at once", True: "wait as wsauth.js does"}
_COLOURS = {False: "#b4532a", True: "#1b7f5c"}
_COLD = {False: "at hand", True: "not there yet"}

CASES = [Case(*which) for which in product((False, True), (False, True), (False, True))]


@dataclass
class Deploy:
    """What was seen of one.

    Attributes:
        back: seconds from the SIGTERM until everybody was back.
        longest: seconds that the unluckiest client was without a socket.
        refused: handshakes that were refused, by code or status.
        codes: how the sockets were closed.
        peak: the most CPU that all workers took within half a second, in cores.
        open: seconds from the SIGTERM on, and how many sockets were open then.
    """

    back: float = 0.0
    longest: float = 0.0
    refused: Counter[int] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    peak: float = 0.0
    open: list[tuple[float, int]] = field(default_factory=list)


def rows(short: bool) -> Iterator[Row]:
    size, over = (100, 0.5) if short else (_SIZE, _OVER)
    group = f"deploy under {size:,} sockets"
    for case in CASES[-1:] if short else CASES:
        seen = deploy(case, size, over)
        yield row(group, f"{case}: until all are back", "s", [seen.back])
        yield row(group, f"{case}: the longest wait", "s", [seen.longest])
        yield row(group, f"{case}: handshakes refused", "", [seen.refused.total()])
        yield row(group, f"{case}: peak of the CPU", "cores", [seen.peak])


def deploy(case: Case, size: int, over: float) -> Deploy:
    """Do it once.

    Args:
        case: how.
        size: how many sockets are open.
        over: seconds over which an old worker drains.
    """
    with issuing(handler=_Slow) as issuer, ExitStack() as stack:
        key = issuer.add_key("1").public_key()
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        env = {
            "OVER": str(over) if case.drains else "",
            **({"ISSUER": issuer.url} if case.is_cold else {"KEY": pem}),
        }

        def workers() -> list[Server]:
            return [stack.enter_context(_worker(env)) for _ in range(_WORKERS)]

        old = workers()
        issuer.behaviour["/jwks"] = "slow"  # for whoever comes next
        return asyncio.run(_deploy(case, size, issuer.token("1", exp=now() + 3600), old, workers))


class _Slow(Handler):
    """An issuer that thinks for two seconds."""

    def answer_slow(self, page: Any) -> None:
        self.issuer.over.wait(2)
        self.answer_serve(page)


@contextmanager
def _worker(env: dict[str, str]) -> Iterator[Server]:
    variant, *arguments = UVICORN
    arguments += ["--log-level", "warning", "--backlog", "8192"]
    with serving(variant, "benchmarks.deploys:app", *arguments, env=env) as server:
        yield server


async def _deploy(
    case: Case, size: int, token: str, old: list[Server], start: Callable[[], list[Server]]
) -> Deploy:
    crowd = _Crowd(case.waits, token, old)
    for _ in range(size // _AT_ONCE):
        await crowd.add(_AT_ONCE)
    new = await asyncio.to_thread(start)
    crowd.servers = new
    processes = [psutil.Process(server.process.pid) for server in (*old, *new)]
    crowd.deployed = time.perf_counter()
    for server in old:
        server.process.send_signal(signal.SIGTERM)
    watching = asyncio.create_task(_watch(crowd, processes))
    while crowd.back < size:
        await asyncio.sleep(_TICK)
        assert time.perf_counter() - crowd.deployed < 300, "some never came back"
    watching.cancel()
    crowd.seen.open, crowd.seen.peak = await watching
    crowd.leave()
    return crowd.seen


async def _watch(
    crowd: _Crowd, processes: list[psutil.Process]
) -> tuple[list[tuple[float, int]], float]:
    """How many are open, and the most cores that were busy, until cancelled."""
    opened: list[tuple[float, int]] = []
    looks: deque[tuple[float, float]] = deque(maxlen=_CPU_LOOKS)
    peak = 0.0
    with suppress(asyncio.CancelledError):
        while True:
            opened.append((time.perf_counter() - crowd.deployed, crowd.open))
            looks.append((time.perf_counter(), _cpu(processes)))
            if len(looks) == _CPU_LOOKS:
                (before, used), (after, by_now) = looks[0], looks[-1]
                peak = max(peak, (by_now - used) / (after - before))
            await asyncio.sleep(_TICK)
    return opened, peak


def _cpu(processes: list[psutil.Process]) -> float:
    """Seconds that they have used. An old worker is gone at the end, and takes its own with it."""
    used = 0.0
    for process in processes:
        with suppress(psutil.Error):
            used += sum(process.cpu_times()[:2])
    return used


# The clients


class _Crowd:
    """Clients that come back whenever they are closed.

    Attributes:
        servers: where they come back to.
        open: how many have a socket on which they were greeted.
        back: how many of them have had another one before.
        is_leaving: whether none comes back any more.
        deployed: when the old servers were told to end.
        seen: what became of them.
    """

    def __init__(self, waits: bool, token: str, servers: list[Server]) -> None:
        self.waits = waits
        self.token = token
        self.servers = servers
        self.open = self.back = 0
        self.deployed = 0.0
        self.seen = Deploy()
        self._clients: list[_Client] = []
        self.is_leaving = False
        self._all_open = asyncio.Event()

    async def add(self, count: int) -> None:
        """So many more, once all are open."""
        self._all_open.clear()
        for _ in range(count):
            self._clients.append(client := _Client(self))
            client.come()
        await self._all_open.wait()

    def leave(self) -> None:
        self.is_leaving = True
        for client in self._clients:
            client.leave()

    def is_open(self, closed_at: float | None) -> None:
        """A client was greeted, which was closed at that time, if it was."""
        self.open += 1
        if closed_at is not None:
            self.back += 1
            at = time.perf_counter()
            self.seen.back = at - self.deployed
            self.seen.longest = max(self.seen.longest, at - closed_at)
        if self.open == len(self._clients):
            self._all_open.set()

    def pause(self, said: tuple[int, bytes], tries: int) -> float:
        """Seconds after which a client comes back."""
        if not self.waits:
            return 0.0
        bound = _SPREAD if said in _TOLD_ALL_AT_ONCE else _BASE
        return random.uniform(0, min(_CAP, bound * 2**tries))


class _Client(asyncio.Protocol):
    """One client."""

    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd
        self._transport: asyncio.Transport | None = None
        self._is_open = False
        self._closed_at: float | None = None
        self._tries = 0
        self._said = _LOST
        self._data = b""
        self._task: asyncio.Task[None] | None = None

    def come(self) -> None:
        self._task = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        self._data, self._said = b"", _LOST
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: self, "127.0.0.1", random.choice(self._crowd.servers).port
            )
        except OSError:
            self.connection_lost(None)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(
            b"GET /?token=%s HTTP/1.1\r\nHost: chat.example\r\nOrigin: https://chat.example\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % self._crowd.token.encode()
        )

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._is_open:
            head, end, frames = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._said = int(head.split()[1]), b""
                return
            self._take(frames)
        else:
            self._take(self._data)

    def _take(self, frames: bytes) -> None:
        if frames.startswith(GREETING) and not self._is_open:
            self._is_open, self._tries = True, 0
            self._crowd.is_open(self._closed_at)
            self._data = frames = frames.removeprefix(GREETING)
        if frames[:1] == b"\x88" and len(frames) >= 4:
            self._said = int.from_bytes(frames[2:4], "big"), frames[4 : 2 + frames[1]]
            assert self._transport is not None
            self._transport.write(CLOSE)

    def connection_lost(self, exc: Exception | None) -> None:
        crowd, self._transport = self._crowd, None
        if crowd.is_leaving:
            return
        if self._is_open:
            self._is_open = False
            crowd.open -= 1
            crowd.seen.codes[self._said[0]] += 1
            self._closed_at = time.perf_counter()
        else:
            crowd.seen.refused[self._said[0]] += 1
        asyncio.get_running_loop().call_later(crowd.pause(self._said, self._tries), self.come)
        self._tries += 1

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()


# The server's side


def _door() -> WebSocketAuthMiddleware:
    if "KEY" in os.environ:
        verifier = JWTVerifier(os.environ["KEY"], algorithms=["ES256"])
    else:
        verifier = JWTVerifier(JWKS(os.environ["ISSUER"] + "/jwks"), algorithms=["ES256"])
    return WebSocketAuthMiddleware(greet, Authenticator([verifier]), allow_unguarded_http=True)


async def greet(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": HELLO.decode()})
    while (await receive())["type"] == "websocket.receive":
        pass


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await _guarded(scope, receive, send)
        return
    await receive()
    with drain_on_signal(over=float(os.environ["OVER"])) if os.environ["OVER"] else nullcontext():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


_guarded: Any = _door() if "OVER" in os.environ else None


def _draw(seen: dict[Case, Deploy], path: str) -> None:
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9, 4), layout="constrained")
    panels = list(picture.subplots(1, 2, sharey=True))
    for axes, waits in zip(panels, (False, True), strict=True):
        for case in (case for case in CASES if case.waits is waits):
            colour, line = _COLOURS[case.drains], ":" if case.is_cold else "-"
            name = f"{_DRAINS[case.drains]}, keys {_COLD[case.is_cold]}"
            times, numbers = zip(*seen[case].open, strict=True)
            axes.plot(times, numbers, line, color=colour, label=name)
        axes.set_title(_WAITS[waits], loc="left", fontsize="medium", fontweight="bold")
        axes.set_xlabel("seconds after SIGTERM")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
    panels[1].legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("open sockets")
    picture.savefig(path, metadata={"Date": None})


def main() -> None:
    """The table and the picture of docs/guides/deploys.md."""
    print("| deploy | clients | issuer's keys | refused | longest wait | all back | peak CPU |")
    print("|---|---|---|---|---|---|---|")
    seen = {}
    for case in CASES:
        seen[case] = found = deploy(case, _SIZE, _OVER)
        told = [_DRAINS[case.drains], _WAITS[case.waits], _COLD[case.is_cold]]
        told += [f"{found.refused.total():,}", f"{found.longest:.1f} s", f"{found.back:.1f} s"]
        print("|", " | ".join([*told, f"{found.peak:.1f} cores"]), "|", flush=True)
    _draw(seen, sys.argv[1])


if __name__ == "__main__":
    main()
