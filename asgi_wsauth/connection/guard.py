"""What may end a live socket, and how it ends: `Guard`, between the app and the server.

It owns the socket's phase; see `phases` for all that can happen to it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from math import isfinite

import anyio
import anyio.lowlevel
from starlette.types import ASGIApp, Message, Scope

from asgi_wsauth.connection.answers import refuse
from asgi_wsauth.connection.closing import SocketClosed, close, tells_of_end, try_send
from asgi_wsauth.connection.handshake import Handshake
from asgi_wsauth.connection.phases import STEPS, Phase
from asgi_wsauth.connection.refresh_messages import Reminder
from asgi_wsauth.connection.session import Login
from asgi_wsauth.connection.terms import Terms
from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.loops.tasks import Breakable, spawn
from asgi_wsauth.loops.timers import Deadline, Timer, timers

__all__ = ["Guard"]

# Looked at with each message, and an attribute of the class would be looked up each time.
_OPEN, _CLOSING, _CLOSED = Phase.OPEN, Phase.CLOSING, Phase.CLOSED

_PATIENCE = 1.0  # seconds that a server may take to end a receive
_LONGEST_CLOSE = 1.5  # seconds that a close, and the client's answer, may take


class Guard:
    """One live socket that may be closed from outside.

    The server's `receive` is not waited for while the close is sent (Granian would send it with the
    client's next message), and the app learns of the end only afterwards (an app that returns makes
    the server close by itself, with a code of its own).

    Args:
        login: whose socket it is.
        terms: what the middleware has fixed.
        scope: the handshake, redacted.
        handshake: its messages so far.
    """

    __slots__ = (
        "_accepting",
        "_app",
        "_asked_to_end",
        "_closed",
        "_handshake",
        "_knows_of_connect",
        "_login",
        "_phase",
        "_receive",
        "_reminder",
        "_scope",
        "_send",
        "_settled",
        "_terms",
        "_timer",
        "_wait",
        "_waits",
    )

    def __init__(self, login: Login, terms: Terms, scope: Scope, handshake: Handshake) -> None:
        self._login = login
        self._terms = terms
        self._scope = scope
        self._handshake = handshake
        self._phase = Phase.ENTERING
        self._accepting = self._knows_of_connect = False
        self._asked_to_end: Denied | None = None  # the first end; one that came too late, too
        self._app = Breakable()
        self._wait: Breakable | None = None  # for the next of them
        self._waits: list[Breakable] = []  # the app's pending receives
        self._timer: Timer | Deadline | None = None  # to the login's end; then, the app's grace
        self._reminder: Reminder | None = None
        self._closed: anyio.Event | None = None
        self._settled: anyio.Event | None = None

    @property
    def principal(self) -> Principal:
        """Whose socket it is."""
        return self._login.principal

    @property
    def denied(self) -> Denied | None:
        """Why it was ended here; None as long as it wasn't."""
        is_here = self._phase is Phase.ENTERING or self._closed is not None
        return self._asked_to_end if is_here else None

    def _step(self, step: str) -> bool:
        """Whether it changed anything."""
        phase = STEPS.get((self._phase, step))
        if phase is None:
            return False
        self._phase = phase
        return True

    # From the first message to the last.

    async def run(self, app: ASGIApp, scope: Scope, marker: str | None) -> None:
        """Run the app behind this guard, until both are done with the socket.

        Args:
            app: the app.
            scope: what it is told of the handshake.
            marker: the subprotocol to accept with where the app chooses none.
        """
        self._receive = self._handshake.app_receive()
        self._send = self._handshake.app_send(marker)
        if not isinstance(self._login.connection, Guard):  # else an instance further out has one
            self._login.run_on(self)
        self._step("start")
        self.reschedule()
        try:
            with self._app:
                # Only who has a voice pays for keeping it.
                own_voice = self._terms.refresh is not None
                await app(scope, self.receive, self._send_others if own_voice else self.send)
        except Exception as exc:
            if self.denied is None or not tells_of_end(exc):
                raise
            logger.debug("the app ended with its socket: %s", type(exc).__qualname__)
        finally:
            self._clear_timers()
            try:
                if self._closed is not None:  # a server whose app returns closes by itself
                    await self._closed.wait()
            finally:
                self._step("finish")

    def reschedule(self) -> None:
        """Set the timers to the login's end."""
        if self._asked_to_end is not None or self._phase is Phase.OVER:
            return  # the app's grace is running, or nothing is
        self._clear_timers()
        expires_at = self._expires_at()
        if not self._terms.enforce_expiry or expires_at is None:
            return
        clock = self._login.authenticator.clock
        self._timer = timers(clock).call_at(expires_at, self._expire)
        if self._terms.refresh is not None and self._phase is Phase.OPEN:
            if self._reminder is None:
                self._reminder = Reminder(timers(clock), clock, self._tell_due)
            self._reminder.schedule(expires_at, self._login.session.authenticated_at)

    def _clear_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reminder is not None:
            self._reminder.cancel()

    def _expires_at(self) -> float | None:
        """As far as a number says it: JSON has no word for infinity."""
        expires_at = self._login.principal.expires_at
        return None if expires_at is None or not isfinite(expires_at) else expires_at

    def _expire(self) -> None:
        self.end(Denied(Reason.EXPIRED, "its time is over"))

    # The app's side.

    async def receive(self) -> Message:
        """The next message for the app."""
        while self._phase is not _CLOSING and self._phase is not _CLOSED:
            # One serves message after message; only who receives twice at once needs another.
            wait, self._wait = self._wait or Breakable(), None
            message: Message | None = None
            refused: Denied | None = None
            self._waits.append(wait)
            try:
                with wait:
                    message = await self._receive()
                    if self._terms.refresh is not None:
                        token = self._terms.refresh.token_in(message)
                        if token is not None:
                            message = None
                            refused = await self._refresh(token)
            finally:
                self._waits.remove(wait)
                if self._settled is not None:
                    self._settled.set()
            if refused is not None:
                self.end(refused)
            elif message is not None:
                self._wait = wait
                if message["type"] != "websocket.receive":
                    self._note(message)
                return message
        return await self._disconnect()

    def _note(self, message: Message) -> None:
        if message["type"] == "websocket.connect":
            self._knows_of_connect = True
        elif message["type"] == "websocket.disconnect":
            self._step("leave")

    async def _disconnect(self) -> Message:
        if not self._knows_of_connect:
            self._knows_of_connect = True
            return {"type": "websocket.connect"}
        assert self._asked_to_end is not None and self._closed is not None
        await self._closed.wait()
        reason = self._asked_to_end.reason
        return {
            "type": "websocket.disconnect",
            "code": self._terms.close_codes[reason],
            "reason": reason.phrase,
        }

    async def send(self, message: Message) -> None:
        """Send a message of the app's.

        Raises:
            SocketClosed: it was closed before.
        """
        kind = message["type"]
        if kind == "websocket.send" and self._phase is _OPEN:  # as nearly all there ever is
            await self._send(message)
            return
        is_http = kind.startswith("websocket.http.response")
        denied = self.denied
        if denied is not None or (self._phase is Phase.ANSWERED and not is_http):
            why = "by the app" if denied is None else denied.reason.phrase
            raise SocketClosed(f"the socket was closed: {why}")
        if kind == "websocket.accept":
            await self._accept(message)
            return
        if (is_http or kind == "websocket.close") and self._step("answer"):
            await self._answer(message)
        else:
            await self._send(message)

    def _send_others(self, message: Message) -> Awaitable[None]:
        """Send a message of the app's, if it doesn't speak as the guard."""
        refresh = self._terms.refresh
        if self._phase is _OPEN and refresh is not None and refresh.is_imitated_by(message):
            return anyio.lowlevel.checkpoint()
        return self.send(message)

    async def _accept(self, message: Message) -> None:
        self._step("accept")
        self._accepting = True
        try:
            await self._send(message)
            self._handshake.note_accepted()
        except Exception:
            if self._phase is Phase.OPEN:
                self._step("undo")
            raise
        finally:
            self._accepting = False
            self._settle()
        if self._terms.refresh is not None:
            self.reschedule()

    async def _answer(self, message: Message) -> None:
        try:
            await self._send(message)
        except Exception:
            # Daphne's, for a code that it can't send: the socket is open still.
            if self._phase is Phase.ANSWERED:
                self._step("undo")
                if self._handshake.accepted:
                    self._step("accept")
            if self._asked_to_end is not None:
                self._end_now(self._asked_to_end)
            raise

    # New credentials.

    async def _refresh(self, token: str) -> Denied | None:
        try:
            await self._login.refresh(token)
        except Denied as denied:
            return denied
        assert self._terms.refresh is not None
        await self._tell(self._terms.refresh.ok(self._expires_at()))
        return None

    def _tell_due(self, expires_at: float) -> None:
        assert self._terms.refresh is not None
        spawn(partial(self._tell, self._terms.refresh.due(expires_at)))

    async def _tell(self, message: Message) -> None:
        if self._phase is Phase.OPEN:
            await try_send(self._send, message)

    # The end.

    def end(self, denied: Denied, /) -> None:
        """End the socket: the client gets the code for `denied`, soon. The first end counts."""
        if self._asked_to_end is not None or self._phase is Phase.OVER:
            return
        self._asked_to_end = denied
        if self._phase is Phase.ENTERING:
            return  # whoever is about to run the app will refuse
        self._clear_timers()
        self._timer = Deadline(self._app, self._terms.grace)
        self._end_now(denied)

    def _end_now(self, denied: Denied) -> None:
        if self._step("end"):
            self._closed = anyio.Event()
            for wait in self._waits:
                wait.break_off()
            spawn(partial(self._close, denied))

    async def close(self, denied: Denied, /) -> None:
        """`end`, and wait until the close was sent."""
        self.end(denied)
        if self._closed is not None:
            await self._closed.wait()

    async def _close(self, denied: Denied) -> None:
        assert self._closed is not None
        with anyio.move_on_after(_PATIENCE):
            while self._waits or self._accepting:
                self._settled = anyio.Event()
                await self._settled.wait()
            if not self._knows_of_connect:  # behind the close, it would bring down Granian's worker
                with suppress(Exception):
                    await self._receive()
        # A server may not let go of what was sent, but the app isn't to wait for that.
        wake = timers(anyio.current_time).call_in(_LONGEST_CLOSE, self._closed.set)
        try:
            await self._send_close(denied)
        finally:
            wake.cancel()
            self._step("closed")
            self._closed.set()

    async def _send_close(self, denied: Denied) -> None:
        terms, scope, code = self._terms, self._scope, self._terms.close_codes[denied.reason]
        if self._handshake.accepted or self._accepting:
            await close(self._receive, self._send, denied, code)
            return
        way = terms.rejections.choose(scope)
        await refuse(scope, self._receive, self._send, denied, code, way=way, sources=terms.sources)

    def _settle(self) -> None:
        if self._settled is not None:
            self._settled.set()
