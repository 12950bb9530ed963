"""MemoryStore: a store for one process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple

import anyio

from asgi_wsauth.loops.tasks import from_any_thread
from asgi_wsauth.options import check_clock, check_count
from asgi_wsauth.stores.protocols import (
    Notice,
    RenewedSessions,
    SessionKey,
    Slot,
    Subject,
    TakenSlot,
)

__all__ = ["MemoryStore"]


class _Entry(NamedTuple):
    record: str
    owner: str
    gone_at: float


class MemoryStore:
    """A store in the memory of this process, for tasks and threads alike: tickets, revocations,
    connection slots and sessions. Several processes need a store that they share.

    Its memory is bounded: above `max_tickets` the oldest tickets are dropped, and those whose time
    has passed are dropped whenever the store is used. The fact that a ticket existed is remembered
    until its time has passed, for as many again, in 300 bytes each. Revocations are kept for their
    full time, about 400 bytes each, because one that is forgotten would let somebody in again.

    Args:
        max_tickets: how many tickets it may keep; the oldest are dropped. With usual claims, 20,000
            take about 20 MB.
        clock: a function that returns seconds since any fixed moment, for tests.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self, *, max_tickets: int = 20_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_tickets = check_count("MemoryStore: max_tickets", max_tickets)
        self._clock = check_clock("MemoryStore: clock", clock)
        self._lock = threading.Lock()
        # The oldest first. An ordered dict, because finding a plain one's first key takes longer
        # with every key that was taken out before it.
        self._tickets: OrderedDict[str, _Entry] = OrderedDict()
        self._owners: dict[str, dict[str, None]] = {}  # their digests, the oldest first
        self._gone: OrderedDict[str, float] = OrderedDict()  # until when they are remembered
        self._revocations: dict[Subject, _Revocation] = {}
        self._room = 1000  # how many of them there may be before those that are over are looked for
        self._slots: dict[str, list[str]] = {}  # by owner, the oldest first
        self._sessions: dict[str, str] = {}  # by id, what was put
        self._owned: dict[str, str | dict[str, None]] = {}  # by owner, the id, or several of them
        self._ended: dict[str, str] = {}  # by id, how, until it is dropped
        self._watches: list[_Watch] = []

    async def put_ticket(
        self, digest: str, record: str, /, *, owner: str, limit: int, ttl: float
    ) -> None:
        """See `TicketStore`."""
        with self._lock:
            now = self._clock()
            self._drop(digest)
            self._gone.pop(digest, None)
            self._drop_expired(now)
            self._tickets[digest] = _Entry(record, owner, now + ttl)
            owned = self._owners.setdefault(owner, {})
            owned[digest] = None
            if len(owned) > limit:
                for other in [d for d in owned if self._tickets[d].gone_at <= now]:
                    self._drop(other)
            while len(owned) > limit:
                self._use_up(next(iter(owned)))
            if len(self._tickets) > self._max_tickets:
                self._use_up(next(iter(self._tickets)))

    async def take_ticket(self, digest: str, /) -> str | None:
        """See `TicketStore`."""
        with self._lock:
            now = self._clock()
            entry = self._use_up(digest)
            self._drop_expired(now)
        return None if entry is None or entry.gone_at <= now else entry.record

    async def had_ticket(self, digest: str, /) -> bool:
        """See `TicketMemory`."""
        with self._lock:
            now = self._clock()
            return self._gone.get(digest, now) > now

    def _use_up(self, digest: str) -> _Entry | None:
        """Drop a ticket, and remember that it was there."""
        entry = self._drop(digest)
        if entry is not None:
            self._gone[digest] = entry.gone_at
            if len(self._gone) > self._max_tickets:
                self._gone.popitem(last=False)
        return entry

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
        before, gone = len(self._tickets), len(self._gone)
        while self._tickets:
            digest, entry = next(iter(self._tickets.items()))
            if entry.gone_at > now:
                break
            self._drop(digest)
        while self._gone and next(iter(self._gone.values())) <= now:
            self._gone.popitem(last=False)
        if len(self._tickets) < before // 2:  # a dict keeps the room that it once needed
            self._tickets = OrderedDict(self._tickets)
            self._owners = dict(self._owners)
        if len(self._gone) < gone // 2:
            self._gone = OrderedDict(self._gone)

    async def put_revocation(self, notice: Notice, /, *, ttl: float) -> None:
        """See `RevocationStore`."""
        with self._lock:
            self._put_revocation(notice, ttl)

    def _put_revocation(self, notice: Notice, ttl: float) -> None:
        now = self._clock()
        known = self._revocations.get(notice.subject, _Revocation(notice.until, 0.0))
        self._revocations[notice.subject] = _Revocation(
            max(notice.until, known.until), max(now + ttl, known.gone_at)
        )
        if len(self._revocations) > self._room:
            kept = {s: r for s, r in self._revocations.items() if r.gone_at > now}
            self._revocations, self._room = kept, max(1000, 2 * len(kept))
        self._tell(notice)

    async def replace_revocation(self, notice: Notice, /, *, ttl: float) -> None:
        """See `BlockStore`."""
        with self._lock:
            self._revocations.pop(notice.subject, None)
            if ttl > 0:
                self._put_revocation(notice, ttl)

    async def get_revocations(self, subjects: Sequence[Subject], /) -> Sequence[float | None]:
        """See `RevocationStore`."""
        with self._lock:
            return self._revoked(subjects)

    def _revoked(self, subjects: Sequence[Subject]) -> list[float | None]:
        now = self._clock()
        found = map(self._revocations.get, subjects)
        return [None if r is None or r.gone_at <= now else r.until for r in found]

    lease = None
    """See `SlotStore`: slots end with the process."""

    async def take_slot(
        self, slot: Slot, /, *, limit: int, evict: bool, subjects: Sequence[Subject] = ()
    ) -> TakenSlot:
        """See `SlotStore`."""
        owner, name = slot
        with self._lock:
            held = self._slots.setdefault(owner, [])
            if name not in held:
                while evict and len(held) >= limit:
                    self._tell(Notice(("slot", held.pop(0)), 0.0))
                if len(held) < limit:
                    held.append(name)
            return TakenSlot(name in held, self._revoked(subjects))

    async def renew_slots(self, slots: Sequence[Slot], /) -> Sequence[Slot]:
        """See `SlotStore`."""
        with self._lock:
            return [slot for slot in slots if slot[1] not in self._slots.get(slot[0], ())]

    async def release_slot(self, slot: Slot, /) -> None:
        """See `SlotStore`."""
        owner, name = slot
        with self._lock:
            held = self._slots.get(owner, [])
            if name in held:
                held.remove(name)
            if not held:
                self._slots.pop(owner, None)

    async def put_sessions(self, sessions: Sequence[tuple[SessionKey, str]], /) -> None:
        """See `SessionStore`."""
        with self._lock:
            for (owner, name), record in sessions:
                if name in self._ended:
                    continue
                self._sessions[name] = record
                owned = self._owned.get(owner)
                if isinstance(owned, dict):
                    owned[name] = None
                elif owned is None:
                    self._owned[owner] = name  # as most users have it, in a tenth of a dict's room
                elif owned != name:
                    self._owned[owner] = {owned: None, name: None}

    async def renew_sessions(self, keys: Sequence[SessionKey], /) -> RenewedSessions:
        """See `SessionStore`."""
        with self._lock:
            ended = [(name, self._ended[name]) for _, name in keys if name in self._ended]
            unknown = [
                key for key in keys if key[1] not in self._sessions and key[1] not in self._ended
            ]
            return RenewedSessions(unknown, ended)

    async def get_sessions(self, owner: str, /) -> Sequence[tuple[str, str]]:
        """See `SessionStore`."""
        with self._lock:
            owned = self._owned.get(owner, {})
            names = owned if isinstance(owned, dict) else (owned,)
            return [(name, self._sessions[name]) for name in names if name in self._sessions]

    async def drop_session(self, key: SessionKey, /) -> None:
        """See `SessionStore`."""
        owner, name = key
        with self._lock:
            self._sessions.pop(name, None)
            self._ended.pop(name, None)
            owned = self._owned.get(owner)
            if isinstance(owned, dict):
                owned.pop(name, None)
            if owned == name or owned == {}:
                del self._owned[owner]

    async def end_sessions(self, ids: Sequence[str], how: str, /, *, ttl: float) -> None:
        """See `SessionStore`."""
        with self._lock:
            for name in ids:
                if self._sessions.pop(name, None) is not None:
                    self._ended[name] = how
                    self._tell(Notice(("ended", name), 0.0))

    async def watch(self) -> AsyncGenerator[Sequence[Notice] | None, None]:
        """See `RevocationStore`."""
        watch = _Watch()
        with self._lock:
            self._watches.append(watch)
        try:
            yield None
            while True:
                yield await watch.next()
        finally:
            with self._lock:
                self._watches = [other for other in self._watches if other is not watch]

    def _tell(self, notice: Notice) -> None:
        self._watches = [watch for watch in self._watches if watch.put(notice)]

    def __repr__(self) -> str:
        return f"<MemoryStore with {len(self._tickets)} tickets>"


class _Revocation(NamedTuple):
    until: float
    gone_at: float


class _Watch:
    """Takes notices from any thread, and passes them on to one event loop."""

    def __init__(self) -> None:
        self._notices: deque[Notice] = deque()
        self._some = anyio.Event()
        self._call = from_any_thread()

    def put(self, notice: Notice) -> bool:
        """Whether anybody listens still: that event loop may have ended."""
        self._notices.append(notice)
        try:
            self._call(self._wake)
        except RuntimeError:
            return False
        return True

    def _wake(self) -> None:
        self._some.set()

    async def next(self) -> list[Notice]:
        await self._some.wait()
        self._some = anyio.Event()
        return [self._notices.popleft() for _ in range(len(self._notices))]
