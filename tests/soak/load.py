"""Keeps clients of all kinds coming."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from random import Random

from .clients import Client
from .mint import Mint
from .scenarios import LONG, SHORT, Mix, Scenario
from .site import Site, Worker
from .tally import Tally

_AT_ONCE = 24  # short visits; if the machine can't keep up, they come later
_AWAY = 8.0  # seconds at most until somebody who stayed for some time comes again


class Load:
    """Clients, until it is over.

    Args:
        site: where they go.
        mint: what gives them credentials.
        tally: what is told of them.
        random: decides.

    Attributes:
        over: is set when everybody is to leave.
    """

    def __init__(self, site: Site, mint: Mint, tally: Tally, random: Random) -> None:
        self.over = asyncio.Event()
        self._site, self._mint, self._tally, self._random = site, mint, tally, random
        self._next = time.monotonic()

    async def run(self, rate: float, stay: int) -> None:
        """So many short visits in a second, and so many clients that stay for some time."""
        short = [self._keep_coming(SHORT, partial(self._turn, 1 / rate)) for _ in range(_AT_ONCE)]
        long = [self._keep_coming(LONG, self._away) for _ in range(stay)]
        await asyncio.gather(*short, *long)

    async def _keep_coming(self, mix: Mix, wait: Callable[[], Awaitable[None]]) -> None:
        weights = [weight for weight, _ in mix.values()]
        while True:
            await wait()
            if self.over.is_set():
                return
            (kind,) = self._random.choices(list(mix), weights)
            await self.play(kind, mix[kind][1])

    async def _turn(self, gap: float) -> None:
        """Wait, so that all who wait for turns keep this gap."""
        now = time.monotonic()
        self._next = max(self._next + gap, now - 1)
        await asyncio.sleep(max(0.0, self._next - now))

    async def _away(self) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.over.wait(), self._random.uniform(0, _AWAY))

    def only_at(self, worker: Worker) -> Load:
        """The same for one worker, who need not be open to everybody."""
        site = replace(self._site, workers=[worker])
        return Load(site, self._mint, self._tally, self._random)

    async def play(self, kind: str, scenario: Scenario) -> None:
        """Be one client of this kind."""
        client = Client(kind, self._site, self._mint, self._tally, self._random, self.over)
        try:
            await scenario(client)
        except Exception as exc:  # a scenario that breaks is a finding, too
            client.wrong("broken", repr(exc))
        finally:
            client.go()
