"""Security Event Tokens (RFC 8417), of which OpenID Connect's logout tokens are some. They are
signed as logins are, and are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgi_wsauth.credential import has_expired
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.verifiers.claims import read_time

__all__ = ["check_event"]


def check_event(claims: Mapping[str, Any], *, now: float, leeway: float, max_age: float) -> None:
    """Check what each Security Event Token must have (RFC 8417 section 2.2), and its times.

    Args:
        claims: from a token whose signature is good.
        now: Unix time in seconds.
        leeway: seconds by which clocks may differ.
        max_age: seconds for which it counts, from its issue on.

    Raises:
        Denied: it lacks something, or is not valid yet (`Reason.INVALID`); or it came too late
            (`Reason.EXPIRED`).
    """
    events = claims.get("events")
    if not isinstance(events, dict) or not events:
        raise Denied(Reason.INVALID, "it tells of no events")
    for name in ("iss", "jti"):
        value = claims.get(name)
        if not isinstance(value, str) or not value:
            raise Denied(Reason.INVALID, f"it has no {name}")
    issued_at = read_time(claims, "iat")
    if issued_at is None:
        raise Denied(Reason.INVALID, "it has no iat")
    if max(issued_at, read_time(claims, "nbf") or issued_at) > now + leeway:
        raise Denied(Reason.INVALID, "it is not valid yet")
    expires_at = read_time(claims, "exp")
    ends_at = issued_at + max_age if expires_at is None else min(expires_at, issued_at + max_age)
    if has_expired(ends_at + leeway, now):
        raise Denied(Reason.EXPIRED, f"since {now - ends_at - leeway:.0f} s")
