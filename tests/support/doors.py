"""A middleware with all of its parts, or revocations alone, and a clock that is moved."""

from __future__ import annotations

from typing import Any

from handshakes import NOW, Clock, Knows, authenticator
from sockets import left_over, pass_time

from asgi_wsauth import (
    Closed,
    Denied,
    Event,
    MemoryStore,
    Principal,
    Reason,
    Revocations,
    WebSocketAuthMiddleware,
)

__all__ = ["EXPIRED", "REVOKED", "Door", "Here", "alice"]

EXPIRED = (4001, "token_expired")
REVOKED = (4004, "token_revoked")


def alice(expires_in: float | None = 100, **more: Any) -> Principal:
    return Principal("alice", expires_at=expires_in and NOW + expires_in, **more)


class Door:
    """A middleware with all of its parts, for principals by their credentials."""

    def __init__(
        self,
        app: Any,
        auth: dict[str, Any] | None = None,
        /,
        *,
        known: Any = None,
        verifiers: Any = None,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.store = MemoryStore(clock=self.clock)
        self.revocations = Revocations(self.store, clock=self.clock)
        self.knows = Knows(**(known or {"a": alice()}))
        parts = {
            "clock": self.clock,
            "revocations": self.revocations,
            "observers": [self.events.append],
        }
        verifiers = verifiers or [self.knows]
        self.auth = authenticator(*verifiers, **{**parts, **(auth or {})})
        self.middleware = WebSocketAuthMiddleware(app, self.auth, **options)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.middleware(scope, receive, send)

    def pass_time(self, seconds: float) -> None:
        pass_time(self.clock, seconds)

    @property
    def told(self) -> list[str]:
        """The names of all events."""
        return [event.name for event in self.events]

    @property
    def closed(self) -> Closed:
        """What was told of the one end."""
        (event,) = [event for event in self.events if isinstance(event, Closed)]
        return event

    @property
    def left_over(self) -> list[str]:
        return left_over(self.middleware, self.clock)


class Here:
    """Revocations at NOW, in a store of their own."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.revocations = Revocations(self.store, clock=self.clock, **options)

    async def refuses(self, principal: Principal) -> bool:
        try:
            await self.revocations.check(principal)
        except Denied as denied:
            assert denied.reason is Reason.REVOKED
            return True
        return False
