"""What is there in the workers and in Redis, before the first client and after the last one."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from itertools import chain
from typing import Any

from . import terms
from .clients import Client
from .load import Load
from .scenarios import first_message, good, logged_out, refreshing_badly, with_ticket
from .site import Site, Worker
from .tally import Tally
from .visits import ADMITTED, ENDED, REVOKED, post

PATIENCE = 30.0  # seconds after which all must be as it was

# Of everything that Python keeps count of in a worker. Connections to Redis and the like may come
# to stay; one object for each handshake would be far more.
MOST_MORE_OBJECTS = 10_000

# Of the verdict cache, which is full sooner or later; of repeated refusals; of a throttle; and the
# last notices of revocations, as many as came together.
_BOUNDED = {"_Entry", "_Streak", "_Account", "Notice"}
_TROUBLE = re.compile(r"Traceback|Exception|never (awaited|retrieved)|was destroyed|Warning:", re.I)
# A refusal for want of Redis tells what broke and where, the latter indented. The rest is uvicorn's
# own: its older implementation of WebSockets is deprecated, and asyncio tells it that a client has
# gone.
_NO_TROUBLE = re.compile(
    r"^  |^(?:websocket|http) refused: .* reason=verifier_unavailable |DeprecationWarning: "
    r"|^socket\.send\(\) raised exception\.|^a login can't be rechecked \(verifier_unavailable, "
)
_SHOWN = 60  # lines of a log, after one that tells of trouble
# Random ids may have the first characters of a JWT.
_SECRET = re.compile(r"eyJ[\w-]{10,}\.|wst_\w")


class Inspection:
    """Compares.

    Args:
        site: what with itself.
        load: who warms it up.
        tally: what is told of it.

    Attributes:
        memory: of the worker that lives all the time, bytes at times of `time.monotonic`.
        grown: how many objects more each worker has than a new one.
    """

    def __init__(self, site: Site, load: Load, tally: Tally) -> None:
        self.memory: list[tuple[float, int]] = []
        self.grown: dict[str, int] = {}
        self._site, self._load, self._tally = site, load, tally
        self._fresh: dict[str, dict[str, Any]] = {}  # by variant

    async def begin(self) -> None:
        """See what there is in workers that are new."""
        found = await asyncio.gather(*map(self._settled, self._site.workers))
        names = [worker.server.name for worker in self._site.workers]
        self._fresh = dict(zip(names, found, strict=True))

    async def watch(self) -> None:
        """Note how much memory the first worker has, until cancelled."""
        while True:
            memory = self._site.workers[0].memory
            if memory is not None:
                self.memory.append((time.monotonic(), memory))
            await asyncio.sleep(2)

    async def end(self) -> None:
        """Compare."""
        await asyncio.gather(*map(self._compare, self._site.workers))
        await self._look_into_redis()
        for worker in chain(self._site.was, self._site.workers):
            self._read_log(worker)

    async def _warm_up(self, worker: Worker) -> None:
        """Have it do all that makes it set up something for good."""
        load = self._load.only_at(worker)
        await asyncio.gather(*(load.play("warming up", good) for _ in range(40)))
        for scenario in (with_ticket, first_message, refreshing_badly, logged_out, _all_that_ends):
            await load.play("warming up", scenario)

    async def _settled(self, worker: Worker) -> dict[str, Any]:
        """What there is in one that has seen a bit of everything, once it doesn't change, and no
        client lingers that was late to answer a close: each is remembered for 20 seconds."""
        await self._warm_up(worker)
        await asyncio.sleep(terms.LEASE / 2)  # then nobody renews slots any more
        before: dict[str, Any] = {}
        while (found := await _counts(worker)) != before or found["lingering"]:
            before = found
            await asyncio.sleep(0.5)
        return found

    async def _compare(self, worker: Worker) -> None:
        await self._warm_up(worker)
        fresh, until = self._fresh[worker.server.name], time.monotonic() + PATIENCE
        while True:
            found = await _counts(worker)
            left = {what: _more(found[what], fresh[what]) for what in ("tasks", "objects")}
            open_still = found["open"] or found["places"]
            if not (left["tasks"] or left["objects"] or open_still) or time.monotonic() > until:
                break
            await asyncio.sleep(0.5)
        for what, more in left.items():
            if more:
                self._wrong(what, worker, str(more))
        if found["open"] or found["closed twice"]:
            self._wrong("unclosed", worker, f"{found['open']}, twice: {found['closed twice']}")
        if found["places"]:
            self._wrong("places", worker, f"{found['places']}")
        self.grown[worker.name] = found["everything"] - fresh["everything"]
        if self.grown[worker.name] > MOST_MORE_OBJECTS:
            self._wrong("memory", worker, f"{self.grown[worker.name]} objects")

    async def _look_into_redis(self) -> None:
        until = time.monotonic() + PATIENCE
        with self._site.client() as client:
            while slots := [k for k in client.scan_iter(count=1000) if _is_held(k)]:
                if time.monotonic() > until:
                    break
                await asyncio.sleep(0.5)
            endless = [key for key in client.scan_iter(count=1000) if client.ttl(key) == -1]
        for key in chain(slots, endless):
            self._tally.went_wrong("slots", "Redis", key)

    def _read_log(self, worker: Worker) -> None:
        lines = worker.server.log().splitlines()
        for number, line in enumerate(lines):
            if _SECRET.search(line):
                self._wrong("secrets", worker, line)
            if line.endswith("Shutting down"):
                break  # from then on uvicorn answers handshakes by itself, and apps stumble over it
            if _TROUBLE.search(line) and not _NO_TROUBLE.search(line):
                self._wrong("log", worker, "\n".join(lines[number : number + _SHOWN]))

    def _wrong(self, what: str, worker: Worker, detail: str) -> None:
        self._tally.went_wrong(what, f"worker {worker.name}", detail)


async def _all_that_ends(client: Client) -> None:
    """Is revoked, on each path."""
    token = client.mint.login()
    paths = ["/chat", "/stream", "/newest", "/events", "/watched"]
    visits = [await client.visit(token, ADMITTED, path=path) for path in paths]
    await client.ask(f"/revoke?user={token.user}")
    for visit in visits:
        if visit.answer == ADMITTED:
            await client.must_be_closed(visit, REVOKED, ENDED)


async def _counts(worker: Worker) -> dict[str, Any]:
    status, found = await post(worker, "/counts")
    assert status == 200, found
    return {**found, "events": None}


def _more(found: dict[str, int], fresh: dict[str, int]) -> dict[str, int]:
    """What differs."""
    difference = Counter(found)
    difference.subtract(fresh)
    return {name: n for name, n in difference.items() if n and name not in _BOUNDED}


def _is_held(key: str) -> bool:
    """Whether it is for as long as sockets are open: their slots, and the list of sessions."""
    return (":slots:" in key or ":sessions:" in key) and key.endswith((":order", ":lapse"))
