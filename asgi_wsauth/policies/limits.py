"""How many sockets a user may have, and how many a process may: `ConnectionLimit`."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from typing import Literal, TypeAlias, cast, get_args, overload

from asgi_wsauth.credential import full_name
from asgi_wsauth.denial import Denied, FailsClosed, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.options import ConfigurationError, check_choice, check_count, check_store, shown
from asgi_wsauth.policies.live_sockets import LiveSocket
from asgi_wsauth.policies.total import Total, full_house
from asgi_wsauth.stores.leases import Leases
from asgi_wsauth.stores.listener import Listener
from asgi_wsauth.stores.protocols import Notice, Slot, SlotStore, Subject

__all__ = ["ConnectionLimit", "Overflow"]

Overflow: TypeAlias = Literal["reject", "evict_oldest"]
"""What happens to one socket more than a user may have."""


class ConnectionLimit:
    """How many sockets there may be: of each user in all processes that share the store, in this
    process altogether, or both: `ConnectionLimit(3, store, total=5000)`.

    The same identity at two issuers is two users, each with the limit of a user; while login is
    off, there is no such limit. `total` counts everybody who was admitted, even then, by all
    middlewares that have this object, on all threads and event loops of the process. Once that many
    are open, handshakes are refused before their credentials are looked at. Only what was admitted
    takes a place, so strangers can't use the places up; clients that were refused, and clients that
    haven't sent their first message yet, are limited separately. Of two middlewares, one inside the
    other, each counts: they need one object each.

    Args:
        limit: the maximum number of open sockets per user; None for any.
        store: where the sockets of each user are counted: `MemoryStore()`, or a store that several
            processes share.
        total: the maximum number of open sockets in this process; None for any. Keep it below what
            its memory and file descriptors allow.
        overflow: what happens to one socket more than a user may have: `"reject"` refuses it,
            `"evict_oldest"` closes the user's oldest one; the reason is TOO_MANY_CONNECTIONS either
            way. Above `total`, a new one is always refused.
        name: a name of its own, if several limits in one store count separately.

    Raises:
        ConfigurationError: an option can't work.
    """

    @overload
    def __init__(
        self,
        limit: int,
        store: SlotStore,
        *,
        total: int | None = None,
        overflow: Overflow = "reject",
        name: str = "",
    ) -> None: ...
    @overload
    def __init__(self, *, total: int) -> None: ...
    def __init__(
        self,
        limit: int | None = None,
        store: SlotStore | None = None,
        *,
        total: int | None = None,
        overflow: Overflow = "reject",
        name: str = "",
    ) -> None:
        self.overflow: Overflow = check_choice(
            "ConnectionLimit: overflow", overflow, get_args(Overflow)
        )
        if not isinstance(name, str):
            raise ConfigurationError(f"ConnectionLimit: name must be a string, got {shown(name)}")
        if limit is None and store is None:
            _check_total_alone(total, overflow=overflow, name=name)
        else:
            methods = ("take_slot", "renew_slots", "release_slot", "watch")
            check_store("ConnectionLimit: store", store, *methods)
            check_count("ConnectionLimit: limit", cast(int, limit))
        if total is not None:
            check_count("ConnectionLimit: total", total)
        self.limit = limit
        self.store = store
        self.total = total
        self.in_process = None if total is None else Total(total)
        self._name = name
        self._here: PerLoop[_Here] = PerLoop()

    def counts_in(self, store: object) -> bool:
        """Whether the slots are in this store."""
        return self.store is store

    async def take_slot(
        self, socket: LiveSocket, subjects: Sequence[Subject] = ()
    ) -> Sequence[float | None]:
        """Take a slot for `socket`, to be released in any case.

        Args:
            socket: what it is for.
            subjects: what to look up among the store's revocations on the same way.

        Returns:
            for each subject, until when it is revoked.

        Raises:
            Denied: there is none left (`Reason.TOO_MANY_CONNECTIONS`), or the store fails
                (`Reason.UNAVAILABLE`).
        """
        assert self.limit is not None and self.store is not None
        here = self._slots_here()
        slot = here.ask(socket)
        with FailsClosed(self.store):
            taken, revoked = await self.store.take_slot(
                slot, limit=self.limit, evict=self.overflow == "evict_oldest", subjects=subjects
            )
        if not taken:
            here.remove(socket)
            raise full_house(f"{self.limit} are open")
        here.keep(socket)
        return revoked

    async def release_slot(self, socket: LiveSocket) -> None:
        """Release the slot of `socket`, if it has one."""
        slot = self._slots_here().remove(socket)
        if slot is not None:
            assert self.store is not None
            try:
                await self.store.release_slot(slot)
            except Exception as exc:  # it will end with its lease
                logger.warning("a slot in %r stays: %s", self.store, type(exc).__qualname__)

    def _slots_here(self) -> _Here:
        store, listens = self.store, self.overflow == "evict_oldest"
        assert store is not None
        return self._here.get_or_make(lambda: _Here(store, self._name, listens=listens))

    def __repr__(self) -> str:
        parts = [] if self.store is None else [f"{self.limit} in {self.store!r}"]
        parts += [] if self.total is None else [f"{self.total} in all"]
        return f"<ConnectionLimit of {', '.join(parts)}>"


def _check_total_alone(total: int | None, **options: str) -> None:
    """Raises `ConfigurationError` unless that is enough."""
    if total is None:
        raise ConfigurationError(
            "ConnectionLimit: limit or total must be given; write for example "
            "ConnectionLimit(3, MemoryStore()) or ConnectionLimit(total=5000)"
        )
    if options != {"overflow": "reject", "name": ""}:
        raise ConfigurationError(
            "ConnectionLimit: limit must be given with overflow and name, which are about the "
            "sockets of each user, got None"
        )


class _Here:
    """The slots of one event loop.

    Attributes:
        names: for each socket its slot's name, from before it is asked for.
    """

    def __init__(self, store: SlotStore, limit: str, *, listens: bool) -> None:
        self.names: dict[LiveSocket, str] = {}
        self._store = store
        self._limit = limit.replace("%", "%25").replace(":", "%3A")  # or it could go on as a user
        # By the names of their slots: those that may have been taken, and those that are for sure.
        self._asked: dict[str, LiveSocket] = {}
        self._kept: dict[str, LiveSocket] = {}
        self._leases = Leases(store, "slots", self._kept, self._renew)
        if listens:
            Listener(store, self._hear, self._renew)

    def ask(self, socket: LiveSocket) -> Slot:
        """The slot that is asked for."""
        name = self.names[socket] = token_hex(8)
        self._asked[name] = socket
        return self.slot(socket)

    def slot(self, socket: LiveSocket) -> Slot:
        """The slot of `socket`."""
        principal = socket.principal
        user = full_name(principal.identity, principal.issuer)
        return f"{self._limit}:{user}", self.names[socket]

    def keep(self, socket: LiveSocket) -> None:
        """The slot of `socket` is taken."""
        name = self.names[socket]
        del self._asked[name]
        self._kept[name] = socket
        self._leases.keep()

    def remove(self, socket: LiveSocket) -> Slot | None:
        """Let go of a socket; the slot that it had."""
        if socket not in self.names:
            return None
        slot = self.slot(socket)
        del self.names[socket]
        self._asked.pop(slot[1], None)
        self._kept.pop(slot[1], None)
        return slot

    async def _hear(self, notices: Sequence[Notice]) -> None:
        for (kind, name), _ in notices:
            if kind == "slot":
                self._evict(name)

    def _evict(self, name: str) -> None:
        # The notice may come before the answer that the slot is taken.
        socket = self._kept.get(name) or self._asked.get(name)
        if socket is not None:
            socket.end(Denied(Reason.TOO_MANY_CONNECTIONS, "a newer socket took its place"))

    async def _renew(self) -> None:
        slots = [self.slot(socket) for socket in self._kept.values()]
        for _, name in await self._store.renew_slots(slots):
            self._evict(name)
        for slot in slots:
            if slot[1] not in self._kept:  # released while it was renewed
                await self._store.release_slot(slot)
