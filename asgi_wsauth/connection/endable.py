"""What may be ended from outside while an app runs on it: `Endable`, the part of a guard that knows
neither sockets nor streams.

It owns the phase; see `phases` for all that can happen.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from asyncio import current_task
from collections.abc import Awaitable
from functools import partial
from typing import Any, TypeVar

import anyio
from starlette.types import Message, Receive, Send

from asgi_wsauth.connection.closing import tells_of_end
from asgi_wsauth.connection.phases import STEPS, Phase
from asgi_wsauth.connection.refreshing import Refreshing
from asgi_wsauth.connection.session import Session, login_of
from asgi_wsauth.connection.terms import EndTerms
from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.loops.tasks import Breakable, spawn
from asgi_wsauth.loops.timers import Deadline, Timer, Timers, timers

__all__ = ["Endable"]

_LEAVES = frozenset({"websocket.disconnect", "http.disconnect"})

T = TypeVar("T")

_PATIENCE = 1.0  # seconds that a server may take to end a receive
_LONGEST_CLOSE = 1.5  # seconds that a close, and the client's answer, may take


class Endable(ABC):
    """One connection that an app runs on, and that may be ended from outside.

    The server's `receive` is not waited for while the end is sent (Granian would send it with the
    client's next message), and the app learns of the end only afterwards (an app that returns makes
    the server close by itself, with a code of its own).

    Args:
        session: the login's, whose connection it is.
        terms: what ends it, and how.
        timers: those of the event loop, by the clock of `terms`.
        app: the app's run, if that has begun.
    """

    __slots__ = (
        "_app",
        "_asked_to_end",
        "_broken",
        "_closed",
        "_has_received",
        "_others",
        "_phase",
        "_reads",
        "_receive",
        "_refreshing",
        "_send",
        "_session",
        "_settled",
        "_terms",
        "_timer",
        "_timers",
    )

    _receive: Receive
    _send: Send

    def __init__(
        self, session: Session, terms: EndTerms, timers: Timers, app: Breakable | None = None
    ) -> None:
        self._session = session
        self._terms = terms
        self._timers = timers
        self._phase = Phase.ENTERING
        self._has_received = False
        self._asked_to_end: Denied | None = None  # the first end; one that came too late, too
        self._app = Breakable(timers.loop) if app is None else app
        # The task in the app's pending receive, and what breaks that off. All else that the app
        # waits for here is among the others: a second receive at once, every one on trio.
        self._reads: asyncio.Task[Any] | None = None
        self._broken: Breakable | None = None
        self._others: tuple[Breakable, ...] = ()
        self._timer: Timer | Deadline | None = None  # to the login's end; then, the app's grace
        self._refreshing: Refreshing | None = None
        self._closed: anyio.Event | None = None
        self._settled: anyio.Event | None = None

    @property
    def principal(self) -> Principal:
        """Whose connection it is."""
        return self._session.principal

    @property
    def denied(self) -> Denied | None:
        """Why it was ended here; None if it wasn't."""
        if self._asked_to_end is None:  # as nearly always
            return None
        is_here = self._phase is Phase.ENTERING or self._closed is not None
        return self._asked_to_end if is_here else None

    @property
    def needs_refresh(self) -> bool:
        """See `LiveConnection`."""
        is_due = self._refreshing is not None and self._refreshing.is_demanded
        return is_due or self._terms.max_age is not None

    def _step(self, step: str) -> bool:
        """Whether it changed anything."""
        phase = STEPS.get((self._phase, step))
        if phase is None:
            return False
        self._phase = phase
        return True

    # No coroutine around the app: that would cost a socket 300 bytes while it lives.

    def enter(self) -> None:
        """The app is about to run."""
        self._step("start")
        self.reschedule()
        self._app.enter()

    def leave(self, exc: BaseException | None) -> bool:
        """The app is done, or raised `exc`. Whether that is because its connection was ended
        here."""
        try:
            is_over = self._app.leave(exc)
            return is_over or (exc is not None and self._is_the_end(exc))
        except Exception as rest:  # of a group, from which trio took what it cancelled
            if not self._is_the_end(rest):
                raise
            return True

    async def finish(self) -> None:
        """After `leave`: nothing happens any more, once the client was told."""
        self._clear_timers()
        try:
            if self._closed is not None:  # a server whose app returns closes by itself
                await self._closed.wait()
        finally:
            self._step("finish")

    def _is_the_end(self, exc: BaseException) -> bool:
        """Whether the app raised because its connection was ended here."""
        if self.denied is None or not tells_of_end(exc):
            return False
        logger.debug("the app ended with its connection: %s", type(exc).__qualname__)
        return True

    def reschedule(self) -> None:
        """Set the timers to the login's end."""
        if self._asked_to_end is not None or self._phase is Phase.OVER:
            return  # the app's grace is running, or nothing is
        if self._timer is not None or self._refreshing is not None:
            self._clear_timers()
        ends_at = login_of(self._session).ends_at(self._terms)
        if ends_at is None:
            return
        self._timer = self._timers.call_at(ends_at, self._expire)
        if self._refreshing is not None and self._phase is Phase.OPEN:
            self._refreshing.schedule(ends_at)

    def _clear_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._refreshing is not None:
            self._refreshing.cancel()

    def _expire(self) -> None:
        self.end(Denied(Reason.EXPIRED, "it expired"))

    # The app's side.

    async def receive(self) -> Message:
        """The next message for the app."""
        loop = self._timers.loop
        while self._closed is None:
            message: Message | None
            if loop is None or self._reads is not None:
                message = await self._apart(self._receive())
                if message is None:
                    break
            else:  # as nearly always; it stands here because a call more can be felt
                self._reads = current_task(loop)
                try:
                    message = await self._receive()
                except BaseException as exc:
                    if not self._has_read(exc):
                        raise
                    break
                if self._closed is None:
                    self._reads = None
                else:
                    self._has_read(None)
            if self._refreshing is not None:
                token = self._refreshing.messages.token_in(message)
                if token is not None:
                    if self._closed is not None:  # it came together with the end
                        break
                    refused = await self._apart(self._refreshing.take(token))
                    if refused is not None:
                        self.end(refused)
                    continue
            if message["type"] in _LEAVES:
                self._step("leave")
            else:
                self._has_received = True
            return message
        return await self._disconnect()

    def _has_read(self, exc: BaseException | None) -> bool:
        """A receive has ended, or was left with `exc`. Whether because it was broken off."""
        self._reads = None
        self._settle()
        return self._broken is not None and self._broken.leave(exc)

    async def _apart(self, work: Awaitable[T]) -> T | None:
        """The result of `work`; None if it was broken off."""
        wait = Breakable(self._timers.loop)
        self._others = (*self._others, wait)
        try:
            with wait:
                return await work
        finally:
            self._others = tuple(other for other in self._others if other is not wait)
            self._settle()
        return None

    # The end.

    def end(self, denied: Denied, /) -> None:
        """End it: the client is told, soon. The first end counts."""
        if self._asked_to_end is not None or self._phase is Phase.OVER:
            return
        self._asked_to_end = denied
        if self._phase is Phase.ENTERING:
            return  # the middleware is about to run the app, and will refuse
        self._clear_timers()
        self._timer = Deadline(self._app, self._terms.grace)
        self._end_now(denied)

    def renew(self, by: float, denied: Denied, /) -> None:
        """Ask for a new credential, and end it at `by` if none has come; or at once, where nobody
        could be asked.

        Args:
            by: Unix time in seconds.
            denied: why it ends.
        """
        if self._refreshing is None or self._phase is not Phase.OPEN:
            self.end(denied)
        else:
            self._refreshing.demand(by, partial(self.end, denied))

    def _end_now(self, denied: Denied) -> None:
        if self._step("end"):
            self._closed = anyio.Event()
            if self._reads is not None:
                self._broken = Breakable(self._timers.loop, self._reads)
                self._broken.break_off()
            for wait in self._others:
                wait.break_off()
            spawn(partial(self._close, denied))

    async def close(self, denied: Denied, /) -> None:
        """`end`, and wait until the client was told."""
        self.end(denied)
        if self._closed is not None:
            await self._closed.wait()

    async def _close(self, denied: Denied) -> None:
        assert self._closed is not None
        with anyio.move_on_after(_PATIENCE):
            while self._is_busy:
                self._settled = anyio.Event()
                await self._settled.wait()
            await self._prepare_close()
        # A server may take its time to send, but the app must not wait for that.
        wake = timers(anyio.current_time).call_in(_LONGEST_CLOSE, self._closed.set)
        try:
            await self._send_close(denied)
        finally:
            wake.cancel()
            self._step("closed")
            self._closed.set()

    @property
    def _is_receiving(self) -> bool:
        return self._reads is not None or bool(self._others)

    # What differs between a socket and a stream.

    @property
    @abstractmethod
    def _is_busy(self) -> bool:
        """Whether the end has to wait for something that the app does."""
        ...

    @abstractmethod
    async def _prepare_close(self) -> None:
        """Do what a server needs before the end."""
        ...

    @abstractmethod
    async def _send_close(self, denied: Denied) -> None:
        """Tell the client."""
        ...

    @abstractmethod
    async def _disconnect(self) -> Message:
        """What the app receives after the end."""
        ...

    def _settle(self) -> None:
        if self._settled is not None:
            self._settled.set()
