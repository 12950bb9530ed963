"""The end of a process, as its sockets see it: `Draining`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import sample, uniform
from weakref import WeakSet

import anyio
from anyio.lowlevel import checkpoint

from asgi_wsauth.connection.closing import PATIENCE
from asgi_wsauth.connection.handshake import Handshake
from asgi_wsauth.connection.live import LiveConnection
from asgi_wsauth.connection.session import Login
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.loops.tasks import from_any_thread, spawn
from asgi_wsauth.loops.timers import Timers, timers

__all__ = ["Crowd", "Draining"]

_AT_ONCE = 5  # sockets that are ended between two turns of the event loop
_RETRY_AFTER = 1.0, 5.0  # seconds, at random: refused clients are not to come back all at once
_LONGEST = 10.0  # seconds after that, for which another event loop is waited for


class Draining:
    """Which sockets a middleware has, and whether it is ending them all.

    Args:
        clock: gives Unix time in seconds.

    Attributes:
        has_begun: whether nobody is admitted any more.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.has_begun = False
        self._clock = clock
        self._here: PerLoop[Crowd] = PerLoop()
        self._everywhere: WeakSet[Crowd] = WeakSet()
        self._lock = threading.Lock()

    def crowd(self) -> Crowd:
        """The sockets of the running event loop."""
        return self._here.get_or_make(self._new_crowd)

    def _new_crowd(self) -> Crowd:
        crowd = Crowd(timers(self._clock))
        with self._lock:
            self._everywhere.add(crowd)
        return crowd

    def refusal(self) -> Denied:
        """What a client is refused with."""
        return Denied(
            Reason.RESTARTING, "the process is about to end", retry_after=uniform(*_RETRY_AFTER)
        )

    async def drain(self, over: float) -> None:
        """Admit nobody any more, end all sockets at random moments within `over` seconds, and wait
        until they are gone or closed. Those of other event loops end there."""
        self.has_begun = True
        mine = self.crowd()
        with self._lock:
            others = [crowd for crowd in self._everywhere if crowd.open and crowd is not mine]
        number = sum(len(crowd.open) for crowd in (mine, *others))
        if number:
            logger.info("draining: %d sockets end within %g s", number, over)
        latest = anyio.current_time() + over + _LONGEST
        ended = [crowd.end_all_from_elsewhere(over) for crowd in others]
        await mine.end_all(over)
        # A loop may have come to its own end meanwhile.
        with anyio.CancelScope(deadline=latest):
            for event in ended:
                await event.wait()


class Crowd:
    """The sockets of one middleware on one event loop.

    Args:
        timers: see below.

    Attributes:
        open: all of them, from the handshake on; with the login, once the app runs.
        timers: those of the event loop, by the authenticator's clock.
    """

    def __init__(self, timers: Timers) -> None:
        self.timers = timers
        self.open: dict[Handshake, Login | None] = {}
        self._call = from_any_thread()
        self._one_left: anyio.Event | None = None

    def leave(self, handshake: Handshake) -> None:
        """This one is over."""
        del self.open[handshake]
        if self._one_left is not None:
            self._one_left.set()

    async def end_all(self, over: float) -> None:
        """End all that are open, at random moments within `over` seconds. No two share one on
        purpose, so that their clients don't come back together."""
        begun = anyio.current_time()
        those = sample(list(self.open), len(self.open))
        denied = Denied(Reason.RESTARTING, "the process is about to end")
        moments = sorted(begun + uniform(0, over) for _ in those)
        for number, (handshake, moment) in enumerate(zip(those, moments, strict=True)):
            if moment > anyio.current_time():
                await anyio.sleep_until(moment)
            elif number % _AT_ONCE == 0:
                await checkpoint()
            self._end(handshake, denied)
        await self._until_told(those, denied)

    def _end(self, handshake: Handshake, denied: Denied) -> None:
        connection = self._connection(handshake)
        if connection is None:
            handshake.interrupt(denied)
        else:
            connection.end(denied)

    def _connection(self, handshake: Handshake) -> LiveConnection | None:
        """What the app runs on, if it does."""
        login = self.open.get(handshake)
        return None if login is None else login.connection

    async def _until_told(self, those: list[Handshake], denied: Denied) -> None:
        await self._until_gone([one for one in those if self.open.get(one, denied) is None])
        for handshake in those:
            connection = self._connection(handshake)
            if connection is not None:
                await connection.close(denied)
        with anyio.move_on_after(PATIENCE):  # apps may go on for longer
            await self._until_gone(those)

    async def _until_gone(self, those: list[Handshake]) -> None:
        while those := [one for one in those if one in self.open]:
            if self._one_left is None or self._one_left.is_set():
                self._one_left = anyio.Event()
            await self._one_left.wait()

    def end_all_from_elsewhere(self, over: float) -> anyio.Event:
        """`end_all`, asked for by another thread, whose event is set when that is done."""
        ended = anyio.Event()
        call = from_any_thread()

        async def end_all() -> None:
            try:
                await self.end_all(over)
            finally:
                with suppress(RuntimeError):  # that loop has ended
                    call(ended.set)

        try:
            self._call(partial(spawn, end_all))
        except RuntimeError:  # this one has
            ended.set()
        return ended
