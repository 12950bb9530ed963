"""What is soaked: workers, their Redis and their issuer; and when each of them was in trouble."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import redis
from issuer import Issuer, issuing
from redis_servers import Proxy, RedisServer, redis_server
from servers import UVICORN, Server, serving

# Seconds after a trouble in which it still excuses a refusal: until whoever was cut off has noticed
# that it is over.
AFTERMATH = 4.0


class Troubles:
    """When something was out of order, by its name, in seconds of `time.monotonic`."""

    def __init__(self) -> None:
        self._ends: dict[str, list[tuple[float, float]]] = {}
        self.now: set[str] = set()

    @contextmanager
    def with_(self, *names: str) -> Iterator[None]:
        """They are, until the block ends."""
        began = time.monotonic()
        self.now |= set(names)
        try:
            yield
        finally:
            self.now -= set(names)
            for name in names:
                self._ends.setdefault(name, []).append((began, time.monotonic() + AFTERMATH))

    def has(self, name: str) -> bool:
        """Whether it is."""
        return name in self.now

    def had(self, name: str, since: float) -> bool:
        """Whether it was at some time since then."""
        return self.has(name) or any(end >= since for _, end in self._ends.get(name, ()))


@dataclass(eq=False)
class Worker:
    """A worker process.

    Attributes:
        name: says which one it is.
        server: it.
        is_over: whether it was told to end, in whatever way.
        is_drained: whether in such a way that its sockets are told so.
    """

    name: str
    server: Server
    is_over: bool = False
    is_drained: bool = False

    @property
    def memory(self) -> int | None:
        """Bytes that it has in memory; None where the system doesn't tell."""
        try:
            with open(f"/proc/{self.server.process.pid}/statm") as told:
                return int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return None


@dataclass
class Site:
    """All of it.

    Attributes:
        redis: the primary.
        link: what leads to it, for the workers.
        workers: those that clients may go to.
        was: those that were.
    """

    redis: RedisServer
    link: Proxy
    issuer: Issuer
    stack: ExitStack
    troubles: Troubles = field(default_factory=Troubles)
    workers: list[Worker] = field(default_factory=list)
    was: list[Worker] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def start_worker(self, variant: str) -> Worker:
        """Start one. It is not among `workers` yet."""
        env = {"SOAK_REDIS": self.link.url, "SOAK_ISSUER": self.issuer.url}
        env["PYTHONWARNINGS"] = "default"
        server = self.stack.enter_context(serving(variant, "soak.app:app", env=env))
        return Worker(f"{next(self._numbers)} {variant}", server)

    def start_redis(self) -> None:
        """Start it again."""
        with _deaf_to_interrupts():
            self.redis.start()

    def fail_over(self) -> None:
        """Make another Redis the primary. The old one lives on as its replica, and connections that
        are open lead to it."""
        with _deaf_to_interrupts():
            new = self.stack.enter_context(redis_server(persistent=True))
        with self.client() as old, redis.Redis.from_url(new.url, decode_responses=True) as other:
            other.execute_command("REPLICAOF", "127.0.0.1", self.redis.port)
            while other.info("replication")["master_link_status"] != "up":
                time.sleep(0.05)
            old.execute_command("FAILOVER", "TO", "127.0.0.1", new.port)
            while other.info("replication")["role"] != "master":
                time.sleep(0.01)
        self.redis = new
        self.link.lead_to(new.port)

    def end_worker(self, worker: Worker, how: signal.Signals) -> None:
        """Have it end, without waiting for it."""
        worker.is_over, worker.is_drained = True, how == signal.SIGTERM
        self.workers.remove(worker)
        self.was.append(worker)
        os.killpg(worker.server.process.pid, how)

    def any_worker(self, random: Random) -> Worker:
        return random.choice(self.workers)

    def client(self) -> Any:
        """A client of its Redis."""
        return redis.Redis.from_url(self.redis.url, decode_responses=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started meanwhile doesn't end with Ctrl-C, which a terminal sends to all of us."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def running(workers: int) -> Iterator[Site]:
    """A site with so many workers; stopped for sure."""
    with ExitStack() as stack:
        with _deaf_to_interrupts():
            server = stack.enter_context(redis_server(persistent=True))
        link = stack.enter_context(Proxy(server.port))
        issuer = stack.enter_context(issuing())
        site = Site(server, link, issuer, stack)
        variants = [UVICORN[number % len(UVICORN)] for number in range(workers)]
        with ThreadPoolExecutor() as pool:
            site.workers += pool.map(site.start_worker, variants)
        yield site
