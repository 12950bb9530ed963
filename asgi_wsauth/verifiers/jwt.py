"""JSON Web Tokens (RFC 7519), checked as RFC 8725 asks.

PyJWT checks the signature, the header, and the claims `aud`, `iss`, `sub` and `jti`. The times are
judged here, because PyJWT reads a string or `true` as a number, and because an expired token must
be told from a bad one: only a token that is good in every other way is EXPIRED.
"""

from __future__ import annotations

import binascii
import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, get_args

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import Algorithm, AllowedPrivateKeys, HMACAlgorithm
from jwt.types import Options
from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential, Principal, check_secret
from asgi_wsauth.denial import ConfigurationError, Denied, Reason

__all__ = ["JWTVerifier", "Key"]

Key: TypeAlias = "str | bytes | jwt.PyJWK | Mapping[str, Any]"
"""A secret, a public key as PEM, or a JWK (RFC 7517) as a dict or a `jwt.PyJWK`."""

_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_KID = re.compile(r"(?!.*\.\.)[A-Za-z0-9._~:/+=#@-]{1,256}")
_LATEST = 253402300799  # 9999-12-31T23:59:59Z: what is later is milliseconds, or mischief
_CANNOT_LOAD = (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError)


class _PreparedKey(NamedTuple):
    kid: str | None
    key: Any


class JWTVerifier:
    """Verifies JWTs with keys that are at hand.

    A token is "not mine" if it isn't three base64url segments with a JSON object as header, or,
    with `issuer`, if its `iss` is another. Everything else that is wrong with it refuses it.

    Args:
        key: a secret, a public key as PEM, a JWK, or a list of them, all of which are accepted
            (rotation). A JWK with a `kid` is used only for tokens of that `kid`, one with an `alg`
            only for that algorithm.
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
        clock: gives Unix time in seconds.

    Raises:
        ConfigurationError: an algorithm is unknown or `none`, families are mixed, no key fits an
            algorithm or no algorithm a key, a secret is shorter than its hash (RFC 7518 section
            3.2) or can be guessed, an RSA key has under 2048 bits, or a key is a private one.
    """

    def __init__(
        self,
        key: Key | Sequence[Key],
        *,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 30.0,
        required_claims: Iterable[str] = ("exp", "sub"),
        scopes_claim: str = "scope",
        typ: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 <= leeway <= 3600:
            raise ConfigurationError(f"leeway: {leeway!r} is not from 0 to 3600 seconds")
        keys = [key] if isinstance(key, (str, bytes, jwt.PyJWK, Mapping)) else key
        self._keys = _prepare(keys, algorithms)
        self._audience = _names("audience", audience)
        self._issuer = _names("issuer", issuer)
        self._leeway = leeway
        self._scopes_claim = scopes_claim
        self._typ = None if typ is None else _media_type(typ)
        self._clock = clock
        self._options: Options = {
            "require": list(required_claims),
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
        }

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        token = credential.value
        if not _SHAPE.fullmatch(token):
            return None
        header_segment, payload_segment, _ = token.split(".")
        header = _json_object(header_segment)
        if header is None:
            return None
        if self._issuer is not None:
            peeked = _json_object(payload_segment)
            if peeked is None or peeked.get("iss") not in self._issuer:
                return None
        return self._principal(self._claims(token, header))

    def _claims(self, token: str, header: dict[str, Any]) -> dict[str, Any]:
        """The claims of a token that some key signed, all but its times checked."""
        alg, kid = header.get("alg"), header.get("kid")
        if not isinstance(alg, str) or alg not in self._keys:
            raise Denied(Reason.INVALID, "its alg is not among the algorithms")
        if "kid" in header and not (isinstance(kid, str) and _KID.fullmatch(kid)):
            raise Denied(Reason.INVALID, "its kid is none that a key could have")
        if self._typ is not None and _media_type(header.get("typ")) != self._typ:
            raise Denied(Reason.INVALID, f"its typ is not {self._typ}")
        failure = "no key has its kid"
        for candidate in self._keys[alg]:
            if None not in (kid, candidate.kid) and kid != candidate.kid:
                continue
            try:
                return jwt.decode(
                    token,
                    candidate.key,
                    algorithms=[alg],
                    options=self._options,
                    audience=self._audience,
                    issuer=self._issuer,
                )
            except jwt.InvalidSignatureError:
                failure = "no key verifies its signature"
            except jwt.PyJWTError as exc:
                raise Denied(Reason.INVALID, str(exc)) from None
        raise Denied(Reason.INVALID, failure)

    def _principal(self, claims: dict[str, Any]) -> Principal:
        now = self._clock()
        issued_at = _seconds(claims, "iat")
        for start in (issued_at, _seconds(claims, "nbf")):
            if start is not None and start > now + self._leeway:
                raise Denied(Reason.INVALID, "it is not valid yet")
        expires_at = _seconds(claims, "exp")
        if expires_at is not None:
            expires_at += self._leeway
        identity, session_id = _text(claims, "sub"), _text(claims, "sid")
        scopes = _scopes(claims, self._scopes_claim)
        if not identity:
            raise Denied(Reason.INVALID, "it has no sub")
        if expires_at is not None and expires_at <= now:
            raise Denied(Reason.EXPIRED, f"since {now - expires_at:.0f} s")
        return Principal(
            identity,
            scopes=scopes,
            claims=claims,
            issued_at=issued_at,
            expires_at=expires_at,
            token_id=_text(claims, "jti"),
            session_id=session_id,
            method="jwt",
        )

    def __repr__(self) -> str:
        return f"<JWTVerifier {' '.join(self._keys)}>"


# A token's parts. Nothing here raises anything but Denied.


def _json_object(segment: str) -> dict[str, Any] | None:
    try:
        value = json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2): a JSON number, and nothing that Python reads as one."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LATEST:
        return float(value)
    raise Denied(Reason.INVALID, f"its {name} is no time in seconds")


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is None or isinstance(value, str):
        return value
    raise Denied(Reason.INVALID, f"its {name} is no string")


def _scopes(claims: Mapping[str, Any], name: str) -> Sequence[str]:
    value = claims.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return value
    raise Denied(Reason.INVALID, f"its {name} is neither a string nor a list of them")


def _media_type(typ: object) -> str:
    """`typ` without the prefix that may be left out (RFC 7515 section 4.1.9); "" if it is none."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""


# The keys. Everything here runs once, when the verifier is built.


def _names(option: str, value: str | Sequence[str] | None) -> list[str] | None:
    if value is None:
        return None
    names = [value] if isinstance(value, str) else list(value)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError(f"{option}: {value!r} names nothing; leave it out to accept any")
    return names


def _prepare(keys: Sequence[Key], algorithms: Sequence[str]) -> dict[str, list[_PreparedKey]]:
    """For each algorithm the keys that can verify it."""
    if isinstance(algorithms, str) or not algorithms:
        raise ConfigurationError(
            f'algorithms: {algorithms!r} is no list of names; write for example ["RS256"]'
        )
    known = {name: _algorithm(name) for name in algorithms}
    if len({isinstance(algorithm, HMACAlgorithm) for algorithm in known.values()}) > 1:
        raise ConfigurationError(
            "algorithms: HMAC and public-key algorithms in one verifier let a public key serve as "
            "a secret (RFC 8725 section 3.1); build one verifier for each"
        )
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Sequence) or not keys:
        raise ConfigurationError(
            "key: there is none; give a secret, a public key as PEM, a JWK, or a list of them"
        )
    prepared: dict[str, list[_PreparedKey]] = {name: [] for name in algorithms}
    for number, key in enumerate(keys, 1):
        problems = []
        for name, algorithm in known.items():
            try:
                prepared[name].append(_prepare_one(key, name, algorithm))
            except ConfigurationError:
                raise
            except _CANNOT_LOAD as exc:
                problems.append(f"{name}: {exc}")
        if len(problems) == len(known):
            raise ConfigurationError(
                f"key: number {number} fits none of the algorithms ({'; '.join(problems)})"
            )
    for name, fitting in prepared.items():
        if not fitting:
            raise ConfigurationError(f"algorithms: no key fits {name}; take it out, or add a key")
    return prepared


def _algorithm(name: str) -> Algorithm:
    if isinstance(name, str) and name.lower() != "none":
        try:
            return jwt.get_algorithm_by_name(name)
        except NotImplementedError:
            pass
    raise ConfigurationError(f'algorithms: {name!r} verifies nothing; use for example "ES256"')


def _prepare_one(key: Key, name: str, algorithm: Algorithm) -> _PreparedKey:
    """One key for one algorithm.

    Raises:
        ConfigurationError: the key is bad for whatever algorithm.
        Exception: one of `_CANNOT_LOAD`: it does not fit this one.
    """
    kid: str | None = None
    raw: Any = key
    if isinstance(key, Mapping):
        key = jwt.PyJWK(dict(key), None if key.get("alg") else name)
    if isinstance(key, jwt.PyJWK):
        if key.algorithm_name != name:
            raise ValueError(f"the key is for {key.algorithm_name}")
        if key.public_key_use not in (None, "sig"):
            raise ConfigurationError(f'key: its "use" is {key.public_key_use!r}, not "sig"')
        kid, raw = key.key_id, key.key
    if isinstance(algorithm, HMACAlgorithm):
        raw = check_secret(f"key for {name}", raw, minimum=algorithm.hash_alg().digest_size)
    usable = algorithm.prepare_key(raw)
    if isinstance(usable, get_args(AllowedPrivateKeys)):
        raise ConfigurationError(
            "key: this is a private key, and whoever can read it can sign; verifying takes only "
            "the public one: openssl pkey -in key.pem -pubout"
        )
    problem = algorithm.check_key_length(usable)
    if problem is not None:
        raise ConfigurationError(f"key for {name}: {problem}")
    return _PreparedKey(kid, usable)
