"""Users who are logged in by Starlette's `SessionMiddleware`, as in FastAPI. Needs the extra
`itsdangerous`.

    from asgi_wsauth.contrib.starlette import StarletteSession

    sessions = StarletteSession(SECRET_KEY, identity_key="user_id")
    auth = Authenticator(
        [sessions], sources=[sessions.cookie], allowed_origins=["https://chat.example"]
    )
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from starlette.datastructures import Secret
from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential, Principal, has_expired
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import (
    ClaimName,
    ClaimPath,
    check_claim,
    check_clock,
    check_seconds,
    check_secret,
    needs_extra,
    one_or_more,
)
from asgi_wsauth.sources import Cookie
from asgi_wsauth.sources.source import check_token
from asgi_wsauth.verifiers.claims import as_identity, as_scopes, at

__all__ = ["StarletteSession"]

# The session in base64, four bytes with the time, and a signature of SHA-1. A JWT has more in the
# middle.
_SESSION = re.compile(r"[A-Za-z0-9+/]+={0,2}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}")


class StarletteSession:
    """Vouches for users whom the app has put into its session, which is a signed cookie.

    - A session without an identity is MISSING: a visitor.
    - A bad signature is INVALID, and a cookie that is older than `max_age` EXPIRED.
    - An identity that is neither a string nor a whole number is INVALID.

    Its principal's `method` is `session`, and `issued_at` is when the cookie was signed: whenever
    the app last changed the session. Its `claims` are those parts of the session that the options
    name.

    The session exists only in the cookie, so a logout can only make the browser forget it: a copy
    is good until it is too old. To end a login for sure, put a random id into the session at the
    login, name it as `session_id_key`, and call `Revocations.revoke_session` at the logout.

    Put it before a `JWTVerifier` among the verifiers, which could take the cookie for a JWT.

    Args:
        secret_key: the `secret_key` of `SessionMiddleware`, at least 16 bytes; or a list of them
            while one replaces the other.
        identity_key: where in the session the identity is: a key, such as `user_id`, or the path to
            it as a tuple, such as `("user", "sub")`.
        session_id_key: the key of the login's id, or the path to it; None if there is none.
        scopes_key: the key of the scopes, or the path to them: a list of strings, or a string with
            spaces between them; None if there are none.
        session_cookie: the cookie's name, as in `SessionMiddleware`.
        max_age: seconds for which a cookie is good, as in `SessionMiddleware`: two weeks by
            default; None for ever.
        clock: a function that returns Unix time in seconds, for tests.

    Attributes:
        cookie: the source for that cookie. Needs `allowed_origins`.

    Raises:
        ConfigurationError: an option can't work, or itsdangerous is not installed.
    """

    def __init__(
        self,
        secret_key: str | Secret | Iterable[str | Secret],
        *,
        identity_key: ClaimName,
        session_id_key: ClaimName | None = None,
        scopes_key: ClaimName | None = None,
        session_cookie: str = "session",
        max_age: float | None = 14 * 24 * 60 * 60,
        clock: Callable[[], float] = time.time,
    ) -> None:
        with needs_extra("StarletteSession", "itsdangerous", "itsdangerous"):
            import itsdangerous
        self._signer = itsdangerous.TimestampSigner(_keys(secret_key))
        self._bad = itsdangerous.BadSignature
        self._identity = check_claim("StarletteSession: identity_key", identity_key)
        self._session_id = _path("session_id_key", session_id_key)
        self._scopes = _path("scopes_key", scopes_key)
        check_token("StarletteSession: session_cookie", session_cookie, "session")
        self.cookie = Cookie(session_cookie)
        if max_age is not None:
            check_seconds("StarletteSession: max_age", max_age)
        self._max_age = max_age
        self._clock = check_clock("StarletteSession: clock", clock)

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        value, now = credential.value, self._clock()
        if credential.source != repr(self.cookie) and not _SESSION.fullmatch(value):
            return None
        try:
            data, signed_at = self._signer.unsign(value, return_timestamp=True)
        except self._bad:
            raise Denied(Reason.INVALID, "the session's signature is bad") from None
        issued_at = signed_at.timestamp()
        expires_at = None if self._max_age is None else issued_at + self._max_age
        if has_expired(expires_at, now):
            raise Denied(Reason.EXPIRED, f"the session is older than {self._max_age:g} s")
        session = _session(data)
        given = at(session, self._identity)
        if given is None or given == "":
            raise Denied(Reason.MISSING, "nobody is logged in to the session")
        identity = as_identity(given)
        if identity is None:
            raise Denied(Reason.INVALID, "the identity is neither a string nor a whole number")
        named = self._identity, self._session_id, self._scopes
        return Principal(
            identity,
            scopes=_read_scopes(session, self._scopes),
            claims={path[0]: session[path[0]] for path in named if path and path[0] in session},
            issued_at=issued_at,
            expires_at=expires_at,
            session_id=_read_session_id(session, self._session_id),
            method="session",
        )

    def __repr__(self) -> str:
        return f"<StarletteSession {self.cookie.name}>"


def _keys(given: str | Secret | Iterable[str | Secret]) -> list[bytes]:
    option = "StarletteSession: secret_key"
    return [
        check_secret(name, str(key) if isinstance(key, Secret) else key, minimum=16)
        for name, key in one_or_more(option, given)
    ]


def _path(option: str, given: ClaimName | None) -> ClaimPath | None:
    return None if given is None else check_claim(f"StarletteSession: {option}", given)


def _session(data: bytes) -> dict[str, Any]:
    try:
        session = json.loads(b64decode(data, validate=True))
    except (ValueError, RecursionError):
        session = None
    if not isinstance(session, dict):
        raise Denied(Reason.INVALID, "the cookie is no session")
    return session


def _read_scopes(session: Mapping[str, Any], path: ClaimPath | None) -> Sequence[str]:
    given = None if path is None else at(session, path)
    if given is None:
        return ()
    scopes = as_scopes(given)
    if scopes is None:
        raise Denied(Reason.INVALID, "the scopes are neither a string nor a list of strings")
    return scopes


def _read_session_id(session: Mapping[str, Any], path: ClaimPath | None) -> str | None:
    if path is None:
        return None
    session_id = at(session, path)
    if session_id is None:  # a login from before there were any, which nothing could end
        raise Denied(Reason.REVOKED, "the session has no id")
    if not isinstance(session_id, str) or not session_id:
        raise Denied(Reason.INVALID, "the session's id is not a string")
    return session_id
