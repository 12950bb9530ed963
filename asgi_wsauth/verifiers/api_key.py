"""API keys: long random strings that don't expire. Only their digests are kept.

A plain SHA-256 is enough of a hash here, because a key is random and not chosen by a person; that
is also why guessable keys are refused when the verifier is built.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.options import (
    ConfigurationError,
    check_async,
    check_key,
    check_scopes,
    check_text,
    kind_of,
)
from asgi_wsauth.verifiers.chain import awaitable

__all__ = ["APIKeyVerifier"]

Lookup = Callable[[str], Awaitable["Principal | None"]]


class APIKeyVerifier:
    """Knows a set of API keys, given here or looked up. An unknown key is "not mine".

    Args:
        keys: a mapping from key id to key (at least 16 bytes), or to `sha256:` and the 64 hex
            digits of its digest. The id becomes the principal's identity.
        lookup: in place of `keys`, for keys in a database: an async function from the hex SHA-256
            of what was presented to its principal, or to None for an unknown key. It is called for
            every credential that no earlier verifier of the chain claimed, and with
            `WebSocketAuthMiddleware(recheck=...)` for those of open sockets again.
        scopes: a list of scopes that the principals of `keys` have, if a machine must pass
            `required_scopes`.

    Raises:
        ConfigurationError: a key can be guessed, a digest isn't one, or neither or both of `keys`
            and `lookup` are given.
    """

    def __init__(
        self,
        keys: Mapping[str, str] | None = None,
        *,
        lookup: Lookup | None = None,
        scopes: Iterable[str] = (),
    ) -> None:
        if (keys is None) == (lookup is None):
            given = "neither" if keys is None else "both"
            raise ConfigurationError(
                f"APIKeyVerifier must be given either keys or lookup, got {given}; is the setting "
                "behind it set?"
            )
        if keys is not None:
            _check_keys(keys)
        if lookup is not None:
            example = "it is called with the SHA-256 of a key"
            check_async("APIKeyVerifier: lookup", lookup, takes=1, example=example)
        # Named by number: somebody who swaps ids and keys must not find a key in a message.
        self._digests = [
            (_digest(f"APIKeyVerifier: key number {number}", key), _identity(number, name))
            for number, (name, key) in enumerate((keys or {}).items(), 1)
        ]
        self._lookup = lookup
        self._scopes = check_scopes("APIKeyVerifier: scopes", scopes)

    @classmethod
    def from_env(cls, name: str, *, scopes: Iterable[str] = ()) -> APIKeyVerifier:
        """A verifier for the key in an environment variable, or for several with commas between
        them, for rotation. Spaces and newlines around each are ignored.

        The variable's name becomes the principal's identity.

        Args:
            name: the variable's name.
            scopes: a list of scopes, as in `APIKeyVerifier`.

        Raises:
            ConfigurationError: the variable is not set, or a key in it can be guessed.
        """
        check_text("APIKeyVerifier.from_env: name", name, "CHAT_API_KEYS")
        keys = [key.strip() for key in os.environ.get(name, "").split(",") if key.strip()]
        if not keys:
            raise ConfigurationError(
                f"APIKeyVerifier.from_env: {name} is not set; put an API key into it, or several "
                "with commas between them"
            )
        where = f"APIKeyVerifier.from_env({name!r}): key number"
        digests = [_digest(f"{where} {number}", key) for number, key in enumerate(keys, 1)]
        verifier = cls({name: f"sha256:{digests[0]}"}, scopes=scopes)
        verifier._digests = [(digest, name) for digest in digests]
        return verifier

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        presented = sha256(credential.value.encode()).hexdigest()
        if self._lookup is not None:
            return await awaitable("APIKeyVerifier: lookup", self._lookup(presented))
        identity: str | None = None
        for digest, name in self._digests:  # all of them, so that time tells nothing
            if compare_digest(presented, digest):
                identity = name
        if identity is None:
            return None
        return Principal(identity, scopes=self._scopes, method="api_key")

    async def recheck(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        """Look it up again; see `Rechecks`."""
        return await self(credential, conn)

    def __repr__(self) -> str:
        return f"<APIKeyVerifier {sorted({name for _, name in self._digests}) or 'by lookup'}>"


def _check_keys(keys: object) -> None:
    if not isinstance(keys, Mapping):  # which is not shown: it may be the key
        raise ConfigurationError(
            'APIKeyVerifier: keys must be a dict of ids and keys, for example {"billing": key}, '
            f"got {kind_of(keys)}"
        )
    if not keys:
        raise ConfigurationError(
            "APIKeyVerifier: keys must have at least one, or nobody could ever connect, got {}"
        )


def _identity(number: int, name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f"APIKeyVerifier: the id of key number {number} must be a string that is not empty"
        )
    return name


def _digest(option: str, key: object) -> str:
    if isinstance(key, str) and key.startswith("sha256:"):
        digest = key.removeprefix("sha256:").lower()
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ConfigurationError(f'{option} must be "sha256:" and 64 hex digits')
        return digest
    return sha256(check_key(option, key)).hexdigest()
