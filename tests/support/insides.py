"""What the package keeps to itself, and a test wants to see: mostly that nothing is kept of what is
over. Other tests know no private name of the package's objects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from asgi_wsauth import (
    ConnectionLimit,
    FailureThrottle,
    MemoryStore,
    Revocations,
    Sessions,
    WebSocketAuthMiddleware,
)

__all__ = [
    "add_crowd",
    "counts_of",
    "has_slots_here",
    "is_renewing",
    "listed_here",
    "open_in",
    "places_of",
    "sessions_of",
    "slots_here",
    "slots_of",
    "sockets_of",
    "tickets_of",
]


def counts_of(throttle: FailureThrottle) -> Mapping[Any, Any]:
    """The addresses of which this process counts something."""
    return throttle._here._of


def slots_of(store: Any) -> Mapping[str, Collection[Any]]:
    """Owner -> the slots that a store has for it."""
    assert isinstance(store, MemoryStore)
    return store._slots


def tickets_of(store: MemoryStore) -> Collection[Any]:
    return store._tickets


def sockets_of(revocations: Revocations) -> list[Any]:
    """The guards of the sockets that end when their login does, on this event loop."""
    here: Any = revocations._here.get()
    return [] if here is None else list(here.sockets)


def slots_here(limit: ConnectionLimit) -> list[str]:
    """The slots that sockets of this event loop have."""
    here: Any = limit._here.get()
    return [] if here is None else list(here._kept)


def places_of(limit: ConnectionLimit) -> int:
    """How many sockets of this process are open, where it has a limit for all of them."""
    return 0 if limit.in_process is None else len(limit.in_process)


def has_slots_here(limit: ConnectionLimit) -> bool:
    """Whether sockets of this event loop have slots, or ask for some."""
    here: Any = limit._here.get()
    return here is not None and bool(here.names or here._kept)


def is_renewing(limit: ConnectionLimit) -> bool:
    """Whether slots of this event loop are renewed."""
    here: Any = limit._here.get()
    return here is not None and bool(here._leases.is_running)


def open_in(middleware: WebSocketAuthMiddleware) -> list[Any]:
    """The sockets and handshakes of this event loop that `drain` would end."""
    return list(middleware._draining.crowd().open)


def add_crowd(middleware: WebSocketAuthMiddleware, crowd: Any) -> None:
    """Have the sockets of another event loop drained, too."""
    middleware._draining._everywhere.add(crowd)


def listed_here(sessions: Sessions) -> list[str]:
    """The ids of the sockets of this event loop that are listed."""
    here: Any = sessions._here.get()
    return [] if here is None else list(here.sockets)


def sessions_of(store: Any) -> list[Any]:
    """All that a store keeps of sessions."""
    assert isinstance(store, MemoryStore)
    return [*store._sessions, *store._owned, *store._ended]
