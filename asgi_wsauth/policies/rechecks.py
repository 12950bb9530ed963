"""Logins of open sockets that are looked at again from time to time: `RecheckSchedule`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from random import uniform
from typing import Protocol

import anyio.lowlevel

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import logger, raised
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.loops.tasks import spawn
from asgi_wsauth.loops.timers import Timer, timers

__all__ = ["RecheckSchedule", "Rechecked"]

_AT_ONCE = 20  # rechecks
_SPREAD = 0.1  # of the time between two rechecks of a socket, earlier or later
_FINEST = 0.5  # seconds between two looks for those that are due, at most

_ENDING = (Reason.REVOKED, Reason.FORBIDDEN, Reason.EXPIRED)


class Rechecked(Protocol):
    """An open socket whose login can be decided about again."""

    async def recheck(self) -> None:
        """Decide.

        Raises:
            Denied: it is good no more, or that can't be told.
        """
        ...

    def end(self, denied: Denied, /) -> None:
        """Close it, soon."""
        ...


class RecheckSchedule:
    """Decides again about the logins of open sockets, one after the other: none has a task or a
    timer of its own.

    Each is due after `seconds`, a tenth more or less, so that those that came together are spread.
    At most twenty are asked about at once. Who is revoked, forbidden or expired is closed. Any
    other failure closes nothing: what failed is tried again after a second, and then after pauses
    that double, up to the time between two rechecks.

    Args:
        seconds: the time between two rechecks of a socket.
        clock: gives Unix time in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._here: PerLoop[_Here] = PerLoop()

    def register(self, socket: Rechecked) -> None:
        """Recheck `socket` from now on."""
        self._here.get_or_make(lambda: _Here(self._seconds, self._clock)).add(socket)

    def unregister(self, socket: Rechecked) -> None:
        """`socket` is closed. One that was never registered is no error."""
        here = self._here.get()
        if here is not None:
            here.remove(socket)


class _Here:
    """The sockets of one event loop."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._due: dict[Rechecked, float] = {}  # when; never, while a socket is in the queue
        self._queue: deque[Rechecked] = deque()
        self._workers = 0
        self._failures: dict[Rechecked, int] = {}  # in a row, of those that failed last
        self._timer: Timer | None = None
        self._wakes_at = inf

    def add(self, socket: Rechecked) -> None:
        self._set(socket, self._seconds * uniform(1 - _SPREAD, 1 + _SPREAD))

    def remove(self, socket: Rechecked) -> None:
        self._due.pop(socket, None)
        self._failures.pop(socket, None)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, socket: Rechecked, seconds: float) -> None:
        due = self._due[socket] = self._clock() + seconds
        self._wake(due)

    def _wake(self, when: float) -> None:
        if self._timer is not None:
            if self._wakes_at <= when:
                return
            self._timer.cancel()
        self._wakes_at = when
        self._timer = timers(self._clock).call_at(when, self._look)

    def _look(self) -> None:
        """Put those that are due into the queue. They are looked for among all, which takes less
        than their order would: half a millisecond for ten thousand."""
        self._timer = None
        now = self._clock()
        for socket in [socket for socket, due in self._due.items() if due <= now]:
            self._due[socket] = inf
            self._queue.append(socket)
        for _ in range(min(_AT_ONCE - self._workers, len(self._queue))):
            self._workers += 1
            spawn(self._work)
        following = min(self._due.values())  # there are some, or there would be no timer
        self._wake(max(following, now + min(_FINEST, self._seconds / 20)))

    async def _work(self) -> None:
        try:
            while self._queue:
                socket = self._queue.popleft()
                if socket in self._due:
                    await self._recheck(socket)
                await anyio.lowlevel.checkpoint()
        finally:
            self._workers -= 1

    async def _recheck(self, socket: Rechecked) -> None:
        failure: Denied | None = None
        try:
            await socket.recheck()
        except Exception as exc:
            failure = exc if isinstance(exc, Denied) else Denied.because("a recheck", exc)
        if failure is not None and failure.reason in _ENDING:
            socket.end(failure)
        elif socket in self._due:  # it has not left meanwhile
            if failure is not None:
                self._try_again(socket, failure)
                return
            self.add(socket)
            if self._failures.pop(socket, None) and not self._failures:
                logger.warning("all logins can be rechecked again")

    def _try_again(self, socket: Rechecked, denied: Denied) -> None:
        if not self._failures:
            cause = denied if denied.__cause__ is None else denied.__cause__
            logger.warning(
                "a login can't be rechecked (%s, %s); it is tried again",
                denied.reason.phrase,
                raised(cause)[0],
            )
        number = self._failures[socket] = self._failures.get(socket, 0) + 1
        pause = min(self._seconds, 2.0 ** min(number - 1, 20))
        self._set(socket, pause * uniform(1 - _SPREAD, 1))
