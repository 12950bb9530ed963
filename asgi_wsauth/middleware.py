"""`WebSocketAuthMiddleware`: the decision, put in front of an ASGI app."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, cast, get_args

import anyio
from asgiref.typing import ASGI3Application
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asgi_wsauth.admission import Admission, check_authenticator, http_answer, try_send
from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.credential import check_scopes
from asgi_wsauth.denial import (
    DAPHNE_CLOSE_CODES,
    ConfigurationError,
    Denied,
    Reason,
    check_close_codes,
    http_refusal,
)
from asgi_wsauth.events import Abandoned, Admitted, Closed, logger
from asgi_wsauth.paths import PathPatterns
from asgi_wsauth.sources import answer
from asgi_wsauth.tasks import spawn

__all__ = ["Rejection", "WebSocketAuthMiddleware"]

Rejection: TypeAlias = Literal["accept_then_close", "http_response", "close"]

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
        if rejection not in get_args(Rejection):
            raise ConfigurationError(
                f"rejection: {rejection!r} is none of {', '.join(get_args(Rejection))}"
            )
        self.app = cast(ASGIApp, app)
        self.authenticator = check_authenticator(authenticator)
        self.rejection = rejection
        self.close_codes = check_close_codes(close_codes)
        self.exclude = PathPatterns("exclude", exclude)
        self.required_scopes = frozenset(check_scopes("required_scopes", required_scopes))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket" or self.exclude.match(scope.get("path", "")):
            await self.app(scope, receive, send)
            return
        admission = Admission(scope, self.authenticator, self.required_scopes)
        handshake = _Handshake(receive, send)
        denied: Denied | None = None
        app_scope: Scope = scope
        try:
            app_scope = await admission.admit(handshake.watch)
        except Denied as exc:
            denied = exc
        finally:
            await handshake.stop_watching()
        if handshake.client_left:
            admission.tell(Abandoned)
            await try_send(send, _GIVE_UP)
        elif denied is not None:
            await self._refuse(admission, handshake, denied)
        elif app_scope is scope:  # the outer instance tells of this socket
            await self.app(scope, receive, send)
        else:
            await self._run_app(admission, handshake, app_scope)

    async def _run_app(self, admission: Admission, handshake: _Handshake, scope: Scope) -> None:
        marker = None
        if admission.offer_redacted:
            marker = answer(scope, self.authenticator.sources)
        admission.tell(Admitted)
        try:
            await self.app(scope, handshake.app_receive(), handshake.app_send(marker))
        finally:
            admission.tell(Closed)

    async def _refuse(self, admission: Admission, handshake: _Handshake, denied: Denied) -> None:
        code = self.close_codes[denied.reason]
        admission.tell_refusal(denied, close_code=code)
        await handshake.take_connect()
        if handshake.client_left:
            await try_send(handshake.send, _GIVE_UP)
        else:
            await self._answer(admission.scope, handshake.send, denied, code)

    async def _answer(self, scope: Scope, send: Send, denied: Denied, code: int) -> None:
        close: Message = {"type": "websocket.close", "code": code, "reason": denied.reason.phrase}
        extensions = scope.get("extensions") or {}
        if self.rejection == "accept_then_close":
            subprotocol = answer(scope, self.authenticator.sources)
            accept: Message = {
                "type": "websocket.accept",
                "subprotocol": subprotocol,
                "headers": [],
            }
            failure = await try_send(send, accept, close)
            spare = DAPHNE_CLOSE_CODES.get(denied.reason, code)
            if failure is not None and not isinstance(failure, OSError) and spare != code:
                # Daphne raises for a code that it can't send, and would keep the socket open.
                logger.warning("the server can't send %d: sent %d; see close_codes", code, spare)
                await try_send(send, {**close, "code": spare})
        elif self.rejection == "http_response" and "websocket.http.response" in extensions:
            await try_send(send, *http_answer(http_refusal(denied), "websocket.http.response"))
        else:
            await try_send(send, close)


class _Handshake:
    """The messages of one handshake, and what has been taken of them."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.client_left = False
        self.send = send
        self._receive = receive
        self._taken: list[Message] = []
        self._watching: anyio.CancelScope | None = None
        self._watch_ended: anyio.Event | None = None

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

    def app_send(self, marker: str | None) -> Send:
        """`marker` is the subprotocol to accept with where the app chooses none."""
        if marker is None:
            return self.send

        async def send(message: Message) -> None:
            if message["type"] == "websocket.accept" and not message.get("subprotocol"):
                message = {**message, "subprotocol": marker}
            await self.send(message)

        return send
