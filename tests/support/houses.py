"""A door that lists its sockets, by hand and without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from doors import Door, alice
from sockets import LEFT, Seat, Wire, running, until

from asgi_wsauth import MemoryStore, SessionEntry, Sessions

__all__ = ["FAR", "House", "one", "open_in"]

FAR = 100_000  # seconds that a login lives


class House(Door):
    """A door that lists its sockets."""

    def __init__(
        self,
        app: Any = None,
        *,
        listing: Any = None,
        store: Any = None,
        known: Any = None,
        **more: Any,
    ) -> None:
        self.seat = Seat() if app is None else app
        self.sessions = Sessions(
            MemoryStore() if store is None else store, clock=lambda: self.clock(), **(listing or {})
        )
        super().__init__(
            self.seat, known=known or {"a": alice(FAR)}, **{"sessions": self.sessions, **more}
        )

    async def listed(self, identity: str = "alice", **more: Any) -> list[str]:
        return [entry.id for entry in await self.sessions.list(identity, **more)]


@asynccontextmanager
async def open_in(
    house: Any, query: str = "token=a", **handshake: Any
) -> AsyncIterator[tuple[Wire, Seat]]:
    """An open socket, whose client leaves at the end of the block."""
    async with running(house, query, **handshake) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        yield wire, house
        wire.put(LEFT)


async def one(house: House, identity: str = "alice") -> SessionEntry:
    (entry,) = await house.sessions.list(identity)
    return entry
