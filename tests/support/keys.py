"""Private keys for tests that only sign: made once, because RSA's take their time. And what watches
over the checks of signatures.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

__all__ = [
    "ED_KEY",
    "P256_KEY",
    "P256_OTHER",
    "P384_KEY",
    "P521_KEY",
    "RSA_KEY",
    "RSA_OTHER",
    "RSA_SHORT",
    "watch_signatures",
]

RSA_KEY, RSA_OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
RSA_SHORT = rsa.generate_private_key(65537, 1024)
P256_KEY, P256_OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
P384_KEY = ec.generate_private_key(ec.SECP384R1())
P521_KEY = ec.generate_private_key(ec.SECP521R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def watch_signatures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signature is checked from now on, in order; once for each key."""
    tokens: list[str] = []

    def watch(algorithm: Any) -> None:
        verify = algorithm.verify

        def watched(self: Any, signed: bytes, key: Any, signature: bytes) -> Any:
            end = urlsafe_b64encode(signature).rstrip(b"=")
            tokens.append(f"{signed.decode()}.{end.decode()}")
            return verify(self, signed, key, signature)

        monkeypatch.setattr(algorithm, "verify", watched)

    for algorithm in (HMACAlgorithm, RSAAlgorithm, ECAlgorithm, OKPAlgorithm):
        watch(algorithm)
    return tokens
