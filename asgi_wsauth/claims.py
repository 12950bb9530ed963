"""What the claims of a token prove, wherever they come from (RFC 7519 section 4.1, RFC 7662 section
2.2). A claim that is null is absent. Nothing here raises anything but `Denied`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied, Reason

__all__ = ["principal_of"]

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
        Denied: a claim is of the wrong kind, or it is not valid yet (`Reason.INVALID`); or it is
            good in every other way, and expired (`Reason.EXPIRED`).
    """
    issued_at = _seconds(claims, "iat")
    for start in (issued_at, _seconds(claims, "nbf")):
        if start is not None and start > now + early:
            raise Denied(Reason.INVALID, "it is not valid yet")
    expires_at = _seconds(claims, "exp")
    if expires_at is not None:
        expires_at += late
    identity, session_id = _text(claims, "sub"), _text(claims, "sid")
    token_id, issuer = _text(claims, "jti"), claims.get("iss")
    scopes = _scopes(claims, scopes_claim)
    if not identity:
        raise Denied(Reason.INVALID, "it has no sub")
    if expires_at is not None and expires_at <= now:
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


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2): a JSON number, and nothing that Python reads as one."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LATEST:
        return float(value)
    raise Denied(Reason.INVALID, f"its {name} is no time in seconds")


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is None or isinstance(value, str):
        return value
    raise Denied(Reason.INVALID, f"its {name} is no string")


def _scopes(claims: Mapping[str, Any], name: str) -> Sequence[str]:
    value = claims.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return value
    raise Denied(Reason.INVALID, f"its {name} is neither a string nor a list of them")
