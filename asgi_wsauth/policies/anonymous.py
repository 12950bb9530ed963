"""Access while login is switched off."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from copy import copy
from typing import TypeAlias

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.options import (
    ConfigurationError,
    check_callable,
    check_instance,
    check_list,
    shown,
)
from asgi_wsauth.scope.addresses import Address, client_host, forwarded_for, parse_address

__all__ = ["AnonymousAccess", "check_required"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class AnonymousAccess:
    """Admits every peer in the given networks as one anonymous principal, and warns about it.

    Args:
        principal: the principal that everybody gets.
        networks: the networks that may connect, in CIDR notation.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(self, principal: Principal, networks: Iterable[str]) -> None:
        self.principal = check_instance("anonymous", principal, Principal, 'Principal("local")')
        self.networks = _networks(networks)
        self._warned = self._warned_of_sockets = False

    def admit(self, conn: HTTPConnection) -> Principal:
        """The anonymous principal: a copy, because an app may set attributes of its user.

        Raises:
            Denied: with `Reason.FORBIDDEN`; the peer, or somebody it forwards for, is elsewhere.
        """
        host = client_host(conn.scope)
        addresses = forwarded_for(conn.headers)
        why = ""
        if host is not None and not self._is_near(parse_address(host)):
            why = f"{host} is outside no_auth_networks"
        elif host is None and addresses:
            why = "this was forwarded by a peer that has no address"
        elif not all(map(self._is_near, addresses)):
            why = f"{host} forwarded this for somebody outside no_auth_networks"
        if why:
            raise Denied(Reason.FORBIDDEN, f"authentication is off, and {why}")
        self._warn(host)
        return copy(self.principal)

    def warn_again(self) -> None:
        """Warn the next time, because login was on in between."""
        self._warned = False

    def _is_near(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)

    def _warn(self, host: str | None) -> None:
        identity = self.principal.identity
        if host is None and self.networks and not self._warned_of_sockets:
            self._warned_of_sockets = True
            logger.warning(
                "authentication is off: every client without an address is %r, for example over a "
                "Unix socket",
                identity,
            )
        if not self._warned:
            self._warned = True
            networks = ", ".join(map(str, self.networks)) or "a local socket"
            logger.warning("authentication is off: everybody from %s is %r", networks, identity)


def check_required(required: bool | Callable[[], bool]) -> None:
    """Check the option that switches login on and off.

    Raises:
        ConfigurationError: it is neither a bool nor a function that returns one.
    """
    if isinstance(required, bool):
        return
    example = "it is called at every handshake and must return True or False"
    check_callable("required", required, takes=0, is_async=False, example=example)
    try:
        answer = required()
    except Exception:  # what it reads may not be there yet; each handshake asks again
        return
    if not isinstance(answer, bool):
        raise ConfigurationError(
            f"required must be True, False, or a function that returns one of them, got one that "
            f"returns {shown(answer)}"
        )


def _networks(networks: Iterable[str]) -> tuple[Network, ...]:
    found = []
    for network in check_list("no_auth_networks", networks):
        try:
            if not isinstance(network, (str, ipaddress.IPv4Network, ipaddress.IPv6Network)):
                raise ValueError("it is not a string")
            found.append(ipaddress.ip_network(network))
        except ValueError as exc:
            raise ConfigurationError(
                'no_auth_networks must be a list of networks, for example ["10.0.0.0/8"], got '
                f"{shown(network)} in it: {exc}"
            ) from None
    return tuple(found)
