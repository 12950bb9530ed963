"""The sockets that were accepted and have said nothing yet: how many there may be, and whose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asgi_wsauth.denial import Denied, Reason, SaidNothing
from asgi_wsauth.loops.tasks import Breakable
from asgi_wsauth.scope.addresses import share_of

__all__ = ["SaidNothing", "WaitingRoom"]


class WaitingRoom:
    """The places of one process, of which each address may have some.

    Where all are taken, the address that has the most of them gives way, with the socket that has
    waited longest, for one of an address that has fewer. A peer without an address has no share of
    its own: everybody behind a Unix socket is such a one.

    Args:
        most: sockets that may wait.
        most_each: sockets of one address that may.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._waiting = 0
        self._of: dict[str | None, dict[Breakable, None]] = {}  # who waits longest comes first

    def __len__(self) -> int:
        return self._waiting

    @contextmanager
    def place(self, client: str | None) -> Iterator[Breakable]:
        """While one socket waits.

        Args:
            client: what `client_host` returned.

        Yields:
            What to wait in. It is broken, or broken off, where the socket has to give way.

        Raises:
            Denied: with `Reason.TOO_MANY_CONNECTIONS`.
        """
        share = share_of(client)
        number = len(self._of.get(share, ()))
        if share is not None and number >= self._most_each:
            raise Denied(
                Reason.TOO_MANY_CONNECTIONS, f"{number} of {share} are waiting to send one"
            )
        if self._waiting >= self._most:
            self._make_room(number)
        wait = Breakable()
        self._of.setdefault(share, {})[wait] = None
        self._waiting += 1
        try:
            yield wait
        finally:
            self._remove(share, wait)

    def _make_room(self, number: int) -> None:
        """Have another socket give way for one of an address that has `number`."""
        fullest = max(self._of, key=lambda share: len(self._of[share]))
        if len(self._of[fullest]) <= number:
            raise Denied(Reason.TOO_MANY_CONNECTIONS, f"{self._waiting} wait for a first message")
        longest = next(iter(self._of[fullest]))
        self._remove(fullest, longest)
        longest.break_off()

    def _remove(self, share: str | None, wait: Breakable) -> None:
        waits = self._of.get(share, {})
        if wait in waits:
            del waits[wait]
            self._waiting -= 1
            if not waits:
                del self._of[share]
