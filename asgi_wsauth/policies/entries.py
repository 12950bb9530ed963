"""An open socket as it is listed, `SessionEntry`, and how a store keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["SessionEntry", "read", "written"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEntry:
    """One open socket, as `Sessions` lists it. It contains no credential.

    Attributes:
        id: its `Session.id`.
        since: Unix time in seconds when it was opened.
        refreshed_at: Unix time in seconds of the last refresh, or None.
        client: the peer's address, or None if the server knows none.
        path: the path at which it was opened, decoded, without its query.
        method: how the user was authenticated, for example `jwt`.
        fingerprint: the first 16 hex digits of the SHA-256 of the credential that is in force.
        user_agent: the first 200 characters of the `User-Agent` header, if `Sessions` was told to
            keep it and there was one.
        issuer: as in `Principal.issuer`. `list` without an issuer finds all users of one name; this
            tells them apart.
    """

    id: str
    since: float
    refreshed_at: float | None
    client: str | None
    path: str
    method: str
    fingerprint: str | None
    user_agent: str | None
    issuer: str | None = None


# What is kept of an entry, in this order: a list, because names would make it twice as long.
_KEPT = "issuer since refreshed_at client path method fingerprint user_agent".split()


def written(entry: SessionEntry) -> str:
    """What is kept of it, which is all but its id."""
    return json.dumps([getattr(entry, name) for name in _KEPT], separators=(",", ":"))


def read(id: str, kept: str) -> SessionEntry:
    """The entry of which that was kept. Another version may have written more."""
    return SessionEntry(id=id, **dict(zip(_KEPT, json.loads(kept), strict=False)))
