"""Listens to a store, once per event loop, and catches up on what was missed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from random import uniform
from typing import Protocol

import anyio

from asgi_wsauth.events import logger
from asgi_wsauth.loops.tasks import spawn
from asgi_wsauth.stores.protocols import Notice

__all__ = ["Listener", "Watched"]

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two tries to reach a store


class Watched(Protocol):
    """A store that reports what changes in it."""

    def watch(self) -> AsyncGenerator[Sequence[Notice] | None, None]:
        """See `RevocationStore`."""
        ...


class Listener:
    """Watches a store for as long as the event loop runs.

    Args:
        store: the store to watch.
        hear: called with its notices.
        catch_up: called when a watch begins: anything may have been missed until then.
    """

    def __init__(
        self,
        store: Watched,
        hear: Callable[[Sequence[Notice]], Awaitable[None]],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._hear = hear
        self._catch_up = catch_up
        self._cut_off = self._heard = False
        spawn(self._run)

    async def _run(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            self._heard = False
            try:
                await self._watch()
                why = "its watch ended"
            except Exception as exc:
                why = type(exc).__qualname__
            if not self._cut_off:
                self._cut_off = True
                logger.warning("cut off from %r: %s", self._store, why)
            pause = _SHORTEST_PAUSE if self._heard else min(2 * pause, _LONGEST_PAUSE)
            await anyio.sleep(uniform(pause / 2, pause))

    async def _watch(self) -> None:
        async with aclosing(self._store.watch()) as watch:
            async for notices in watch:
                if notices is not None:
                    await self._hear(notices)
                    continue
                await self._catch_up()
                self._heard = True
                if self._cut_off:
                    self._cut_off = False
                    logger.warning("hears %r again", self._store)
