"""The policy: who may connect. One `Authenticator` can serve any number of middlewares.

It never sees `receive` or `send`, and knows no close code.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import anyio
from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import (
    Event,
    Observer,
    check_observers,
    log_event,
    log_failure,
    logger,
    tell,
)
from asgi_wsauth.loops.tasks import Breakable, call_on_first_wait
from asgi_wsauth.loops.timers import Deadline
from asgi_wsauth.options import (
    VISIBLE,
    ConfigurationError,
    check_async,
    check_callable,
    check_clock,
    check_count,
    check_instance,
    check_list,
    check_seconds,
    check_store,
    shown,
)
from asgi_wsauth.policies.revocation import Revocations
from asgi_wsauth.policies.throttle import FailureThrottle
from asgi_wsauth.scope.addresses import Address, client_host, forwarded_for, parse_address
from asgi_wsauth.sources import (
    Cookie,
    FirstMessage,
    Header,
    QueryParam,
    Source,
    replace_list,
    stripped,
)
from asgi_wsauth.sources.origins import HostWatch, check_origin, check_origins, comes_from_elsewhere
from asgi_wsauth.sources.waiting import SaidNothing
from asgi_wsauth.verifiers import Verifier

__all__ = ["Attempt", "Authentication", "Authenticator", "Finding", "LoadUser", "is_ambient"]

T = TypeVar("T")

LoadUser: TypeAlias = Callable[[Principal, HTTPConnection], Awaitable[Any]]


class Authentication(NamedTuple):
    """A client that may connect.

    Attributes:
        principal: whom the credential vouches for.
        user: what belongs into `scope["user"]`: what `load_user` returned, or the principal.
        credential: what was presented; None where authentication is off.
    """

    principal: Principal
    user: Any
    credential: Credential | None


Finding: TypeAlias = "tuple[Source, Credential | Denied]"
"""A source that found something: a credential, or one that can't be read."""


@dataclass
class Attempt:
    """One handshake on its way through the decision, with what is known of it so far."""

    findings: Sequence[Finding]
    credential: Credential | None = None
    principal: Principal | None = None
    verifier: Verifier | None = None
    throttle: FailureThrottle | None = None
    """Where it has a place, until it is judged."""

    @property
    def presented(self) -> list[str]:
        """What it brought, as far as that could be read: secrets."""
        return [found.value for _, found in self.findings if isinstance(found, Credential)]


class Authenticator:
    """Decides who may connect. Reads and builds; keeps nothing of a handshake.

    Args:
        verifiers: what vouches for credentials, asked in this order. At least one, unless
            `required` is False.
        sources: where a credential may travel.
        allowed_origins: the exact origins, such as `https://chat.example`, whose pages may connect;
            None for any, which is an error together with a `Cookie` source. A connection without an
            `Origin` passes, because only browsers send one; but not with a cookie: see
            `authenticate`.
        required: whether a credential is needed: a bool, or a function without arguments that
            returns one and is asked at every handshake.
        anonymous: who everybody is while `required` is false.
        no_auth_networks: from where one may connect while `required` is false (CIDR notation).
        load_user: an async function from the principal and the connection to what the app finds in
            `scope["user"]`; None from it means that there is no such user any more, or a disabled
            one: `Reason.REVOKED`. It is asked about machine users too, whose `method` is `internal`
            or `api_key`: return the principal for those that your table of people doesn't have.
        revocations: logins that were ended before their time.
        throttle: which addresses are locked out, because too many bad credentials came from them.
        timeout: seconds that all of this has together, where it has to wait.
        max_token_size: characters that a credential may have.
        observers: callables that are told of every event.
        clock: gives Unix time in seconds.

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
        self.anonymous = anonymous
        self.no_auth_networks = _networks(no_auth_networks)
        self.load_user = load_user
        self.revocations = revocations
        self.throttle = throttle
        self.timeout = timeout
        self.max_token_size = max_token_size
        self.observers = check_observers(observers)
        self.clock = clock
        self._warned = self._warned_of_sockets = False
        self._hosts = HostWatch()
        _check(self)

    async def authenticate(
        self,
        conn: HTTPConnection,
        *,
        attempt: Attempt | None = None,
        on_wait: Callable[[Callable[[], None]], None] | None = None,
    ) -> Authentication:
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
            attempt: what `collect` found, where the scope has been redacted since.
            on_wait: called once, with a function that cancels the work, when it first has to wait.

        Raises:
            Denied: the client is refused.
        """
        failed = False
        try:
            attempt = attempt or self.collect(conn)
            if not self._is_required():  # 1
                attempt.principal = self._anybody(conn)
                return Authentication(attempt.principal, attempt.principal, None)
            self._check_origin(conn, attempt)  # 2
            return await self.within_timeout(self._vouch(attempt, conn), on_wait)
        except Denied as denied:
            failed = denied.reason in (Reason.INVALID, Reason.MALFORMED)
            failed |= isinstance(denied, SaidNothing)
            raise
        except _Misuse as exc:
            raise Denied(Reason.ERROR, str(exc)) from exc
        except Exception as exc:  # whatever broke: nobody is admitted because of it
            raise Denied.because("the decision", exc) from exc
        finally:
            if attempt is not None and attempt.throttle is not None:
                await self._end_place(attempt, conn, failed)

    async def screen(self, conn: HTTPConnection, attempt: Attempt) -> bool:
        """Steps 1 to 3 of `authenticate`; whether a credential is needed.

        Raises:
            Denied: the client is refused, whatever it presents.
        """
        try:
            if not self._is_required():
                return False
            self._check_origin(conn, attempt)
            throttle = self._throttle_for(conn)
            if throttle is not None:
                await self.within_timeout(throttle.look(client_host(conn.scope)))
            return True
        except Denied:
            raise
        except Exception as exc:
            raise Denied.because("the decision", exc) from exc

    async def within_timeout(
        self,
        work: Coroutine[Any, Any, T],
        on_wait: Callable[[Callable[[], None]], None] | None = None,
    ) -> T:
        """The result of `work`, which has `timeout` seconds from the moment when it first waits.

        Args:
            work: what is to be done.
            on_wait: see `authenticate`.

        Raises:
            Denied: with `Reason.UNAVAILABLE`, where it takes longer.
        """
        deadline: Deadline | None = None

        def on_first_wait() -> None:
            nonlocal deadline
            deadline = Deadline(stretch, self.timeout)
            if on_wait is not None:
                on_wait(stretch.break_off)

        try:
            with Breakable() as stretch:
                return await call_on_first_wait(work, on_first_wait)
        finally:
            if deadline is not None:
                deadline.cancel()
        raise Denied(Reason.UNAVAILABLE, f"no verdict within {self.timeout:g} s")

    def collect(self, conn: HTTPConnection, sources: Iterable[Source] | None = None) -> Attempt:
        """Ask every source, or these. What goes wrong in one is kept, to be judged when its turn
        comes.

        Missing parts of the scope are filled in with what the ASGI specification says they mean,
        and the subprotocols stripped of spaces. Lists of the scope stay the objects that they are.
        """
        scope = conn.scope
        scope.setdefault("query_string", b"")
        if not isinstance(scope.get("headers"), list):  # it may be readable only once
            scope["headers"] = list(scope.get("headers") or ())
        if scope.get("subprotocols"):
            replace_list(scope, "subprotocols", stripped(scope["subprotocols"]))
        headers = scope["headers"]
        try:
            return Attempt(_ask(self.sources if sources is None else sources, conn))
        finally:
            scope["headers"] = headers  # Starlette's connection puts a copy in their place

    def redact(self, scope: Any, sources: Iterable[Source] | None = None) -> None:
        """Have every source, or these, remove their credential from `scope`, in place, and from the
        lists in it: whatever has read the scope before holds on to those.

        Raises:
            Denied: with `Reason.ERROR`, after all others had their turn, where a source broke.
        """
        failure: Denied | None = None
        headers, subprotocols = scope.get("headers"), scope.get("subprotocols")
        for source in self.sources if sources is None else sources:
            try:
                source.redact(scope)
            except Exception as exc:
                failure = Denied.because(source, exc, may_quote=False)
        for key, given in (("headers", headers), ("subprotocols", subprotocols)):
            if isinstance(given, list) and scope.get(key) is not given:
                given[:] = scope.get(key) or ()
                scope[key] = given
        if failure is not None:
            raise failure

    def emit(self, event: Event) -> None:
        """Tell every observer. One that raises is logged, and the next one is told."""
        tell(self.observers, event)

    def _is_required(self) -> bool:
        required = self.required() if callable(self.required) else self.required
        if not isinstance(required, bool):
            raise TypeError(f"required() returned {required!r}; it must return a bool")
        if required:
            self._warned = False
        return required

    def _anybody(self, conn: HTTPConnection) -> Principal:
        host = client_host(conn.scope)
        addresses = forwarded_for(conn.headers)
        why = ""
        if host is not None and not self._is_trusted(parse_address(host)):
            why = f"{host} is outside no_auth_networks"
        elif host is None and addresses:
            why = "this was forwarded by a peer that has no address"
        elif not all(map(self._is_trusted, addresses)):
            why = f"{host} forwarded this for somebody outside no_auth_networks"
        if why:
            raise Denied(Reason.FORBIDDEN, f"authentication is off, and {why}")
        if host is None and self.no_auth_networks and not self._warned_of_sockets:
            self._warned_of_sockets = True
            logger.warning(
                "authentication is off: everybody without an address is %r, for example who "
                "comes by a Unix socket",
                self.anonymous.identity,
            )
        if not self._warned:
            self._warned = True
            logger.warning(
                "authentication is off: everybody from %s is %r",
                ", ".join(map(str, self.no_auth_networks)) or "a local socket",
                self.anonymous.identity,
            )
        return copy(self.anonymous)  # one each: an app may set attributes of its user

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in net for net in self.no_auth_networks)

    def _check_origin(self, conn: HTTPConnection, attempt: Attempt) -> None:
        if self.allowed_origins is None:
            return
        ambient = bool(attempt.findings) and all(map(is_ambient, attempt.findings))
        check_origin(conn, self.allowed_origins, ambient=ambient)

    def _choose(self, findings: Sequence[Finding]) -> Credential:
        if not findings:
            raise Denied(Reason.MISSING, f"looked in {', '.join(map(repr, self.sources))}")
        if len(findings) > 1:
            findings = [f for f in findings if not is_ambient(f)] or findings
        credentials = []
        for _, found in findings:
            if isinstance(found, Denied):
                raise found
            credentials.append(found)
        credential = credentials[0]
        if any(found.value != credential.value for found in credentials[1:]):
            places = " and ".join(found.source for found in credentials)
            raise Denied(Reason.MALFORMED, f"different credentials in {places}")
        if len(credential.value) > self.max_token_size:
            raise Denied(Reason.MALFORMED, f"{len(credential.value)} characters are too many")
        if not VISIBLE.fullmatch(credential.value):
            raise Denied(Reason.MALFORMED, "it has characters that no credential has")
        return credential

    async def _vouch(self, attempt: Attempt, conn: HTTPConnection) -> Authentication:
        throttle = self._throttle_for(conn)
        if throttle is not None:
            await throttle.check(client_host(conn.scope))  # 3
            attempt.throttle = throttle
        credential = attempt.credential = self._choose(attempt.findings)  # 4
        attempt.principal, attempt.verifier = await self._ask_verifiers(credential, conn)  # 5
        principal = attempt.principal
        if self.revocations is not None:
            await self.revocations.check(principal)  # 6
        if self.load_user is None:
            return Authentication(principal, principal, credential)
        user = await _awaitable("load_user", self.load_user(principal, conn))  # 7
        if user is None:
            raise Denied(Reason.REVOKED, "load_user returned None")
        return Authentication(principal, user, credential)

    def _throttle_for(self, conn: HTTPConnection) -> FailureThrottle | None:
        if self.throttle is None:
            return None
        elsewhere = comes_from_elsewhere(conn, self.allowed_origins)
        if self.allowed_origins is None and self._hosts.notices(conn, elsewhere=elsewhere):
            logger.warning(
                "%r took every page so far for another site's: no Origin was that of the Host; "
                "behind a proxy that changes Host, set allowed_origins",
                self.throttle,
            )
        return self.throttle.elsewhere if elsewhere else self.throttle

    async def _end_place(self, attempt: Attempt, conn: HTTPConnection, failed: bool) -> None:
        """Give the place back, or leave it to a failure."""
        throttle, attempt.throttle = attempt.throttle, None
        assert throttle is not None
        client = client_host(conn.scope)
        if not failed and not throttle.is_shared:  # nothing that could fail, or take its time
            throttle.leave(client)
            return
        ended = False
        try:
            # Whoever leaves at once is counted all the same.
            with anyio.move_on_after(self.timeout, shield=True):
                await (throttle.count if failed else throttle.release)(client)
                ended = True
        except Exception as exc:  # the verdict is what it is
            log_failure("%r could not count", throttle, exc)
        finally:
            if not ended:
                throttle.leave(client)

    async def _ask_verifiers(
        self, credential: Credential, conn: HTTPConnection
    ) -> tuple[Principal, Verifier]:
        for verifier in self.verifiers:
            principal = await _awaitable(verifier, verifier(credential, conn))
            if principal is None:
                continue
            if not isinstance(principal, Principal):
                kind = type(principal).__qualname__
                raise _Misuse(f"{verifier!r} must return a Principal or None, got a {kind}")
            if principal.expires_at is not None and principal.expires_at <= self.clock():
                raise Denied(Reason.EXPIRED, f"{verifier!r} vouched for what has expired")
            return principal, verifier
        hints = "; ".join(dict.fromkeys(credential.hints))
        raise Denied(Reason.INVALID, "no verifier knows it" + (f": {hints}" if hints else ""))


def _ask(sources: Iterable[Source], conn: HTTPConnection) -> list[Finding]:
    findings: list[Finding] = []
    for source in sources:
        try:
            value = source.extract(conn)
            if value:
                findings.append((source, Credential(_checked_str(value), repr(source))))
        except Denied as denied:
            findings.append((source, denied))
        except Exception as exc:
            findings.append((source, Denied.because(source, exc, may_quote=False)))
    return findings


def is_ambient(finding: Finding) -> bool:
    """Whether a browser sends it by itself, whoever's page it shows."""
    return isinstance(finding[0], Cookie)


class _Misuse(TypeError):
    """What an app's own function returned is nothing that it may; the text has no credential."""


def _awaitable(what: object, answer: Awaitable[T]) -> Awaitable[T]:
    if hasattr(answer, "__await__") or isawaitable(answer):
        return answer
    kind = type(answer).__qualname__
    raise _Misuse(f"{what} must be an async function, got one that returns a {kind}")


def _checked_str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a source found a {type(value).__qualname__}; it must be a str")
    return value


# Configuration: all of it runs once, when the authenticator is built.


def _check(auth: Authenticator) -> None:
    for verifier in auth.verifiers:
        check_async("verifiers", verifier, takes=2, example=_VERIFIER)
    if not auth.verifiers and auth.required is not False:
        raise ConfigurationError(
            "verifiers must name at least one, or nobody could ever connect, got []; or set "
            "required=False to let everybody on this machine in"
        )
    _check_sources(auth)
    _check_required(auth.required)
    check_instance("anonymous", auth.anonymous, Principal, 'Principal("local")')
    if auth.load_user is not None:
        check_async("load_user", auth.load_user, takes=2, example=_LOAD_USER)
    if auth.revocations is not None:
        check_instance("revocations", auth.revocations, Revocations, "Revocations(MemoryStore())")
    if auth.throttle is not None:
        check_instance("throttle", auth.throttle, FailureThrottle, 'FailureThrottle("10/minute")')
    check_seconds("timeout", auth.timeout)
    check_count("max_token_size", auth.max_token_size)
    check_clock("clock", auth.clock)


_VERIFIER = "it is called with the credential and the connection"
_LOAD_USER = "it is called with the principal and the connection"


def _check_sources(auth: Authenticator) -> None:
    if not auth.sources:
        raise ConfigurationError(
            "sources must name at least one, or no credential could ever be found, got []"
        )
    for source in auth.sources:
        if isinstance(source, str):
            raise ConfigurationError(
                'sources must be a list of sources, such as QueryParam("token"), got '
                f"{shown(source)} in it"
            )
        check_store("sources", source, "extract", "redact", what="source", example=_SOURCE)
        if isinstance(source, Cookie) and auth.allowed_origins is None:
            raise ConfigurationError(f"{_COOKIE}, got None")
    if sum(isinstance(source, FirstMessage) for source in auth.sources) > 1:
        raise ConfigurationError(
            "sources must name one FirstMessage at most, because a socket has one first message"
        )
    if not auth.allowed_origins and all(isinstance(source, Cookie) for source in auth.sources):
        raise ConfigurationError(f"{_COOKIE}, got []")


_COOKIE = (
    "allowed_origins must name your pages' origins where there is a Cookie source, because a "
    "browser sends the cookie whatever page opens the socket"
)
_SOURCE = 'Header("authorization", scheme="Bearer")'


def _check_required(required: bool | Callable[[], bool]) -> None:
    if isinstance(required, bool):
        return
    example = "it is called at every handshake and must return True or False"
    check_callable("required", required, takes=0, is_async=False, example=example)
    try:
        answer = required()
    except Exception:  # what it reads may not be there yet; each handshake asks again
        return
    if not isinstance(answer, bool):
        raise ConfigurationError(
            f"required must be True, False, or a function that returns one of them, got one that "
            f"returns {shown(answer)}"
        )


def _networks(
    networks: Iterable[str],
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    found = []
    for network in check_list("no_auth_networks", networks):
        try:
            if not isinstance(network, (str, ipaddress.IPv4Network, ipaddress.IPv6Network)):
                raise ValueError("it is no string")
            found.append(ipaddress.ip_network(network))
        except ValueError as exc:
            raise ConfigurationError(
                'no_auth_networks must be a list of networks, for example ["10.0.0.0/8"], got '
                f"{shown(network)} in it: {exc}"
            ) from None
    return tuple(found)
