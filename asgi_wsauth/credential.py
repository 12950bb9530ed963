"""What a client presents (`Credential`), and what that proved (`Principal`)."""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, TypeAlias

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
    "OWN_KINDS",
    "TICKET",
    "Credential",
    "Note",
    "Principal",
    "bare_name",
    "decode_base64url",
    "full_name",
    "has_expired",
    "new_secret",
]

TICKET, INTERNAL, API_KEY = OWN_KINDS = "wst_", "wsi_", "wsk_"
"""Prefixes of the credentials that this package makes, which tell them apart."""


Note: TypeAlias = Callable[[str, str], None]
"""Takes the name of a check, and what it found: `note("aud", "its aud is 'chat'")`."""


_EMPTY = sha256()  # OpenSSL looks the algorithm up anew for each one that isn't a copy


class Credential:
    """What a client presented, and where it was found.

    Its `repr` hides the value, so it is safe in tracebacks and debuggers.

    Attributes:
        value: the credential itself, 1 to `max_token_size` characters of visible ASCII.
        source: where it was found, for example `query parameter token`.
        hints: notes by verifiers that didn't claim it, for the log.
        note: None, unless `asgi-wsauth check-token` examines a credential: then a function that is
            told of each check that it passes, and of what was found, without the credential.
    """

    note: Note | None = None

    def __init__(self, value: str, source: str = "") -> None:
        if not isinstance(value, str):
            raise ConfigurationError(f"value must be a string, {not_given(value)}")
        if not isinstance(source, str):
            raise ConfigurationError(f"source must be a string, got {shown(source)}")
        self.value = value
        self.source = source
        self.hints: list[str] = []
        self._fingerprint: str | None = None

    def hint(self, why: str) -> None:
        """Note why a verifier didn't claim it, though it resembles one of its own. It is logged if
        no verifier claims the credential.

        Args:
            why: a few words, without the credential.
        """
        self.hints.append(why)

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the value's SHA-256, enough to tell two logins apart."""
        if self._fingerprint is None:
            digest = _EMPTY.copy()
            digest.update(self.value.encode(errors="backslashreplace"))
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def __repr__(self) -> str:
        return f"<Credential {self.fingerprint} from {self.source or 'elsewhere'}>"


class Principal(BaseUser):
    """The authenticated user or service: what a verifier returns, and `scope["user"]` by default.

    It is identified by the pair of `issuer` and `identity`: the same identity at two issuers is two
    people, for connection limits, tickets, refreshes and revocations.

    It is Starlette's `BaseUser`, and a plain object whose attributes can be set: Django Channels'
    `AuthMiddleware` sets one.

    Args:
        identity: a user id or a service's name, not empty.
        issuer: the issuer of the credential: a JWT's `iss`. None if there is none, as for an API
            key.
        scopes: a list of what it may do, for Starlette's `@requires` and for `required_scopes`.
        claims: a mapping with all claims of the credential.
        issued_at: Unix time in seconds when the credential was issued; None if that isn't known.
        expires_at: Unix time in seconds when the credential expires; None if it never does.
        token_id: the credential's own id (a JWT's `jti`).
        session_id: the login's id (a JWT's `sid`).
        display_name: a name for people; the identity by default.
        method: how it was authenticated: `jwt`, `introspection`, `api_key`, `internal`, `ticket`,
            `proxy`, `django`, `session` or `token`, or a name that a verifier of your own gives;
            `none` while login is off.
        login_method: how the login behind a ticket was authenticated; None for other methods.

    Raises:
        ConfigurationError: an argument has the wrong type. Scopes may be any strings, because an
            issuer may define them.
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
        # What is right is found so at a glance: each handshake makes one.
        if type(identity) is not str or not identity:
            check_text("identity", identity, "alice")
        if type(method) is not str or not method:
            check_text("method", method, "jwt")
        texts = issuer, token_id, session_id, display_name, login_method
        for text in texts:
            if text is not None and type(text) is not str:
                _check_texts(texts)
        if claims is not None and type(claims) is not dict and not isinstance(claims, Mapping):
            raise ConfigurationError(f"claims must be a dict or None, got {shown(claims)}")
        self._identity = identity
        self._display_name = identity if display_name is None else display_name
        self.issuer = issuer
        self.scopes: tuple[str, ...] = () if scopes == () else _scopes(scopes)
        self.claims: dict[str, Any] = dict(claims or {})
        if type(issued_at) is not float or issued_at != issued_at:  # NaN
            check_time("issued_at", issued_at)
        if type(expires_at) is not float or expires_at != expires_at:
            check_time("expires_at", expires_at)
        self.issued_at = issued_at
        self.expires_at = expires_at
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


def _check_texts(texts: Iterable[object]) -> None:
    for name, text in zip(_TEXTS, texts, strict=True):
        if text is not None and not isinstance(text, str):
            raise ConfigurationError(f"{name} must be a string or None, got {shown(text)}")


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
    """One string for a name (an identity, a token's or a session's id) at an issuer. It is unique
    for each pair. Without an issuer, it is almost always the name itself.
    """
    if issuer is not None:
        return f"[{len(issuer)}]{issuer} {name}"
    return f"[]{name}" if name.startswith("[") else name


_MARK = re.compile(r"\[([0-9]{0,9})\]")


def bare_name(name: str) -> str:
    """The name that `full_name` was given."""
    mark = _MARK.match(name)
    if mark is None:
        return name
    return name[mark.end() + (int(mark[1]) + 1 if mark[1] else 0) :]


def new_secret(prefix: str) -> str:
    """A new credential: one of the prefixes above, and 32 random bytes in base64url."""
    return f"{prefix}{token_urlsafe(32)}"


def decode_base64url(text: str) -> bytes:
    """Decode unpadded base64url (RFC 7515 section 2).

    Raises:
        ValueError: it is padded, uses another alphabet, or isn't the canonical form. The standard
            library ignores unknown characters, or warns.
    """
    over = len(text) % 4
    if not _BASE64URL.fullmatch(text) or (over and text[-1] not in _LAST[over]):
        raise ValueError("not base64url")
    return a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-over % 4))


_BASE64URL = re.compile("[A-Za-z0-9_-]*")
# What may stand last, by the characters that are more than fours: no bit that is left over is set.
_LAST = ("", "", "AQgw", "AEIMQUYcgkosw048")
