"""Takes the news that a login has ended elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, Literal

import anyio
from starlette.requests import Request
from starlette.types import Receive, Scope

from asgi_wsauth.connection.answers import http_answer
from asgi_wsauth.connection.closing import close_message, try_send
from asgi_wsauth.connection.report import Report
from asgi_wsauth.credential import Credential, full_name
from asgi_wsauth.denial import Denied, FailsClosed, HTTPAnswer, Reason
from asgi_wsauth.endpoints.bodies import Unreadable, read_body
from asgi_wsauth.endpoints.deliveries import LOGOUT, error_answer, kind_of
from asgi_wsauth.endpoints.endings import (
    Ending,
    IdentityOf,
    Named,
    ended_by_events,
    ended_by_logout,
)
from asgi_wsauth.events import LoggedOut, Observer, log_event, logger
from asgi_wsauth.options import (
    ConfigurationError,
    check_async,
    check_choice,
    check_instance,
    check_observers,
    check_seconds,
)
from asgi_wsauth.policies.revocation import Revocations
from asgi_wsauth.sources import QueryParam
from asgi_wsauth.stores.protocols import Notice, Subject
from asgi_wsauth.verifiers.claims import cut
from asgi_wsauth.verifiers.jwt import JWTVerifier

__all__ = ["LogoutEndpoint"]

_MAX_BODY = 65_536  # bytes; a token with certificates in its header has several thousand
_IN_A_QUERY = QueryParam("logout_token")
_MARGIN = 7200.0  # seconds; at least twice any leeway with which a token is accepted


class LogoutEndpoint:
    """An ASGI app to which identity providers report logouts. Mount it at any path of any router,
    outside of everything that asks for a login:

        logins = JWTVerifier.from_oidc(ISSUER, algorithms=["RS256"], audience=CLIENT_ID)
        Route("/logout", LogoutEndpoint(revocations, logins), methods=["POST"])

    It takes two kinds of tokens, each by `POST`, signed by the keys of `verifier`, from its issuer
    and for its audience:

    - logout tokens, as the form parameter `logout_token` (OpenID Connect Back-Channel Logout 1.0).
      One with a `sid` ends that session, by `Revocations.revoke_session`; one with only a `sub`
      ends all logins of that user, by `revoke_user`. The answer is 200, or 400 with `{"error":
      "invalid_request", "error_description": "..."}`.
    - Security Event Tokens (RFC 8417), as a body of the type `application/secevent+jwt` (RFC 8935).
      `session-revoked` of CAEP ends the session that its subject names, or else all logins of the
      user; `account-disabled`, `account-purged` and `sessions-revoked` of RISC end those of the
      user. Subjects are those of RFC 9493. Other events are acknowledged, and end nothing. The
      answer is 202, or 400 with `{"err": "invalid_issuer", "description": "..."}`.

    Logins end at the issuer that the token names, and at once, whatever `renew_within` the
    revocations have. If the store or the issuer's keys can't be reached, nothing is acknowledged:
    the answer is 503, so that the provider tries again. Other methods are 405, other types 415,
    bodies over 64 KB 413, and those that don't arrive within `timeout` 408.

    A `jti` counts once, in all processes that share the store: a logout token that comes again is
    400, a Security Event Token is acknowledged and ends nothing. It is remembered once its logout
    has been stored, so a request that failed on the way can be repeated.

    A user is found by the `identity_claim` of `verifier`: in a logout token, and among the members
    of a subject: `sub` of an `iss_sub`, `email` of an `email`, `id` of an `opaque` one, as `sub`.
    If logins have another identity, `identity_of` says which.

    Args:
        revocations: the `Revocations` of your `Authenticator`.
        verifier: a `JWTVerifier` for tokens of the provider. Logout tokens are meant for the
            client: its `audience` is the client's id, whereas access tokens name the API, so this
            is often another verifier than that of the logins, with the same `JWKS`.
        identity_of: an async function from a subject of RFC 9493, a dict with its `format`, to the
            identity that the user has here, or to None for an unknown user. It may also return a
            `Principal`, for an identity at another issuer or, without one, at any. A logout token's
            user is passed as `{"format": "iss_sub", "iss": ..., "sub": ...}`.
        ends: what a logout token ends that names both a session and its user: that `"session"`, or
            all logins of the `"user"`, for access tokens that have no `sid`.
        timeout: seconds that a body may take to arrive, and then its logout to be stored.
        observers: functions that are called with every `LoggedOut` and `Refused`.

    Raises:
        ConfigurationError: an option can't work, or `verifier` has no audience.
    """

    def __init__(
        self,
        revocations: Revocations,
        verifier: JWTVerifier,
        *,
        identity_of: IdentityOf | None = None,
        ends: Literal["session", "user"] = "session",
        timeout: float = 5.0,
        observers: Iterable[Observer] = (log_event,),
    ) -> None:
        example = "Revocations(store)"
        self.revocations = check_instance("revocations", revocations, Revocations, example)
        example = 'JWTVerifier(JWKS("https://id.example/keys"), ...)'
        self.verifier = check_instance("verifier", verifier, JWTVerifier, example)
        if self.verifier.audience is None:
            raise ConfigurationError(
                "verifier must have an audience, got a JWTVerifier without one: each logout token "
                "says for which client it is; write audience=, the client's id"
            )
        if identity_of is not None:
            check_async("identity_of", identity_of, takes=1, example="it is called with a subject")
        self.named = Named(self.verifier, identity_of)
        self.ends: Literal["session", "user"] = ends
        check_choice("ends", ends, ("session", "user"))
        self.timeout = check_seconds("timeout", timeout)
        self.observers = check_observers(observers)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            answer = await _Delivery(scope, receive, self).answer()
            await try_send(send, *http_answer(answer))
        elif scope["type"] == "websocket":
            denied = Denied(Reason.MALFORMED, "a socket can't log anybody out")
            code = denied.reason.close_code
            _Delivery(scope, receive, self).tell_refusal(denied, close_code=code)
            await try_send(send, close_message(denied, code))

    def __repr__(self) -> str:
        return f"<LogoutEndpoint of {self.verifier!r}>"


class _Delivery:
    """One request, and what is known of it so far.

    Attributes:
        kind: what it brings.
        credential: the token, once it was found.
        principal: None; that of an event is in it.
    """

    principal = None

    def __init__(self, scope: Scope, receive: Receive, endpoint: LogoutEndpoint) -> None:
        self.kind = LOGOUT
        self.credential: Credential | None = None
        self._scope = scope
        self._receive = receive
        self._endpoint = endpoint
        self._report = Report(scope, endpoint)

    @property
    def presented(self) -> Sequence[str]:
        """The token, which no text may contain."""
        return [] if self.credential is None else [self.credential.value]

    async def answer(self) -> HTTPAnswer:
        """What the sender is told, after all was done."""
        try:
            _IN_A_QUERY.redact(self._scope)  # it has no business there, and the server logs that
            token = await self._token()
            with anyio.move_on_after(self._endpoint.timeout):
                await self._take(token)
                headers = [(b"content-length", b"0"), (b"cache-control", b"no-store")]
                return self.kind.done, headers, b""
            raise Denied(Reason.UNAVAILABLE, f"no logout within {self._endpoint.timeout:g} s")
        except Denied as denied:
            refusal = denied
        except Exception as exc:  # a scope that no server should build, or a hook that is wrong
            refusal = Denied.because("the logout", exc)
        self.tell_refusal(refusal)
        return error_answer(self.kind, refusal)

    def tell_refusal(self, denied: Denied, *, close_code: int | None = None) -> None:
        """Tell the observers of a refusal."""
        self._report.tell_refusal(denied, self, close_code=close_code)

    async def _token(self) -> str:
        request, timeout = Request(self._scope, self._receive), self._endpoint.timeout
        self.kind = kind_of(request)
        body: bytes | None = None
        with anyio.move_on_after(timeout):
            body = await read_body(request, _MAX_BODY)
        if body is None:
            raise Unreadable(408, f"no whole body within {timeout:g} s")
        try:
            token = self.kind.token(body.decode("ascii"))
        except UnicodeDecodeError:
            raise Unreadable(400, "the body is not ASCII") from None
        self.credential = Credential(token, self.kind.name)
        return token

    async def _take(self, token: str) -> None:
        """End what the token says has ended, unless that was done before."""
        endpoint, kind = self._endpoint, self.kind
        revocations = endpoint.revocations
        store, max_age = revocations.store, revocations.max_token_age
        claims = await endpoint.verifier.verify_event(token, typ=kind.typ, max_age=max_age)
        if kind is LOGOUT:
            endings = await ended_by_logout(claims, endpoint.named, endpoint.ends)
        else:
            endings = await ended_by_events(claims, endpoint.named)
        # Among the revoked tokens, by a name that no login has.
        used: Subject = ("token", full_name(f"{kind.typ} {claims['jti']}", claims["iss"]))
        with FailsClosed(store):
            (known,) = await store.get_revocations([used])
        if known is not None:
            if kind is LOGOUT:
                raise Denied(Reason.INVALID, "it was received before")
            logger.info("%r: a token was received again, and ended nothing", endpoint)
            return
        for ending in endings:
            await _end(revocations, ending)
        # At last, so that a logout that could not be stored can be sent again.
        issued_at = claims["iat"]
        lifetime = min(claims.get("exp") or inf, issued_at + max_age) - issued_at
        with FailsClosed(store):
            await store.put_revocation(Notice(used, float(issued_at)), ttl=lifetime + _MARGIN)
        self._tell(claims, endings)

    def _tell(self, claims: Mapping[str, Any], endings: Sequence[Ending]) -> None:
        if not endings:
            logger.info(
                "%r: a token ended no login: %s", self._endpoint, cut(list(claims["events"]))
            )
        for ending in endings:
            is_user = ending.kind == "user"
            self._report.tell(
                LoggedOut,
                self,
                subject=ending.kind,
                told_by=self.kind.name,
                identity=ending.name if is_user else None,
                issuer=ending.issuer,
            )


async def _end(revocations: Revocations, ending: Ending) -> None:
    revoke = revocations.revoke_session if ending.kind == "session" else revocations.revoke_user
    # At once: who has logged out is not to be asked for another credential.
    await revoke(ending.name, issuer=ending.issuer, renew_within=0.0)
