"""ASGI apps to mount beside your own: `TicketEndpoint` and `LogoutEndpoint`."""

from __future__ import annotations

from asgi_wsauth.endpoints.logout import LogoutEndpoint
from asgi_wsauth.endpoints.tickets import TicketEndpoint

__all__ = ["LogoutEndpoint", "TicketEndpoint"]
