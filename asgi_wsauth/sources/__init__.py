"""Where a credential travels in a handshake.

A source has two methods: `extract` finds the credential, `redact` removes it from the scope. Both
walk the same pieces of the raw bytes, so that whatever one of them finds the other one removes.

A credential counts as it was sent. A value is percent-decoded once, in a query string, and in no
other way changed: nothing is stripped of a NUL, folded to ASCII or decoded twice until it fits.
"""

from __future__ import annotations

from asgi_wsauth.sources.cookie import Cookie
from asgi_wsauth.sources.first_message import FirstMessage
from asgi_wsauth.sources.header import Header
from asgi_wsauth.sources.query_param import QueryParam
from asgi_wsauth.sources.source import Source
from asgi_wsauth.sources.subprotocol import Subprotocol

__all__ = ["Cookie", "FirstMessage", "Header", "QueryParam", "Source", "Subprotocol"]
