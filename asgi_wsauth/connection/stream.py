"""What may end a response that goes on and on, and how it ends: `Response`."""

from __future__ import annotations

from collections.abc import Awaitable
from types import TracebackType

import anyio
from starlette.types import Message, Receive, Send

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.connection.answers import http_answer
from asgi_wsauth.connection.closing import PATIENCE, StreamClosed, try_send
from asgi_wsauth.connection.endable import Endable
from asgi_wsauth.connection.phases import Phase
from asgi_wsauth.connection.session import Session, login_behind, login_of
from asgi_wsauth.connection.terms import EndTerms
from asgi_wsauth.credential import has_expired
from asgi_wsauth.denial import Denied, http_refusal
from asgi_wsauth.loops.tasks import Breakable
from asgi_wsauth.loops.timers import timers
from asgi_wsauth.policies.revocation import Revocations

__all__ = ["Response"]

_START = "http.response.start"
_BODIES = frozenset({"http.response.body", "http.response.zerocopysend", "http.response.pathsend"})

_CONTENT_TYPE = frozenset({b"content-type", b"Content-Type"})  # the latter is Django's

# By which a client sees that it has all that there is: the last chunk (RFC 9112 section 7.1), or
# END_STREAM (RFC 9113 section 8.1). Where a Content-Length said more, servers raise, and cut.
_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}
_TRAILERS: Message = {"type": "http.response.trailers", "headers": [], "more_trailers": False}


class Response:
    """One response of an app, and what ends it if it is a stream: if it goes on after its first
    body, or if it says that it is one of server-sent events. That is known when it is sent; for any
    other response, nothing is set up.

    `with` this, the app runs with its `receive` and `send`; and if it `has_guard` then, `finish` is
    the end.

    Args:
        session: the login's, whose request it is.
        terms: what the middleware has fixed.
        receive: the server's.
        send: the server's.
    """

    __slots__ = (
        "_app",
        "_guard",
        "_has_received",
        "_receive",
        "_send",
        "_session",
        "_start",
        "_terms",
    )

    def __init__(self, session: Session, terms: EndTerms, receive: Receive, send: Send) -> None:
        self._session = session
        self._terms = terms
        self._receive = receive
        self._send = send
        self._app = Breakable()
        self._start: Message | None = None
        self._has_received = False
        self._guard: StreamGuard | None = None

    # Not one coroutine that isn't needed: most responses have no guard.

    def __enter__(self) -> None:
        self._app.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._guard is None:
            return self._app.__exit__(kind, exc, traceback)
        return self._guard.leave(exc)

    @property
    def has_guard(self) -> bool:
        """Whether it is a stream, or the app has asked whether the client is there still."""
        return self._guard is not None

    @property
    def denied(self) -> Denied | None:
        """Why it was ended here; None if it wasn't."""
        return None if self._guard is None else self._guard.denied

    async def finish(self) -> None:
        """Nothing may end it any more."""
        assert self._guard is not None
        try:
            await self._guard.finish()
        finally:
            self._guard.release()

    def receive(self) -> Awaitable[Message]:
        """The next message for the app.

        The first one is the request's, or the beginning of it, which no end breaks off: no app has
        to pay for a guard to read what it answers in one piece.
        """
        if self._guard is None:
            if not self._has_received:
                self._has_received = True
                return self._receive()
            self._guard = self._new_guard()
        return self._guard.receive()

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the app's.

        Raises:
            StreamClosed: the stream was ended before.
        """
        guard = self._guard
        if guard is not None and guard.is_stream:
            return guard.send(message)
        start = self._start
        if message["type"] == _START:
            self._start = message
            if not _tells_of_events(message):
                return self._send(message)
        elif not message.get("more_body"):
            return self._send(message)
        if guard is None:
            guard = self._guard = self._new_guard()
        return guard.begin(message, start)

    def _new_guard(self) -> StreamGuard:
        return StreamGuard(self._session, self._terms, self._app, self._receive, self._send)


class StreamGuard(Endable):
    """One response that is ended with its login, once it is a stream.

    Its phases are those of a socket. It is OPEN from the moment when it is known for a stream, and
    ANSWERED once it is complete.

    Args:
        session: the login's, whose request it is.
        terms: what the middleware has fixed.
        app: the app, which runs.
        receive: the server's.
        send: the server's.
    """

    __slots__ = ("_is_registered", "_sending", "_start", "is_stream")

    _start: Message | None  # as it was sent

    def __init__(
        self, session: Session, terms: EndTerms, app: Breakable, receive: Receive, send: Send
    ) -> None:
        super().__init__(session, terms, timers(terms.clock), app)
        self._receive, self._send = receive, send
        self._sending = 0
        self.is_stream = self._is_registered = False
        self._step("start")

    # The app's side.

    async def begin(self, message: Message, start: Message | None) -> None:
        """Send the first message by which the response is known for a stream. From now on, it may
        be ended.

        Args:
            message: that one.
            start: the one before it, if there was one.

        Raises:
            StreamClosed: it was ended at once.
        """
        self.is_stream = True
        self._start = start
        login = login_behind(self._session)
        if login is not None and self._step("accept"):
            self.reschedule()
            if login.authenticator.revocations is not None:
                await self._look_once_more(login.authenticator, login.authenticator.revocations)
            ends_at = login.ends_at(self._terms)
            if has_expired(ends_at, self._terms.clock()):
                self._expire()
        await self.send(message)

    async def _look_once_more(self, authenticator: Authenticator, revocations: Revocations) -> None:
        """Until now, a revocation was found in the store; from now on it is heard of."""
        revocations.register(self)
        self._is_registered = True
        try:
            await authenticator.within_timeout(revocations.check(self.principal))
        except Denied as denied:
            self.end(denied)

    async def send(self, message: Message) -> None:
        """Send a message of the app's.

        Raises:
            StreamClosed: the stream was ended before.
        """
        if self.denied is not None:
            raise StreamClosed(f"the stream was ended: {self.denied.reason.phrase}")
        kind = message["type"]
        if kind in _BODIES and not message.get("more_body") and self._step("answer"):
            self.release()
        self._sending += 1
        try:
            await self._send(message)
            if kind == _START:
                self._start = message
        finally:
            self._sending -= 1
            self._settle()

    async def _disconnect(self) -> Message:
        assert self._closed is not None
        if not self._closed.is_set():  # who only looks whether it is there gets it at once
            await self._closed.wait()
        return {"type": "http.disconnect"}

    # The end.

    def end(self, denied: Denied, /) -> None:
        """End the stream, soon, if it isn't complete. The first end counts."""
        if self._phase is not Phase.ANSWERED:  # what an app does afterwards needs no login
            super().end(denied)

    def release(self) -> None:
        """Nothing may end it any more."""
        if self._asked_to_end is None:
            self._clear_timers()
        if self._is_registered:
            revocations = login_of(self._session).authenticator.revocations
            assert revocations is not None
            revocations.unregister(self)

    @property
    def _is_busy(self) -> bool:
        return self._sending > 0 or self._is_receiving

    async def _prepare_close(self) -> None:
        """Nothing: no server needs anything."""

    async def _send_close(self, denied: Denied) -> None:
        messages: tuple[Message, ...] = (_END,)
        if self._start is None:
            messages = http_answer(http_refusal(denied))
        elif self._start.get("trailers"):
            messages = (_END, _TRAILERS)
        with anyio.move_on_after(PATIENCE):  # a client that doesn't read can't be told
            await try_send(self._send, *messages)


def _tells_of_events(start: Message) -> bool:
    """Whether a response is one of server-sent events, which may be silent for long."""
    headers = start.get("headers")
    if isinstance(headers, (list, tuple)):  # or it may be readable only once
        for name, value in headers:
            if name in _CONTENT_TYPE:
                return bool(value.lower().startswith(b"text/event-stream"))
    return False
