"""Private keys for tests that only sign, of which RSA's are always the same. And what watches over
the checks of signatures.
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


def _rsa_key(p: str, q: str) -> rsa.RSAPrivateKey:
    """One of these two primes: to find others takes longer than most tests."""
    e, one, two = 65537, int(p, 16), int(q, 16)
    d = pow(e, -1, (one - 1) * (two - 1))
    dmp1, dmq1, iqmp = d % (one - 1), d % (two - 1), pow(two, -1, one)
    public = rsa.RSAPublicNumbers(e, one * two)
    numbers = rsa.RSAPrivateNumbers(one, two, d, dmp1, dmq1, iqmp, public)
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


RSA_KEY = _rsa_key(
    "f8dc387ad4bebb2a5935910e77e9e774047f3fa54e9d8b9a48d939d1d70ceeaf474c17d7bf1e6ed6"
    "25fff1f48d36fef8c2e2c903e40baf6c1c1d10626d81e27aa2fab203870a2fab1ad63be93c3374f6"
    "c4a8698ffa2fb51df2c71b192842a112978c3a9489c4af6f3cb548d30489a275859d4599f62aa3df"
    "9d836c09bd919a69",
    "b8befde17a65f3fe217c4a893fff82ffbfecb5b7d75924e4dc0920bac63ff1ddffb67c684fc3c5db"
    "5ea219ea4dfcf6ed0c7ed8ec97b5657a11ab4b9a2b0eb5f715c864658ed0398b01d0451bc614aa8c"
    "0a2bd42f10ca5be2be36e6629a981b4fc9aaffe0d8c20c2adec14e675cf03c586d4d0d54cd66489b"
    "06b1668857382f21",
)
RSA_OTHER = _rsa_key(
    "f7a1f49d698d047a089a6e76c8c992f3cecee035c382187b2e09e4e3b2b1ef316b50cf6b8603cd60"
    "18a698bd058b521f0cd489812e2af531a3d2f1a86610dcf177cdeead8b55ad77c6d9473947919b46"
    "b7cdb3625f3bfe33efd70789bf1b8cc98146d5dcb536bf1c9403f852fb42677bc5dc7d7066fdf191"
    "d9c37a1c0f91073b",
    "ea88ecb95e737c448983c7200916124e8821addd273963db7277c327e046dc231b0f6d82880d769c"
    "97ebb6a24b36694535e6c7423a976b279aede9ee4fa09831106cc8632fa461b2316ccd5f122a25c3"
    "f98a45a8a18a932c1d929763fea2277feeef184afa092d6129bfa2e3ebf4b2c420a59ed8f825924f"
    "76591b8e17cd9ac5",
)
RSA_SHORT = _rsa_key(
    "e902ae08776a9cf2bbde9b4fc54e21fb3f285e10287fe250bf5ddea233b3149fba62e810093a8adc"
    "a15194aa8fb0abd59bca8844c9a803454ce4e419a39e8c03",
    "d6d3e30957dd445f2aacb3db28cb1745f74264897e7600b4938364186b3e9b9b57e668ba898af95a"
    "9b05d3aa7206d0b11d1f89cea65946f9867f7189f1442fbd",
)
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
