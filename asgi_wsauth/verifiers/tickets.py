"""Tickets: what a page, which can set no header on a WebSocket, asks for over HTTP, where it is
logged in, and opens the socket with. A ticket works once, for a short time, and so may travel in
the address (OWASP WebSocket Security Cheat Sheet, "Token-based authentication").
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import TICKET, Credential, Principal, full_name, has_expired, new_secret
from asgi_wsauth.denial import Denied, FailsClosed, Reason
from asgi_wsauth.options import check_clock, check_count, check_seconds, check_store, shown
from asgi_wsauth.scope.addresses import client_host, comparable_host
from asgi_wsauth.scope.paths import route_paths
from asgi_wsauth.sources.origins import parse_origin
from asgi_wsauth.stores.protocols import TicketMemory, TicketStore

__all__ = ["Tickets", "new_ticket"]

_TICKET = re.compile(rf"{TICKET}[A-Za-z0-9_-]{{43}}")


class Tickets:
    """Issues tickets, and is the verifier that takes them.

    A ticket carries what the login behind it proved: identity and issuer, claims, scopes, and the
    moment when that login ends, which is the socket's `expires_at`. Its principal's `method` is
    `ticket`, and its `login_method` is how that login was proved, for example `jwt`. The store gets
    only the SHA-256 of a ticket.

    A ticket that was used, came too late, or had to go for newer ones is EXPIRED, so that its page
    asks for another. Once it is twice as old as it could become, it is INVALID, like one that was
    never issued. One that comes from another path, origin or address than it was issued for is
    INVALID, and used up.

    Args:
        store: where tickets are kept until they are used: `MemoryStore()`, or one that several
            processes share. In a store without the method of `TicketMemory`, a used ticket looks
            like one that was never issued.
        ttl: seconds for which a ticket works. Raise it if clients need longer from the ticket to
            the socket.
        max_pending_per_user: how many unused tickets a user may have; the oldest are dropped. Tabs
            that wake up together each ask for one.
        clock: a function that returns Unix time in seconds, for tests.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        store: TicketStore,
        *,
        ttl: float = 30.0,
        max_pending_per_user: int = 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_store("Tickets: store", store, "put_ticket", "take_ticket")
        self.ttl = check_seconds("Tickets: ttl", ttl, most=86_399)
        self._store = store
        self._memory = store if isinstance(store, TicketMemory) else None
        self._limit = check_count("Tickets: max_pending_per_user", max_pending_per_user)
        self._clock = check_clock("Tickets: clock", clock)

    def lifetime(self, principal: Principal) -> float:
        """Seconds for which a ticket for `principal` works: `ttl`, or what is left of its login."""
        if principal.expires_at is None:
            return self.ttl
        return min(self.ttl, principal.expires_at - self._clock())

    async def mint(
        self,
        principal: Principal,
        path: str | None = None,
        origin: str | None = None,
        client: str | None = None,
    ) -> str:
        """A new ticket for `principal`.

        Args:
            principal: the principal whom the ticket lets in: `scope["wsauth"].principal`, for
                example. What a subclass of `Principal` adds is not carried on.
            path: the only path that it opens, decoded, as the app behind the middleware routes by
                it, without `root_path`; None for any. Such a ticket opens nothing below a root that
                Daphne reports, because a client may have chosen it.
            origin: the only origin whose pages may use it; None for any.
            client: the only client address that may use it, "" for an unknown one; None for any. A
                browser may come by IPv4 for a request and by IPv6 for a socket.

        Raises:
            Denied: the login has ended (`Reason.EXPIRED`), or the store fails
                (`Reason.UNAVAILABLE`).
            ValueError: a path, an origin or a client that no handshake could have.
            TypeError: this is no `Principal`, or JSON can't hold its claims.
        """
        if not isinstance(principal, Principal):
            raise TypeError(f"principal must be a Principal, got {shown(principal)}")
        _check_bounds(path, origin, client)
        lifetime = self.lifetime(principal)
        if lifetime <= 0:
            raise Denied(Reason.EXPIRED, "the login behind the ticket has ended")
        record = _record(
            until=self._clock() + lifetime,
            path=path,
            origin=origin,
            client=None if client is None else comparable_host(client),
            principal={
                "identity": principal.identity,
                "issuer": principal.issuer,
                "display_name": principal.display_name,
                "scopes": principal.scopes,
                "claims": principal.claims,
                "issued_at": principal.issued_at,
                "expires_at": principal.expires_at,
                "token_id": principal.token_id,
                "session_id": principal.session_id,
                "login_method": principal.login_method or principal.method,
            },
        )
        ticket = new_ticket()
        with FailsClosed(self._store):
            # Kept for twice its time, so that a late one can be told from one that never was.
            await self._store.put_ticket(
                _digest(ticket),
                record,
                owner=full_name(principal.identity, principal.issuer),
                limit=self._limit,
                ttl=2 * lifetime,
            )
        return ticket

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        if not credential.value.startswith(TICKET):
            return None
        if not _TICKET.fullmatch(credential.value):
            raise Denied(Reason.INVALID, "this is not a ticket")
        digest = _digest(credential.value)
        with FailsClosed(self._store):
            record = await self._store.take_ticket(digest)
            known = record is None and self._memory and await self._memory.had_ticket(digest)
        if known:
            raise Denied(
                Reason.EXPIRED, "the ticket was already used, or was dropped for newer ones"
            )
        if record is None:
            detail = f"the ticket is unknown in {self._store!r}; who issued it needs the same store"
            raise Denied(Reason.INVALID, detail)
        ticket = json.loads(record)
        if has_expired(ticket["until"], self._clock()):
            raise Denied(Reason.EXPIRED, "the ticket came too late")
        _check_binding(ticket, conn)
        return Principal(**ticket["principal"], method="ticket")

    def __repr__(self) -> str:
        return f"<Tickets in {self._store!r}>"


def _check_bounds(path: object, origin: object, client: object) -> None:
    for option, text in (("path", path), ("origin", origin), ("client", client)):
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{option} must be a string or None, got {shown(text)}")
    if isinstance(path, str) and not re.fullmatch(r"/[^?#]*", path):
        raise ValueError(f'path must be a path, for example "/ws/chat", got {shown(path)}')
    if isinstance(origin, str) and origin != "null" and parse_origin(origin) is None:
        raise ValueError(
            f'origin must be an origin, for example "https://chat.example", got {shown(origin)}'
        )


def new_ticket() -> str:
    """A ticket that nobody has issued yet: `wst_` and 32 random bytes in base64url."""
    return new_secret(TICKET)


def _digest(ticket: str) -> str:
    return sha256(ticket.encode()).hexdigest()


def _record(**parts: Any) -> str:
    try:
        return json.dumps(parts)
    except (ValueError, RecursionError) as exc:  # a circle, or hundreds of levels
        raise TypeError(f"mint: JSON can't hold the claims: {exc}") from exc


def _check_binding(ticket: dict[str, Any], conn: HTTPConnection) -> None:
    path, origin, client = ticket["path"], ticket["origin"], ticket["client"]
    if path is not None and {path} != set(route_paths(conn.scope)):
        raise Denied(Reason.INVALID, "the ticket is for another path")
    origins = [_comparable(value) for value in conn.headers.getlist("origin")]
    if origin is not None and origins != [_comparable(origin)]:
        raise Denied(Reason.INVALID, "the ticket is for another origin")
    if client is not None and client != comparable_host(client_host(conn.scope)):
        raise Denied(Reason.INVALID, "the ticket is for another client address")


def _comparable(origin: str) -> object:
    return parse_origin(origin) or origin
