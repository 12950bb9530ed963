"""`WebSocketAuthMiddleware`: the decision, put in front of an ASGI app for its WebSockets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_args

from starlette.types import Message, Scope

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.connection.admission import Admission, AnyASGIApp, check_authenticator, check_inner
from asgi_wsauth.connection.answers import refuse
from asgi_wsauth.connection.budget import close_within_budget
from asgi_wsauth.connection.closing import try_send
from asgi_wsauth.connection.draining import Crowd, Draining
from asgi_wsauth.connection.gate import Gate
from asgi_wsauth.connection.guard import Guard
from asgi_wsauth.connection.handshake import Handshake
from asgi_wsauth.connection.holdings import Holdings
from asgi_wsauth.connection.passthrough import GUARDS, redacted_request
from asgi_wsauth.connection.refresh_messages import check_refresh_message
from asgi_wsauth.connection.rejection import ACCEPT_THEN_CLOSE, Rejection, Rejections
from asgi_wsauth.connection.renewal import check_on_refresh
from asgi_wsauth.connection.session import OnRefresh
from asgi_wsauth.connection.terms import Terms
from asgi_wsauth.denial import CloseCodes, Denied, check_close_codes, close_code
from asgi_wsauth.events import Abandoned, Admitted
from asgi_wsauth.options import (
    check_bool,
    check_choice,
    check_scopes,
    check_seconds,
    check_seconds_or_none,
)
from asgi_wsauth.policies.handshake_limit import HandshakeLimit
from asgi_wsauth.policies.limits import ConnectionLimit
from asgi_wsauth.policies.sessions import Sessions
from asgi_wsauth.scope.paths import GuardedPaths
from asgi_wsauth.sources.subprotocol import choose_subprotocol

__all__ = ["WebSocketAuthMiddleware"]

# For a client that is gone. Without any answer, uvicorn would log an error.
_GIVE_UP: Message = {"type": "websocket.close"}


class WebSocketAuthMiddleware:
    """Lets a WebSocket handshake through to `app` only if `authenticator` admits it.

    The app gets a copy of the scope without the credential, with `user`, `auth` (Starlette's
    `AuthCredentials`) and `wsauth` (the `Session`). Other scope types pass untouched, but the
    server's own scope of an HTTP request is redacted, so that no credential gets into its log.

    Inside another instance with the same authenticator, it reuses that one's decision and applies
    only its own scopes, connection limit and codes. With another authenticator, it verifies the
    credential that the outer one found, unless its own sources find one. A cookie whose origin
    hasn't been checked is only verified by an authenticator with `allowed_origins`.

    Args:
        app: any ASGI 3 app.
        authenticator: who decides.
        rejection: how a client is refused. `"accept_then_close"` accepts and closes at once, with
            the code and the phrase, which is all that a browser's page can see. `"auto"` does that
            for pages, which send an `Origin`, and answers programs with the HTTP status.
            `"http_response"` answers everybody with the HTTP status, if the server can; otherwise
            it is like `"close"`, which closes before accepting: every server makes that a bare HTTP
            403. Even with the default, a program that presents the same credential, or none, for
            the tenth time within 10 seconds is refused over HTTP, with `Retry-After`, so that it
            slows down.
        close_codes: codes to use in place of the table's: a mapping such as `{Reason.EXPIRED:
            4401}`. There are `DAPHNE_CLOSE_CODES`, by which codes that a server can't send are
            replaced in any case, and `GRAPHQL_CLOSE_CODES`.
        exclude: patterns of public paths, such as `["/health", "/public/*"]`, which are passed
            untouched: nothing is checked and nothing is redacted. `*` stands for one segment or a
            part of it, `/*` at the end for everything below, without `/public` itself. Case
            matters. A path is the one by which `app` routes, without `root_path`; one that another
            app might read otherwise is not passed, nor one below a root that a client may have
            chosen, which Daphne takes from a header, unless the path with that root matches, too.
        only: patterns of the only paths that are guarded, such as `["/admin/*"]`, which also guards
            `/admin` and, because case is ignored, `/ADMIN/a`; None for all. A path that is also in
            `exclude` passes.
        required_scopes: a list of scopes that a principal must have, all of them, or it is refused
            with `Reason.FORBIDDEN`.
        enforce_expiry: whether a socket is closed, with `Reason.EXPIRED`, when its credential
            expires.
        grace: seconds that an app has to clean up after its socket was closed here; then it is
            cancelled.
        connection_limit: a `ConnectionLimit`: how many sockets each user may have, or this process.
        handshake_limit: a `HandshakeLimit`: how often one credential may come back. For clients
            that might reconnect in a loop.
        refresh_message: the `type` of the text message with which a client renews its credential on
            the open socket: with `"auth.refresh"`, `{"type": "auth.refresh", "token": "..."}`. None
            for no such messages. The app doesn't see it. The client gets `{"type":
            "auth.refresh.ok", "expires_at": ...}`, in Unix time, or the socket is closed. That
            works while the app receives. Every client, whether or not it ever sent one, gets
            `{"type": "auth.refresh.due", "expires_at": ...}` once for each credential: 60 seconds
            before it expires, or when half of its time is over where that is later, and never
            within 5 seconds of the last one. Nothing is due without `enforce_expiry` and `max_age`.
            A message of the app's own that a client could take for one of these two is not sent.
        max_age: seconds that a socket may last after its handshake, or after the last refresh; None
            for as long as the credential. It is then closed with `Reason.EXPIRED`, even if its
            credential never expires, such as an API key, or `enforce_expiry` is off. Not while
            login is off.
        on_refresh: an async function that is called before a new credential takes over, with the
            `Session`, the principal that it has, and the new one, which has been verified. What it
            raises refuses the refresh: `Denied` with its own reason, anything else as
            `Reason.ERROR`; so does taking longer than the authenticator's `timeout`. A refused
            refresh by `refresh_message` closes the socket; `Session.refresh` raises. It may close
            the socket itself, too, by `Session.close`.
        recheck: seconds after which the login of an open socket is checked again, over and over,
            each time a tenth sooner or later; None for never. It asks whether the login was
            revoked, whether `load_user` still knows the user, and whether whoever issued the
            credential still calls it active, if its verifier can ask (`TokenIntrospection`,
            `DjangoSession`, `DatabaseToken`, `APIKeyVerifier(lookup=...)`, or one of your own with
            a method `recheck`). What is REVOKED, FORBIDDEN or EXPIRED by then is closed. A store, a
            database or an issuer that fails closes nothing, and is asked again, after growing
            pauses. At most 20 checks run at once. Not while login is off.
        sessions: the `Sessions` in which open sockets are listed, and through which each can be
            ended. Inside another instance with the same authenticator, a socket is listed once: by
            the outer one, or if that has no sessions, by this one. Not while login is off.
        allow_unguarded_http: whether HTTP requests are meant to pass without a credential.
            Otherwise the log warns of the first one, if the process has no `HTTPAuthMiddleware`.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        app: AnyASGIApp,
        authenticator: Authenticator,
        *,
        rejection: Rejection = "accept_then_close",
        close_codes: CloseCodes = {},  # noqa: B006 - never changed
        exclude: Iterable[str] = (),
        only: Iterable[str] | None = None,
        required_scopes: Iterable[str] = (),
        enforce_expiry: bool = True,
        grace: float = 10.0,
        connection_limit: ConnectionLimit | None = None,
        handshake_limit: HandshakeLimit | None = None,
        refresh_message: str | None = None,
        max_age: float | None = None,
        on_refresh: OnRefresh | None = None,
        recheck: float | None = None,
        sessions: Sessions | None = None,
        allow_unguarded_http: bool = False,
    ) -> None:
        self.app = check_inner(app, "WebSocketAuthMiddleware")
        self.authenticator = check_authenticator(authenticator)
        self._paths = GuardedPaths(exclude, only)
        self.required_scopes = frozenset(check_scopes("required_scopes", required_scopes))
        gate = Gate(connection_limit, handshake_limit)
        self._gate = None if gate.is_open else gate
        self.connection_limit = connection_limit
        self._terms = Terms(
            clock=authenticator.clock,
            close_codes=check_close_codes(close_codes),
            grace=check_seconds("grace", grace, least=0),
            enforce_expiry=check_bool("enforce_expiry", enforce_expiry),
            max_age=check_seconds_or_none("max_age", max_age),
            refresh=check_refresh_message(refresh_message, authenticator.max_token_size),
            rejections=Rejections(check_choice("rejection", rejection, get_args(Rejection))),
            sources=authenticator.sources,
        )
        self._inner_terms = replace(self._terms, enforce_expiry=False, max_age=None, refresh=None)
        self.on_refresh = check_on_refresh(on_refresh)
        self._holdings = Holdings.of(authenticator, recheck, gate.user_limit, sessions)
        self.sessions = sessions
        self.allow_unguarded_http = check_bool("allow_unguarded_http", allow_unguarded_http)
        self._draining = Draining(authenticator.clock)
        GUARDS.add("websocket", self)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket" or not self._paths.guards(scope):
            await self.app(self._passing(scope), receive, send)
            return
        admission = Admission(
            scope, self.authenticator, self.required_scopes, self.on_refresh, self._gate
        )
        handshake = Handshake(receive, send, self._terms.close_codes)
        crowd = self._draining.crowd()
        crowd.open[handshake] = guard = None
        try:
            try:
                app_scope, guard = await self._enter(admission, handshake, crowd)
            except Denied as denied:
                await self._refuse(admission, handshake, denied)
                return
            denied_since = None if guard is None else guard.denied
            if denied_since is None and self._draining.has_begun:
                denied_since = self._draining.refusal()
            if handshake.client_left or denied_since is not None:
                await self._refuse(admission, handshake, denied_since)
            else:
                with admission.in_force:
                    await self._run_app(admission, handshake, app_scope, guard, crowd)
        finally:
            crowd.leave(handshake)
            if self._gate is not None or self._holdings is not None:
                await self._give_back(admission, guard)

    @property
    def is_draining(self) -> bool:
        """Whether `drain` was called, for a health check."""
        return self._draining.has_begun

    async def drain(self, *, over: float = 30.0) -> None:
        """Close all sockets before the process ends, so that their clients don't all come back at
        once.

        From now on every handshake on a guarded path is refused with `Reason.RESTARTING`, before
        anything is verified; over HTTP with `Retry-After`. Each open socket is closed with that
        reason at a random moment within `over` seconds, and its app has `grace` seconds then. This
        returns when all clients are gone or were sent their code. There is no way back.

        Another call closes what is still open within its own time: at once, with `over=0`. Sockets
        of other event loops are closed there. A socket that nothing else could end, and that its
        app hasn't accepted yet, gets an HTTP 403.

        Args:
            over: seconds within which sockets are closed; 0 to close all at once.
        """
        await self._draining.drain(check_seconds("over", over, least=0))

    def _passing(self, scope: Scope) -> Scope:
        """The scope with which the app is called for what is not guarded here."""
        if scope["type"] != "http" or not self._paths.guards(scope):
            return scope
        if not self.allow_unguarded_http:
            GUARDS.warn("http", "allow_unguarded_http")
        return redacted_request(scope, self.authenticator)

    async def _enter(
        self, admission: Admission, handshake: Handshake, crowd: Crowd
    ) -> tuple[Scope, Guard | None]:
        """The scope for the app, and a guard if something may end the socket.

        Raises:
            Denied: the client is refused; also where it has left.
        """
        guard: Guard | None = None
        try:
            try:
                if self._draining.has_begun:
                    admission.take_credential()
                    raise self._draining.refusal()
                app_scope = await admission.admit(handshake.watch, handshake.first_message)
                if self._gate is not None:
                    self._gate.enter(admission, admission.login.principal)
                guard = self._guard(admission, handshake, crowd)
                holdings = self._holdings
                if guard is not None and holdings is not None and not admission.login.is_anonymous:
                    taking = holdings.take(guard, admission.login, admission.is_inside)
                    if taking is not None:
                        await self.authenticator.within_timeout(taking, handshake.watch)
            finally:  # in here, because a server may cancel the handshake at that moment
                if handshake.is_watched:
                    await handshake.stop_watching()
            if handshake.accepted:
                await handshake.tell_admitted()
        except BaseException as exc:
            await self._give_back(admission, guard)
            if isinstance(exc, Denied) or not isinstance(exc, Exception):
                raise
            raise Denied.because("the entry", exc) from exc
        return app_scope, guard

    async def _give_back(self, admission: Admission, guard: Guard | None) -> None:
        """Give back whatever a socket has; at once where it is refused, which may take a while."""
        if self._gate is not None:
            self._gate.leave(admission)
        if guard is not None and self._holdings is not None:
            await self._holdings.release(guard, admission.login)

    def _guard(self, admission: Admission, handshake: Handshake, crowd: Crowd) -> Guard | None:
        """A guard, if something may end the socket here: inside an instance that has one, only
        what that one doesn't know of."""
        login, is_inside, holdings = admission.login, admission.is_inside, self._holdings
        terms = self._inner_terms if is_inside else self._terms
        if (
            terms.refresh is None
            and not terms.has_end_for(login.principal, is_anonymous=login.is_anonymous)
            and (holdings is None or not holdings.are_for(login, is_inside=is_inside))
        ):
            return None
        return Guard(login.session, terms, admission.scope, handshake, crowd.timers)

    async def _run_app(
        self,
        admission: Admission,
        handshake: Handshake,
        scope: Scope,
        guard: Guard | None,
        crowd: Crowd,
    ) -> None:
        is_outermost = not admission.is_inside  # which is the one that tells of this socket
        sources = self._terms.sources
        marker = choose_subprotocol(scope, sources) if admission.offer_redacted else None
        receive, send = handshake.app_receive(), handshake.app_send(marker)
        if is_outermost:
            admission.tell(Admitted)
        crowd.open[handshake] = admission.login
        try:
            if guard is not None:
                guard.stand_between(receive, send)
                try:
                    await self.app(scope, guard.receive, guard.app_send)
                except BaseException as exc:
                    if not guard.leave(exc):
                        raise
                else:
                    guard.leave(None)
                finally:
                    await guard.finish()
            else:
                if is_outermost:
                    admission.login.run_on(handshake)
                await self.app(scope, receive, send)
            if handshake.denied is not None:
                await handshake.read_on()
        finally:
            if is_outermost:
                admission.tell_closed()

    async def _refuse(
        self, admission: Admission, handshake: Handshake, denied: Denied | None
    ) -> None:
        if denied is None or handshake.client_left:
            admission.tell(Abandoned)
            await try_send(handshake.send, _GIVE_UP)
            return
        scope, terms = admission.scope, self._terms
        code = close_code(denied, terms.close_codes)
        way = ACCEPT_THEN_CLOSE
        if not handshake.accepted:
            way = terms.rejections.choose(scope, admission.attempt.presented)
        admission.tell_refusal(denied, close_code=code, repeated=way.repeated)
        await handshake.take_connect()
        receive, send = handshake.receive, handshake.send
        if handshake.client_left:
            await try_send(send, _GIVE_UP)
        elif handshake.accepted:
            await handshake.tell_refused(denied)
            await close_within_budget(scope, receive, send, denied, code)
        else:
            await refuse(scope, receive, send, denied, code, way=way, sources=terms.sources)
