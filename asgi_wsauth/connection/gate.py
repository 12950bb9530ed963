"""What refuses a handshake whatever its credential is worth: `Gate`."""

from __future__ import annotations

from collections.abc import Hashable

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.authenticator import Attempt
from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied
from asgi_wsauth.options import check_instance
from asgi_wsauth.policies.handshake_limit import HandshakeLimit
from asgi_wsauth.policies.limits import ConnectionLimit
from asgi_wsauth.sources.findings import are_ambient
from asgi_wsauth.sources.origins import Origin, check_origin

__all__ = ["Gate"]


class Gate:
    """What each handshake of a middleware passes twice: before its credential is looked at, so that
    a refusal costs next to nothing; and when it is admitted, which is when it takes a place. So
    nobody can fill the house without a login.

    Args:
        limit: how many sockets there may be, or None.
        handshakes: how often a credential may come, or None.

    Attributes:
        is_open: whether it refuses nobody.
        user_limit: the limit, if it counts the sockets of each user.

    Raises:
        ConfigurationError: one of them is none.
    """

    def __init__(self, limit: ConnectionLimit | None, handshakes: HandshakeLimit | None) -> None:
        if limit is not None:
            example = "ConnectionLimit(3, MemoryStore())"
            check_instance("connection_limit", limit, ConnectionLimit, example)
        if handshakes is not None:
            example = 'HandshakeLimit("60/minute")'
            check_instance("handshake_limit", handshakes, HandshakeLimit, example)
        self._total = None if limit is None else limit.in_process
        self._handshakes = handshakes
        self.is_open = self._total is None and handshakes is None
        self.user_limit = None if limit is None or limit.store is None else limit

    def check(self, attempt: Attempt, scope: Scope, allowed: frozenset[Origin] | None) -> None:
        """A handshake has come, or the first message of one.

        Args:
            attempt: what came with it.
            scope: the handshake.
            allowed: whose pages may connect; None for any. What others send doesn't count, so that
                no page can keep its visitors out: it will be refused.

        Raises:
            Denied: there is no room, or they came too often (`Reason.TOO_MANY_CONNECTIONS`).
        """
        if self._total is not None:
            self._total.check()
        if self._handshakes is not None and not _is_foreign(attempt, scope, allowed):
            self._handshakes.count(attempt.presented)

    def enter(self, socket: Hashable, principal: Principal) -> None:
        """Let one through that was admitted; it is to `leave`, in any case.

        Args:
            socket: what it becomes.
            principal: whose it is.

        Raises:
            Denied: as above.
        """
        if self._handshakes is not None:
            self._handshakes.count_login(principal)
        if self._total is not None:
            self._total.take(socket)

    def leave(self, socket: Hashable) -> None:
        """It is over, or was never let through."""
        if self._total is not None:
            self._total.release(socket)


def _is_foreign(attempt: Attempt, scope: Scope, allowed: frozenset[Origin] | None) -> bool:
    try:
        if allowed is not None:
            check_origin(HTTPConnection(scope), allowed, ambient=are_ambient(attempt.findings))
    except Denied:
        return True
    return False
