"""What breaks, one after the other, and comes back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import TypeAlias

from . import terms
from .mint import Mint
from .site import Site, Worker

Fault: TypeAlias = Callable[["Weather"], Awaitable[None]]


class Weather:
    """Lets things break, in turn and in random order.

    Args:
        faults: what may break.
        site: where.
        mint: whose keys are rotated.
        random: decides.
        scale: what durations are multiplied with.
        note: is told what breaks.

    Attributes:
        broke: how often what.
        over: is set when nothing more is to break.
    """

    def __init__(
        self,
        faults: list[Fault],
        site: Site,
        mint: Mint,
        random: Random,
        scale: float,
        note: Callable[[str], object],
    ) -> None:
        self.faults = faults
        self.site, self.mint, self.random, self.scale = site, mint, random, scale
        self.note = note
        self.over = asyncio.Event()
        self.broke: dict[str, int] = {fault.__name__: 0 for fault in faults}

    async def rage(self) -> None:
        """Have everything break that may, in a new order each time, until it is over."""
        while True:
            for fault in self.random.sample(self.faults, len(self.faults)):
                with suppress(asyncio.TimeoutError):
                    calm = self.scale * self.random.uniform(4, 12)
                    await asyncio.wait_for(self.over.wait(), calm)
                if self.over.is_set():
                    return
                self.note(f"{fault.__name__} begins")
                await fault(self)
                self.note(f"{fault.__name__} is over")
                self.broke[fault.__name__] += 1

    async def wait(self, least: float, most: float) -> None:
        await asyncio.sleep(self.scale * self.random.uniform(least, most))

    def mortal(self) -> Worker:
        """A worker that may be killed: all but one, which is watched from beginning to end."""
        return self.random.choice(self.site.workers[1:])

    async def replace(self, worker: Worker, how: signal.Signals) -> None:
        """Have a worker end, and start another one."""
        self.site.end_worker(worker, how)
        await self.start(worker.server.name)

    async def start(self, variant: str) -> None:
        self.site.workers.append(await asyncio.to_thread(self.site.start_worker, variant))


async def redis_killed(weather: Weather) -> None:
    redis = weather.site.redis
    with weather.site.troubles.with_("redis"):
        await asyncio.to_thread(redis.kill)
        await weather.wait(0, 3)
        await asyncio.to_thread(weather.site.start_redis)


async def redis_down_for_long(weather: Weather) -> None:
    """For longer than a slot lasts."""
    redis = weather.site.redis
    with weather.site.troubles.with_("redis"):
        await asyncio.to_thread(redis.kill)
        await asyncio.sleep(terms.LEASE + weather.random.uniform(0.5, 2))
        await asyncio.to_thread(weather.site.start_redis)


async def redis_hangs(weather: Weather) -> None:
    with weather.site.troubles.with_("redis"), weather.site.redis.hanging():
        await weather.wait(0.5, 7)


async def redis_drops_connections(weather: Weather) -> None:
    with weather.site.troubles.with_("redis"), weather.site.client() as client:
        for kind in ("normal", "pubsub"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def redis_fails_over(weather: Weather) -> None:
    with weather.site.troubles.with_("redis"):
        await asyncio.to_thread(weather.site.fail_over)


async def issuer_fails(weather: Weather) -> None:
    how = weather.random.choice(["fail", "hang_up", "rubbish", "no_http"])
    await _issuer(weather, how)


async def issuer_hangs(weather: Weather) -> None:
    await _issuer(weather, weather.random.choice(["hang", "drip"]))


async def _issuer(weather: Weather, how: str) -> None:
    with weather.site.troubles.with_("issuer"):
        weather.site.issuer.behaviour = {"*": how}
        await weather.wait(1, 12)
        weather.site.issuer.behaviour = {}


async def keys_rotate(weather: Weather) -> None:
    """No trouble: nobody may notice. Until a key is known everywhere, nothing is signed with it."""
    known = terms.KEYS_TTL + terms.KEYS_TIMEOUT + 1
    kid = weather.mint.next_key()
    await asyncio.sleep(known)
    before = weather.mint.turn_keys(kid)
    await asyncio.sleep(known)
    weather.mint.withdraw(before)
    await asyncio.sleep(known)  # so that in the end as many keys are known as in the beginning


async def worker_killed(weather: Weather) -> None:
    await weather.replace(weather.mortal(), signal.SIGKILL)


async def worker_stopped(weather: Weather) -> None:
    """As with Ctrl-C: by the server alone."""
    await weather.replace(weather.mortal(), signal.SIGINT)


async def worker_drained(weather: Weather) -> None:
    """As a deployment does it."""
    await weather.replace(weather.mortal(), signal.SIGTERM)


async def started_without_keys(weather: Weather) -> None:
    """A worker comes up while the issuer is down."""
    with weather.site.troubles.with_("issuer"):
        weather.site.issuer.behaviour = {"*": "fail"}
        await weather.replace(weather.mortal(), signal.SIGKILL)
        await weather.wait(1, 4)
        weather.site.issuer.behaviour = {}


async def started_without_redis(weather: Weather) -> None:
    """A worker comes up while Redis is down."""
    with weather.site.troubles.with_("redis"):
        await asyncio.to_thread(weather.site.redis.kill)
        await weather.replace(weather.mortal(), signal.SIGKILL)
        await weather.wait(1, 4)
        await asyncio.to_thread(weather.site.start_redis)


FAULTS: list[Fault] = [
    redis_killed,
    redis_down_for_long,
    redis_hangs,
    redis_drops_connections,
    redis_fails_over,
    issuer_fails,
    issuer_hangs,
    keys_rotate,
    worker_killed,
    worker_stopped,
    worker_drained,
    started_without_keys,
    started_without_redis,
]
