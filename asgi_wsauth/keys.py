"""What signatures are checked with: keys that are prepared for their algorithms once, and then only
looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, cast, get_args

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import Algorithm, AllowedPrivateKeys, AllowedPublicKeys, HMACAlgorithm

from asgi_wsauth.options import ConfigurationError, check_list, check_secret, not_given, shown

__all__ = [
    "CANNOT_LOAD",
    "Key",
    "KeySet",
    "KeySource",
    "PreparedKey",
    "ReadyKey",
    "StaticKeys",
    "check_algorithms",
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


class PreparedKey(NamedTuple):
    """A key that can verify signatures of one algorithm.

    Attributes:
        algorithm: its `alg`.
        kid: its name; None where it has none, and so fits every token.
        key: what PyJWT takes.
        mark: tells it from all other keys, in whatever set it comes again.
    """

    algorithm: str
    kid: str | None
    key: jwt.PyJWK
    mark: object


class ReadyKey(jwt.PyJWK):
    """A key that PyJWT takes as it is. It would prepare any other one anew for each token, to find
    out whether it is one, and of an HMAC secret that takes as long as the signature.

    Args:
        name: the `alg`.
        algorithm: PyJWT's algorithm of that name.
        key: what its `prepare_key` returned, and its `check_key_length` found no fault with.
    """

    def __init__(self, name: str, algorithm: Algorithm, key: Any) -> None:
        self.algorithm_name = name
        self.Algorithm = cast(Algorithm, _Ready(algorithm))
        self.key = key


class _Ready:
    """The part of an algorithm that verifies, for keys that were checked before."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.verify = algorithm.verify

    def prepare_key(self, key: Any) -> Any:
        return key

    def check_key_length(self, key: Any) -> None:
        return None


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
        self.marks = frozenset(key.mark for key in everything)
        self.kids = frozenset(key.kid for key in everything if key.kid is not None)

    def candidates(self, algorithm: str, kid: str | None) -> list[PreparedKey]:
        """The keys that may have signed a token with this header (RFC 7515 section 4.1.4)."""
        if kid is None:
            return self._by_algorithm.get(algorithm, [])[: self._most]
        named, nameless = ((algorithm, name) for name in (kid, None))
        return [*self._by_name.get(named, ()), *self._by_name.get(nameless, ())][: self._most]


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


class StaticKeys:
    """Keys that are at hand.

    Args:
        key: one key, or a list of them.
        algorithms: what `check_algorithms` returned.

    Raises:
        ConfigurationError: see `JWTVerifier`.
    """

    def __init__(self, key: Key | Sequence[Key], algorithms: Mapping[str, Algorithm]) -> None:
        is_list = isinstance(key, Sequence) and not isinstance(key, (str, bytes, bytearray))
        keys = cast("Sequence[Key]", key if is_list else [key])
        self._keys = KeySet(_prepare(keys, algorithms))

    async def keys(self) -> KeySet:
        return self._keys

    async def renewed(self, seen: KeySet, /) -> KeySet:
        return seen


def check_algorithms(algorithms: Sequence[str]) -> dict[str, Algorithm]:
    """PyJWT's algorithms of these names.

    Raises:
        ConfigurationError: one is unknown or `none`, or families are mixed.
    """
    names = check_list("algorithms", algorithms)
    if not names:
        raise ConfigurationError('algorithms must name one, for example ["RS256"], got []')
    known = {name: _algorithm(name) for name in names}
    if len({isinstance(algorithm, HMACAlgorithm) for algorithm in known.values()}) > 1:
        raise ConfigurationError(
            "algorithms: HMAC and public-key algorithms in one verifier let a public key serve as "
            "a secret (RFC 8725 section 3.1); build one verifier for each"
        )
    return known


def _algorithm(name: str) -> Algorithm:
    if isinstance(name, str) and name.lower() != "none":
        try:
            return jwt.get_algorithm_by_name(name)
        except NotImplementedError:
            pass
    known = ", ".join(sorted(set(jwt.algorithms.get_default_algorithms()) - {"none"}))
    raise ConfigurationError(f"algorithms must be some of {known}, got {shown(name)}")


def _prepare(keys: Sequence[Key], algorithms: Mapping[str, Algorithm]) -> list[PreparedKey]:
    """The keys, once for each algorithm that they fit."""
    if not keys:
        raise ConfigurationError(
            "key must be a secret, a public key as PEM, a JWK, a list of them, or a JWKS, got []"
        )
    prepared = []
    for number, key in enumerate(keys, 1):
        _check_kind("key" if len(keys) == 1 else f"key number {number}", key)
        problems = []
        for name, algorithm in algorithms.items():
            try:
                kid, ready = _prepare_one(key, name, algorithm)
            except ConfigurationError:
                raise
            except CANNOT_LOAD as exc:
                problems.append(f"{name}: {why_unusable(exc)}")
            else:
                prepared.append(PreparedKey(name, kid, ready, number))
        if len(problems) == len(algorithms):
            raise ConfigurationError(
                f"key: number {number} fits none of the algorithms ({'; '.join(problems)})"
            )
    for name in algorithms:
        if not any(key.algorithm == name for key in prepared):
            raise ConfigurationError(f"algorithms: no key fits {name}; take it out, or add a key")
    return prepared


_ADDRESS = re.compile(r"\s*https?://", re.IGNORECASE)
_PATH = re.compile(
    r"\s*(?:~?/|\.{1,2}/|[A-Za-z]:\\)?[\w./\\ -]*\.(?:pem|pub|key|crt|cer|der|jwk|json|txt)\s*"
    r"|/(?:app|etc|home|mnt|opt|run|secrets|srv|usr|var)/[\w./-]+\s*"
)


def _check_kind(option: str, key: object) -> None:
    """Raises `ConfigurationError` for what only leads to a key. It never shows it."""
    if not isinstance(key, (str, bytes, jwt.PyJWK, Mapping, *_OBJECTS)):
        raise ConfigurationError(
            f"{option} must be a secret, a public key as PEM, a JWK, a list of them, or a JWKS, "
            f"{not_given(key)}"
        )
    if not isinstance(key, (str, bytes)):
        return
    text = key if isinstance(key, str) else key.decode("latin-1")
    if _ADDRESS.match(text):
        raise ConfigurationError(f"{option} must be a key, got an address; write JWKS(url)")
    if _PATH.fullmatch(text):
        raise ConfigurationError(
            f"{option} must be a key, got the path of a file; write Path(path).read_text()"
        )
    if "-----BEGIN" in text and "\\n" in text:
        raise ConfigurationError(
            f"{option} must be PEM with real line ends, got some that are written out; write "
            r'.replace("\\n", "\n")'
        )


_OBJECTS = (*get_args(AllowedPublicKeys), *get_args(AllowedPrivateKeys))


def _prepare_one(key: Key, name: str, algorithm: Algorithm) -> tuple[str | None, ReadyKey]:
    """One key for one algorithm, and its `kid`.

    Raises:
        ConfigurationError: the key is bad for whatever algorithm.
        Exception: one of `CANNOT_LOAD`: it does not fit this one.
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
        if "-----BEGIN" in str(raw):
            algorithm.prepare_key(raw)  # a public key is no secret
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
    return kid, ReadyKey(name, algorithm, usable)
