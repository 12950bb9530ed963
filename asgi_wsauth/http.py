"""The same decision in front of HTTP: `HTTPAuthMiddleware`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, cast, get_args

from starlette.types import ASGIApp, Scope

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.connection.admission import Admission, AnyASGIApp, check_authenticator
from asgi_wsauth.connection.answers import http_answer
from asgi_wsauth.connection.closing import try_send
from asgi_wsauth.connection.passthrough import GUARDS
from asgi_wsauth.denial import Denied, http_refusal
from asgi_wsauth.events import Admitted
from asgi_wsauth.options import (
    check_app,
    check_bool,
    check_choice,
    check_scopes,
)
from asgi_wsauth.scope.paths import GuardedPaths

__all__ = ["HTTPAuthMiddleware"]

Preflight: TypeAlias = Literal["answer", "pass"]


class HTTPAuthMiddleware:
    """Lets an HTTP request through to `app` only if `authenticator` admits it.

    The app gets a copy of the scope without the credential, with `user`, `auth` and `wsauth`, as
    behind `WebSocketAuthMiddleware`. A refusal has the table's status, `WWW-Authenticate` where
    RFC 6750 section 3 asks for it, and the body `{"error": phrase}`. Other scope types pass
    untouched.

    A CORS preflight, which a browser sends without a credential (Fetch Standard, "CORS-preflight
    fetch"), is answered here: 204 without any CORS header, so that the browser asks no further.
    Where pages of other origins may ask, put the CORS middleware outside this one.

    Inside another instance that has the same authenticator, it reuses that one's decision and
    applies only its own scopes.

    Args:
        app: any ASGI 3 app.
        authenticator: who decides; the same one that decides for WebSockets.
        exclude: patterns of paths that need no credential and are passed untouched, as in
            `WebSocketAuthMiddleware`.
        only: patterns of the only paths that need a credential, as there.
        required_scopes: scopes that a principal must have, all of them, or it is FORBIDDEN.
        preflight: what becomes of a CORS preflight. `answer` answers it, and the app never runs
            without a user on a path that is guarded. `pass` hands it on without its credential, for
            a CORS middleware inside this one; whatever else stands there runs without a user,
            whenever somebody sends `OPTIONS` with `Origin` and `Access-Control-Request-Method`.
        allow_unguarded_websockets: whether WebSockets are meant to pass without a credential, so
            that no warning is due. Otherwise the first one that passes is logged, if the process
            has no `WebSocketAuthMiddleware`.

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
        allow_unguarded_websockets: bool = False,
    ) -> None:
        self.app = cast(ASGIApp, check_app(app))
        self.authenticator = check_authenticator(authenticator)
        self._paths = GuardedPaths(exclude, only)
        self.required_scopes = frozenset(check_scopes("required_scopes", required_scopes))
        self.preflight: Preflight = check_choice("preflight", preflight, get_args(Preflight))
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
            await self.app(app_scope, receive, send)

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
