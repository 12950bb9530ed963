"""Helpers for testing an app that uses this package.

    auth = Authenticator([...])                     # the app's own
    app = WebSocketAuthMiddleware(..., auth)

    with as_principal(auth, Principal("alice", scopes=["chat"])):
        with TestClient(app).websocket_connect("/chat") as socket:
            ...

Starlette's `TestClient` (and Litestar's) shows accept-then-close, the default, as real clients see
it: `websocket_connect` succeeds, and the first `receive` raises `WebSocketDisconnect` with the code
and the phrase. But it also reports the code of a close before the accept (`rejection="close"`),
which no server sends: real clients get a bare HTTP 403, which a browser reports as 1006. To see
what real clients get, run `python -m asgi_wsauth probe ws://127.0.0.1:8000/chat`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from os import PathLike
from typing import Any
from unittest.mock import patch

import jwt
from jwt.algorithms import get_default_algorithms
from starlette.requests import HTTPConnection

from asgi_wsauth.authenticator import Attempt, Authenticator
from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.options import (
    ConfigurationError,
    check_choice,
    check_clock,
    check_instance,
    check_scopes,
    check_seconds,
    check_text,
    not_given,
)
from asgi_wsauth.sources import Header

__all__ = ["as_principal", "make_jwt"]


@contextmanager
def as_principal(authenticator: Authenticator, principal: Principal) -> Iterator[None]:
    """Authenticate every client as `principal`, with any credential or none.

    Everything after the verifiers works as usual: required scopes, expiry, revocations, connection
    limits, `load_user` and the events. Verifiers, `allowed_origins`, `throttle` and `required` are
    skipped. It works for HTTP as well, and whichever thread the app runs in. It applies to all
    connections of the authenticator, so there can only be one principal at a time.

    Args:
        authenticator: the app's own.
        principal: the principal. Each connection gets a copy of it.

    Raises:
        ConfigurationError: `authenticator` is not an `Authenticator` (but a middleware, say), or
            `principal` not a `Principal`.
    """
    check_instance("authenticator", authenticator, Authenticator, "as_principal(auth, ...)")
    check_instance("principal", principal, Principal, 'Principal("alice")')
    collect = authenticator.collect

    def find(conn: HTTPConnection) -> Attempt:
        collect(conn)  # also fills in keys that the scope lacks
        return Attempt([(Header(), Credential("as_principal", "as_principal"))])

    with patch.multiple(
        authenticator,
        collect=find,
        verifiers=(_Vouches(principal),),
        allowed_origins=None,
        throttle=None,
        required=True,
    ):
        yield


class _Vouches:
    """A verifier that equals all others of its class, so that a socket can be refreshed in another
    `as_principal` block."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal:
        return copy(self._principal)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Vouches)


def make_jwt(
    key: Any,
    identity: str | None = "alice",
    *,
    algorithm: str = "HS256",
    expires_in: float = 300.0,
    scopes: Sequence[str] = (),
    issuer: str | None = None,
    audience: str | None = None,
    key_id: str | None = None,
    clock: Callable[[], float] = time.time,
    **claims: Any,
) -> str:
    """Make a signed JWT for a test (RFC 7519).

    Args:
        key: the secret, or the private key as PEM or as an object of `cryptography`.
        identity: its `sub`; None for none.
        algorithm: the signature algorithm.
        expires_in: seconds until its `exp`; negative for an expired one. Mind the verifier's
            leeway.
        scopes: a list of scopes, its `scope`; left out if empty.
        issuer: its `iss`; None for none.
        audience: its `aud`; None for none. For several, write `aud=["chat", "web"]`.
        key_id: its `kid`.
        clock: a function that returns Unix time in seconds.
        claims: any other claim, such as `sid`, or another value for one of these; None leaves it
            out.

    Raises:
        ConfigurationError: an argument is invalid.
    """
    is_missing = key is None and algorithm != "none"
    if is_missing or isinstance(key, PathLike) or hasattr(key, "get_secret_value"):
        raise ConfigurationError(f"key must be a secret or a private key, {not_given(key)}")
    check_choice("algorithm", algorithm, get_default_algorithms())
    for option, text, example in (
        ("identity", identity, "alice"),
        ("issuer", issuer, "https://id.example"),
        ("audience", audience, "chat"),
        ("key_id", key_id, "2026-11"),
    ):
        if text is not None:
            check_text(option, text, example)
    now = check_clock("clock", clock)()
    told: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": identity,
        "iat": int(now),
        "exp": int(now + check_seconds("expires_in", expires_in, least=-1e9)),
    }
    told |= {"scope": " ".join(check_scopes("scopes", scopes)) or None, **claims}
    payload = {name: value for name, value in told.items() if value is not None}
    signing: Any = key
    return jwt.encode(
        payload, signing, algorithm, headers=None if key_id is None else {"kid": key_id}
    )
