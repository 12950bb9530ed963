"""What an issuer publishes of its keys: its configuration (OpenID Connect Discovery 1.0) and its
key set (RFC 7517).
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from jwt.algorithms import AllowedPrivateKeys, HMACAlgorithm

from asgi_wsauth.verifiers.keys import (
    ALGORITHMS,
    CANNOT_LOAD,
    KeySet,
    PreparedKey,
    kid_text,
    may_serve,
    prepared,
    read_jwk,
    why_unusable,
)
from asgi_wsauth.verifiers.outbound import Unreachable

__all__ = ["Withdrawn", "jwks_uri", "parse_key_set"]


class Withdrawn(Unreachable):
    """The issuer says that it has no keys."""


def jwks_uri(document: Any, issuer: str) -> str:
    """Where the issuer's keys are (OpenID Connect Discovery 1.0, sections 3 and 4.3).

    Raises:
        Unreachable: the document is another issuer's, or none.
    """
    if not isinstance(document, dict) or not isinstance(document.get("jwks_uri"), str):
        raise Unreachable("this is not a discovery document")
    if document.get("issuer") != issuer:
        named = str(document.get("issuer"))[:200]
        raise Unreachable(f"its issuer is {named!a}, and not exactly {issuer!a}")
    return str(document["jwks_uri"])


# Sets of keys, in whatever state they come.

_PUBLIC = {
    name: algorithm
    for name, algorithm in ALGORITHMS.items()
    if not isinstance(algorithm, HMACAlgorithm) and name != "EdDSA"  # each curve by its own name
}
_FAMILY = ("kty", "crv")
_MOST_TRIES = 10  # for a token that doesn't say which key signed it; anybody can send one
_LONGEST_RSA = 8192, 64  # bits of modulus and exponent; checking takes longer with each


def parse_key_set(document: Any) -> tuple[KeySet, int, str]:
    """The keys that can be used, how many they are, and what was wrong with the others.

    Raises:
        Unreachable: there is none.
    """
    keys: list[PreparedKey] = []
    count = 0
    problems: list[str] = []
    for kid, entry in _entries(document):
        try:
            keys += _prepare(kid, entry)
            count += 1
        except Exception as exc:
            problems.append(f"{str(kid)[:80]!a} ({why_unusable(exc)[:200]!a})")
    told = "; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" * (len(problems) > 10))
    if not keys and not problems:
        raise Withdrawn("it has no keys")
    if not keys:
        raise Unreachable(f"it has no usable key; {told}")
    return KeySet(keys, most=_MOST_TRIES), count, told


def _entries(document: Any) -> Iterator[tuple[Any, Any]]:
    """Each key with its name, whichever shape the set has."""
    if not isinstance(document, dict) or not document:
        raise Unreachable("this is not a key set")
    if isinstance(document.get("keys"), list):
        for key in document["keys"]:
            yield (key.get("kid") if isinstance(key, dict) else None), key
    else:
        yield from document.items()


def _prepare(kid: object, entry: Any) -> list[PreparedKey]:
    """One key, once for each algorithm that it can verify.

    Raises:
        Exception: it can't be used.
    """
    kid = kid_text(kid)
    declared = {}
    if isinstance(entry, dict):  # what is null is not there
        declared = entry = {name: value for name, value in entry.items() if value is not None}
    key = _checked(_load(entry))
    mark = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    found: list[PreparedKey] = []
    problem = "no algorithm takes it, or not the one that it declares"
    for name, algorithm in _PUBLIC.items():
        if not may_serve(declared.get("alg"), name):
            continue
        try:
            usable = algorithm.prepare_key(key)
            made_known = algorithm.to_jwk(usable, as_dict=True)
        except CANNOT_LOAD:
            continue
        too_short = algorithm.check_key_length(usable)
        if too_short is not None:
            problem = too_short
        elif all(declared.get(member) in (None, made_known.get(member)) for member in _FAMILY):
            found += prepared(name, algorithm, usable, kid, (name, kid, mark))
    if not found:
        raise ValueError(problem)
    return found


def _load(entry: Any) -> Any:
    """The key of an entry.

    Raises:
        Exception: it has none.
    """
    if isinstance(entry, str):
        if "BEGIN CERTIFICATE" in entry:
            return x509.load_pem_x509_certificate(entry.encode()).public_key()
        return load_pem_public_key(entry.encode())
    if not isinstance(entry, dict):
        raise ValueError("this is not a key")
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        raise ValueError("it is not for signatures")
    if "x5c" in entry and not {"n", "x"} & entry.keys():  # RFC 7517 section 4.7
        return x509.load_der_x509_certificate(b64decode(entry["x5c"][0])).public_key()
    # PyJWT knows neither the new names of algorithms nor, without a name, the curve Ed448.
    without_alg = {name: value for name, value in entry.items() if name != "alg"}
    return read_jwk(without_alg, "EdDSA" if entry.get("kty") == "OKP" else None).key


def _checked(key: Any) -> Any:
    """The key, if it is a public one that doesn't take long.

    Raises:
        ValueError: it is not.
    """
    if isinstance(key, (bytes, *get_args(AllowedPrivateKeys))):
        raise ValueError("it is a secret or a private key, which nobody should publish")
    if isinstance(key, RSAPublicKey):
        numbers = key.public_numbers()
        bits = numbers.n.bit_length(), numbers.e.bit_length()
        if any(given > longest for given, longest in zip(bits, _LONGEST_RSA, strict=True)):
            raise ValueError(f"it is an RSA key with {bits[0]} bits and an exponent with {bits[1]}")
    return key
