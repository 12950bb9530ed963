"""By what a principal can be revoked or blocked, and whether it was."""

from __future__ import annotations

import math
from collections.abc import Sequence

from asgi_wsauth.credential import Principal, full_name
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.stores.protocols import Subject

__all__ = ["EVERYBODY", "Undated", "all_subjects_of", "check_found", "check_revoked", "subjects_of"]

EVERYBODY: Subject = ("everybody", "")
"""All there are."""


def all_subjects_of(principal: Principal) -> list[Subject]:
    """All that a store is asked about before a principal is admitted: `subjects_of` it, whether
    everybody was revoked, and whether it is blocked, at every issuer or at its own."""
    subjects = subjects_of(principal)
    subjects.append(EVERYBODY)
    subjects.append(("blocked", full_name(principal.identity, None)))
    if principal.issuer is not None:
        subjects.append(("blocked", full_name(principal.identity, principal.issuer)))
    return subjects


def check_found(
    principal: Principal,
    found: Sequence[float | None],
    now: float,
    max_token_age: float = math.inf,
) -> None:
    """Refuse a principal by what the store said of each of `all_subjects_of` it.

    Args:
        principal: who it is.
        found: for each subject, until when it is revoked, or blocked.
        now: Unix time in seconds.
        max_token_age: seconds for which a credential may be valid at most, from its issue on.

    Raises:
        Denied: with `Reason.REVOKED`.
    """
    more = 2 if principal.issuer is None else 3
    check_revoked(principal, found[:-more], max_token_age)
    everybody, *blocked = found[-more:]
    if everybody is not None and not _is_newer(principal, everybody, max_token_age):
        raise _revoked(principal, "everybody was revoked")
    if any(until is not None and until > now for until in blocked):
        raise Denied(Reason.REVOKED, "the user is blocked")


def subjects_of(principal: Principal) -> list[Subject]:
    """All by which a principal can be revoked: each of its names, as it is at every issuer, and at
    its own."""
    named = _named(principal)
    subjects: list[Subject] = []
    # Without a call for each of them: every handshake does this twice.
    for kind, name in named:
        subjects.append((kind, name if name[:1] != "[" else full_name(name, None)))
    if principal.issuer is not None:
        at_issuer = full_name("", principal.issuer)
        for kind, name in named:
            subjects.append((kind, at_issuer + name))
    return subjects


def _named(principal: Principal) -> list[Subject]:
    named: list[Subject] = [("user", principal.identity)]
    if principal.token_id is not None:
        named.append(("token", principal.token_id))
    if principal.session_id is not None:
        named.append(("session", principal.session_id))
    return named


def check_revoked(
    principal: Principal, revoked: Sequence[float | None], max_token_age: float = math.inf
) -> None:
    """Refuse a principal by what the store said of each of `subjects_of` it.

    Args:
        principal: who it is.
        revoked: for each subject, until when it is revoked.
        max_token_age: seconds for which a credential may be valid at most, from its issue on.

    Raises:
        Denied: with `Reason.REVOKED`.
    """
    named = _named(principal)
    asked = named if principal.issuer is None else named + named
    if len(revoked) == len(asked) == revoked.count(None):
        return
    for (kind, _), until in zip(asked, revoked, strict=True):
        if until is None:
            continue
        if kind != "user":
            raise Denied(Reason.REVOKED, f"the {kind} was revoked")
        if not _is_newer(principal, until, max_token_age):
            raise _revoked(principal, "the user was revoked")


def _is_newer(principal: Principal, until: float, max_token_age: float) -> bool:
    """Whether a credential was issued after that moment, for sure."""
    if principal.issued_at is not None:
        return principal.issued_at > until
    # As seen from its end. `expires_at` is later than a token's `exp` by the verifier's leeway.
    told = (principal.expires_at, principal.claims.get("exp"))
    ends = [end for end in told if isinstance(end, (int, float)) and not isinstance(end, bool)]
    return bool(ends) and all(until + max_token_age < end < math.inf for end in ends)


class Undated(Denied):
    """It may be older than its user's revocation, because it doesn't say when it was issued."""


def _revoked(principal: Principal, detail: str) -> Denied:
    kind = Denied if principal.issued_at is not None else Undated
    return kind(Reason.REVOKED, detail)
