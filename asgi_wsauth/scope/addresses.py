"""The peer's address, as servers and proxies write it.

`scope["client"]` is what a server says, and behind a proxy what that said: an address with a port
or in brackets, `unknown`, or a name that RFC 7239 section 6.3 allows (`_hidden`). A port is no part
of an address. What can't be read is an address all the same: somebody's, and not this machine's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, TypeAlias

from starlette.datastructures import Headers

__all__ = [
    "UNREADABLE",
    "Address",
    "client_host",
    "comparable_host",
    "forwarded_for",
    "parse_address",
    "share_of",
]

Address: TypeAlias = IPv4Address | IPv6Address

UNREADABLE = "unreadable"
"""The share of all whose address can't be read."""

# RFC 7239 section 6: the port is digits, or an obfuscated one; an IPv6 address has brackets then.
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::[\w.-]*)?", re.ASCII)


def client_host(scope: Any) -> str | None:
    """The host of `scope["client"]`; None for a peer that has no address (a Unix socket, or
    Starlette's and Litestar's test clients)."""
    try:
        client = scope.get("client")
        host = client[0] if client else None
    except (TypeError, LookupError):  # one that no server should build
        return UNREADABLE
    if not host or (host == "testclient" and _is_test(scope)):
        return None
    return host if isinstance(host, str) else UNREADABLE


def _is_test(scope: Any) -> bool:
    """Whether Starlette's or Litestar's test client built this scope. A server that believes
    `X-Forwarded-For` can be made to say "testclient" too. But it serves at an address, where those
    name a host (`testserver`), and nobody has forwarded what they send."""
    server, headers = scope.get("server"), scope.get("headers")
    return (
        tuple(scope["client"][1:]) == (50000,)
        and isinstance(server, (list, tuple))
        and len(server) == 2
        and isinstance(server[1], int)
        and isinstance(server[0], str)
        and parse_address(server[0]) is None
        and isinstance(headers, list)
        and not forwarded_for(Headers(raw=headers))
    )


def parse_address(host: str) -> Address | None:
    """The address in `host`, without brackets, port and zone; None where none can be read."""
    match = _WITH_PORT.fullmatch(host.strip())
    text = (match[1] or match[2] or "") if match else host.strip()
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(4_096)  # it is asked twice for each credential that a throttle looks after
def share_of(host: str | None) -> str | None:
    """What stands for everybody behind one address, where each is to have his share of something:
    an IPv4 address; the first 64 bits of an IPv6 one, because whoever has one has all of those (RFC
    6177); `UNREADABLE`; or None for a peer without an address.

    Args:
        host: what `client_host` returned.
    """
    if not host:
        return None
    address = parse_address(host)
    if address is None:
        return UNREADABLE
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


def comparable_host(host: str | None) -> str:
    """What two hosts have in common that are one address, however it is written: "" where there is
    none. Of what can't be read it is the text."""
    if not host:
        return ""
    return str(parse_address(host) or host.strip())


_LISTS = "x-forwarded-for", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"
_FOR = re.compile(r'(?:^|;)\s*for="?([^";]*)"?\s*(?:;|$)', re.IGNORECASE)


def forwarded_for(headers: Headers) -> list[Address | None]:
    """For whom proxies say that they have forwarded a request; None for what can't be read. Empty
    where no header speaks of a proxy (RFC 7239 section 4, and those that were there before it).

    Anybody can send such a header: it is good for a doubt, never for trust.
    """
    hosts: list[str] = []
    for name in _LISTS:
        for value in headers.getlist(name):
            hosts += value.split(",")
    for value in headers.getlist("forwarded"):
        for hop in value.split(","):
            named = _FOR.search(hop)
            hosts.append(named[1] if named else "")
    return [parse_address(host) for host in hosts]
