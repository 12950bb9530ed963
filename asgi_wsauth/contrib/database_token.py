"""Opaque tokens in a database of the app's: those of Django REST framework, Knox, fastapi-users.
The database is asked by a function of yours.

    from asgi_wsauth.contrib.database_token import DatabaseToken

    async def find(digest: str) -> dict[str, Any] | None:
        token = await AuthToken.objects.filter(digest=digest).afirst()
        return token and {"identity": token.user_id, "expires_at": token.expiry}

    auth = Authenticator(
        [DatabaseToken(find, digest="sha512")], sources=[Header("authorization", scheme="Token")]
    )
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from hashlib import sha256, sha512
from hmac import compare_digest
from typing import Any, Literal, TypeAlias, cast
from uuid import UUID

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import OWN_KINDS, Credential, Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import ConfigurationError, check_async, check_callable, kind_of, shown
from asgi_wsauth.verifiers.chain import Misuse, awaitable
from asgi_wsauth.verifiers.claims import as_identity
from asgi_wsauth.verifiers.compact import looks_like_jwt

__all__ = ["DatabaseToken", "Digest", "Lookup"]

Row: TypeAlias = "Mapping[str, Any]"
Lookup: TypeAlias = Callable[[str], Awaitable["Principal | Row | None"]]
"""From a digest, or a token, to what the database has; None if it has nothing."""
Digest: TypeAlias = "Literal['sha256', 'sha512'] | Callable[[str], str] | None"
"""How the database stores tokens: see `DatabaseToken`."""

_DIGESTS: Mapping[str, Callable[[str], str]] = {
    "sha256": lambda token: sha256(token.encode()).hexdigest(),
    "sha512": lambda token: sha512(token.encode()).hexdigest(),
}
_OF_A_PRINCIPAL = frozenset(
    "issuer scopes claims issued_at expires_at token_id session_id display_name".split()
)
_OF_A_ROW = _OF_A_PRINCIPAL | {"identity", "is_active", "stored"}


class DatabaseToken:
    """Vouches for opaque tokens that it looks up.

    `lookup` returns a `Principal`, or a mapping with what it found, of which only `identity` is
    required:

    - `identity`: a string, a whole number or a UUID;
    - `expires_at` and `issued_at`: Unix time in seconds, or a datetime with a time zone;
    - `is_active`: False for a locked user, who is REVOKED;
    - `stored`: what the database has in the column that was looked up. It must equal what was
      looked up, and is compared in constant time: some databases take `a` for `A`;
    - `display_name`, `scopes`, `claims`, `issuer`, `session_id` and `token_id`, as in `Principal`.
      Without a `token_id`, it is what was looked up, or its SHA-256 if that was the token itself:
      so `Revocations.revoke_token(digest)` ends what was opened with it.

    A token that isn't found is INVALID. What `lookup` raises is UNAVAILABLE, unless it is a
    `Denied`; what it returns that is none of these is ERROR. Its principal's `method` is `token`.

    Without a `pattern`, it claims everything that doesn't look like a JWT or a credential of this
    package's, so put it last among the verifiers.

    With `WebSocketAuthMiddleware(recheck=...)`, the tokens of open sockets are looked up again from
    time to time.

    Args:
        lookup: an async function from the digest of a token, or from the token, to what was found;
            None if it wasn't.
        digest: how the database stores tokens: `"sha256"` or `"sha512"` in hex, a function that
            makes the digest, or None for tokens as they are. Prefer a digest: someone who reads the
            database then has no token, and the time that a comparison takes says nothing about one.
        pattern: a regular expression that the whole of a token matches, for example `[0-9a-f]{40}`;
            None for any. What doesn't match is left to the next verifier.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self, lookup: Lookup, *, digest: Digest = "sha256", pattern: str | None = None
    ) -> None:
        example = "it is called with the digest of a token"
        self._lookup = check_async("DatabaseToken: lookup", lookup, takes=1, example=example)
        self._digest = _digest_function(digest)
        self._pattern = None if pattern is None else _compiled(pattern)

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        token = credential.value
        if not self._is_mine(token):
            return None
        wanted: object = token if self._digest is None else self._digest(token)
        if not isinstance(wanted, str):
            raise Misuse(
                f"DatabaseToken: digest must return a string, got {kind_of(wanted)}; "
                "write for example sha256(token.encode()).hexdigest()"
            )
        try:
            found = await awaitable("DatabaseToken: lookup", self._lookup(wanted))
        except (Denied, Misuse):
            raise
        except Exception as exc:
            raise Denied.because(self, exc, Reason.UNAVAILABLE) from exc
        if found is None:
            raise Denied(Reason.INVALID, "there is no such token")
        if isinstance(found, Principal):
            return found
        return _principal(found, wanted, self.token_id(token))

    async def recheck(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        """Look it up again; see `Rechecks`."""
        return await self(credential, conn)

    def token_id(self, token: str) -> str:
        """The `Principal.token_id` of a token, if the lookup names no other: its digest, or its
        SHA-256 if the database stores tokens as they are. For `Revocations.revoke_token`.
        """
        return (self._digest or _DIGESTS["sha256"])(token)

    def _is_mine(self, token: str) -> bool:
        if self._pattern is not None:
            return self._pattern.fullmatch(token) is not None
        return not (token.startswith(OWN_KINDS) or looks_like_jwt(token))

    def __repr__(self) -> str:
        return "<DatabaseToken>"


def _principal(row: Row, wanted: str, token_id: str) -> Principal:
    if not isinstance(row, Mapping):
        raise Misuse(
            "DatabaseToken: lookup must return a Principal, a mapping or None, got a "
            f"{type(row).__qualname__}"
        )
    if strange := row.keys() - _OF_A_ROW:
        raise Misuse(
            f"DatabaseToken: lookup returned a mapping with {', '.join(sorted(map(repr, strange)))}"
            f"; it may have {', '.join(sorted(_OF_A_ROW))}"
        )
    stored = row.get("stored", wanted)
    if not isinstance(stored, str) or not compare_digest(stored.encode(), wanted.encode()):
        raise Denied(Reason.INVALID, "there is no such token, but a similar one")
    if row.get("is_active", True) not in (True, 1):  # which some databases have for it
        raise Denied(Reason.REVOKED, "the user is locked")
    given = {name: row[name] for name in _OF_A_PRINCIPAL & row.keys() if row[name] is not None}
    for name in ("issued_at", "expires_at"):
        if name in given:
            given[name] = _time(name, given[name])
    given.setdefault("token_id", token_id)
    try:
        return Principal(_identity(row.get("identity")), method="token", **given)
    except ConfigurationError as exc:
        raise Misuse(f"DatabaseToken: lookup returned a mapping whose {exc}") from None


def _identity(value: object) -> str:
    """An identity as text. Nothing else has a text that is its own."""
    identity = as_identity(str(value) if isinstance(value, UUID) else value)
    if identity is not None:
        return identity
    raise Misuse(
        "DatabaseToken: lookup returned a mapping whose identity must be a string, a whole number "
        f"or a UUID, got {'an empty one' if value == '' else kind_of(value)}"
    )


def _time(name: str, value: object) -> object:
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() is None:
        raise Misuse(
            f"DatabaseToken: lookup returned a mapping whose {name} must have a time zone; write "
            ".replace(tzinfo=UTC), if it is one in UTC"
        )
    return value.timestamp()


def _digest_function(digest: Any) -> Callable[[str], str] | None:
    if digest is None:
        return None
    if isinstance(digest, str) and digest in _DIGESTS:
        return _DIGESTS[digest]
    if isinstance(digest, type) or not callable(digest):
        raise ConfigurationError(
            'DatabaseToken: digest must be "sha256", "sha512", a function or None, got '
            f"{shown(digest)}"
        )
    example = "it is called with a token"
    given: Any = check_callable(
        "DatabaseToken: digest", digest, takes=1, is_async=False, example=example
    )
    return cast("Callable[[str], str]", given)


def _compiled(pattern: str) -> re.Pattern[str]:
    why = ""
    if isinstance(pattern, str) and pattern:
        try:
            return re.compile(pattern)
        except re.error as exc:
            why = f": {exc}"
    raise ConfigurationError(
        "DatabaseToken: pattern must be a regular expression, for example [0-9a-f]{40}, got "
        f"{shown(pattern)}{why}"
    )
