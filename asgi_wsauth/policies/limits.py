"""How many sockets a user may have: `ConnectionLimit`."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from typing import Literal, TypeAlias, get_args

import anyio

from asgi_wsauth.credential import full_name
from asgi_wsauth.denial import Denied, FailsClosed, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.loops.tasks import spawn
from asgi_wsauth.options import ConfigurationError, check_choice, check_count, check_store, shown
from asgi_wsauth.policies.live_sockets import LiveSocket
from asgi_wsauth.stores.listener import Listener
from asgi_wsauth.stores.protocols import Notice, Slot, SlotStore, Subject

__all__ = ["ConnectionLimit", "Overflow"]

Overflow: TypeAlias = Literal["reject", "evict_oldest"]


class ConnectionLimit:
    """How many sockets each user may have open at once, in all processes that share the store. The
    same identity at two issuers is two users.

    Args:
        limit: the maximum number of open sockets per user.
        store: where they are counted: `MemoryStore()`, or a store that several processes share.
        overflow: what happens to one more: `reject` refuses it, `evict_oldest` closes the user's
            oldest one; the reason is TOO_MANY_CONNECTIONS either way.
        name: limits that count separately in one store have different names.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self, limit: int, store: SlotStore, *, overflow: Overflow = "reject", name: str = ""
    ) -> None:
        methods = ("take_slot", "renew_slots", "release_slot", "watch")
        check_store("ConnectionLimit: store", store, *methods)
        self.limit = check_count("ConnectionLimit: limit", limit)
        self.store = store
        self.overflow: Overflow = check_choice(
            "ConnectionLimit: overflow", overflow, get_args(Overflow)
        )
        if not isinstance(name, str):
            raise ConfigurationError(f"ConnectionLimit: name must be a string, got {shown(name)}")
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
        here = self._slots_here()
        here.names[socket] = token_hex(8)
        slot = here.slot(socket)
        with FailsClosed(self.store):
            taken, revoked = await self.store.take_slot(
                slot, limit=self.limit, evict=self.overflow == "evict_oldest", subjects=subjects
            )
        if not taken:
            del here.names[socket]
            raise Denied(Reason.TOO_MANY_CONNECTIONS, f"{self.limit} are open")
        here.keep(socket)
        return revoked

    async def release_slot(self, socket: LiveSocket) -> None:
        """Release the slot of `socket`, if it has one."""
        slot = self._slots_here().remove(socket)
        if slot is not None:
            try:
                await self.store.release_slot(slot)
            except Exception as exc:  # it will end with its lease
                logger.warning("a slot in %r stays: %s", self.store, type(exc).__qualname__)

    def _slots_here(self) -> _Here:
        listens = self.overflow == "evict_oldest"
        return self._here.get_or_make(lambda: _Here(self.store, self._name, listens=listens))

    def __repr__(self) -> str:
        return f"<ConnectionLimit of {self.limit} in {self.store!r}>"


class _Here:
    """The slots of one event loop.

    Attributes:
        names: for each socket its slot's name, from before it is asked for.
    """

    def __init__(self, store: SlotStore, limit: str, *, listens: bool) -> None:
        self.names: dict[LiveSocket, str] = {}
        self._store = store
        self._limit = limit.replace("%", "%25").replace(":", "%3A")  # or it could go on as a user
        self._kept: dict[str, LiveSocket] = {}  # whose slot is taken for sure, by the slot's name
        self._renews = False
        if listens:
            Listener(store, self._hear, self._renew)

    def slot(self, socket: LiveSocket) -> Slot:
        """The slot of `socket`."""
        principal = socket.principal
        user = full_name(principal.identity, principal.issuer)
        return f"{self._limit}:{user}", self.names[socket]

    def keep(self, socket: LiveSocket) -> None:
        """The slot of `socket` is taken."""
        self._kept[self.names[socket]] = socket
        if self._store.lease is not None and not self._renews:
            self._renews = True
            spawn(self._keep_renewing)

    def remove(self, socket: LiveSocket) -> Slot | None:
        """Let go of a socket; the slot that it had."""
        if socket not in self.names:
            return None
        slot = self.slot(socket)
        del self.names[socket]
        self._kept.pop(slot[1], None)
        return slot

    async def _hear(self, notices: Sequence[Notice]) -> None:
        for (kind, name), _ in notices:
            if kind == "slot":
                self._evict(name)

    def _evict(self, name: str) -> None:
        socket = self._kept.get(name)
        if socket is not None:
            socket.end(Denied(Reason.TOO_MANY_CONNECTIONS, "a newer socket took its place"))

    async def _renew(self) -> None:
        slots = [self.slot(socket) for socket in self._kept.values()]
        for _, name in await self._store.renew_slots(slots):
            self._evict(name)
        for slot in slots:
            if slot[1] not in self._kept:  # released while it was renewed
                await self._store.release_slot(slot)

    async def _keep_renewing(self) -> None:
        try:
            while self._kept:
                pause = (self._store.lease or 0.0) / 3
                try:
                    await self._renew()
                except Exception as exc:
                    logger.warning("%r can't be renewed: %s", self._store, type(exc).__qualname__)
                    pause = min(1.0, pause)
                await anyio.sleep(pause)
        finally:
            self._renews = False
