"""`HTTPAuthMiddleware`: the decision, put in front of an ASGI app for its HTTP requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, get_args

from starlette.types import Scope

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.connection.admission import Admission, AnyASGIApp, check_authenticator, check_inner
from asgi_wsauth.connection.answers import http_answer
from asgi_wsauth.connection.closing import try_send
from asgi_wsauth.connection.passthrough import GUARDS
from asgi_wsauth.connection.stream import Response
from asgi_wsauth.connection.terms import EndTerms
from asgi_wsauth.denial import Denied, http_refusal
from asgi_wsauth.events import Admitted, Closed
from asgi_wsauth.options import (
    check_bool,
    check_choice,
    check_scopes,
    check_seconds,
    check_seconds_or_none,
)
from asgi_wsauth.scope.paths import GuardedPaths

__all__ = ["HTTPAuthMiddleware"]

Preflight: TypeAlias = Literal["answer", "pass"]


class HTTPAuthMiddleware:
    """Lets an HTTP request through to `app` only if `authenticator` admits it.

    The app gets a copy of the scope without the credential, with `user`, `auth` and `wsauth`, as
    behind `WebSocketAuthMiddleware`. A refusal has the table's status, `WWW-Authenticate` where RFC
    6750 section 3 asks for it, and the body `{"error": phrase}`. Other scope types pass untouched.

    A CORS preflight, which a browser sends without a credential (Fetch Standard, "CORS-preflight
    fetch"), is answered here: 204 without any CORS header, so that the browser asks no further. If
    pages of other origins may ask, put the CORS middleware outside this one.

    A stream ends with its login: a response of server-sent events, and any other that goes on after
    its first body, ends when the credential expires, is revoked, or is older than `max_age`. The
    app receives `http.disconnect`, its `send` raises `StreamClosed`, an `OSError`, and the body is
    ended properly; if a `Content-Length` promised more, the connection is cut. A response in one
    piece is never ended.

    Inside another instance with the same authenticator, it reuses that one's decision and applies
    only its own scopes.

    Args:
        app: any ASGI 3 app.
        authenticator: who decides; usually the same one as for WebSockets.
        exclude: patterns of public paths, which are passed untouched, as in
            `WebSocketAuthMiddleware`.
        only: patterns of the only paths that are guarded, as in `WebSocketAuthMiddleware`; None
            guards all.
        required_scopes: a list of scopes that a principal must have, all of them, or it is refused
            with `Reason.FORBIDDEN`.
        preflight: what happens to a CORS preflight: `"answer"` or `"pass"`. `"answer"` answers it
            here, so the app never runs without a user on a guarded path. `"pass"` hands it on
            without its credential, for a CORS middleware inside this one. Anything else inside then
            runs without a user, too, whenever somebody sends `OPTIONS` with `Origin` and
            `Access-Control-Request-Method`.
        enforce_expiry: whether a stream is ended when its credential expires.
        grace: seconds that an app has to clean up after its stream was ended here; then it is
            cancelled.
        max_age: seconds after the decision at which a stream is ended with `Reason.EXPIRED`, even
            if its credential never expires, and even with `enforce_expiry=False`; None for as long
            as the credential.
        allow_unguarded_websockets: whether WebSockets are meant to pass without a credential.
            Otherwise the first one that passes is logged as a warning, if the process has no
            `WebSocketAuthMiddleware`.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        app: AnyASGIApp,
        authenticator: Authenticator,
        *,
        exclude: Iterable[str] = (),
        only: Iterable[str] | None = None,
        required_scopes: Iterable[str] = (),
        preflight: Preflight = "answer",
        enforce_expiry: bool = True,
        grace: float = 10.0,
        max_age: float | None = None,
        allow_unguarded_websockets: bool = False,
    ) -> None:
        self.preflight: Preflight = check_choice("preflight", preflight, get_args(Preflight))
        answers = self.preflight == "answer"
        self.app = check_inner(app, "HTTPAuthMiddleware", answers_preflights=answers)
        self.authenticator = check_authenticator(authenticator)
        self._paths = GuardedPaths(exclude, only)
        self.required_scopes = frozenset(check_scopes("required_scopes", required_scopes))
        self._terms = EndTerms(
            clock=authenticator.clock,
            grace=check_seconds("grace", grace, least=0),
            enforce_expiry=check_bool("enforce_expiry", enforce_expiry),
            max_age=check_seconds_or_none("max_age", max_age),
        )
        self.allow_unguarded_websockets = check_bool(
            "allow_unguarded_websockets", allow_unguarded_websockets
        )
        GUARDS.add("http", self)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not self._paths.guards(scope):
            self._warn_of(scope)
            await self.app(scope, receive, send)
            return
        admission = Admission(scope, self.authenticator, self.required_scopes)
        preflight = _is_preflight(scope)
        try:
            if preflight:
                admission.take_credential()
                app_scope = scope
            else:
                app_scope = await admission.admit()
        except Denied as denied:
            admission.tell_refusal(denied)
            await try_send(send, *http_answer(http_refusal(denied)))
            return
        if preflight and self.preflight == "answer":
            await try_send(send, *http_answer((204, [], b"")))
            return
        if preflight:
            await self.app(app_scope, receive, send)
            return
        if not admission.is_inside:
            admission.tell(Admitted)
        with admission.in_force:
            if not self._may_end(admission):
                await self.app(app_scope, receive, send)
                return
            response = Response(admission.login.session, self._terms, receive, send)
            try:
                with response:
                    await self.app(app_scope, response.receive, response.send)
            finally:
                if response.has_guard:
                    await self._finish(response, admission)

    async def _finish(self, response: Response, admission: Admission) -> None:
        try:
            await response.finish()
        finally:
            if response.denied is not None:
                admission.tell_of_login(Closed, reason=response.denied.reason)

    def _may_end(self, admission: Admission) -> bool:
        """Whether anything may end the response here, if it is a stream."""
        login = admission.login
        if admission.is_inside or login.is_anonymous:  # else an instance further out does
            return False
        return self.authenticator.revocations is not None or self._terms.has_end_for(
            login.principal, is_anonymous=False
        )

    def _warn_of(self, scope: Scope) -> None:
        meant = self.allow_unguarded_websockets
        if scope["type"] == "websocket" and not meant and self._paths.guards(scope):
            GUARDS.warn("websocket", "allow_unguarded_websockets")


def _is_preflight(scope: Scope) -> bool:
    if scope.get("method") != "OPTIONS":
        return False
    try:
        headers: list[tuple[bytes, bytes]] = list(scope.get("headers") or ())
        scope["headers"] = headers  # they may have been readable only once
        names = {header[0] for header in headers}
    except (TypeError, IndexError):  # headers that no server should build: `admit` will say so
        return False
    return names >= {b"origin", b"access-control-request-method"}
