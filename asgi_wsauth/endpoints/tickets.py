"""Hands out tickets to who is logged in."""

from __future__ import annotations

import json
from math import floor
from typing import Any

import anyio
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.connection.admission import Admission, check_authenticator
from asgi_wsauth.connection.answers import http_answer
from asgi_wsauth.connection.closing import try_send
from asgi_wsauth.connection.session import Login
from asgi_wsauth.denial import Denied, HTTPAnswer, Reason, http_refusal, json_answer
from asgi_wsauth.endpoints.bodies import Unreadable, read_body
from asgi_wsauth.events import TicketIssued
from asgi_wsauth.options import (
    ConfigurationError,
    check_bool,
    check_instance,
)
from asgi_wsauth.scope.addresses import client_host
from asgi_wsauth.verifiers.tickets import Tickets, new_ticket

__all__ = ["TicketEndpoint"]

_MAX_BODY = 4096  # bytes


class TicketEndpoint:
    """An ASGI app that hands out tickets to who is logged in. Mount it at any path of any router:

        Route("/ticket", TicketEndpoint(tickets, auth), methods=["POST"])

    It answers `POST` with 201 and `{"ticket": "wst_...", "expires_in": 30, "path": null}`. A JSON
    body `{"path": "/ws/chat"}` asks for a ticket that opens that path only (the app's, without
    `root_path`). The ticket is bound to the origin of the page that asks, where the request names
    one.

    It decides by itself, or reuses the decision of an `HTTPAuthMiddleware` around it that has the
    same authenticator. A refusal is JSON, as there. A login by cookie needs an `Origin` that the
    authenticator allows, so no other site can ask in its visitor's name. Who logged in with a
    ticket gets none (`forbidden`). A request that can't be read is `token_malformed`: 400, 405 for
    another method, 413 for a body over 4 KB.

    Args:
        tickets: what issues them.
        authenticator: who decides.
        bind_client: whether a ticket works only from the address that asked for it. That is
            stricter, and refuses those whose address changes between two connections.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self, tickets: Tickets, authenticator: Authenticator, *, bind_client: bool = False
    ) -> None:
        self.tickets = check_instance("tickets", tickets, Tickets, "Tickets(MemoryStore())")
        self.authenticator = check_authenticator(authenticator)
        verifiers = self.authenticator.verifiers
        if verifiers and all(isinstance(verifier, Tickets) for verifier in verifiers):
            raise ConfigurationError(
                "authenticator must have the verifier of your login, got one that accepts only "
                "tickets, and a ticket buys no ticket"
            )
        self.bind_client = check_bool("bind_client", bind_client)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            admission = Admission(scope, self.authenticator)
            try:
                admission.take_credential()
                raise Denied(Reason.MALFORMED, "a socket can't ask for a ticket")
            except Denied as denied:
                code = denied.reason.close_code
                admission.tell_refusal(denied, close_code=code)
                await try_send(send, {"type": "websocket.close", "code": code})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        admission = Admission(scope, self.authenticator)
        try:
            answer = await self._issue(admission, receive)
        except Denied as denied:
            answer = self._refusal(admission, denied)
        except Exception as exc:  # claims that no JSON can hold, for example
            answer = self._refusal(admission, Denied.because("the ticket", exc))
        else:
            admission.tell(TicketIssued)
        await try_send(send, *http_answer(answer))

    def _refusal(self, admission: Admission, denied: Denied) -> HTTPAnswer:
        admission.tell_refusal(denied)
        status, headers, body = http_refusal(denied)
        if isinstance(denied, Unreadable):
            status = denied.status
        if status == 405:
            headers.append((b"allow", b"POST"))
        return status, headers, body

    async def _issue(self, admission: Admission, receive: Receive) -> HTTPAnswer:
        request = Request(admission.scope, receive)
        if admission.scope.get("method") != "POST":
            admission.take_credential()
            raise Unreadable(405, "only POST asks for a ticket")
        await admission.admit()
        login = admission.login
        if login.principal.method == "ticket":
            raise Denied(Reason.FORBIDDEN, "a ticket buys no ticket")
        with anyio.move_on_after(self.authenticator.timeout):
            path = _path(await read_body(request, _MAX_BODY))
            ticket, expires_in = await self._ticket(login, request, path)
            return json_answer(
                201, {"ticket": ticket, "expires_in": floor(expires_in), "path": path}
            )
        raise Denied(Reason.UNAVAILABLE, f"no ticket within {self.authenticator.timeout:g} s")

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
