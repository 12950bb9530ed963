"""Keys that are given in the configuration: prepared and checked when a verifier is built."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import jwt
from jwt.algorithms import (
    Algorithm,
    AllowedPrivateKeys,
    AllowedPublicKeys,
    HMACAlgorithm,
)

from asgi_wsauth.options import ConfigurationError, check_list, check_secret, not_given, shown
from asgi_wsauth.verifiers.keys import (
    ALGORITHMS,
    CANNOT_LOAD,
    CURVES,
    Key,
    KeySet,
    PreparedKey,
    kid_text,
    may_serve,
    prepared,
    pyjwt_name,
    read_jwk,
    why_unusable,
)

__all__ = ["StaticKeys", "check_algorithms"]


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

    def lag(self, token_age: float, /) -> float | None:
        return None

    def __repr__(self) -> str:
        return "<the option key>"


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
    if isinstance(name, str) and name in ALGORITHMS:
        return ALGORITHMS[name]
    known = ", ".join(sorted(ALGORITHMS))
    raise ConfigurationError(f"algorithms must be some of {known}, got {shown(name)}")


def _prepare(keys: Sequence[Key], algorithms: Mapping[str, Algorithm]) -> list[PreparedKey]:
    """The keys, once for each algorithm that they fit."""
    if not keys:
        raise ConfigurationError(
            "key must be a secret, a public key as PEM, a JWK, a list of them, or a JWKS, got []"
        )
    usable: dict[tuple[str, int], PreparedKey] = {}  # EdDSA and Ed25519 come to the same
    fitting = set()
    for number, key in enumerate(keys, 1):
        _check_kind("key" if len(keys) == 1 else f"key number {number}", key)
        problems = []
        for name, algorithm in algorithms.items():
            try:
                for ready in _prepare_one(key, name, algorithm, number):
                    usable[ready.algorithm, number] = ready
            except ConfigurationError:
                raise
            except CANNOT_LOAD as exc:
                problems.append(f"{name}: {why_unusable(exc)}")
            else:
                fitting.add(name)
        if len(problems) == len(algorithms):
            hint = "; it is JSON, so write json.loads(...)" if _is_json(key) else ""
            raise ConfigurationError(
                f"key: number {number} fits none of the algorithms ({'; '.join(problems)}){hint}"
            )
    for name in algorithms:
        if name not in fitting:
            raise ConfigurationError(f"algorithms: no key fits {name}; take it out, or add a key")
    return list(usable.values())


_ADDRESS = re.compile(r"\s*https?://", re.IGNORECASE)
_PATH = re.compile(
    r"\s*(?:~?/|\.{1,2}/|[A-Za-z]:\\)?[\w./\\ -]*\.(?:pem|pub|key|crt|cer|der|jwk|json|txt)\s*"
    r"|/(?:app|etc|home|mnt|opt|run|secrets|srv|usr|var)/[\w./-]+\s*"
)


def _is_json(key: object) -> bool:
    try:
        return isinstance(key, (str, bytes)) and isinstance(json.loads(key), dict)
    except ValueError:
        return False


def _check_kind(option: str, key: object) -> None:
    """Raises `ConfigurationError` for what only leads to a key. It never shows it."""
    if not isinstance(key, (str, bytes, jwt.PyJWK, Mapping, *_OBJECTS)):
        raise ConfigurationError(
            f"{option} must be a secret, a public key as PEM, a JWK, a list of them, or a JWKS, "
            f"{not_given(key)}"
        )
    if isinstance(key, Mapping) and "keys" in key:
        raise ConfigurationError(f'{option} must be a key, got a set of them; write ...["keys"]')
    if not isinstance(key, (str, bytes)):
        return
    text = key if isinstance(key, str) else key.decode("latin-1")
    if _ADDRESS.match(text):
        raise ConfigurationError(f"{option} must be a key, got a URL; write JWKS(url)")
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


def _prepare_one(key: Key, name: str, algorithm: Algorithm, number: int) -> tuple[PreparedKey, ...]:
    """One key for one algorithm.

    Raises:
        ConfigurationError: the key is bad for whatever algorithm.
        Exception: one of `CANNOT_LOAD`: it does not fit this one.
    """
    kid: str | None = None
    raw: Any = key
    if isinstance(key, Mapping):
        declared = key.get("alg") or None
        _check_declared(declared, name)
        algorithm = _narrower(declared, algorithm)
        key = read_jwk(key, pyjwt_name(name))
    if isinstance(key, jwt.PyJWK):
        _check_declared(key.algorithm_name, name)
        if key.public_key_use not in (None, "sig"):
            raise ConfigurationError(f'key: its "use" is {key.public_key_use!r}, not "sig"')
        kid, raw = kid_text(key.key_id), key.key
    if isinstance(algorithm, HMACAlgorithm):
        if "-----BEGIN" in str(raw):
            algorithm.prepare_key(raw)  # a public key is no secret
        raw = check_secret(f"key for {name}", raw, minimum=algorithm.hash_alg().digest_size)
    usable = algorithm.prepare_key(raw)
    if isinstance(usable, get_args(AllowedPrivateKeys)):
        raise ConfigurationError(
            "key: this is a private key, and anyone who can read it can sign; verifying takes only "
            "the public one: openssl pkey -in key.pem -pubout"
        )
    problem = algorithm.check_key_length(usable)
    if problem is not None:
        raise ConfigurationError(f"key for {name}: {problem}")
    return tuple(prepared(name, algorithm, usable, kid, number))


def _check_declared(declared: object, name: str) -> None:
    if not may_serve(declared, name):
        raise ValueError(f"the key is for {declared}")


def _narrower(declared: object, algorithm: Algorithm) -> Algorithm:
    """A key that declares a curve is for that one alone."""
    return ALGORITHMS[str(declared)] if declared in CURVES else algorithm
