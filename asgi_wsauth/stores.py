"""Where state is kept that outlives one handshake: small protocols, and a store in memory.

A store keeps strings, knows nothing of what they mean, and does each of its operations whole or not
at all, however many tasks, threads or processes ask at once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from asgi_wsauth.denial import check_count

__all__ = ["MemoryStore", "TicketStore"]


class TicketStore(Protocol):
    """Keeps records that can be taken out once."""

    async def put_ticket(
        self, digest: str, record: str, /, *, owner: str, limit: int, ttl: float
    ) -> None:
        """Keep a record.

        Args:
            digest: its key.
            record: what to keep.
            owner: whose it is.
            limit: how many records this owner may have; the oldest go.
            ttl: seconds after which it is to be gone.
        """
        ...

    async def take_ticket(self, digest: str, /) -> str | None:
        """The record, which is gone from now on; None where there is none. Of any number of calls
        for one digest, at most one gets the record."""
        ...


class _Entry(NamedTuple):
    record: str
    owner: str
    gone_at: float


class MemoryStore:
    """A store in the memory of this process, for tasks and threads alike. Several processes need a
    store that they share.

    Its memory is bounded: past `max_tickets` the oldest records go, and those whose time has passed
    go whenever the store is used.

    Args:
        max_tickets: how many records it may keep. With usual claims, 20,000 are about 20 MB.
        clock: gives seconds, from any moment on.

    Raises:
        ConfigurationError: `max_tickets` is no whole number above 0.
    """

    def __init__(
        self, *, max_tickets: int = 20_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_tickets = check_count("MemoryStore: max_tickets", max_tickets)
        self._clock = clock
        self._lock = threading.Lock()
        # The oldest first. An ordered dict, because finding a plain one's first key takes longer
        # with every key that was taken out before it.
        self._tickets: OrderedDict[str, _Entry] = OrderedDict()
        self._owners: dict[str, dict[str, None]] = {}  # their digests, the oldest first

    async def put_ticket(
        self, digest: str, record: str, /, *, owner: str, limit: int, ttl: float
    ) -> None:
        """See `TicketStore`."""
        with self._lock:
            now = self._clock()
            self._drop(digest)
            self._drop_expired(now)
            self._tickets[digest] = _Entry(record, owner, now + ttl)
            owned = self._owners.setdefault(owner, {})
            owned[digest] = None
            while len(owned) > limit:
                self._drop(next(iter(owned)))
            if len(self._tickets) > self._max_tickets:
                self._drop(next(iter(self._tickets)))

    async def take_ticket(self, digest: str, /) -> str | None:
        """See `TicketStore`."""
        with self._lock:
            now = self._clock()
            entry = self._drop(digest)
            self._drop_expired(now)
        return None if entry is None or entry.gone_at <= now else entry.record

    def _drop(self, digest: str) -> _Entry | None:
        entry = self._tickets.pop(digest, None)
        if entry is not None:
            owned = self._owners[entry.owner]
            del owned[digest]
            if not owned:
                del self._owners[entry.owner]
        return entry

    def _drop_expired(self, now: float) -> None:
        # Records with one time to live expire in their order. One that lives longer holds back
        # those behind it, until it goes itself; none of them can be taken any more.
        before = len(self._tickets)
        while self._tickets:
            digest, entry = next(iter(self._tickets.items()))
            if entry.gone_at > now:
                break
            self._drop(digest)
        if len(self._tickets) < before // 2:  # a dict keeps the room that it once needed
            self._tickets = OrderedDict(self._tickets)
            self._owners = dict(self._owners)

    def __repr__(self) -> str:
        return f"<MemoryStore with {len(self._tickets)} tickets>"
