"""What the app finds in its scope, `Session`, and the login behind it, which no app can reach."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import isfinite
from secrets import token_urlsafe
from typing import Any, TypeAlias

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.authenticator import Attempt, Authentication, Authenticator
from asgi_wsauth.connection.live import Listed, LiveConnection
from asgi_wsauth.connection.renewal import ask, check_not_revoked, check_same_login, check_scopes
from asgi_wsauth.connection.report import Report
from asgi_wsauth.connection.terms import EndTerms
from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import Refreshed
from asgi_wsauth.sources import FirstMessage

__all__ = ["Login", "OnRefresh", "Session", "login_behind", "login_of"]


class Session:
    """What the app finds as `scope["wsauth"]`: the login of its connection, without its credential.

    Attributes are read-only, and give the current state: a refresh changes them.
    """

    __slots__ = (
        "__weakref__",
        "_authenticated_at",
        "_client",
        "_denied",
        "_fingerprint",
        "_id",
        "_is_socket",
        "_principal",
        "_user",
    )

    def __init__(
        self,
        authentication: Authentication,
        authenticated_at: float,
        client: str | None,
        is_socket: bool,
    ) -> None:
        self._client = client
        self._id: str | None = None
        self._is_socket = is_socket
        self._denied: Denied | None = None  # why the socket was closed here, once it is over
        self._set(authentication, authenticated_at)

    def _set(self, authentication: Authentication, authenticated_at: float) -> None:
        credential = authentication.credential
        self._principal = authentication.principal
        self._user = authentication.user
        self._authenticated_at = authenticated_at
        self._fingerprint = None if credential is None else credential.fingerprint

    @property
    def id(self) -> str:
        """A random text of its own, which no refresh changes. `Sessions` lists a socket by it."""
        if self._id is None:  # as long as nobody asks, it costs nothing
            self._id = token_urlsafe(16)
        return self._id

    @property
    def principal(self) -> Principal:
        """The principal for whom the credential vouches."""
        return self._principal

    @property
    def user(self) -> Any:
        """What `load_user` returned for the principal; without a `load_user`, the principal. After
        a refresh it is the new one, whereas `scope["user"]` stays the object that it was, because
        apps hold on to it.
        """
        return self._user

    @property
    def authenticated_at(self) -> float:
        """Unix time in seconds of the decision."""
        return self._authenticated_at

    @property
    def client(self) -> str | None:
        """The peer's address, or None if the server knows none."""
        return self._client

    @property
    def method(self) -> str:
        """How the client was authenticated, for example `jwt`; `none` while login is off."""
        return self._principal.method

    @property
    def fingerprint(self) -> str | None:
        """The first 16 hex digits of the credential's SHA-256; None without a credential."""
        return self._fingerprint

    @property
    def expires_at(self) -> float | None:
        """Unix time in seconds from which the credential is no longer accepted, or None."""
        return self._principal.expires_at

    async def refresh(self, token: str) -> None:
        """Go on with a new credential: the socket then ends when that one does. `scope["user"]` and
        `scope["auth"]` stay as they are; `principal` and `user` are the new ones.

        It is verified as in a handshake, must have the scopes that the middleware asks for, and is
        shown to its `on_refresh`. Nothing changes if the client has left, or if the present
        credential never expires and there is neither a `max_age` nor an `on_refresh`.

        Args:
            token: a credential for the same identity and issuer, by the same verifier. A ticket
                counts as the login behind it: it continues a login of the same `method`.

        Raises:
            Denied: it is refused: with `Reason.FORBIDDEN` if it is for somebody else, with what
                `on_refresh` raised, or with `Reason.ERROR` if that failed. The socket stays open
                until the present credential ends. Or the socket has been closed by the middleware,
                for this reason.
            RuntimeError: this is no WebSocket.
        """
        login = self._login()
        if login is not None:
            await login.refresh(token)
        elif self._denied is not None:
            raise Denied(self._denied.reason, "the socket was closed before")

    async def close(self, reason: Reason = Reason.REVOKED) -> None:
        """Close the socket, with the code that `reason` has in this middleware.

        The app receives `websocket.disconnect`, and is cancelled if it still runs after the
        middleware's `grace`. Closing a closed socket does nothing. Accept first: before that, a
        socket that nothing else can end gets an HTTP 403, as with any close before the accept.

        Args:
            reason: what the client is told.

        Raises:
            RuntimeError: this is no WebSocket.
        """
        login = self._login()
        if login is not None and login.connection is not None:
            await login.connection.close(Denied(reason, "closed by the app"))

    def _login(self) -> Login | None:
        if not self._is_socket:
            raise RuntimeError("an HTTP request has no socket that could be refreshed or closed")
        return _logins.get(self)

    def __repr__(self) -> str:
        return f"<Session of {self._principal!r}>"


OnRefresh: TypeAlias = Callable[[Session, Principal, Principal], Awaitable[None]]


_logins: dict[Session, Login] = {}


def login_behind(session: object) -> Login | None:
    """The login of a connection on which an app is running. All else that the app can reach holds
    the session, and finds the login by this.

    Args:
        session: what the scope has as `wsauth`, if anything.
    """
    return _logins.get(session) if isinstance(session, Session) else None


def login_of(session: Session) -> Login:
    """As `login_behind`, for a connection on which an app is known to be running."""
    return _logins[session]


class Login:
    """The login that is in force on one connection. The app gets its session; all else is found
    by `login_behind` only, while the app runs: `with login: await app(...)`.

    Args:
        scope: the connection's, redacted.
        authenticator: who decided.
        attempt: what the handshake presented.
        authentication: what was decided.
        required_scopes: what the principal must have, now and after each refresh.
        on_refresh: asked whether a new credential may take over, or None.

    Attributes:
        session: what the app sees of it.
        latest: the credential that is in force: what the handshake presented, or the last refresh.
        principal: whose it is.
        is_anonymous: whether nobody logged in, because authentication is off.
        connection: what the app runs on; None over HTTP, and before and after the app's run.
        listing: its entry in `Sessions`, or None.
    """

    __slots__ = (
        "attempt",
        "authenticator",
        "connection",
        "is_anonymous",
        "latest",
        "listing",
        "on_refresh",
        "principal",
        "required_scopes",
        "scope",
        "session",
    )

    def __init__(
        self,
        scope: Scope,
        authenticator: Authenticator,
        attempt: Attempt,
        authentication: Authentication,
        client: str | None,
        required_scopes: frozenset[str],
        on_refresh: OnRefresh | None = None,
    ) -> None:
        self.scope = scope
        self.authenticator = authenticator
        self.attempt = self.latest = attempt
        self.principal = authentication.principal
        self.is_anonymous = authentication.credential is None
        self.required_scopes = required_scopes
        self.on_refresh = on_refresh
        self.connection: LiveConnection | None = None
        self.listing: Listed | None = None
        is_socket = scope["type"] == "websocket"
        self.session = Session(authentication, authenticator.clock(), client, is_socket)

    def __enter__(self) -> None:
        _logins[self.session] = self

    def __exit__(self, *_: object) -> None:
        del _logins[self.session]
        if self.connection is not None:
            self.session._denied = self.connection.denied
            # It knows of this login, and would keep it in memory until the garbage collector's next
            # turn, which costs as much as all the rest of a socket.
            self.connection = None

    def ends_at(self, terms: EndTerms) -> float | None:
        """Unix time in seconds of its end, if it has one: infinity is none, and JSON has no word
        for it.

        Args:
            terms: those of its socket.
        """
        ends = self.principal.expires_at if terms.enforce_expiry else None
        if terms.max_age is not None and not self.is_anonymous:
            too_old = self.session.authenticated_at + terms.max_age
            ends = too_old if ends is None else min(ends, too_old)
        return None if ends is None or not isfinite(ends) else ends

    def run_on(self, connection: LiveConnection) -> None:
        """The app runs on `connection` from now on."""
        self.connection = connection

    def list_as(self, listing: Listed) -> None:
        """Its entry in `Sessions` is this one from now on."""
        self.listing = listing

    async def unlist(self) -> None:
        """Remove its entry in `Sessions`, if it has one."""
        listing, self.listing = self.listing, None
        if listing is not None:
            await listing.remove()

    def require(self, scopes: frozenset[str]) -> None:
        """An instance further in requires these scopes too.

        Raises:
            Denied: with `Reason.FORBIDDEN`, if the principal lacks one.
        """
        check_scopes(scopes, self.principal)
        self.required_scopes |= scopes

    async def refresh(self, token: object) -> None:
        """See `Session.refresh`."""
        report = Report(self.scope, self.authenticator)
        attempt = Attempt([])
        try:
            if not isinstance(token, str):  # what an app hands on may be anything
                raise Denied(Reason.MALFORMED, f"the token is a {type(token).__qualname__}")
            attempt = Attempt([(FirstMessage(), Credential(token, "refresh"))])
            await self._renew(attempt)
        except Exception as exc:
            denied = exc if isinstance(exc, Denied) else Denied.because("the refresh", exc)
            report.tell_refusal(denied, attempt)
            raise denied from denied.__cause__
        report.tell(Refreshed, attempt, expires_at=self.session.expires_at)

    async def recheck(self) -> None:
        """Decide about it again, without a new credential.

        Raises:
            Denied: it is good no more, or that can't be told.
        """
        latest = self.latest
        try:
            conn = HTTPConnection(self.scope)
            check_scopes(self.required_scopes, await self.authenticator.recheck(conn, latest))
        except Denied:
            if self.latest is latest:  # else another credential has taken over meanwhile
                raise

    async def _renew(self, attempt: Attempt) -> None:
        before = self.connection
        new = await self.authenticator.authenticate(HTTPConnection(self.scope), attempt=attempt)
        check_same_login(attempt, self.attempt)
        check_scopes(self.required_scopes, new.principal)
        connection = self.connection or before  # which is forgotten as soon as the app is over
        assert connection is not None  # no app runs without one
        needs_it = connection.needs_refresh
        if self.principal.expires_at is None and not needs_it and self.on_refresh is None:
            return
        if self.on_refresh is not None:
            asking = ask(self.on_refresh, self.session, self.principal, new.principal)
            await self.authenticator.within_timeout(asking)
        await check_not_revoked(new.principal, self.authenticator)
        if connection.denied is not None:
            raise Denied(connection.denied.reason, "the socket was closed meanwhile")
        if self.connection is None:  # the app is over
            return
        self.latest, self.principal = attempt, new.principal
        self.is_anonymous = new.credential is None
        self.session._set(new, self.authenticator.clock())
        if self.listing is not None:
            self.listing.note_refresh()
        connection.reschedule()
