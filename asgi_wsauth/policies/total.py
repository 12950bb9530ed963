"""How many sockets a process may have, whoever's they are: `Total`."""

from __future__ import annotations

from collections.abc import Hashable
from random import uniform
from threading import Lock

from asgi_wsauth.denial import Denied, Reason

__all__ = ["Total", "full_house"]

_RETRY_AFTER = 5.0, 15.0  # seconds, at random: refused clients are not to come back all at once


def full_house(detail: str) -> Denied:
    """What refuses one socket more. Nobody knows when another one closes, but a program that comes
    back at once only meets the same again."""
    retry_after = uniform(*_RETRY_AFTER)
    return Denied(Reason.TOO_MANY_CONNECTIONS, detail, retry_after=retry_after)


class Total:
    """The open sockets of this process that count together, on whatever thread and event loop.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[Hashable] = set()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._open)

    def check(self) -> None:
        """See whether there is room, for now.

        Raises:
            Denied: there is none (`Reason.TOO_MANY_CONNECTIONS`).
        """
        if len(self._open) >= self.most:
            raise full_house(f"{self.most} are open in this process")

    def take(self, socket: Hashable) -> None:
        """Take a place for `socket`, to be released in any case.

        Raises:
            Denied: there is none left (`Reason.TOO_MANY_CONNECTIONS`).
        """
        with self._lock:  # or two threads could take the last one
            self.check()
            self._open.add(socket)

    def release(self, socket: Hashable) -> None:
        """Release the place of `socket`, if it has one."""
        with self._lock:
            self._open.discard(socket)
