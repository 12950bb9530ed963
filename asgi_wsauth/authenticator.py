"""The decision: who may connect. One `Authenticator` can serve any number of middlewares.

It never sees `receive` or `send`, and knows no close code.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential, Principal, has_expired
from asgi_wsauth.denial import Denied, Reason, SaidNothing
from asgi_wsauth.events import Observer, log_event
from asgi_wsauth.loops.timers import within
from asgi_wsauth.options import (
    ConfigurationError,
    check_async,
    check_clock,
    check_count,
    check_instance,
    check_list,
    check_observers,
    check_seconds,
    kind_of,
)
from asgi_wsauth.policies.anonymous import AnonymousAccess, check_required
from asgi_wsauth.policies.revocation import Revocations
from asgi_wsauth.policies.throttle import FailureThrottle, throttle_for
from asgi_wsauth.scope.addresses import client_host
from asgi_wsauth.sources import Header, QueryParam, Source
from asgi_wsauth.sources.findings import Finding, are_ambient, check_sources, choose, collect
from asgi_wsauth.sources.origins import HostWatch, check_origin, check_origins
from asgi_wsauth.verifiers import Verifier
from asgi_wsauth.verifiers.chain import Misuse, awaitable, identify
from asgi_wsauth.verifiers.proxy_header import check_proxies
from asgi_wsauth.verifiers.rechecking import identify_again

__all__ = ["Attempt", "Authentication", "Authenticator", "LoadUser", "OnWait"]

T = TypeVar("T")

LoadUser: TypeAlias = Callable[[Principal, HTTPConnection], Awaitable[Any]]
OnWait: TypeAlias = Callable[[Callable[[], None]], None]
Part: TypeAlias = Literal["all", "before", "again"]


class Authentication(NamedTuple):
    """A client that may connect.

    Attributes:
        principal: the principal for whom the credential vouches.
        user: what belongs in `scope["user"]`: what `load_user` returned, or the principal.
        credential: what was presented; None while login is off.
    """

    principal: Principal
    user: Any
    credential: Credential | None


@dataclass(slots=True)
class Attempt:
    """One connection on its way through the decision, and what is known of it so far.

    Attributes:
        findings: what the sources found.
        credential: the one that was chosen.
        principal: whom it vouches for.
        verifier: which verifier said so.
        throttle: which throttle it has a place in, until it is judged.
    """

    findings: Sequence[Finding]
    credential: Credential | None = None
    principal: Principal | None = None
    verifier: Verifier | None = None
    throttle: FailureThrottle | None = None

    @property
    def presented(self) -> list[str]:
        """The credentials that it came with, as far as they could be read."""
        return [found.value for _, found in self.findings if isinstance(found, Credential)]


class Authenticator:
    """Decides who may connect, for any number of middlewares. It keeps nothing of a handshake.

    Args:
        verifiers: a list of verifiers, asked in this order. At least one, unless `required` is
            False.
        sources: a list of sources: where a credential may travel.
        allowed_origins: a list of the exact origins whose pages may connect, such as
            `https://chat.example`; None for any. Required with a `Cookie` source. A connection
            without an `Origin` passes, unless it has a cookie or says `Sec-Fetch-Site: cross-site`:
            only browsers send one.
        required: whether a credential is needed: a bool, or a function that returns one and is
            called at every handshake. Turn it off for development.
        anonymous: the `Principal` of every client while `required` is false; `load_user` isn't
            called for it, and the default has no scopes.
        no_auth_networks: a list of networks (CIDR) from which clients may connect while `required`
            is false.
        load_user: an async function from the principal and the connection to what the app finds in
            `scope["user"]`; None for the principal itself. Where it returns None, the user is gone
            or disabled: `Reason.REVOKED`. It is called for machines too, whose `method` is
            `internal` or `api_key`: return the principal for those that your table of people
            doesn't have.
        revocations: the `Revocations` to ask, if logins can end before they expire.
        throttle: a `FailureThrottle` that locks out addresses, if credentials could be guessed.
        timeout: seconds that verifiers, stores and `load_user` have together, where they have to
            wait.
        max_token_size: characters that a credential may have. Most servers limit a request line to
            8 KB.
        observers: functions that are called with every `Event`, to log, count or trace.
        clock: a function that returns Unix time in seconds, for tests.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        verifiers: Iterable[Verifier],
        *,
        sources: Iterable[Source] = (QueryParam("token"), Header("authorization", scheme="Bearer")),
        allowed_origins: Iterable[str] | None = None,
        required: bool | Callable[[], bool] = True,
        anonymous: Principal = Principal("local", method="none"),  # noqa: B008 - never changed
        no_auth_networks: Iterable[str] = ("127.0.0.0/8", "::1/128"),
        load_user: LoadUser | None = None,
        revocations: Revocations | None = None,
        throttle: FailureThrottle | None = None,
        timeout: float = 5.0,
        max_token_size: int = 8192,
        observers: Iterable[Observer] = (log_event,),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.verifiers = check_list("verifiers", verifiers)
        self.sources = check_list("sources", sources)
        self.allowed_origins = check_origins(allowed_origins)
        self.required = required
        self._anonymous_access = AnonymousAccess(anonymous, no_auth_networks)
        self.load_user = load_user
        self.revocations = revocations
        self.throttle = throttle
        self.timeout = timeout
        self.max_token_size = max_token_size
        self.observers = check_observers(observers)
        self.clock = clock
        self._hosts = HostWatch()
        _check(self)

    def authenticate(
        self,
        conn: HTTPConnection,
        *,
        attempt: Attempt | None = None,
        on_wait: OnWait | None = None,
    ) -> Coroutine[Any, Any, Authentication]:
        """Decide about one connection, in this order:

        1. `required` says no: `anonymous`, if the peer has no address (a Unix socket, a test
           client) or is inside `no_auth_networks`; any other peer, and one whose address can't be
           read, is FORBIDDEN. So is what was forwarded (`X-Forwarded-For`, `Forwarded` and the
           like) by a peer without an address, or for an address that is not inside.
        2. An `Origin` that is not allowed, or two of them: ORIGIN. None at all passes, since only
           browsers send one, but not where the browser says `Sec-Fetch-Site: cross-site`, and not
           where the credential comes from a cookie. Over HTTP, a GET or HEAD passes all the same
           if the browser marks it as its own page's (`Sec-Fetch-Site: same-origin` or `none`), or
           as a navigation of the whole window: somebody followed a link.
        3. An address that is locked out: THROTTLED. Otherwise it takes a place there until it is
           judged, and waits while all are taken. What a browser sends on behalf of another site's
           page is counted apart.
        4. Exactly one credential: none is MISSING; two different ones, one given twice, or one that
           is too long or not visible ASCII is MALFORMED. A cookie counts only where nothing
           explicit is present.
        5. The verifiers, in their order, until one claims it; if none does: INVALID. An exception
           other than `Denied`, or a result that is no `Principal`, is ERROR.
        6. What was revoked: REVOKED.
        7. `load_user`; None from it is REVOKED.

        All that waits, in 3 and from 5 on, has `timeout` seconds together, then it is UNAVAILABLE.
        INVALID and MALFORMED count against the address, and so does the end of the time for a first
        message.

        Args:
            conn: the connection. Verifiers and `load_user` get it as it is.
            attempt: what `collect` found, if the scope has been redacted since.
            on_wait: called once, with a function that cancels the work, when it first has to wait.

        Raises:
            Denied: the client is refused.
        """
        # Not a coroutine of its own, which would cost each handshake a little; nor a cast. None is
        # what a part of the decision may come to.
        return self._decide(conn, attempt, on_wait)  # type: ignore[return-value]

    async def precheck(self, conn: HTTPConnection, attempt: Attempt) -> Authentication | None:
        """Steps 1 to 3 of `authenticate`, for a client that is yet to send its credential.

        Returns:
            The authentication, if no credential is needed; None if one is.

        Raises:
            Denied: the client is refused, whatever it would send.
        """
        return await self._decide(conn, attempt, part="before")

    async def recheck(self, conn: HTTPConnection, attempt: Attempt) -> Principal:
        """Steps 5 to 7 of `authenticate` once more, for a login that is in force: 5 is for a
        verifier that `Rechecks`, and what it calls INVALID by now is REVOKED.

        Returns:
            Who is behind the credential now.

        Raises:
            Denied: it is not good any more, or that can't be told.
        """
        again = await self._decide(conn, attempt, part="again")
        assert again is not None
        return again.principal

    async def _decide(
        self,
        conn: HTTPConnection,
        attempt: Attempt | None,
        on_wait: OnWait | None = None,
        *,
        part: Part = "all",
    ) -> Authentication | None:
        """All steps, or those of a part; the numbers are those of `authenticate`."""
        failed = False
        try:
            attempt = attempt or self.collect(conn)
            if part != "again":
                if not self._is_required():  # 1
                    attempt.principal = self._anonymous_access.admit(conn)
                    return Authentication(attempt.principal, attempt.principal, None)
                if self.allowed_origins is not None:  # 2
                    ambient = are_ambient(attempt.findings)
                    check_origin(conn, self.allowed_origins, ambient=ambient)
            judging = self._judge(attempt, conn, part)
            return await within(self.timeout, judging, on_wait, late=self._late)
        except Denied as denied:
            failed = denied.reason in (Reason.INVALID, Reason.MALFORMED)
            failed |= isinstance(denied, SaidNothing)
            raise
        except Misuse as exc:
            raise Denied(Reason.ERROR, str(exc)) from exc
        except Exception as exc:  # whatever broke: nobody is admitted because of it
            raise Denied.because("the decision", exc) from exc
        finally:
            if attempt is not None and attempt.throttle is not None:
                throttle, attempt.throttle = attempt.throttle, None
                client = client_host(conn.scope)
                await throttle.settle(client, failed=failed, seconds=self.timeout)

    async def _judge(
        self, attempt: Attempt, conn: HTTPConnection, part: Part
    ) -> Authentication | None:
        if part == "again":
            credential, known = attempt.credential, attempt.principal
            assert credential is not None and known is not None  # it was admitted
            now = self.clock()
            principal = await identify_again(attempt.verifier, credential, known, conn, now)  # 5
        else:
            if self.throttle is not None:  # 3
                await self._throttle(self.throttle, attempt, conn, part)
            if part == "before":
                return None
            credential = choose(attempt.findings, self.sources, self.max_token_size)  # 4
            attempt.credential = credential
            principal, verifier = await identify(self.verifiers, credential, conn)  # 5
            if has_expired(principal.expires_at, self.clock()):
                raise Denied(Reason.EXPIRED, f"{verifier!r} vouched for what has expired")
            attempt.principal, attempt.verifier = principal, verifier
        if self.revocations is not None:  # 6
            await self.revocations.check(principal)
            if credential.note is not None:
                credential.note("revocations", "it was not revoked")
        if self.load_user is None:  # 7
            return Authentication(principal, principal, credential)
        user = await awaitable("load_user", self.load_user(principal, conn))
        if user is None:
            raise Denied(Reason.REVOKED, "load_user returned None")
        if credential.note is not None:
            credential.note("load_user", kind_of(user))
        return Authentication(principal, user, credential)

    async def _throttle(
        self, throttle: FailureThrottle, attempt: Attempt, conn: HTTPConnection, part: Part
    ) -> None:
        throttle = throttle_for(conn, throttle, self.allowed_origins, self._hosts)
        if part == "before":
            await throttle.precheck(client_host(conn.scope))
        else:
            await throttle.check(client_host(conn.scope))
            attempt.throttle = throttle

    def within_timeout(
        self, work: Coroutine[Any, Any, T], on_wait: OnWait | None = None
    ) -> Awaitable[T]:
        """The result of `work`, which has `timeout` seconds from the moment when it first waits.

        Raises:
            Denied: with `Reason.UNAVAILABLE`, where it takes longer.
        """
        return within(self.timeout, work, on_wait, late=self._late)

    def _late(self) -> Denied:
        return Denied(Reason.UNAVAILABLE, f"no verdict within {self.timeout:g} s")

    def collect(self, conn: HTTPConnection, sources: Iterable[Source] | None = None) -> Attempt:
        """Ask every source, or these; see `asgi_wsauth.sources.findings.collect`."""
        return Attempt(collect(self.sources if sources is None else sources, conn))

    def _is_required(self) -> bool:
        required = self.required() if callable(self.required) else self.required
        if not isinstance(required, bool):
            raise TypeError(f"required() returned {required!r}; it must return a bool")
        if required:
            self._anonymous_access.warn_again()
        return required


def _check(auth: Authenticator) -> None:
    for verifier in auth.verifiers:
        example = "it is called with the credential and the connection"
        check_async("verifiers", verifier, takes=2, example=example)
    if not auth.verifiers and auth.required is not False:
        raise ConfigurationError(
            "verifiers must name at least one, or nobody could ever connect, got []; or set "
            "required=False to let everybody on this machine in"
        )
    check_sources(auth.sources, auth.allowed_origins)
    check_proxies(auth.verifiers, auth.sources, auth.allowed_origins)
    check_required(auth.required)
    if auth.load_user is not None:
        example = "it is called with the principal and the connection"
        check_async("load_user", auth.load_user, takes=2, example=example)
    if auth.revocations is not None:
        check_instance("revocations", auth.revocations, Revocations, "Revocations(MemoryStore())")
    if auth.throttle is not None:
        check_instance("throttle", auth.throttle, FailureThrottle, 'FailureThrottle("10/minute")')
    check_seconds("timeout", auth.timeout)
    check_count("max_token_size", auth.max_token_size)
    check_clock("clock", auth.clock)
