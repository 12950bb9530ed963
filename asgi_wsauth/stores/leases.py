"""What a store keeps only for as long as it is renewed: `Leases`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sized
from typing import Protocol

import anyio

from asgi_wsauth.events import logger
from asgi_wsauth.loops.tasks import spawn

__all__ = ["Leased", "Leases"]


class Leased(Protocol):
    """A store that forgets what isn't renewed."""

    @property
    def lease(self) -> float | None:
        """Seconds for which something is kept; None for as long as it is not released."""
        ...


class Leases:
    """Renews what an event loop has in a store, three times in each lease, for as long as it has
    anything; after a failure, each second. The log says when it begins to fail, and when that is
    over.

    Args:
        store: where it is.
        what: what it is, as a plural for the log.
        held: all of it.
        renew: renews it.

    Attributes:
        is_running: whether it renews anything now.
    """

    def __init__(
        self, store: Leased, what: str, held: Sized, renew: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._what = what
        self._held = held
        self._renew = renew
        self.is_running = False
        self._fails = False

    def keep(self) -> None:
        """Begin, unless that was done, or the store needs none of it."""
        if self._store.lease is not None and not self.is_running:
            self.is_running = True
            spawn(self._run)

    async def _run(self) -> None:
        try:
            while self._held:
                pause = (self._store.lease or 0.0) / 3
                try:
                    await self._renew()
                except Exception as exc:
                    self._note(exc)
                    pause = min(1.0, pause)
                else:
                    self._note(None)
                await anyio.sleep(pause)
        finally:
            self.is_running = False

    def _note(self, exc: Exception | None) -> None:
        if exc is not None and not self._fails:
            why = type(exc).__qualname__
            logger.warning("%s in %r can't be renewed: %s", self._what, self._store, why)
        elif exc is None and self._fails:
            logger.warning("%s in %r are renewed again", self._what, self._store)
        self._fails = exc is not None
