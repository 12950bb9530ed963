"""`WebSocketAuthMiddleware`: the decision, put in front of an ASGI app."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args
from urllib.parse import quote, quote_plus

import anyio
from asgiref.typing import ASGI3Application
from starlette.authentication import AuthCredentials
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_wsauth.authenticator import Attempt, Authentication, Authenticator
from asgi_wsauth.credential import Credential, check_scopes
from asgi_wsauth.denial import (
    DAPHNE_CLOSE_CODES,
    ConfigurationError,
    Denied,
    InsufficientScope,
    Reason,
    check_close_codes,
    http_refusal,
)
from asgi_wsauth.events import Abandoned, Admitted, Closed, Event, Refused, logger
from asgi_wsauth.paths import PathPatterns
from asgi_wsauth.session import Session
from asgi_wsauth.sources import answer
from asgi_wsauth.tasks import spawn

__all__ = ["Rejection", "WebSocketAuthMiddleware"]

Rejection: TypeAlias = Literal["accept_then_close", "http_response", "close"]

E = TypeVar("E", bound=Event)

# For a client that is gone. Without any answer, uvicorn would log an error.
_GIVE_UP: Message = {"type": "websocket.close"}


class WebSocketAuthMiddleware:
    """Lets a WebSocket handshake through to `app` only if `authenticator` admits it.

    The app gets a copy of the scope without the credential, with `user`, `auth` (Starlette's
    `AuthCredentials`) and `wsauth` (the `Session`). Other scope types pass untouched.

    Inside another instance that has the same authenticator, it reuses that one's decision and
    applies only its own scopes and codes; with another authenticator it verifies the credential
    that the outer one found, unless its own sources find one.

    Args:
        app: any ASGI 3 app.
        authenticator: who decides.
        rejection: how a refusal is told. `accept_then_close` accepts and closes at once with the
            code and the phrase, which is all that a browser's page can see; `http_response` answers
            with the HTTP status (where the server can: else as `close`); `close` closes before
            accepting, which every server makes a bare HTTP 403.
        close_codes: codes to use in place of the table's, for some reasons. For Daphne:
            `DAPHNE_CLOSE_CODES`; where a server raises for a code, that mapping's is sent instead.
        exclude: patterns of paths that need no credential and are passed untouched. `*` stands for
            one segment or a part of it, `/*` at the end for everything below.
        required_scopes: scopes that a principal must have, all of them, or it is FORBIDDEN.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        app: ASGIApp | ASGI3Application,
        authenticator: Authenticator,
        *,
        rejection: Rejection = "accept_then_close",
        close_codes: Mapping[Reason, int] = {},
        exclude: Iterable[str] = (),
        required_scopes: Iterable[str] = (),
    ) -> None:
        if not isinstance(authenticator, Authenticator):
            raise ConfigurationError(f"authenticator: {authenticator!r} is no Authenticator")
        if rejection not in get_args(Rejection):
            raise ConfigurationError(
                f"rejection: {rejection!r} is none of {', '.join(get_args(Rejection))}"
            )
        self.app = cast(ASGIApp, app)
        self.authenticator = authenticator
        self.rejection = rejection
        self.close_codes = check_close_codes(close_codes)
        self.exclude = PathPatterns("exclude", exclude)
        self.required_scopes = frozenset(check_scopes("required_scopes", required_scopes))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket" or self.exclude.match(scope.get("path", "")):
            await self.app(scope, receive, send)
            return
        handshake = _Handshake(scope, receive, send)
        denied: Denied | None = None
        app_scope = scope
        try:
            app_scope = await self._admit(handshake)
        except Denied as exc:
            denied = exc
        except Exception as exc:  # a scope that no server should build, or a clock that fails
            denied = Denied.because("the handshake", exc)
        if handshake.client_left:
            self.authenticator.emit(handshake.event(Abandoned))
            await handshake.try_send(_GIVE_UP)
        elif denied is not None:
            await self._refuse(handshake, denied)
        elif app_scope is scope:  # the outer instance tells of this socket
            await self.app(scope, receive, send)
        else:
            await self._run_app(handshake, app_scope)

    async def _admit(self, handshake: _Handshake) -> Scope:
        """The scope for the app."""
        scope = handshake.scope
        outer = scope.get("wsauth")
        if not isinstance(outer, Session):
            outer = None
        if outer is not None and outer._authenticator is self.authenticator:
            handshake.attempt = outer._attempt
            self._check_scopes(outer.principal.scopes)
            return scope
        authentication = await self._authenticate(handshake, outer)
        principal, user, _ = authentication
        self._check_scopes(principal.scopes)
        return {
            **scope,
            "user": user,
            "auth": AuthCredentials(["authenticated", *principal.scopes]),
            "wsauth": Session(
                self.authenticator, handshake.attempt, authentication, client=handshake.client
            ),
        }

    async def _authenticate(self, handshake: _Handshake, outer: Session | None) -> Authentication:
        scope, sources = handshake.scope, self.authenticator.sources
        handshake.attempt = self.authenticator.collect(HTTPConnection(scope))
        offered = scope.get("subprotocols")
        # In the server's own dict, and before anything is sent: uvicorn logs from it when the
        # handshake is answered. This is the one exception to ASGI's rule of changing only copies.
        self.authenticator.redact(scope)
        if scope.get("subprotocols") != offered:
            handshake.subprotocol = answer(scope, sources)
        if outer is not None and not handshake.attempt.findings:
            handshake.attempt = Attempt(outer._attempt.findings)
        try:
            return await self.authenticator.authenticate(
                HTTPConnection(scope), attempt=handshake.attempt, on_wait=handshake.watch
            )
        finally:
            await handshake.stop_watching()

    def _check_scopes(self, scopes: Iterable[str]) -> None:
        if not self.required_scopes.issubset(scopes):
            raise InsufficientScope(sorted(self.required_scopes))

    async def _run_app(self, handshake: _Handshake, scope: Scope) -> None:
        self.authenticator.emit(handshake.event(Admitted))
        try:
            await self.app(scope, handshake.app_receive(), handshake.app_send())
        finally:
            self.authenticator.emit(handshake.event(Closed))

    async def _refuse(self, handshake: _Handshake, denied: Denied) -> None:
        reason = denied.reason
        code = self.close_codes[reason]
        self.authenticator.emit(
            handshake.event(
                Refused,
                reason=reason,
                close_code=code,
                detail=handshake.scrub(denied.detail),
                traceback=handshake.traceback(denied) if reason is Reason.ERROR else None,
            )
        )
        await handshake.take_connect()
        if handshake.client_left:
            await handshake.try_send(_GIVE_UP)
        else:
            await self._tell(handshake, denied, code)

    async def _tell(self, handshake: _Handshake, denied: Denied, code: int) -> None:
        close: Message = {"type": "websocket.close", "code": code, "reason": denied.reason.phrase}
        extensions = handshake.scope.get("extensions") or {}
        if self.rejection == "accept_then_close":
            subprotocol = answer(handshake.scope, self.authenticator.sources)
            accept: Message = {
                "type": "websocket.accept",
                "subprotocol": subprotocol,
                "headers": [],
            }
            failure = await handshake.try_send(accept, close)
            spare = DAPHNE_CLOSE_CODES.get(denied.reason, code)
            if failure is not None and not isinstance(failure, OSError) and spare != code:
                # Daphne raises for a code that it can't send, and would keep the socket open.
                logger.warning("the server can't send %d: sent %d; see close_codes", code, spare)
                await handshake.try_send({**close, "code": spare})
        elif self.rejection == "http_response" and "websocket.http.response" in extensions:
            status, headers, body = http_refusal(denied)
            prefix = "websocket.http.response"
            await handshake.try_send(
                {"type": f"{prefix}.start", "status": status, "headers": headers},
                {"type": f"{prefix}.body", "body": body},
            )
        else:
            await handshake.try_send(close)


class _Handshake:
    """One handshake, and what has been taken of its messages."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.attempt = Attempt([])
        self.client_left = False
        self.subprotocol: str | None = None  # for the app's accept, where the app chooses none
        self._receive = receive
        self._send = send
        self._started = time.perf_counter()
        self._taken: list[Message] = []
        self._watching: anyio.CancelScope | None = None
        self._watch_ended: anyio.Event | None = None

    @property
    def client(self) -> str | None:
        """The peer's address."""
        address = self.scope.get("client")
        return address[0] if address else None

    # The client's side, while the chain runs.

    def watch(self, cancel: Callable[[], None]) -> None:
        """Call `cancel` if the client leaves."""
        watching, ended = self._watching, self._watch_ended = anyio.CancelScope(), anyio.Event()

        async def watch() -> None:
            try:
                with watching:
                    await self._take()
                    if not self.client_left:
                        await self._take()
            finally:
                ended.set()
            if self.client_left:
                cancel()

        spawn(watch)

    async def stop_watching(self) -> None:
        """End the watch, so that nobody else waits for messages when the app does."""
        if self._watching is not None and self._watch_ended is not None:
            self._watching.cancel()
            with anyio.CancelScope(shield=True):  # also where the handshake itself is cancelled
                await self._watch_ended.wait()

    async def take_connect(self) -> None:
        if not self._taken:
            await self._take()

    async def _take(self) -> None:
        try:
            message = await self._receive()
        except Exception as exc:  # receive() itself failed: there is no client any more
            logger.debug("the client could not be heard: %s", type(exc).__qualname__)
            self.client_left = True
            return
        self._taken.append(message)
        if message["type"] == "websocket.disconnect":
            self.client_left = True

    # What the app gets: the server's own objects, as long as nothing had to be taken or filled in.

    def app_receive(self) -> Receive:
        if not self._taken:
            return self._receive
        replay = iter(self._taken)

        async def receive() -> Message:
            message = next(replay, None)
            return await self._receive() if message is None else message

        return receive

    def app_send(self) -> Send:
        if self.subprotocol is None:
            return self._send

        async def send(message: Message) -> None:
            if message["type"] == "websocket.accept" and not message.get("subprotocol"):
                message = {**message, "subprotocol": self.subprotocol}
            await self._send(message)

        return send

    async def try_send(self, *messages: Message) -> Exception | None:
        """Answer the handshake; what the server raises is returned. A client that is gone by now is
        nobody's error."""
        try:
            for message in messages:
                await self._send(message)
        except Exception as exc:
            logger.debug("the client could not be told: %s", type(exc).__qualname__)
            return exc
        return None

    # What is told of it.

    def event(self, kind: type[E], **more: Any) -> E:
        """An event of this handshake, with what is known by now."""
        credential, principal = self.attempt.credential, self.attempt.principal
        origin = next((v for k, v in self.scope.get("headers") or () if k == b"origin"), None)
        return kind(
            client=self.client,
            path=self.scope.get("path", ""),
            origin=None if origin is None else origin.decode("latin-1"),
            identity=None if principal is None else principal.identity,
            method=None if principal is None else principal.method,
            fingerprint=None if credential is None else credential.fingerprint,
            duration=time.perf_counter() - self._started,
            **more,
        )

    def traceback(self, denied: Denied) -> str | None:
        """The traceback of what broke, without the credential."""
        cause = denied.__cause__
        if cause is None:
            return None
        return self.scrub("".join(traceback.format_exception(cause)))

    def scrub(self, text: str) -> str:
        """`text` without the credential, however it was written down."""
        values = [
            found.value for _, found in self.attempt.findings if isinstance(found, Credential)
        ]
        forms = {f for v in values for f in (v, quote(v), quote_plus(v), repr(v)[1:-1])}
        if not forms:
            return text
        # All in one pass, so that no part of a mark is taken for a credential.
        return re.sub("|".join(map(re.escape, sorted(forms, key=len)[::-1])), "[redacted]", text)
