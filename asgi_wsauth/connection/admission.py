"""One connection on its way through the decision, be it a WebSocket handshake or an HTTP request.

What the middlewares share: taking the credential out of the server's scope, reusing what an
instance further out decided, building the app's scope. What a client is sent is each middleware's
own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, cast

from asgiref.typing import ASGI3Application
from starlette.authentication import AuthCredentials
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Scope

from asgi_wsauth.authenticator import Attempt, Authentication, Authenticator, OnWait
from asgi_wsauth.connection.gate import Gate
from asgi_wsauth.connection.handshake import accepted_scope
from asgi_wsauth.connection.passthrough import found_before, handed_on
from asgi_wsauth.connection.renewal import check_scopes
from asgi_wsauth.connection.report import Report
from asgi_wsauth.connection.session import Login, OnRefresh, login_behind
from asgi_wsauth.credential import Credential
from asgi_wsauth.denial import Denied
from asgi_wsauth.events import Closed, Event, logger
from asgi_wsauth.options import check_app, check_instance
from asgi_wsauth.scope.addresses import client_host
from asgi_wsauth.sources import FirstMessage
from asgi_wsauth.sources.findings import redact

__all__ = ["Admission", "AnyASGIApp", "check_authenticator", "check_inner"]

# Of all typing schools. Litestar's and Quart's own fit neither of the first two.
AnyASGIApp: TypeAlias = ASGIApp | ASGI3Application | Callable[[Any, Any, Any], Awaitable[None]]

_NOTHING = nullcontext()
_NOTHING_PRESENTED = Attempt(())  # never changed: who is decided about has one of its own

FirstMessageReader: TypeAlias = Callable[[FirstMessage, "list[str]", "str | None"], Awaitable[str]]


class Admission:
    """One connection, and what is known of it so far.

    Args:
        scope: the server's own dict. The credential is taken out of it in place.
        authenticator: who decides.
        required_scopes: what the principal must have, all of it.
        on_refresh: asked about each new credential of a socket, or None.
        gate: what it passes before it is decided about; None over HTTP.

    Attributes:
        attempt: what the sources found, once they were asked.
        in_force: `with` this, the app runs: its login is found by an instance further in, unless
            one further out sees to that.
        is_inside: whether an instance further out, with the same authenticator, has decided. All
            but the scopes and the limits are that one's then.
        login: what is in force, once the client was admitted.
        offer_redacted: whether a credential was taken out of the offered subprotocols.
    """

    login: Login

    __slots__ = (
        "_gate",
        "_report",
        "attempt",
        "authenticator",
        "in_force",
        "is_inside",
        "login",
        "offer_redacted",
        "on_refresh",
        "required_scopes",
        "scope",
    )

    def __init__(
        self,
        scope: Scope,
        authenticator: Authenticator,
        required_scopes: Iterable[str] = (),
        on_refresh: OnRefresh | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.scope = scope
        self._gate = gate
        self.authenticator = authenticator
        self.required_scopes = frozenset(required_scopes)
        self.on_refresh = on_refresh
        self.attempt = _NOTHING_PRESENTED
        self.in_force: AbstractContextManager[None] = _NOTHING
        self.is_inside = False
        self.offer_redacted = False
        self._report = Report(scope, authenticator)

    def take_credential(self) -> None:
        """Ask every source, and remove what it found from the server's own dict.

        That must come before anything is sent: uvicorn logs from its dict when it answers. It is
        the one exception to ASGI's rule of changing only copies.

        Raises:
            Denied: with `Reason.ERROR`, if a source raised.
        """
        try:
            self.attempt = self.authenticator.collect(HTTPConnection(self.scope))
        except Exception as exc:  # a scope that no server should build
            raise Denied.because("the scope", exc, may_quote=False) from exc
        offered = self.scope.get("subprotocols")
        offered = list(offered) if offered else None
        redact(self.authenticator.sources, self.scope)
        if offered is not None:
            self.offer_redacted = list(self.scope.get("subprotocols") or ()) != offered

    async def admit(
        self, on_wait: OnWait | None = None, first_message: FirstMessageReader | None = None
    ) -> Scope:
        """The scope for the app: the one that came in, if an instance further out has made it.

        Args:
            on_wait: see `Authenticator.authenticate`.
            first_message: what gets a socket's first message, from a source and the subprotocols to
                accept with; None over HTTP.

        Raises:
            Denied: the client is refused.
        """
        try:
            outer = login_behind(self.scope.get("wsauth"))
            if outer is not None and outer.authenticator is self.authenticator:
                self.attempt = outer.attempt
                self._pass_gate()
                outer.require(self.required_scopes)
                self.login, self.is_inside = outer, True
                return self.scope
            self.take_credential()
            self._take_over(outer)
            self._pass_gate()
            scope, authentication = self.scope, None
            if first_message is not None and not self.attempt.findings:
                scope, authentication = await self._ask_for_message(first_message)
            if authentication is None:
                authentication = await self.authenticator.authenticate(
                    HTTPConnection(self.scope), attempt=self.attempt, on_wait=on_wait
                )
            return self._log_in(scope, authentication)
        except Denied:
            raise
        except Exception as exc:  # a scope that no server should build, or a clock that fails
            raise Denied.because("the handshake", exc) from exc

    def _take_over(self, outer: Login | None) -> None:
        """What an instance further out has set aside was found, too."""
        findings = found_before(self.scope, self.authenticator, self.attempt.findings)
        if outer is not None and not findings:
            # Where its login is off, it has judged no origin.
            judged = not outer.is_anonymous
            found = outer.attempt.findings
            findings = found if judged else handed_on(found, self.authenticator)
        if findings is not self.attempt.findings:
            self.attempt = Attempt(findings)

    def _log_in(self, scope: Scope, authentication: Authentication) -> Scope:
        """The scope for the app: `scope`, with the login in it."""
        principal = authentication.principal
        if self.required_scopes:
            check_scopes(self.required_scopes, principal)
        self.in_force = self.login = login = Login(
            self.scope,
            self.authenticator,
            self.attempt,
            authentication,
            self._report.client,
            self.required_scopes,
            self.on_refresh,
        )
        return {
            **scope,
            "user": authentication.user,
            "auth": AuthCredentials(["authenticated", *principal.scopes]),
            "wsauth": login.session,
        }

    def _pass_gate(self) -> None:
        if self._gate is not None:
            self._gate.check(self.attempt, self.scope, self.authenticator.allowed_origins)

    async def _ask_for_message(
        self, first_message: FirstMessageReader
    ) -> tuple[Scope, Authentication | None]:
        """Have the client send its credential, if there is a source for that and one is needed; the
        scope then, and the authentication if none is."""
        source = next((s for s in self.authenticator.sources if isinstance(s, FirstMessage)), None)
        if source is None:
            return self.scope, None
        conn = HTTPConnection(self.scope)
        authentication = await self.authenticator.precheck(conn, self.attempt)
        if authentication is not None:
            return self.scope, authentication
        protocols = source.protocols(self.scope)
        found: Credential | Denied
        try:
            said = await first_message(source, protocols, client_host(self.scope))
            found = Credential(said, repr(source))
        except Denied as denied:  # to be judged when its turn comes
            found = denied
        self.attempt = Attempt([(source, found)])
        self._pass_gate()
        return accepted_scope(self.scope, protocols), None

    def tell(self, kind: type[Event], **more: Any) -> None:
        """Tell the observers of an event, with what is known by now; see `Report.tell`."""
        self._report.tell(kind, self.attempt, **more)

    def tell_of_login(self, kind: type[Event], **more: Any) -> None:
        """Tell the observers of an event, with what is in force by now, after any refresh."""
        self._report.tell(kind, self.login.latest, **more)

    def tell_closed(self) -> None:
        """Tell them that it is over; if it was closed here, why."""
        connection = self.login.connection
        denied = None if connection is None else connection.denied
        if connection is None or denied is None:
            self.tell_of_login(Closed)
        else:
            self.tell_of_login(Closed, reason=denied.reason, close_code=connection.close_code)

    def tell_refusal(
        self, denied: Denied, *, close_code: int | None = None, repeated: int = 0
    ) -> None:
        """Tell the observers of a refusal; see `Report.tell_refusal`."""
        self._report.tell_refusal(denied, self.attempt, close_code=close_code, repeated=repeated)


_INSIDE = {
    "starlette.middleware.authentication": "replaces the user that was authenticated here; put it "
    "outside (before it in middleware=[...], but after it with add_middleware), or remove it",
    "starlette.middleware.cors": "sees no preflight, so browsers keep answers from pages of other "
    "origins; put it outside (before it in middleware=[...], but after it with add_middleware), or "
    'set preflight="pass"',
}


def check_inner(app: AnyASGIApp, name: str, *, answers_preflights: bool = False) -> ASGIApp:
    """What is to be inside a middleware, if it is an app. The log warns of middlewares of
    Starlette's that do harm there.

    Args:
        app: what was given.
        name: of the middleware.
        answers_preflights: whether it does that itself.

    Raises:
        ConfigurationError: it is no app.
    """
    found: Any = check_app(app)
    seen: set[int] = set()
    while hasattr(found, "__dict__") and id(found) not in seen:
        seen.add(id(found))
        for module in (kind.__module__ for kind in type(found).__mro__):
            harmless = module == "starlette.middleware.cors" and not answers_preflights
            if module in _INSIDE and not harmless:
                what = type(found).__name__
                logger.warning("%s is inside %s, and %s", what, name, _INSIDE[module])
        found = vars(found).get("app")
    return cast(ASGIApp, app)


def check_authenticator(authenticator: object) -> Authenticator:
    """The authenticator, if it is one.

    Raises:
        ConfigurationError: it is none.
    """
    return check_instance("authenticator", authenticator, Authenticator, "Authenticator([...])")
