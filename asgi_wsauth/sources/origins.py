"""From where a browser says that a request comes: `Origin` (RFC 6454) and Fetch Metadata (W3C).

An origin is the triple of scheme, host and port. Scheme and host are compared without case and a
missing port is the scheme's own; nothing else is forgiven: `null`, a path, a user name, a trailing
dot or anything that no browser serialises (RFC 6454 section 6.2) is no origin.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from starlette.requests import HTTPConnection

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import ConfigurationError, check_list, shown

__all__ = [
    "HostWatch",
    "Origin",
    "check_origin",
    "check_origins",
    "comes_from_elsewhere",
    "origin_of",
    "parse_origin",
]

Origin = tuple[str, str, int | None]
"""Scheme, host and port; the port is None where the scheme has no default and none was given."""

_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9_~-]+(?:\.[a-z0-9_~-]+)*)(?::([1-9][0-9]{0,4}))?",
    re.IGNORECASE | re.ASCII,
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(scope: Any) -> str | None:
    """The `Origin` header of a connection as it was sent, the first one; None without one."""
    try:
        for name, value in scope.get("headers") or ():
            if name == b"origin":
                return str(value, "latin-1")
    except (TypeError, ValueError):  # headers that no server should build
        pass
    return None


def parse_origin(value: str) -> Origin | None:
    """The origin that `value`, an `Origin` header, names; None where it names none."""
    match = _ORIGIN.fullmatch(value)
    if match is None or int(match[3] or 0) > 65535:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    return scheme, host, int(port) if port else _DEFAULT_PORTS.get(scheme)


def check_origins(allowed_origins: Iterable[str] | None) -> frozenset[Origin] | None:
    """The configured origins, parsed. None, for any origin, stays None.

    Raises:
        ConfigurationError: one of them is no exact origin.
    """
    if allowed_origins is None:
        return None
    origins = set()
    for value in check_list("allowed_origins", allowed_origins):
        origin = parse_origin(value) if isinstance(value, str) else None
        if origin is None:
            raise ConfigurationError(
                "allowed_origins must be a list of exact origins, for example "
                '["https://chat.example", "http://localhost:3000"], without path, wildcard or '
                f"trailing slash, got {shown(value)} in it"
            )
        origins.add(origin)
    return frozenset(origins)


def check_origin(conn: HTTPConnection, allowed: Collection[Origin], *, ambient: bool) -> None:
    """Refuse what a page of another origin asks for, as far as browsers tell.

    They send no `Origin` with a navigation, or with a page's GET to its own origin, and programs
    send none at all. No page can set or leave out what browsers say in `Sec-Fetch-*`.

    Args:
        conn: the connection.
        allowed: the origins whose pages may ask.
        ambient: whether the credential is one that browsers send whoever's page they show.

    Raises:
        Denied: with `Reason.ORIGIN`.
    """
    origins = conn.headers.getlist("origin")
    if origins:
        if len(origins) > 1 or parse_origin(origins[0]) not in allowed:
            raise Denied(Reason.ORIGIN, "not among allowed_origins")
        return
    sites = conn.headers.getlist("sec-fetch-site")
    if _reads(conn) and (sites in (["same-origin"], ["none"]) or _fills_the_window(conn, sites)):
        return
    if ambient:
        raise Denied(Reason.ORIGIN, "a cookie without an Origin")
    if any("cross-site" in site for site in sites):
        raise Denied(Reason.ORIGIN, "a page of another site asks, without an Origin")


def _reads(conn: HTTPConnection) -> bool:
    return conn.scope["type"] == "http" and conn.scope.get("method") in ("GET", "HEAD")


def _fills_the_window(conn: HTTPConnection, sites: list[str]) -> bool:
    """Whether a navigation, such as a click on a link, shows the answer to the visitor, and to no
    page but itself. What is fetched in case he might click is none yet."""
    says = conn.headers.getlist
    return (
        len(sites) == 1
        and says("sec-fetch-mode") == ["navigate"]
        and says("sec-fetch-dest") == ["document"]
        and not says("sec-purpose")
    )


def comes_from_elsewhere(
    conn: HTTPConnection, allowed_origins: frozenset[Origin] | None = None
) -> bool:
    """Whether a browser says that another site's page has it send this.

    It says so by `Sec-Fetch-Site`, which no page can set (W3C Fetch Metadata, section 2.4), and by
    an `Origin` that is not the host it sends to. None of `allowed_origins` is elsewhere.
    """
    origins = conn.headers.getlist("origin")
    if len(origins) == 1 and allowed_origins is not None:
        return parse_origin(origins[0]) not in allowed_origins
    sites = conn.headers.getlist("sec-fetch-site")
    if sites:
        return not {*sites} <= {"same-origin", "none"}
    return any(not _is_at(origin, conn.headers.get("host", "")) for origin in origins)


_SUSPICIOUS = 10  # pages in a row


class HostWatch:
    """Notices where no page's origin is ever the host that it sends to, as behind a proxy that
    changes `Host`: there, a page of one's own is taken for another site's."""

    def __init__(self) -> None:
        self._strangers = 0

    def notices(self, conn: HTTPConnection, *, elsewhere: bool) -> bool:
        """Told of each request, and what `comes_from_elsewhere` said of it; true once at most.
        Where browsers say `Sec-Fetch-Site`, the host doesn't matter."""
        if self._strangers == _SUSPICIOUS:
            return False
        if "origin" in conn.headers and "sec-fetch-site" not in conn.headers:
            self._strangers = self._strangers + 1 if elsewhere else _SUSPICIOUS
        return elsewhere and self._strangers == _SUSPICIOUS


def _is_at(origin: str, host: str) -> bool:
    """Whether an origin is that of a host, by whatever scheme: a proxy may have taken TLS off."""
    parsed = parse_origin(origin)
    return parsed is not None and parsed == parse_origin(f"{parsed[0]}://{host}")
