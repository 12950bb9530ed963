"""What signatures are checked with: keys that are prepared for their algorithms once, and then only
looked up.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import (
    Algorithm,
    AllowedPublicKeys,
    HMACAlgorithm,
    OKPAlgorithm,
    get_default_algorithms,
)

from asgi_wsauth.verifiers.compact import CompactJWT

__all__ = [
    "ALGORITHMS",
    "CANNOT_LOAD",
    "CURVES",
    "Key",
    "KeySet",
    "KeySource",
    "PreparedKey",
    "kid_text",
    "may_serve",
    "prepared",
    "pyjwt_name",
    "read_jwk",
    "readings",
    "why_unusable",
]

Key: TypeAlias = "str | bytes | jwt.PyJWK | Mapping[str, Any] | AllowedPublicKeys"
"""A secret, a public key as PEM or as an object of `cryptography`, or a JWK (RFC 7517) as a dict or
a `jwt.PyJWK`."""

CANNOT_LOAD = (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError)
"""What a key that does not fit its algorithm makes PyJWT and cryptography raise."""


def why_unusable(exc: Exception) -> str:
    """Words for what a key made somebody raise. PyJWT's own about a JWK have all of it in them, and
    with it a secret or the private part of a key."""
    text = str(exc)
    return type(exc).__name__ if "{" in text else text


def kid_text(kid: object) -> str | None:
    """A `kid` as text, which is how keys and tokens are compared; None where there is none.

    Raises:
        ValueError: it is neither text nor a number.
    """
    if kid is None or isinstance(kid, str):
        return kid
    if isinstance(kid, (int, float)) and not isinstance(kid, bool):
        return str(kid)
    raise ValueError("its kid is neither text nor a number")


class PreparedKey(NamedTuple):
    """A key that can verify signatures of one algorithm.

    Attributes:
        algorithm: what it verifies, as `readings` names it.
        kid: its name; None where it has none, and so fits every token.
        alg: the `alg` of the tokens that it verifies.
        verifier: PyJWT's algorithm of that name, or one made of it for this key alone.
        key: what its `prepare_key` returned, and its `check_key_length` found no fault with.
        mark: tells it from all other keys, in whatever set it comes again.
    """

    algorithm: str
    kid: str | None
    alg: str
    verifier: Algorithm
    key: Any
    mark: object

    def verifies(self, token: CompactJWT) -> bool:
        """Whether it has signed a token, with its own algorithm, whatever the header says (RFC 8725
        section 3.1)."""
        return token.header.get("alg") == self.alg and self.verifier.verify(
            token.signed, self.key, token.signature
        )

    def __repr__(self) -> str:
        return "a key without a name" if self.kid is None else f"the key {self.kid!r}"


# The names of algorithms. `EdDSA` (RFC 8037) says nothing of the curve, so RFC 9864 replaces it by
# one name for each. Issuers and libraries use either, so a key is taken for both.


class _OneCurve(OKPAlgorithm):
    """`EdDSA` with one curve."""

    def __init__(self, curve: str) -> None:
        super().__init__()
        self._curve = curve

    def prepare_key(self, key: Any) -> Any:
        usable = super().prepare_key(key)
        if _curve_of(usable) != self._curve:
            raise jwt.InvalidKeyError(f"it is not a key of the curve {self._curve}")
        return usable


class _KeyedHMAC(HMACAlgorithm):
    """PyJWT's, with one key, which is taken in once: OpenSSL looks its algorithm up anew for each
    MAC that isn't a copy, which costs a handshake more than the MAC."""

    def __init__(self, algorithm: HMACAlgorithm, key: bytes) -> None:
        super().__init__(algorithm.hash_alg)
        self._empty = hmac.new(key, digestmod=algorithm.hash_alg)

    def __reduce__(self) -> tuple[Any, ...]:  # what is OpenSSL's can't be pickled or deep-copied
        return HMACAlgorithm, (self.hash_alg,)

    def sign(self, msg: bytes, key: bytes) -> bytes:
        mac = self._empty.copy()
        mac.update(msg)
        return mac.digest()


_EDDSA = "EdDSA"
CURVES = ("Ed25519", "Ed448")
_OKP = (_EDDSA, *CURVES)

ALGORITHMS: Mapping[str, Algorithm] = {
    **{name: made for name, made in get_default_algorithms().items() if name != "none"},
    **{curve: _OneCurve(curve) for curve in CURVES},
}
"""All that verify something, by the `alg` of a token."""


def _curve_of(key: Any) -> str:
    return str(OKPAlgorithm.to_jwk(key, as_dict=True)["crv"])


def pyjwt_name(algorithm: str) -> str:
    """What PyJWT calls it."""
    return _EDDSA if algorithm in _OKP else algorithm


def read_jwk(entry: Mapping[str, Any], algorithm: str | None) -> jwt.PyJWK:
    """A key of RFC 7517, also one whose numbers are in plain base64, of which PyJWT would warn.

    Args:
        entry: its members.
        algorithm: what it is for, if it doesn't say so; None if its members tell.

    Raises:
        Exception: one of `CANNOT_LOAD`: it can't be read.
    """
    members = dict(entry)
    for name in _NUMBERS & members.keys():
        if isinstance(members[name], str):
            members[name] = members[name].translate(_TO_BASE64URL)
    return jwt.PyJWK(members, algorithm)


_NUMBERS = frozenset("n e d p q dp dq qi x y k".split())  # RFC 7518 section 6
_TO_BASE64URL = str.maketrans("+/", "-_")


def may_serve(declared: object, algorithm: str) -> bool:
    """Whether a key that declares one `alg`, or None, may be used for the other: it is the same
    one, or one of them is `EdDSA`, which may mean the other."""
    either = _EDDSA in (declared, algorithm) and declared in _OKP and algorithm in _OKP
    return declared is None or declared == algorithm or either


def readings(algorithms: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What the `alg` of a token may mean, where these are accepted: for each the names that
    `prepared` gives to keys."""
    meant: dict[str, tuple[str, ...]] = {}
    for name in algorithms:
        for exact in CURVES if name == _EDDSA else (name,):
            meant[exact] = (exact,)
            if exact in CURVES:
                meant[_EDDSA] = tuple(sorted({*meant.get(_EDDSA, ()), f"{_EDDSA} {exact}"}))
    return meant


def prepared(
    name: str, algorithm: Algorithm, usable: Any, kid: str | None, mark: object
) -> Iterator[PreparedKey]:
    """A key, once for each `alg` of a token that it verifies."""
    if isinstance(algorithm, OKPAlgorithm):
        name = _curve_of(usable)
        yield PreparedKey(f"{_EDDSA} {name}", kid, _EDDSA, algorithm, usable, mark)
    elif isinstance(algorithm, HMACAlgorithm):
        algorithm = _KeyedHMAC(algorithm, usable)
    yield PreparedKey(name, kid, name, algorithm, usable, mark)


_PLAIN = re.compile(r"(?!.*\.\.)[A-Za-z0-9._~:/+=#@-]{1,256}")


_SHOWN = 20  # names of keys


class KeySet:
    """Keys that are valid together. Never changed; a newer set replaces it.

    Args:
        keys: the keys.
        most: how many of them may be tried with one token, if nothing tells which one signed it.

    Attributes:
        marks: those of its keys.
        kids: the names that its keys have, whatever their algorithms.
    """

    def __init__(self, keys: Iterable[PreparedKey], *, most: int | None = None) -> None:
        self._most = most
        self._by_algorithm: dict[str, list[PreparedKey]] = {}
        self._by_name: dict[tuple[str, str | None], list[PreparedKey]] = {}
        for key in keys:
            self._by_algorithm.setdefault(key.algorithm, []).append(key)
            self._by_name.setdefault((key.algorithm, key.kid), []).append(key)
        everything = [key for keys in self._by_algorithm.values() for key in keys]
        self._by_kid: dict[str | None, list[PreparedKey]] = {}
        for key in everything:
            self._by_kid.setdefault(key.kid, []).append(key)
        self.marks = frozenset(key.mark for key in everything)
        self.kids = frozenset(self._by_kid.keys() - {None})

    def candidates(self, algorithms: Iterable[str], kid: str | None) -> list[PreparedKey]:
        """The keys that may have signed a token with this header (RFC 7515 section 4.1.4). One
        without a name fits a `kid` that looks like one, and no other text.

        Args:
            algorithms: what its `alg` may mean, see `readings`.
            kid: see `kid_text`.
        """
        found: list[PreparedKey] = []
        for algorithm in algorithms:
            if kid is None:
                found += self._by_algorithm.get(algorithm, ())
                continue
            found += self._by_name.get((algorithm, kid), ())
            if _PLAIN.fullmatch(kid):
                found += self._by_name.get((algorithm, None), ())
        return found[: self._most]

    def __repr__(self) -> str:
        names = sorted(kid for kid in self.kids if kid is not None)
        told = [*map(repr, names[:_SHOWN]), *(["..."] if len(names) > _SHOWN else [])]
        count = f"{len(self.marks)} key{'s' if len(self.marks) != 1 else ''}"
        return f"<{count}: {', '.join(told)}>" if names else f"<{count}>"

    def may_be_old(self, alg: str, kid: str | None) -> bool:
        """Whether a token that none of these verifies may have a newer key, under whatever name.
        It has none if the key of its name fits, and declares that it is for another `alg`."""
        return not any(_takes(alg, key) for key in self._by_kid.get(kid, ()))


def _takes(alg: str, key: PreparedKey) -> bool:
    try:
        ALGORITHMS[alg].prepare_key(key.key)
    except CANNOT_LOAD:
        return False
    return True


class KeySource(Protocol):
    """Where a verifier has its keys from."""

    async def keys(self) -> KeySet:
        """The keys that count now.

        Raises:
            Denied: with `Reason.KEYS_UNAVAILABLE`, if there are none.
        """
        ...

    async def renewed(self, seen: KeySet, /) -> KeySet:
        """The keys that count now that `seen` was found to lack one; maybe `seen` itself.

        Raises:
            Denied: as `keys()`.
        """
        ...

    def lag(self, token_age: float, /) -> float | None:
        """Seconds after which there may be a key that signed a token so many seconds ago; None
        where it would be there by now."""
        ...
