"""What a login knows of the connection that the app runs on."""

from __future__ import annotations

from typing import Protocol

from asgi_wsauth.denial import Denied

__all__ = ["Listed", "LiveConnection"]


class LiveConnection(Protocol):
    """A socket that the app is running on."""

    @property
    def denied(self) -> Denied | None:
        """Why it was ended here; None if it wasn't."""
        ...

    @property
    def close_code(self) -> int | None:
        """The code that it was ended with here; None if it wasn't."""
        ...

    @property
    def needs_refresh(self) -> bool:
        """Whether it ends without a new credential, even if the present one never expires."""
        ...

    def end(self, denied: Denied, /) -> None:
        """End it, soon. The first end counts."""
        ...

    async def close(self, denied: Denied, /) -> None:
        """End it, and wait until the client has been sent the code."""
        ...

    def reschedule(self) -> None:
        """Set the timers anew: the login's end has moved."""
        ...


class Listed(Protocol):
    """A socket's entry in `Sessions`."""

    def is_of(self, connection: object, /) -> bool:
        """Whether this connection had it listed."""
        ...

    def note_refresh(self) -> None:
        """A new credential has taken over."""
        ...

    async def remove(self) -> None:
        """Take it off the list."""
        ...
