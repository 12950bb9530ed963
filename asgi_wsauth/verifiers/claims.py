"""What the claims of a token prove, wherever they come from (RFC 7519 section 4.1, RFC 7662 section
2.2). A claim that is null is absent. Nothing here raises anything but `Denied`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from asgi_wsauth.credential import Principal, decode_base64url, has_expired
from asgi_wsauth.denial import Denied, Reason

__all__ = [
    "audience_fault",
    "cut",
    "is_no_login",
    "json_object",
    "media_type",
    "principal_of",
    "read_time",
]

_LATEST = 253402300799  # 9999-12-31T23:59:59Z: what is later is milliseconds, or mischief


def principal_of(
    claims: dict[str, Any],
    *,
    now: float,
    early: float,
    late: float,
    scopes_claim: str,
    method: str,
) -> Principal:
    """The principal that these claims speak of.

    Args:
        claims: from a token whose signature is good, or from who issued it.
        now: Unix time in seconds.
        early: seconds by which it may come before its `iat` and `nbf`, because clocks differ.
        late: seconds by which it may come after its `exp`.
        scopes_claim: the claim with the scopes.
        method: how the claims were proved.

    Raises:
        Denied: a claim is of the wrong kind, it is not valid yet, or tells of events
            (`Reason.INVALID`); or it is good in every other way, and expired (`Reason.EXPIRED`).
    """
    if claims.get("events") is not None:  # RFC 8417 section 2.2: it is a Security Event Token
        raise Denied(Reason.INVALID, "it is a Security Event Token, not a login")
    issued_at = read_time(claims, "iat")
    for start in (issued_at, read_time(claims, "nbf")):
        if start is not None and start > now + early:
            raise Denied(Reason.INVALID, "it is not valid yet")
    expires_at = read_time(claims, "exp")
    if expires_at is not None:
        expires_at += late
    identity, session_id = _text(claims, "sub"), _text(claims, "sid")
    token_id, issuer = _text(claims, "jti"), claims.get("iss")
    scopes = _scopes(claims, scopes_claim)
    if not identity:
        raise Denied(Reason.INVALID, "it has no sub")
    if expires_at is not None and has_expired(expires_at, now):
        raise Denied(Reason.EXPIRED, f"since {now - expires_at:.0f} s")
    return Principal(
        identity,
        issuer=issuer if isinstance(issuer, str) else None,
        scopes=scopes,
        claims=claims,
        issued_at=issued_at,
        expires_at=expires_at,
        token_id=token_id,
        session_id=session_id,
        method=method,
    )


def json_object(segment: str) -> dict[str, Any] | None:
    """What a segment of a JWT says (RFC 7515 section 2); None where it is not JSON object."""
    try:
        value = json.loads(decode_base64url(segment))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


_NO_LOGINS = frozenset({"logout+jwt", "secevent+jwt", "dpop+jwt"})


def media_type(typ: object) -> str:
    """A header's `typ` without the prefix that may be left out (RFC 7515 section 4.1.9); "" if it
    is none."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""


def is_no_login(typ: object) -> bool:
    """Whether the `typ` of a token's header says that it is another thing than a login: the same
    keys sign them (RFC 8725 section 3.11)."""
    return media_type(typ) in _NO_LOGINS


def audience_fault(claims: Mapping[str, Any], audience: Sequence[str] | None) -> str | None:
    """Why a token's `aud` does not do (RFC 7519 section 4.1.3); None where it does. One that names
    nobody is absent: there are issuers that always send a list.

    Args:
        claims: those of the token.
        audience: one of these must be in it; None for no audience at all.
    """
    aud = claims.get("aud")
    named = [aud] if isinstance(aud, str) else aud
    if not aud:
        return (
            None if audience is None else f"it has no aud, and audience= asks for {cut(audience)}"
        )
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        return "its aud is neither a string nor a list of strings"
    if audience is None:
        return f"its aud is {cut(aud)}, but no audience= is set"
    if not set(named) & set(audience):
        return f"its aud is {cut(aud)}, and audience= asks for {cut(audience)}"
    return None


def cut(value: object) -> str:
    """What a stranger sent, as a log can show it: short, and on one line. Of what is in a list, it
    shows texts and numbers; it never goes deeper, because that may be nested as deep as JSON can
    be read."""
    if isinstance(value, (list, tuple)):
        more = ", ..." if len(value) > 3 else ""
        return ", ".join(map(_cut_one, value[:3])) + more
    return _cut_one(value)


def _cut_one(value: object) -> str:
    if value is not None and not isinstance(value, (str, int, float)):
        return f"a {type(value).__qualname__}"
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def read_time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2): a JSON number, and nothing that Python reads as one."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LATEST:
        return float(value)
    raise Denied(Reason.INVALID, f"its {name} is not a time in seconds")


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is None or isinstance(value, str):
        return value
    raise Denied(Reason.INVALID, f"its {name} is not a string")


def _scopes(claims: Mapping[str, Any], name: str) -> Sequence[str]:
    value = claims.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return value
    raise Denied(Reason.INVALID, f"its {name} is neither a string nor a list of strings")
