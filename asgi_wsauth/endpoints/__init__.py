"""ASGI apps to mount beside your own: `TicketEndpoint`, `LogoutEndpoint` and `SessionsEndpoint`."""

from __future__ import annotations

from asgi_wsauth.endpoints.logout import LogoutEndpoint
from asgi_wsauth.endpoints.sessions import SessionsEndpoint
from asgi_wsauth.endpoints.tickets import TicketEndpoint

__all__ = ["LogoutEndpoint", "SessionsEndpoint", "TicketEndpoint"]
