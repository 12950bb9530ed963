"""Whose tokens a verifier believes: what keys must have signed them, who issued them, and for whom.

That is asked of every signed token alike. What it says is then judged by what it is for: a login,
or the news that one has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from jwt.algorithms import Algorithm, HMACAlgorithm

from asgi_wsauth.credential import Note
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import (
    ConfigurationError,
    check_clock,
    check_issuer,
    check_names,
    check_seconds,
)
from asgi_wsauth.verifiers.claims import audience_fault, cut, read_time
from asgi_wsauth.verifiers.compact import CompactJWT
from asgi_wsauth.verifiers.jwks import JWKS
from asgi_wsauth.verifiers.keys import Key, KeySet, KeySource, PreparedKey, kid_text, readings
from asgi_wsauth.verifiers.static_keys import StaticKeys, check_algorithms

__all__ = ["SignedTokens", "Untrusted"]

NamedKey: TypeAlias = "tuple[tuple[str, ...], str | None]"
"""What the `alg` of a token may mean, see `readings`; and its `kid`."""


class Untrusted(Denied):
    """`Reason.INVALID`, because a token comes from nobody who is believed, or is for another.

    Args:
        fault: what it is that doesn't fit.
        detail: as in `Denied`.
    """

    def __init__(self, fault: Literal["key", "issuer", "audience"], detail: str) -> None:
        super().__init__(Reason.INVALID, detail)
        self.fault = fault

    def __reduce__(self) -> tuple[type[Untrusted], tuple[str, str]]:
        return type(self), (self.fault, self.detail)


class SignedTokens:
    """Verifies signatures, issuers and audiences. See `JWTVerifier` for the options.

    Attributes:
        issuer: one of these must be the `iss` of a token; None for any.
        audience: one of these must be in the `aud` of a token; None for no audience at all.
    """

    def __init__(
        self,
        key: Key | Sequence[Key] | JWKS,
        *,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None,
        issuer: str | Sequence[str] | None,
        leeway: float,
        clock: Callable[[], float],
    ) -> None:
        known = check_algorithms(algorithms)
        self._algorithms = tuple(known)
        self._readings = readings(known)
        self._keys = _key_source(key, known)
        self.audience = check_names("audience", audience)
        self.issuer = check_names("issuer", issuer)
        for name in self.issuer or ():
            check_issuer(name)
        self._leeway = check_seconds("leeway", leeway, least=0, most=3600)
        self._clock = check_clock("clock", clock)
        self._seen: frozenset[object] | None = None
        self._seen_since = 0.0

    def issuer_fault(self, claims: Mapping[str, Any]) -> str | None:
        """Why the `iss` of a token doesn't do; None where it does."""
        issuer = claims.get("iss")
        if self.issuer is None or issuer in self.issuer:
            return None
        came = "it has no iss" if issuer is None else f"its iss is {cut(issuer)}"
        return f"{came}, expected {cut(self.issuer)}"

    def named_key(self, token: CompactJWT) -> NamedKey:
        """Which key a token says has signed it.

        Raises:
            Untrusted: there can be no such key.
            Denied: with `Reason.INVALID`, if it is bad whoever has signed it.
        """
        if token.fault is not None:
            raise Denied(Reason.INVALID, token.fault)
        alg = token.header.get("alg")
        algorithms = self._readings.get(alg) if isinstance(alg, str) else None
        if algorithms is None:
            raise Untrusted("key", "its alg is not among the algorithms")
        try:
            return algorithms, kid_text(token.header.get("kid"))
        except ValueError:
            raise Untrusted("key", "no key could have its kid") from None

    async def verify_signed(
        self, token: CompactJWT, named: NamedKey, note: Note | None = None
    ) -> PreparedKey:
        """The key that has signed a token.

        Args:
            token: the token.
            named: what `named_key` found there.
            note: see `Credential.note`.

        Raises:
            Denied: an `Untrusted`, or with another detail (`Reason.INVALID`); or the keys can't be
                had (`Reason.KEYS_UNAVAILABLE`).
        """
        algorithms, kid = named
        if note is not None:
            note("header", f"its alg is one of {', '.join(self._algorithms)}")
        keys = await self._keys.keys()
        self._note(keys)
        if note is not None:
            note("keys", f"{self._keys!r} has {keys!r}")
        candidates = keys.candidates(algorithms, kid)
        signer = _signer(token, candidates)
        if signer is None and (candidates or keys.may_be_old(token.header["alg"], kid)):
            # The issuer may have put a new one under a new name, or under an old one.
            newer = await self._keys.renewed(keys)
            if newer is not keys:
                tried = {candidate.mark for candidate in candidates}
                self._note(newer)
                if note is not None:
                    note("keys", f"asked again, it has {newer!r}")
                keys, candidates = newer, newer.candidates(algorithms, kid)
                fresh = [candidate for candidate in candidates if candidate.mark not in tried]
                signer = _signer(token, fresh)
        if signer is None:
            raise self._unverified(token, keys, kid, bool(candidates))
        if note is not None:
            note("signature", f"good, by {signer!r}")
        fault = audience_fault(token.claims, self.audience)
        if fault is not None:
            raise Untrusted("audience", fault)
        if note is not None:
            note("aud", f"its aud is {cut(token.claims.get('aud'))}")
        return signer

    def _note(self, keys: KeySet) -> None:
        """Remember since when the set is as it is."""
        marks = keys.marks
        if marks is not self._seen:  # the marks only: a set that was replaced is not kept alive
            if marks != self._seen:
                self._seen_since = self._clock()
            self._seen = marks

    def _unverified(self, token: CompactJWT, keys: KeySet, kid: str | None, tried: bool) -> Denied:
        """The refusal of a token that no key verifies. If it says that it was issued since the set
        was as it is, a key of its name may be on its way to here. Anybody can say that, and gets
        nothing for it but this answer."""
        issued_at = None if kid is None or kid in keys.kids else read_time(token.claims, "iat")
        if issued_at is not None:
            early, now = self._leeway + 1, self._clock()  # up to a second is cut off an iat
            if self._seen_since - early < issued_at <= now + self._leeway:
                wait = self._keys.lag(now - issued_at - early)
                if wait is not None:
                    return Denied(Reason.KEYS_UNAVAILABLE, "no key has its kid yet", wait)
        return Untrusted("key", "no key verifies its signature" if tried else "no key has its kid")


def _key_source(key: Key | Sequence[Key] | JWKS, algorithms: Mapping[str, Algorithm]) -> KeySource:
    if not isinstance(key, JWKS):
        return StaticKeys(key, algorithms)
    if any(isinstance(algorithm, HMACAlgorithm) for algorithm in algorithms.values()):
        raise ConfigurationError(
            "algorithms: an HMAC key is a secret, and a JWKS has public keys; use for example "
            '["RS256"]'
        )
    return key


def _signer(token: CompactJWT, candidates: Iterable[PreparedKey]) -> PreparedKey | None:
    """The first of these keys that has signed it."""
    for key in candidates:
        if key.verifies(token):
            return key
    return None
