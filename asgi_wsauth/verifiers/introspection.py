"""Opaque tokens, which only who issued them can read: OAuth 2.0 Token Introspection (RFC 7662)."""

from __future__ import annotations

import json
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import OWN_KINDS, Credential, Note, Principal, has_expired
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import (
    ClaimName,
    ClaimValue,
    ConfigurationError,
    check_bool,
    check_clock,
    check_count,
    check_issued_secret,
    check_names,
    check_seconds,
)
from asgi_wsauth.scope.addresses import client_host, share_of
from asgi_wsauth.verifiers.claims import NO_LOGINS, ClaimRules, audience_fault, cut
from asgi_wsauth.verifiers.compact import json_object, looks_like_jwt, media_type
from asgi_wsauth.verifiers.outbound import Outbound, Unreachable
from asgi_wsauth.verifiers.verdicts import VerdictCache

__all__ = ["TokenIntrospection"]

_EARLY = 30.0  # seconds by which the issuer's clock may be ahead


class TokenIntrospection:
    """Asks the issuer about opaque tokens (RFC 7662).

    A JWT, and a credential of a kind that this package makes itself, is "not mine". It claims all
    others, so put it last among the verifiers: what the issuer doesn't know is INVALID. If there is
    no answer, or none that can be used, the client is refused as UNAVAILABLE.

    Args:
        url: the issuer's introspection endpoint: an `https` URL, or an `http` one on this machine.
            Redirects are not followed.
        client_id: who is asking, as the issuer knows it. Sent with HTTP Basic (RFC 6749 section
            2.3.1).
        client_secret: its password.
        audience: the audience, or a list of them, of which the token's `aud` must contain one; None
            for any. Set it if the issuer says `active` of tokens that are meant for others (RFC
            7662 section 4).
        identity_claim: the member with the identity, such as `username`; see `JWTVerifier` for this
            option and the next two.
        claims: members that must have a value, or one of several. Many issuers say `active` of
            refresh tokens, too, which only this keeps out.
        scopes_claim: the member with the scopes, or a list of such members.
        include_jwts: whether to ask about JWTs too, for an issuer that knows which are revoked.
        cache_ttl: seconds for which an active token isn't asked about again, unless its `exp` comes
            first. A revoked token is admitted for as long. 0 asks each time.
        cache_size: how many active tokens are remembered, by a keyed hash. Raise it if more users
            than that connect within `cache_ttl`.
        max_in_flight: how many requests may be on their way at once; more wait. A free place goes
            to the address that has the fewest, so nobody who asks hundreds of times keeps others
            waiting.
        timeout: seconds that a token may take, waiting included. Keep it below the authenticator's.
        max_size: bytes that a response may have.
        clock: a function that returns Unix time in seconds, for tests.

    Raises:
        ConfigurationError: an option can't work, or httpx2 (the extra `jwks`) is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        client_secret: str,
        audience: str | Sequence[str] | None = None,
        identity_claim: ClaimName = "sub",
        claims: Mapping[Any, ClaimValue] = {},
        scopes_claim: ClaimName | Sequence[ClaimName] = "scope",
        include_jwts: bool = False,
        cache_ttl: float = 30.0,
        cache_size: int = 10_000,
        max_in_flight: int = 20,
        timeout: float = 3.0,
        max_size: int = 65_536,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._outbound = Outbound(
            "TokenIntrospection",
            url,
            timeout=timeout,
            max_size=max_size,
            max_in_flight=max_in_flight,
        )
        self._authorization = _basic(client_id, client_secret)
        self._audience = check_names("TokenIntrospection: audience", audience)
        self._rules = ClaimRules(
            "TokenIntrospection: ",
            identity_claim=identity_claim,
            claims=claims,
            scopes_claim=scopes_claim,
        )
        self._include_jwts = check_bool("TokenIntrospection: include_jwts", include_jwts)
        size = check_count("TokenIntrospection: cache_size", cache_size)
        ttl = check_seconds("TokenIntrospection: cache_ttl", cache_ttl, least=0)
        self._cache = VerdictCache(size, ttl) if ttl > 0 else None
        self._secret = secrets.token_bytes(32)
        self._clock = check_clock("TokenIntrospection: clock", clock)

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        token = credential.value
        if token.startswith(OWN_KINDS) or (not self._include_jwts and looks_like_jwt(token)):
            return None
        remembered = self._remembered(token)
        if remembered is not None:
            return self._principal(remembered, credential.note)
        if looks_like_jwt(token):
            header = json_object(token.partition(".")[0]) or {}
            if media_type(header.get("typ")) in NO_LOGINS:
                raise Denied(Reason.INVALID, "its typ is not that of a login")
        return await self.recheck(credential, conn)

    async def recheck(self, credential: Credential, conn: HTTPConnection, /) -> Principal:
        """Ask the issuer, whatever it said before; see `Rechecks`.

        Raises:
            Denied: the token is not active, or not for us, or the issuer can't be asked.
        """
        token = credential.value
        claims = await self._ask(token, share_of(client_host(conn.scope)))
        if credential.note is not None:
            credential.note("active", "its issuer says so")
        try:
            text = json.dumps(claims)  # before anybody can change what is in it
        except RecursionError:
            raise Denied(Reason.UNAVAILABLE, f"{self!r}: its answer is nested too deeply") from None
        principal = self._principal(claims, credential.note)
        if self._cache is not None:
            self._cache.put(self._secret, token, text)
        return principal

    def _remembered(self, token: str) -> dict[str, Any] | None:
        """What the issuer said of a token lately. Past the `exp` it named it is to be asked again:
        it may let a token live longer while it is used."""
        text = None if self._cache is None else self._cache.get(self._secret, token)
        if text is None:
            return None
        try:
            claims: dict[str, Any] = json.loads(text)
        except RecursionError:  # nested so deeply that it could be read just once
            return None
        return None if has_expired(claims.get("exp"), self._clock()) else claims

    async def _ask(self, token: str, share: str | None) -> dict[str, Any]:
        """What the issuer says of a token that is active.

        Args:
            token: the token.
            share: whose place the request takes.
        """
        try:
            answer = await self._outbound.post(
                self._url,
                {"token": token, "token_type_hint": "access_token"},
                {"authorization": self._authorization},
                share,
            )
        except Unreachable as exc:
            raise Denied(Reason.UNAVAILABLE, f"{self!r}: {exc}") from None
        active = answer.get("active") if isinstance(answer, dict) else None
        if not isinstance(active, bool):
            raise Denied(Reason.UNAVAILABLE, f"{self!r}: its answer does not say if it is active")
        if not active:
            raise Denied(Reason.INVALID, "it is not active")
        claims: dict[str, Any] = answer
        return claims

    def _principal(self, claims: dict[str, Any], note: Note | None) -> Principal:
        fault = None if self._audience is None else audience_fault(claims, self._audience)
        if fault is not None:
            raise Denied(Reason.INVALID, fault)
        if note is not None:
            note("aud", f"its aud is {cut(claims.get('aud'))}")
        return self._rules.principal(
            claims, now=self._clock(), early=_EARLY, late=0.0, method="introspection", note=note
        )

    def __repr__(self) -> str:
        return f"<TokenIntrospection {self._url.partition('?')[0]}>"


def _basic(client_id: str, client_secret: str) -> str:
    """The header of a client that proves who it is: both parts are form-encoded first (RFC 6749
    section 2.3.1)."""
    for option, value in (("client_id", client_id), ("client_secret", client_secret)):
        check_issued_secret(f"TokenIntrospection: {option}", value)
    try:
        pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    except UnicodeEncodeError:  # from os.environ, which keeps stray bytes as lone surrogates
        raise ConfigurationError(
            "TokenIntrospection: client_id or client_secret is not text"
        ) from None
    return f"Basic {b64encode(pair.encode()).decode()}"
