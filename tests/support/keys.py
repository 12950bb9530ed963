"""Private keys for tests that only sign: made once, because RSA's take their time."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

__all__ = [
    "ED_KEY",
    "P256_KEY",
    "P256_OTHER",
    "P384_KEY",
    "P521_KEY",
    "RSA_KEY",
    "RSA_OTHER",
    "RSA_SHORT",
]

RSA_KEY, RSA_OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
RSA_SHORT = rsa.generate_private_key(65537, 1024)
P256_KEY, P256_OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
P384_KEY = ec.generate_private_key(ec.SECP384R1())
P521_KEY = ec.generate_private_key(ec.SECP521R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
