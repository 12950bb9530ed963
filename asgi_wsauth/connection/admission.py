"""One connection on its way through the decision, be it a WebSocket handshake or an HTTP request.

What the middlewares share: taking the credential out of the server's scope, reusing what an
instance further out decided, building the app's scope, telling the observers. What a client is
sent is each middleware's own.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from typing import Any, TypeAlias

from asgiref.typing import ASGI3Application
from starlette.authentication import AuthCredentials
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Scope

from asgi_wsauth.authenticator import Attempt, Authentication, Authenticator
from asgi_wsauth.connection.handshake import accepted_scope
from asgi_wsauth.connection.passthrough import found_before, handed_on
from asgi_wsauth.connection.session import Session
from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.denial import Denied, InsufficientScope, Reason
from asgi_wsauth.events import Event, Refreshed, Refused, is_heard, raised
from asgi_wsauth.options import check_instance
from asgi_wsauth.redaction import scrubbed
from asgi_wsauth.scope.addresses import client_host
from asgi_wsauth.sources import FirstMessage

__all__ = ["Admission", "AnyASGIApp", "check_authenticator"]

# Of all typing schools. Litestar's and Quart's own fit neither of the first two.
AnyASGIApp: TypeAlias = ASGIApp | ASGI3Application | Callable[[Any, Any, Any], Awaitable[None]]

_TRACEBACK = "Traceback (most recent call last):\n"

FirstMessageReader: TypeAlias = Callable[[FirstMessage, "list[str]", "str | None"], Awaitable[str]]


class Admission:
    """One connection, and what is known of it so far.

    Args:
        scope: the server's own dict. The credential is taken out of it in place.
        authenticator: who decides.
        required_scopes: what the principal must have, all of it.

    Attributes:
        attempt: what the sources found, once they were asked.
        offer_redacted: whether a credential was taken out of the offered subprotocols.
    """

    def __init__(
        self, scope: Scope, authenticator: Authenticator, required_scopes: Iterable[str] = ()
    ) -> None:
        self.scope = scope
        self.authenticator = authenticator
        self.required_scopes = frozenset(required_scopes)
        self.attempt = Attempt([])
        self.offer_redacted = False
        self._started = time.perf_counter()

    @property
    def client(self) -> str | None:
        """The peer's address."""
        try:
            address = self.scope.get("client")
            return address[0] if address else None
        except (TypeError, LookupError):  # one that no server should build
            return None

    @cached_property
    def _origin(self) -> str | None:
        try:
            for name, value in self.scope.get("headers") or ():
                if name == b"origin":
                    return str(value, "latin-1")
        except (TypeError, ValueError):  # headers that no server should build
            pass
        return None

    def take_credential(self) -> None:
        """Ask every source, and remove what it found from the server's own dict.

        That must come before anything is sent: uvicorn logs from its dict when it answers. It is
        the one exception to ASGI's rule of changing only copies.

        Raises:
            Denied: with `Reason.ERROR`, where a source broke.
        """
        try:
            self.attempt = self.authenticator.collect(HTTPConnection(self.scope))
        except Exception as exc:  # a scope that no server should build
            raise Denied.because("the scope", exc, may_quote=False) from exc
        offered = list(self.scope.get("subprotocols") or ())
        self.authenticator.redact(self.scope)
        self.offer_redacted = list(self.scope.get("subprotocols") or ()) != offered

    async def admit(
        self,
        on_wait: Callable[[Callable[[], None]], None] | None = None,
        first_message: FirstMessageReader | None = None,
    ) -> Scope:
        """The scope for the app: the one that came in, where an instance further out has made it.

        Args:
            on_wait: see `Authenticator.authenticate`.
            first_message: what gets a socket's first message, from a source and the subprotocols to
                accept with; None over HTTP.

        Raises:
            Denied: the client is refused.
        """
        try:
            return await self._admit(on_wait, first_message)
        except Denied:
            raise
        except Exception as exc:  # a scope that no server should build, or a clock that fails
            raise Denied.because("the handshake", exc) from exc

    async def _admit(
        self,
        on_wait: Callable[[Callable[[], None]], None] | None,
        first_message: FirstMessageReader | None,
    ) -> Scope:
        scope = self.scope
        outer = scope.get("wsauth")
        if not isinstance(outer, Session):
            outer = None
        if outer is not None and outer._authenticator is self.authenticator:
            self.attempt = outer._attempt
            self._check_scopes(outer.principal.scopes)
            outer._required_scopes |= self.required_scopes
            return scope
        self.take_credential()
        self.attempt = Attempt(found_before(scope, self.authenticator, self.attempt.findings))
        if outer is not None and not self.attempt.findings:
            found = outer._attempt.findings
            judged = outer._authentication.credential is not None  # its login may be off
            self.attempt = Attempt(found if judged else handed_on(found, self.authenticator))
        if first_message is not None and not self.attempt.findings:
            scope = await self._ask_for_message(first_message)
        authentication = await self.authenticator.authenticate(
            HTTPConnection(self.scope), attempt=self.attempt, on_wait=on_wait
        )
        principal = authentication.principal
        self._check_scopes(principal.scopes)
        return {
            **scope,
            "user": authentication.user,
            "auth": AuthCredentials(["authenticated", *principal.scopes]),
            "wsauth": Session(
                self.authenticator,
                self.attempt,
                authentication,
                client=self.client,
                required_scopes=self.required_scopes,
                renew=self._renew,
            ),
        }

    async def _ask_for_message(self, first_message: FirstMessageReader) -> Scope:
        """Have the client send its credential, if there is a source for that; the scope then."""
        source = next((s for s in self.authenticator.sources if isinstance(s, FirstMessage)), None)
        conn = HTTPConnection(self.scope)
        if source is None or not await self.authenticator.screen(conn, self.attempt):
            return self.scope
        protocols = source.protocols(self.scope)
        found: Credential | Denied
        try:
            said = await first_message(source, protocols, client_host(self.scope))
            found = Credential(said, repr(source))
        except Denied as denied:  # to be judged when its turn comes
            found = denied
        self.attempt = Attempt([(source, found)])
        return accepted_scope(self.scope, protocols)

    def _check_scopes(self, scopes: Iterable[str]) -> None:
        if not self.required_scopes.issubset(scopes):
            raise InsufficientScope(sorted(self.required_scopes))

    async def _renew(self, session: Session, token: str) -> None:
        renewal = Admission(self.scope, self.authenticator, session._required_scopes)
        try:
            if not isinstance(token, str):  # what an app hands on may be anything
                raise Denied(Reason.MALFORMED, f"the token is a {type(token).__qualname__}")
            renewal.attempt = Attempt([(FirstMessage(), Credential(token, "refresh"))])
            await renewal._verify_again(session)
        except Exception as exc:
            denied = exc if isinstance(exc, Denied) else Denied.because("the refresh", exc)
            renewal.tell_refusal(denied)
            raise denied from denied.__cause__
        renewal.tell(Refreshed, expires_at=session.expires_at)

    async def _verify_again(self, session: Session) -> None:
        new = await self.authenticator.authenticate(
            HTTPConnection(self.scope), attempt=self.attempt
        )
        _check_same_login(self.attempt, session._attempt)
        self._check_scopes(new.principal.scopes)
        if session.expires_at is None:
            return
        revocations = self.authenticator.revocations
        if revocations is not None:
            # As for a new socket: from here on it is heard of, and before it is found in the store.
            candidate = _Candidate(new.principal)
            revocations.watch_over(candidate)
            try:
                await self.authenticator.within_timeout(revocations.check(new.principal))
            finally:
                revocations.forget(candidate)
            if candidate.denied is not None:
                raise candidate.denied
        if session._denied is not None:
            raise Denied(session._denied.reason, "the socket was closed meanwhile")
        session._set(new, self.authenticator.clock())

    def tell(self, kind: type[Event], of: Authentication | None = None, **more: Any) -> None:
        """Tell the observers of an event, with what is known by now.

        Args:
            kind: which.
            of: what is in force by now, where that isn't what this connection came with.
            more: what events of that kind have.
        """
        if not is_heard(self.authenticator.observers, kind):
            return
        known = of or self.attempt
        credential, principal = known.credential, known.principal
        event = kind(
            protocol=self.scope["type"],
            client=self.client,
            path=self.scope.get("path", ""),
            origin=self._origin,
            identity=None if principal is None else principal.identity,
            issuer=None if principal is None else principal.issuer,
            method=None if principal is None else principal.method,
            login_method=None if principal is None else principal.login_method,
            fingerprint=None if credential is None else credential.fingerprint,
            duration=time.perf_counter() - self._started,
            **more,
        )
        self.authenticator.emit(event)

    def tell_refusal(
        self, denied: Denied, *, close_code: int | None = None, repeated: int = 0
    ) -> None:
        """Tell the observers of a refusal; where something broke, what and where."""
        self.tell(
            Refused,
            reason=denied.reason,
            close_code=close_code,
            repeated=repeated,
            detail=self._scrub(denied.detail),
            **self._fault(denied),
        )

    def _fault(self, denied: Denied) -> dict[str, Any]:
        """What broke. A function of its own, so that no frame below an observer has the exception,
        whose text may have the credential: an error tracker takes local variables."""
        broken = denied.__cause__ if denied.reason in (Reason.ERROR, Reason.UNAVAILABLE) else None
        if broken is None:
            return {}
        error_type, error_at = raised(broken)
        if denied._may_quote:
            text = self._scrub("".join(traceback.format_exception(broken)))
        else:  # of a source's own, which may quote what the source made no credential of
            text = "".join([_TRACEBACK, *traceback.format_tb(broken.__traceback__), error_type])
        return {"error_type": error_type, "error_at": error_at, "traceback": text}

    def _scrub(self, text: str) -> str:
        """`text` without the credential, however it was written down."""
        values = [
            found.value for _, found in self.attempt.findings if isinstance(found, Credential)
        ]
        return scrubbed(text, values) if text else text


def _check_same_login(new: Attempt, old: Attempt) -> None:
    """Refuse a refresh by anybody else, and by another kind of login: what one verifier calls
    `alice` may be somebody else to the next one. A ticket counts as the login behind it; of that
    its method is known.

    Raises:
        Denied: with `Reason.FORBIDDEN`.
    """
    one, other = new.principal, old.principal
    assert one is not None and other is not None  # both were admitted
    if (one.issuer, one.identity) != (other.issuer, other.identity):
        raise Denied(Reason.FORBIDDEN, "a refresh for somebody else")
    if one.login_method is None and other.login_method is None:
        same = new.verifier == old.verifier
    else:
        same = (one.login_method or one.method) == (other.login_method or other.method)
    if not same:
        raise Denied(Reason.FORBIDDEN, "a refresh by another kind of login")


class _Candidate:
    """A principal that is about to take over a socket: a `LiveSocket` that nothing is sent to."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.denied: Denied | None = None

    def end(self, denied: Denied, /) -> None:
        self.denied = denied


def check_authenticator(authenticator: object) -> Authenticator:
    """The authenticator, if it is one.

    Raises:
        ConfigurationError: it is none.
    """
    return check_instance("authenticator", authenticator, Authenticator, "Authenticator([...])")
