"""JSON Web Tokens (RFC 7519), checked as RFC 8725 asks.

PyJWT checks the signature, the header, and the claims `aud` and `iss`. The times are judged here,
because PyJWT reads a string or `true` as a number, and because an expired token must be told from a
bad one: only a token that is good in every other way is EXPIRED. So are `sub` and `jti`, because
PyJWT refuses null, where a claim is absent.
"""

from __future__ import annotations

import binascii
import json
import re
import secrets
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypedDict

import jwt
from jwt.algorithms import HMACAlgorithm
from jwt.types import Options
from starlette.requests import HTTPConnection

from asgi_wsauth.claims import principal_of
from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import Observer, log_event
from asgi_wsauth.keys import Key, KeySource, PreparedKey, StaticKeys, check_algorithms
from asgi_wsauth.options import ConfigurationError, check_names
from asgi_wsauth.verdicts import VerdictCache, check_cache
from asgi_wsauth.verifiers.jwks import JWKS

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["JWTOptions", "JWTVerifier"]

_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_KID = re.compile(r"(?!.*\.\.)[A-Za-z0-9._~:/+=#@-]{1,256}")


class JWTOptions(TypedDict, total=False):
    """What `JWTVerifier` takes besides its key, algorithms, audience and issuer."""

    leeway: float
    required_claims: Iterable[str]
    scopes_claim: str
    typ: str | None
    cache: VerdictCache | None
    clock: Callable[[], float]


class JWTVerifier:
    """Verifies JWTs, with keys that are at hand or that an identity provider publishes.

    A token is "not mine" if it isn't three base64url segments with a JSON object as header, or,
    with `issuer`, if its `iss` is another. Everything else that is wrong with it refuses it.

    Args:
        key: a secret, a public key as PEM, a JWK, or a list of them, all of which are accepted
            (rotation); or a `JWKS`. A JWK with a `kid` is used only for tokens of that `kid`, one
            with an `alg` only for that algorithm.
        algorithms: the `alg` values to accept, all of one family: HS256, HS384, HS512; or any of
            RS*, PS*, ES*, EdDSA.
        audience: a token's `aud` must contain it (or one of them). Without it, a token that has an
            `aud` is refused (RFC 7519 section 4.1.3).
        issuer: a token's `iss` must equal it (or one of them), exactly.
        leeway: seconds by which clocks may differ, for `exp`, `nbf` and `iat`.
        required_claims: claims that must be there and not null. `sub`, the identity, always must.
        scopes_claim: the claim with the scopes: a string with spaces between them (RFC 8693 section
            4.2), or a list.
        typ: the header's `typ` must be this, for example `at+jwt` (RFC 9068 section 2.1); None
            accepts any.
        cache: remembers tokens whose signature was good.
        clock: gives Unix time in seconds.

    Raises:
        ConfigurationError: an algorithm is unknown or `none`, families are mixed, no key fits an
            algorithm or no algorithm a key, a secret is shorter than its hash (RFC 7518 section
            3.2) or can be guessed, an RSA key has under 2048 bits, or a key is a private one.
    """

    def __init__(
        self,
        key: Key | Sequence[Key] | JWKS,
        *,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 30.0,
        required_claims: Iterable[str] = ("exp", "sub"),
        scopes_claim: str = "scope",
        typ: str | None = None,
        cache: VerdictCache | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 <= leeway <= 3600:
            raise ConfigurationError(f"leeway: {leeway!r} is not from 0 to 3600 seconds")
        known = check_algorithms(algorithms)
        self._algorithms = tuple(known)
        self._keys: KeySource
        if isinstance(key, JWKS):
            if any(isinstance(algorithm, HMACAlgorithm) for algorithm in known.values()):
                raise ConfigurationError(
                    "algorithms: an HMAC key is a secret, and a JWKS has public keys; use for "
                    'example ["RS256"]'
                )
            self._keys = key
        else:
            self._keys = StaticKeys(key, known)
        self._audience = check_names("audience", audience)
        self._issuer = check_names("issuer", issuer)
        self._leeway = leeway
        self._scopes_claim = scopes_claim
        self._typ = None if typ is None else _media_type(typ)
        self._cache = check_cache(cache)
        self._secret = secrets.token_bytes(32)  # no other verifier finds what this one put there
        self._clock = clock
        self._options: Options = {
            "require": list(required_claims),
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "verify_sub": False,
            "verify_jti": False,
        }

    @classmethod
    def from_oidc(
        cls,
        issuer: str,
        *,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None,
        ttl: float = 600.0,
        cooldown: float = 30.0,
        stale_for: float = 3600.0,
        timeout: float = 3.0,
        max_size: int = 262_144,
        observers: Iterable[Observer] = (log_event,),
        **options: Unpack[JWTOptions],
    ) -> JWTVerifier:
        """A verifier for the tokens of an OpenID Connect issuer, whose discovery document leads to
        its keys (OpenID Connect Discovery 1.0 section 4).

        Args:
            issuer: exactly as its tokens and its discovery document have it: with a slash at the
                end for Auth0, without one for Keycloak.
            algorithms: see `JWTVerifier`.
            audience: see `JWTVerifier`.
            ttl: see `JWKS`, as `cooldown`, `stale_for`, `timeout`, `max_size` and `observers`.
            options: see `JWTVerifier`.

        Raises:
            ConfigurationError: as `JWTVerifier` and `JWKS`.
        """
        keys = JWKS.from_oidc(
            issuer,
            ttl=ttl,
            cooldown=cooldown,
            stale_for=stale_for,
            timeout=timeout,
            max_size=max_size,
            observers=observers,
        )
        return cls(keys, algorithms=algorithms, audience=audience, issuer=issuer, **options)

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        token = credential.value
        if self._cache is not None:
            mark = self._cache.get(self._secret, token)
            if mark is not None and mark in (await self._keys.keys()).marks:
                return self._principal(_json_object(token.split(".")[1]) or {})
        if not _SHAPE.fullmatch(token):
            return None
        header_segment, payload_segment, _ = token.split(".")
        header = _header(header_segment)
        if header is None:
            return None
        if self._issuer is not None:
            peeked = _json_object(payload_segment)
            if peeked is None or peeked.get("iss") not in self._issuer:
                return None
        claims, key = await self._verify(token, header)
        principal = self._principal(claims)
        if self._cache is not None:
            self._cache.put(self._secret, token, key.mark)
        return principal

    async def _verify(
        self, token: str, header: Mapping[str, Any]
    ) -> tuple[dict[str, Any], PreparedKey]:
        """The claims of a token, all but its times checked, and the key that signed it."""
        alg, kid = header.get("alg"), header.get("kid")
        if not isinstance(alg, str) or alg not in self._algorithms:
            raise Denied(Reason.INVALID, "its alg is not among the algorithms")
        if "kid" in header and not (isinstance(kid, str) and _KID.fullmatch(kid)):
            raise Denied(Reason.INVALID, "its kid is none that a key could have")
        if self._typ is not None and _media_type(header.get("typ")) != self._typ:
            raise Denied(Reason.INVALID, f"its typ is not {self._typ}")
        keys = await self._keys.keys()
        verified = self._try(token, keys.candidates(alg, kid))
        if verified is None and kid not in keys.kids:
            newer = await self._keys.renewed(keys)
            if newer is not keys:
                keys = newer
                verified = self._try(token, keys.candidates(alg, kid))
        if verified is None:
            unknown = not keys.candidates(alg, kid)
            raise Denied(
                Reason.INVALID, "no key has its kid" if unknown else "no key verifies its signature"
            )
        return verified

    def _try(
        self, token: str, candidates: Iterable[PreparedKey]
    ) -> tuple[dict[str, Any], PreparedKey] | None:
        """The token's claims, and the first of these keys that verifies its signature; None where
        there is no such key."""
        for candidate in candidates:
            try:
                claims = jwt.decode(
                    token,
                    candidate.key,
                    algorithms=[candidate.algorithm],
                    options=self._options,
                    audience=self._audience,
                    issuer=self._issuer,
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError as exc:
                raise Denied(Reason.INVALID, str(exc)) from None
            return claims, candidate
        return None

    def _principal(self, claims: dict[str, Any]) -> Principal:
        return principal_of(
            claims,
            now=self._clock(),
            early=self._leeway,
            late=self._leeway,
            scopes_claim=self._scopes_claim,
            method="jwt",
        )

    def __repr__(self) -> str:
        return f"<JWTVerifier {' '.join(self._algorithms)}>"


# A token's parts. Nothing here raises anything but Denied.


@lru_cache(maxsize=64)  # an issuer's tokens nearly all have the same
def _header(segment: str) -> Mapping[str, Any] | None:
    return _json_object(segment)


def _json_object(segment: str) -> dict[str, Any] | None:
    try:
        value = json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _media_type(typ: object) -> str:
    """`typ` without the prefix that may be left out (RFC 7515 section 4.1.9); "" if it is none."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""
