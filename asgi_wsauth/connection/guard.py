"""A live socket, between the app and the server: `Guard`. What may end it is in `endable`."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress

import anyio.lowlevel
from starlette.types import Message, Receive, Scope, Send

from asgi_wsauth.connection.answers import refuse
from asgi_wsauth.connection.closing import SocketClosed, close, try_send
from asgi_wsauth.connection.endable import Endable
from asgi_wsauth.connection.handshake import Handshake
from asgi_wsauth.connection.phases import Phase
from asgi_wsauth.connection.refreshing import Refreshing
from asgi_wsauth.connection.session import Session, login_behind, login_of
from asgi_wsauth.connection.terms import Terms
from asgi_wsauth.denial import Denied
from asgi_wsauth.loops.timers import Timers

__all__ = ["Guard"]

_OPEN = Phase.OPEN  # looked at with each message; an attribute of the class would be looked up


class Guard(Endable):
    """One live socket that may be closed from outside.

    Args:
        session: the login's, whose socket it is.
        terms: what the middleware has fixed.
        scope: the handshake, redacted.
        handshake: its messages so far.
        timers: those of the event loop, by the clock of `terms`.
    """

    __slots__ = ("_accepting", "_handshake", "_scope")

    _terms: Terms

    def __init__(
        self, session: Session, terms: Terms, scope: Scope, handshake: Handshake, timers: Timers
    ) -> None:
        super().__init__(session, terms, timers)
        self._scope = scope
        self._handshake = handshake
        self._accepting = False
        if terms.refresh is not None:
            self._refreshing = Refreshing(terms.refresh, terms, session, self._tell)

    def stand_between(self, receive: Receive, send: Send) -> None:
        """The app is about to run with `receive` and `app_send` of this guard, which stands between
        it and these two."""
        self._receive, self._send = receive, send
        login = login_of(self._session)
        if login.connection is None or isinstance(login.connection, Handshake):
            login.run_on(self)  # else an instance further out has a guard
        self.enter()

    # The app's side.

    async def _disconnect(self) -> Message:
        if not self._has_received:
            self._has_received = True
            return {"type": "websocket.connect"}
        assert self._asked_to_end is not None and self._closed is not None
        await self._closed.wait()
        reason = self._asked_to_end.reason
        return {
            "type": "websocket.disconnect",
            "code": self._terms.close_codes[reason],
            "reason": reason.phrase,
        }

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the app's. Of nearly all there ever is, the server's own `send` makes
        what is awaited.

        Raises:
            SocketClosed: it was closed before.
        """
        if message["type"] == "websocket.send" and self._phase is _OPEN:
            return self._send(message)
        return self._send_any(message)

    async def _send_any(self, message: Message) -> None:
        kind = message["type"]
        is_http = kind.startswith("websocket.http.response")
        denied = None if self._asked_to_end is None else self.denied
        if denied is not None and kind == "websocket.close":
            return  # closed as the app wants it: frameworks end with a close of their own
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

    @property
    def close_code(self) -> int | None:
        """See `LiveConnection`."""
        denied = self.denied
        return None if denied is None else self._terms.close_codes[denied.reason]

    async def recheck(self) -> None:
        """Decide about the login again. One that was revoked, and has time to renew, is left alone.

        Raises:
            Denied: it is good no more, or that can't be told.
        """
        login = login_behind(self._session)
        try:
            if login is not None:  # the app is still running
                await login.recheck()
        except Denied:
            if self._refreshing is None or not self._refreshing.is_demanded:
                raise

    @property
    def _is_busy(self) -> bool:
        return self._accepting or self._is_receiving

    async def _prepare_close(self) -> None:
        if not self._has_received:  # a connect behind the close would bring down Granian's worker
            with suppress(Exception):
                await self._receive()

    async def _close(self, denied: Denied) -> None:
        await super()._close(denied)
        login = login_behind(self._session)
        if login is not None:  # the app may run on for a while
            await login.unlist()

    async def _send_close(self, denied: Denied) -> None:
        terms, scope, code = self._terms, self._scope, self._terms.close_codes[denied.reason]
        if self._handshake.accepted or self._accepting:
            await close(self._receive, self._send, denied, code)
        else:
            way, sources = terms.rejections.choose(scope), terms.sources
            await refuse(scope, self._receive, self._send, denied, code, way=way, sources=sources)
