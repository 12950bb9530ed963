"""One live socket: what is known of it (`Session`), and what may end it (`Guard`).

A guard stands between the app and the server, and owns the socket's phase. This is all that can
happen to it; in any other phase, a step changes nothing:

    step     from                   to           what happened
    -------  ---------------------  -----------  ----------------------------------------
    start    ENTERING               HANDSHAKING  the app gets the handshake
    accept   HANDSHAKING            OPEN         the app accepts
    answer   HANDSHAKING, OPEN      ANSWERED     the app closes, or answers with HTTP
    undo     OPEN, ANSWERED         HANDSHAKING  the server would not send that
    leave    HANDSHAKING, OPEN      LEFT         the client is gone
    end      HANDSHAKING, OPEN      CLOSING      the login is over; so no close was sent before
    closed   CLOSING                CLOSED       the close was sent, for the only time
    finish   any                    OVER         the app is done
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum, auto
from functools import partial
from math import inf, isfinite
from typing import TypeAlias

import anyio
import anyio.lowlevel
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from asgi_wsauth.authenticator import Attempt, Authentication, Authenticator
from asgi_wsauth.connection.closing import close, try_send
from asgi_wsauth.connection.refresh_messages import RefreshMessages
from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.loops.tasks import Breakable, spawn
from asgi_wsauth.loops.timers import Deadline, Timer, timers

__all__ = ["Guard", "Session", "SocketClosed", "Terms"]

Renew: TypeAlias = "Callable[[Session, str], Awaitable[None]]"


class Session:
    """What the app finds as `scope["wsauth"]`.

    Attributes:
        principal: whom the credential vouches for.
        authenticated_at: Unix time in seconds of the decision.
        client: the peer's address, or None where the server knows none.
        method: how it was proved, for example `jwt`; `none` while authentication is off.
        expires_at: Unix time in seconds from which the credential is no longer accepted, or None.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        attempt: Attempt,
        authentication: Authentication,
        *,
        client: str | None,
        required_scopes: frozenset[str],
        renew: Renew,
    ) -> None:
        self.client = client
        # For an instance further in. None of it says a credential in its repr.
        self._authenticator = authenticator
        self._attempt = attempt
        self._required_scopes = required_scopes
        # For a socket; an HTTP request has no end.
        self._renew = renew
        self._end: Callable[[Denied], Awaitable[None]] | None = None
        self._guard: Guard | None = None
        self._denied: Denied | None = None  # why a guard ended it
        self._set(authentication, authenticator.clock())

    def _set(self, authentication: Authentication, authenticated_at: float) -> None:
        self._authentication = authentication
        self.principal = principal = authentication.principal
        self.authenticated_at = authenticated_at
        self.method = principal.method
        self.expires_at = principal.expires_at
        if self._guard is not None:
            self._guard.set_timers()

    @property
    def fingerprint(self) -> str | None:
        """The first 16 hex digits of the credential's SHA-256; None without a credential."""
        credential = self._authentication.credential
        return None if credential is None else credential.fingerprint

    async def refresh(self, token: str) -> None:
        """Go on with a new credential: the socket ends when that one does. `scope["user"]` and
        `scope["auth"]` stay as they are; `principal` is the new one.

        It is verified as in a handshake, and must have the scopes that the middleware asks for.
        Where the present credential never expires, nothing changes.

        Args:
            token: a credential for the same identity and issuer, by the same verifier. A ticket
                counts as the login behind it: it goes on from a login of the same `method`.

        Raises:
            Denied: it is refused; with `Reason.FORBIDDEN`, where it is for somebody else. The
                socket stays open until the present credential ends. Or the socket was closed here
                meanwhile; then this is why.
            RuntimeError: this is no WebSocket.
        """
        self._check_is_socket()
        await self._renew(self, token)

    async def close(self, reason: Reason = Reason.REVOKED) -> None:
        """Close the socket, with the code that `reason` has in this middleware.

        The app receives `websocket.disconnect`, and is cancelled when it still runs after the
        middleware's `grace`. Closing what is closed does nothing. Accept first: before that, a
        socket that nothing else can end gets an HTTP 403, as any close before the accept.

        Args:
            reason: what the client is told.

        Raises:
            RuntimeError: this is no WebSocket.
        """
        end = self._check_is_socket()
        await end(Denied(reason, "closed by the app"))

    def _let_go(self) -> None:
        """The socket is over. What could end it knows of this session, and would keep it in memory
        until the garbage collector's next turn, which costs as much as all the rest of a socket."""
        self._guard = None
        self._end = _do_nothing

    def _check_is_socket(self) -> Callable[[Denied], Awaitable[None]]:
        if self._end is None:
            raise RuntimeError("an HTTP request has no socket that could be refreshed or closed")
        return self._end

    def __repr__(self) -> str:
        return f"<Session of {self.principal!r}>"


async def _do_nothing(denied: Denied) -> None:
    """The end of a socket that was ended before."""


class Phase(IntEnum):
    ENTERING = auto()
    HANDSHAKING = auto()
    OPEN = auto()
    ANSWERED = auto()
    LEFT = auto()
    CLOSING = auto()
    CLOSED = auto()
    OVER = auto()


_STEPS = {
    **{(phase, "finish"): Phase.OVER for phase in Phase},
    (Phase.ENTERING, "start"): Phase.HANDSHAKING,
    (Phase.HANDSHAKING, "accept"): Phase.OPEN,
    (Phase.HANDSHAKING, "answer"): Phase.ANSWERED,
    (Phase.HANDSHAKING, "leave"): Phase.LEFT,
    (Phase.HANDSHAKING, "end"): Phase.CLOSING,
    (Phase.OPEN, "answer"): Phase.ANSWERED,
    (Phase.OPEN, "undo"): Phase.HANDSHAKING,
    (Phase.ANSWERED, "undo"): Phase.HANDSHAKING,
    (Phase.OPEN, "leave"): Phase.LEFT,
    (Phase.OPEN, "end"): Phase.CLOSING,
    (Phase.CLOSING, "closed"): Phase.CLOSED,
}

# Looked at with each message, and an attribute of the class would be looked up each time.
_OPEN, _CLOSING, _CLOSED = Phase.OPEN, Phase.CLOSING, Phase.CLOSED

_PATIENCE = 1.0  # seconds that a server may take to end a receive
_LONGEST_CLOSE = 1.5  # seconds that a close, and the client's answer, may take
_NOTICE = 60.0  # seconds before the end when a client is told that it is due, at the earliest
_PAUSE = 5.0  # seconds between two times that a client is told, at least


class SocketClosed(OSError):
    """What an app's `send` raises after its socket was closed, here or by itself (ASGI 2.4,
    "Disconnected client"). An app that only sends may catch it to end:

        with suppress(SocketClosed):
            async for line in news:
                await websocket.send_text(line)
    """


SocketClosed.__module__ = "asgi_wsauth"  # where it is imported from, and what tracebacks say


@dataclass(frozen=True)
class Terms:
    """What a middleware has fixed for all of its sockets.

    Attributes:
        close_codes: the code for each reason.
        grace: seconds that an app has after the end.
        enforce_expiry: whether the end of a credential is the end of its socket.
        refresh: the messages by which clients bring new credentials, or None.
        refuse: how a handshake that the app has not answered is refused.
    """

    close_codes: Mapping[Reason, int]
    grace: float
    enforce_expiry: bool
    refresh: RefreshMessages | None
    refuse: Callable[[Scope, Receive, Send, Denied], Awaitable[None]]


class Guard:
    """One live socket that may be closed from outside.

    The server's `receive` is not waited for while the close is sent (Granian would send it with the
    client's next message), and the app learns of the end only afterwards (an app that returns makes
    the server close by itself, with a code of its own).

    Args:
        session: what is known of it.
        terms: what the middleware has fixed.
        scope: the handshake, redacted.

    Attributes:
        session: what is known of it.
        denied: why it was ended; None as long as it wasn't.
    """

    __slots__ = (
        "_accepted",
        "_accepting",
        "_app",
        "_closed",
        "_due",
        "_ending",
        "_expiry",
        "_knows_of_connect",
        "_missed",
        "_phase",
        "_receive",
        "_scope",
        "_send",
        "_settled",
        "_terms",
        "_timers",
        "_told_at",
        "_told_end",
        "_wait",
        "_waits",
        "denied",
        "session",
    )

    def __init__(self, session: Session, terms: Terms, scope: Scope) -> None:
        self.session = session
        self.denied: Denied | None = None
        self._terms = terms
        self._timers = timers(session._authenticator.clock)
        self._scope = scope
        self._phase = Phase.ENTERING
        self._accepted = self._accepting = self._knows_of_connect = self._ending = False
        self._missed: Denied | None = None  # an end that came while the app's own was on its way
        self._app = Breakable()
        self._wait: Breakable | None = None  # for the next of them
        self._waits: list[Breakable] = []  # the app's pending receives
        self._expiry: Timer | Deadline | None = None
        self._due: Timer | None = None
        self._told_at = self._told_end = -inf  # when, and of which end, the client was told last
        self._closed: anyio.Event | None = None
        self._settled: anyio.Event | None = None

    @property
    def principal(self) -> Principal:
        """Whose socket it is."""
        return self.session.principal

    def _step(self, step: str) -> bool:
        """Whether it changed anything."""
        phase = _STEPS.get((self._phase, step))
        if phase is None:
            return False
        self._phase = phase
        return True

    # From the first message to the last.

    async def run(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, accepted: bool
    ) -> None:
        """Run the app behind this guard, until both are done with the socket.

        Args:
            app: the app.
            scope: what it is told of the handshake.
            receive: what it would receive with.
            send: what it would send with.
            accepted: whether the socket was accepted already.
        """
        self._receive, self._send, self._accepted = receive, send, accepted
        if self.session._guard is None:  # else an instance further out has one
            self.session._guard = self
            self.session._end = self.close
        self._step("start")
        self.set_timers()
        try:
            with self._app:
                # Only who has a voice pays for keeping it.
                own_voice = self._terms.refresh is not None
                await app(scope, self.receive, self._send_others if own_voice else self.send)
        except Exception as exc:
            if self.denied is None or not _tells_of_end(exc):
                raise
            logger.debug("the app ended with its socket: %s", type(exc).__qualname__)
        finally:
            self._clear_timers()
            try:
                if self._closed is not None:  # a server whose app returns closes by itself
                    await self._closed.wait()
            finally:
                self._step("finish")

    def set_timers(self) -> None:
        """Set the timers to the credential's end."""
        if self._ending or self._phase is Phase.OVER:
            return  # the app's grace is running, or nothing is
        self._clear_timers()
        expires_at = self._expires_at()
        if self._terms.enforce_expiry and expires_at is not None:
            self._expiry = self._timers.call_at(expires_at, self._expire)
            if self._terms.refresh is not None and self._phase is Phase.OPEN:
                self._set_due(expires_at)

    def _set_due(self, expires_at: float) -> None:
        """Have the client told, once for each end: else one whose credential is short-lived, or who
        brings the same one again, would be told, and would bring one, without a pause."""
        left = expires_at - self.session.authenticated_at
        when = max(expires_at - min(_NOTICE, left / 2), self._told_at + _PAUSE)
        if self._told_end < expires_at and when < expires_at:
            self._due = self._timers.call_at(when, self._tell_due)

    def _clear_timers(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._due is not None:
            self._due.cancel()
        self._expiry = self._due = None

    def _expires_at(self) -> float | None:
        """As far as a number says it: JSON has no word for infinity."""
        expires_at = self.session.expires_at
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
        assert self.denied is not None and self._closed is not None
        await self._closed.wait()
        reason = self.denied.reason
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
        if self.denied is not None or (self._phase is Phase.ANSWERED and not is_http):
            why = "by the app" if self.denied is None else self.denied.reason.phrase
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
            self._accepted = True
        except Exception:
            if self._phase is Phase.OPEN:
                self._step("undo")
            raise
        finally:
            self._accepting = False
            self._settle()
        if self._terms.refresh is not None:
            self.set_timers()

    async def _answer(self, message: Message) -> None:
        try:
            await self._send(message)
        except Exception:
            # Daphne's, for a code that it can't send: the socket is open still.
            if self._phase is Phase.ANSWERED:
                self._step("undo")
                if self._accepted:
                    self._step("accept")
            if self._missed is not None:
                self._end_now(self._missed)
            raise

    # New credentials.

    async def _refresh(self, token: str) -> Denied | None:
        try:
            await self.session.refresh(token)
        except Denied as denied:
            return denied
        assert self._terms.refresh is not None
        await self._tell(self._terms.refresh.ok(self._expires_at()))
        return None

    def _tell_due(self) -> None:
        expires_at = self._expires_at()
        assert self._terms.refresh is not None and expires_at is not None
        self._told_at, self._told_end = self.session._authenticator.clock(), expires_at
        spawn(partial(self._tell, self._terms.refresh.due(expires_at)))

    async def _tell(self, message: Message) -> None:
        if self._phase is Phase.OPEN:
            await try_send(self._send, message)

    # The end.

    def end(self, denied: Denied, /) -> None:
        """End the socket: the client gets the code for `denied`, soon. The first end counts."""
        if self._ending or self._phase is Phase.OVER:
            return
        self._ending = True
        if self._phase is Phase.ENTERING:
            self.denied = denied  # whoever is about to run the app will refuse
            return
        self._clear_timers()
        self._expiry = Deadline(self._app, self._terms.grace)
        self._missed = denied
        self._end_now(denied)

    def _end_now(self, denied: Denied) -> None:
        if self._step("end"):
            self.denied = self.session._denied = denied
            self._closed = anyio.Event()
            for wait in self._waits:
                wait.break_off()
            spawn(partial(self._close, denied))

    async def close(self, denied: Denied) -> None:
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
            receive, send = self._receive, self._send
            if not self._accepted and not self._accepting:
                await self._terms.refuse(self._scope, receive, send, denied)
            else:
                await close(receive, send, denied, self._terms.close_codes[denied.reason])
        finally:
            wake.cancel()
            self._step("closed")
            self._closed.set()

    def _settle(self) -> None:
        if self._settled is not None:
            self._settled.set()


def _tells_of_end(exc: BaseException) -> bool:
    """Whether an app ended with `exc` because its socket did."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(_tells_of_end, exc.exceptions))
    return isinstance(exc, (SocketClosed, WebSocketDisconnect))
