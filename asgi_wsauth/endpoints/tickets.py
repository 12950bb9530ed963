"""Hands out tickets to who is logged in."""

from __future__ import annotations

import json
from math import floor

from starlette.requests import Request

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.connection.admission import Admission
from asgi_wsauth.connection.session import Login
from asgi_wsauth.denial import Denied, HTTPAnswer, Reason, json_answer
from asgi_wsauth.endpoints.admitting import AdmittingEndpoint
from asgi_wsauth.endpoints.bodies import Unreadable, read_body
from asgi_wsauth.events import TicketIssued
from asgi_wsauth.options import ConfigurationError, check_bool, check_instance
from asgi_wsauth.scope.addresses import client_host
from asgi_wsauth.verifiers.tickets import Tickets, new_ticket

__all__ = ["TicketEndpoint"]

_MAX_BODY = 4096  # bytes


class TicketEndpoint(AdmittingEndpoint):
    """An ASGI app that issues tickets to clients that are logged in. Mount it at any path of any
    router:

        Route("/ticket", TicketEndpoint(tickets, auth), methods=["POST"])

    It answers `POST` with 201 and `{"ticket": "wst_...", "expires_in": 30, "path": null}`. A JSON
    body `{"path": "/ws/chat"}` asks for a ticket that opens only that path (the app's, without
    `root_path`). The ticket is bound to the origin of the page that asks, if the request names one.

    It decides by itself, or reuses the decision of an `HTTPAuthMiddleware` around it that has the
    same authenticator. A refusal is JSON, as there. A login by cookie needs an `Origin` that the
    authenticator allows, so no other site can ask in its visitor's name. A client that logged in
    with a ticket gets none (`forbidden`). A request that can't be read is `token_malformed`: 400,
    405 for another method, 413 for a body over 4 KB.

    Args:
        tickets: the `Tickets` that issue them.
        authenticator: who decides.
        bind_client: whether a ticket works only from the address that asked for it. That is
            stricter, and refuses clients whose address changes between two connections.

    Raises:
        ConfigurationError: an option can't work.
    """

    methods = ("POST",)
    purpose = "a ticket"

    def __init__(
        self, tickets: Tickets, authenticator: Authenticator, *, bind_client: bool = False
    ) -> None:
        self.tickets = check_instance("tickets", tickets, Tickets, "Tickets(MemoryStore())")
        super().__init__(authenticator)
        verifiers = self.authenticator.verifiers
        if verifiers and all(isinstance(verifier, Tickets) for verifier in verifiers):
            raise ConfigurationError(
                "authenticator must have the verifier of your login, got one that accepts only "
                "tickets, and a ticket buys no ticket"
            )
        self.bind_client = check_bool("bind_client", bind_client)

    async def answer(self, admission: Admission, request: Request) -> HTTPAnswer:
        login = admission.login
        if login.principal.method == "ticket":
            raise Denied(Reason.FORBIDDEN, "a ticket buys no ticket")
        path = _path(await read_body(request, _MAX_BODY))
        ticket, expires_in = await self._ticket(login, request, path)
        answer = json_answer(201, {"ticket": ticket, "expires_in": floor(expires_in), "path": path})
        admission.tell(TicketIssued)
        return answer

    async def _ticket(self, login: Login, request: Request, path: str | None) -> tuple[str, float]:
        """A ticket, and the seconds for which it works."""
        if login.is_anonymous:
            # Nobody logged in, because authentication is off. Sockets look at no ticket then, and
            # this one opens nothing when it is on again.
            return new_ticket(), self.tickets.ttl
        origins = request.headers.getlist("origin")
        if len(origins) > 1:
            raise Denied(Reason.ORIGIN, "two of them")
        try:
            ticket = await self.tickets.mint(
                login.principal,
                path=path,
                origin=origins[0] if origins else None,
                client=(client_host(request.scope) or "") if self.bind_client else None,
            )
        except ValueError as exc:
            raise Unreadable(400, str(exc)) from exc
        lifetime = self.tickets.lifetime(login.principal)
        if lifetime <= 0:
            raise Denied(Reason.EXPIRED, "the login ended while its ticket was stored")
        return ticket, lifetime


def _path(body: bytes) -> str | None:
    """What a body asks for."""
    if not body:
        return None
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable(400, "the body is not JSON") from None
    if not isinstance(asked, dict) or not asked.keys() <= {"path"}:
        raise Unreadable(400, 'the body is not {"path": ...}')
    path = asked.get("path")
    if not isinstance(path, (str, type(None))):
        raise Unreadable(400, "path is not a string")
    return path
