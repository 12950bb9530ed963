"""What may end a live socket, and how it ends: `Guard`, between the app and the server.

It owns the socket's phase; see `phases` for all that can happen to it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from types import TracebackType

import anyio
import anyio.lowlevel
from starlette.types import Message, Receive, Scope, Send

from asgi_wsauth.connection.answers import refuse
from asgi_wsauth.connection.closing import SocketClosed, close, tells_of_end, try_send
from asgi_wsauth.connection.handshake import Handshake
from asgi_wsauth.connection.phases import STEPS, Phase
from asgi_wsauth.connection.refreshing import Refreshing
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
        "_first",
        "_handshake",
        "_knows_of_connect",
        "_login",
        "_phase",
        "_receive",
        "_refreshing",
        "_scope",
        "_send",
        "_settled",
        "_terms",
        "_timer",
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
        # The app's pending receives. One serves message after message; only who receives twice at
        # once needs another.
        self._waits: tuple[Breakable, ...] = ()
        self._first = (Breakable(),)
        self._timer: Timer | Deadline | None = None  # to the login's end; then, the app's grace
        self._refreshing: Refreshing | None = None
        if terms.refresh is not None:
            self._refreshing = Refreshing(terms.refresh, login, self._tell)
        self._closed: anyio.Event | None = None
        self._settled: anyio.Event | None = None

    @property
    def principal(self) -> Principal:
        """Whose socket it is."""
        return self._login.principal

    @property
    def denied(self) -> Denied | None:
        """Why it was ended here; None if it wasn't."""
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

    def between(self, receive: Receive, send: Send) -> Guard:
        """`async with` this, the app runs with `receive` and `app_send` of this guard, which stands
        between it and these two."""
        self._receive, self._send = receive, send
        return self

    # Not one coroutine around the app: that would cost a socket 300 bytes while it lives.

    async def __aenter__(self) -> None:
        if not isinstance(self._login.connection, Guard):  # else an instance further out has one
            self._login.run_on(self)
        self._step("start")
        self.reschedule()
        self._app.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            is_over = self._app.__exit__(kind, exc, traceback)
            return is_over or (exc is not None and self._is_the_end(exc))
        except Exception as rest:  # of a group, from which trio took what it cancelled
            if not self._is_the_end(rest):
                raise
            return True
        finally:
            self._clear_timers()
            try:
                if self._closed is not None:  # a server whose app returns closes by itself
                    await self._closed.wait()
            finally:
                self._step("finish")

    def _is_the_end(self, exc: BaseException) -> bool:
        """Whether the app raised because its socket was ended here."""
        if self.denied is None or not tells_of_end(exc):
            return False
        logger.debug("the app ended with its socket: %s", type(exc).__qualname__)
        return True

    def reschedule(self) -> None:
        """Set the timers to the login's end."""
        if self._asked_to_end is not None or self._phase is Phase.OVER:
            return  # the app's grace is running, or nothing is
        self._clear_timers()
        expires_at = self._login.ends_at
        if not self._terms.enforce_expiry or expires_at is None:
            return
        self._timer = timers(self._login.authenticator.clock).call_at(expires_at, self._expire)
        if self._refreshing is not None and self._phase is Phase.OPEN:
            self._refreshing.schedule(expires_at)

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
        while self._phase is not _CLOSING and self._phase is not _CLOSED:
            wait = self._first[0]
            if self._waits or wait.broken:
                wait = Breakable()
                self._waits = (*self._waits, wait)
            else:
                self._waits = self._first
            message: Message | None = None
            refused: Denied | None = None
            try:
                with wait:
                    message = await self._receive()
                    if self._refreshing is not None:
                        token = self._refreshing.messages.token_in(message)
                        if token is not None:
                            message = None
                            refused = await self._refreshing.take(token)
            finally:
                waits = self._waits
                self._waits = () if len(waits) == 1 else tuple(w for w in waits if w is not wait)
                self._settle()
            if refused is not None:
                self.end(refused)
            elif message is not None:
                if message["type"] == "websocket.disconnect":
                    self._step("leave")
                elif message["type"] == "websocket.connect":
                    self._knows_of_connect = True
                return message
        return await self._disconnect()

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

    @property
    def app_send(self) -> Send:
        """What the app sends with. Only who has a voice pays for keeping it."""
        return self.send if self._refreshing is None else self._send_others

    def _send_others(self, message: Message) -> Awaitable[None]:
        """Send a message of the app's, if it doesn't speak as the guard."""
        assert self._refreshing is not None
        if self._phase is _OPEN and self._refreshing.messages.is_imitated_by(message):
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
        if self._refreshing is not None:
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

    async def _tell(self, message: Message) -> None:
        """Say something in the guard's own voice."""
        if self._phase is Phase.OPEN:
            await try_send(self._send, message)

    # The end.

    def end(self, denied: Denied, /) -> None:
        """End the socket: the client gets the code for `denied`, soon. The first end counts."""
        if self._asked_to_end is not None or self._phase is Phase.OVER:
            return
        self._asked_to_end = denied
        if self._phase is Phase.ENTERING:
            return  # the middleware is about to run the app, and will refuse
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
        # A server may take its time to send, but the app must not wait for that.
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
        else:
            way, sources = terms.rejections.choose(scope), terms.sources
            await refuse(scope, self._receive, self._send, denied, code, way=way, sources=sources)

    def _settle(self) -> None:
        if self._settled is not None:
            self._settled.set()
