"""What a client presents (`Credential`), and what that proved (`Principal`)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

from starlette.authentication import BaseUser

from asgi_wsauth.options import (
    ConfigurationError,
    check_list,
    check_text,
    check_time,
    not_given,
    shown,
)

__all__ = [
    "API_KEY",
    "INTERNAL",
    "TICKET",
    "Credential",
    "Principal",
    "bare_name",
    "decode_base64url",
    "full_name",
    "has_expired",
    "new_secret",
]

TICKET, INTERNAL, API_KEY = "wst_", "wsi_", "wsk_"
"""How the credentials begin that this package makes, so that each can be told at a glance."""


class Credential:
    """What a client presented, and where it was found.

    Its `repr` hides the value, so that it can stand in a traceback or a debugger's view.

    Attributes:
        value: the credential itself, 1 to `max_token_size` characters of visible ASCII.
        source: the name of the place it came from, for example `query parameter token`.
        hints: what verifiers that did not take it noticed, for the log.
    """

    def __init__(self, value: str, source: str = "") -> None:
        if not isinstance(value, str):
            raise ConfigurationError(f"value must be a string, {not_given(value)}")
        if not isinstance(source, str):
            raise ConfigurationError(f"source must be a string, got {shown(source)}")
        self.value = value
        self.source = source
        self.hints: list[str] = []

    def hint(self, why: str) -> None:
        """Say why a verifier leaves it to the others, where it comes near to one of its own. The
        log has it if none of them takes it.

        Args:
            why: a few words, without the credential.
        """
        self.hints.append(why)

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the value's SHA-256: enough to tell two logins apart."""
        return sha256(self.value.encode(errors="backslashreplace")).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"<Credential {self.fingerprint} from {self.source or 'elsewhere'}>"


class Principal(BaseUser):
    """Whom a credential vouches for. What a verifier returns, and `scope["user"]` by default.

    Who it is, is the pair of `issuer` and `identity`: the same identity at two issuers is two
    people, for connection limits, tickets, refreshes and revocations.

    It is Starlette's `BaseUser`, and stays a plain object that can be assigned to: Django Channels'
    `AuthMiddleware` sets an attribute of it.

    Args:
        identity: who it is: a user id, a service's name. Not empty.
        issuer: who says so: a JWT's `iss`. None where nobody is named, as for an API key.
        scopes: what it may do, for Starlette's `@requires` and for `required_scopes`.
        claims: all that the credential says.
        issued_at: Unix time in seconds when the credential was issued.
        expires_at: Unix time in seconds from which the credential is no longer accepted.
        token_id: the credential's own id (a JWT's `jti`).
        session_id: the login's id (a JWT's `sid`).
        display_name: for people; the identity where there is none.
        method: how it was proved: `jwt`, `introspection`, `api_key`, `internal` or `ticket`, or a
            word of your own verifier's; `none` while authentication is off.
        login_method: how the login behind a ticket was proved; None for all other methods.

    Raises:
        ConfigurationError: a `ValueError`: one of them is of another kind. Scopes may be any
            strings, because they may be an issuer's.
    """

    def __init__(
        self,
        identity: str,
        *,
        issuer: str | None = None,
        scopes: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
        issued_at: float | None = None,
        expires_at: float | None = None,
        token_id: str | None = None,
        session_id: str | None = None,
        display_name: str | None = None,
        method: str = "custom",
        login_method: str | None = None,
    ) -> None:
        check_text("identity", identity, "alice")
        check_text("method", method, "jwt")
        texts = issuer, token_id, session_id, display_name, login_method
        for number, text in enumerate(texts):
            if text is not None and not isinstance(text, str):
                name = _TEXTS[number]
                raise ConfigurationError(f"{name} must be a string or None, got {shown(text)}")
        if claims is not None and type(claims) is not dict and not isinstance(claims, Mapping):
            raise ConfigurationError(f"claims must be a dict or None, got {shown(claims)}")
        self._identity = identity
        self._display_name = identity if display_name is None else display_name
        self.issuer = issuer
        self.scopes = _scopes(scopes)
        self.claims: dict[str, Any] = dict(claims or {})
        self.issued_at = None if issued_at is None else check_time("issued_at", issued_at)
        self.expires_at = None if expires_at is None else check_time("expires_at", expires_at)
        self.token_id = token_id
        self.session_id = session_id
        self.method = method
        self.login_method = login_method

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def display_name(self) -> str:
        return self._display_name

    def __repr__(self) -> str:
        behind = "" if self.login_method is None else f" of {self.login_method}"
        return f"<Principal {self.identity!r} by {self.method}{behind}>"


_TEXTS = "issuer", "token_id", "session_id", "display_name", "login_method"


def _scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    found = tuple(scopes) if type(scopes) in (tuple, list) else check_list("scopes", scopes)
    for scope in found:
        if not isinstance(scope, str):
            raise ConfigurationError(f"scopes must be a list of strings, got {shown(scope)} in it")
    return found


def has_expired(expires_at: float | None, now: float) -> bool:
    """Whether a credential is no longer accepted: the one comparison, for all kinds of them.

    Args:
        expires_at: Unix time in seconds, or None if it never expires.
        now: Unix time in seconds.
    """
    return expires_at is not None and expires_at <= now


def full_name(name: str, issuer: str | None) -> str:
    """One text for a name at an issuer: an identity, a token's or a session's id. No two pairs have
    the same, whatever is in them. Without an issuer it is the name itself, nearly always.
    """
    if issuer is not None:
        return f"[{len(issuer)}]{issuer} {name}"
    return f"[]{name}" if name.startswith("[") else name


_MARK = re.compile(r"\[([0-9]{0,9})\]")


def bare_name(name: str) -> str:
    """The name of which `full_name` made this."""
    mark = _MARK.match(name)
    if mark is None:
        return name
    return name[mark.end() + (int(mark[1]) + 1 if mark[1] else 0) :]


def new_secret(prefix: str) -> str:
    """A new credential: one of the prefixes above, and 32 random bytes in base64url."""
    return f"{prefix}{token_urlsafe(32)}"


def decode_base64url(text: str) -> bytes:
    """The bytes that unpadded base64url stands for (RFC 7515 section 2).

    Raises:
        ValueError: it is anything else: padded, of another alphabet, or not the only form of these
            bytes. The standard library passes over what it doesn't know, or warns.
    """
    if not _BASE64URL.fullmatch(text):
        raise ValueError("not base64url")
    decoded = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if urlsafe_b64encode(decoded).rstrip(b"=") != text.encode():
        raise ValueError("not the base64url form of these bytes")
    return decoded


_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
