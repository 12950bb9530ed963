"""A request header."""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.credential import OWN_KINDS
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.options import TOKEN_CHARACTER, ConfigurationError, shown
from asgi_wsauth.sources.source import check_token, edit_header

__all__ = ["Header"]

_BEARER = re.compile(" *Bearer ", re.IGNORECASE)
# A JWT or a credential of this package's, alone or behind another scheme.
_STRAY = re.compile(rf"(?:\S+ +)?(?:eyJ|{'|'.join(OWN_KINDS)})")


class Header:
    """A request header: `Authorization: Bearer ...`, or the whole of a header like `X-API-Key`.

    Browsers can't set one on a WebSocket; programs can. With a scheme (RFC 9110 section 11.4), its
    case and the number of spaces after it don't matter, and a header without that scheme is ignored
    and stays in the scope; if there is a token in it, the log warns once. A header that is sent
    twice is refused. An empty value counts as none.

    Args:
        name: the header's name; case doesn't matter.
        scheme: the word before the credential, such as `Bearer`; None if the whole value is the
            credential.

    Raises:
        ConfigurationError: the name or the scheme isn't an RFC 9110 token, or the header is
            `Cookie`, for which there is the source `Cookie`.
    """

    def __init__(self, name: str = "authorization", *, scheme: str | None = None) -> None:
        self.name = check_token("Header: name", name, "authorization").lower()
        if self.name == "cookie":
            raise ConfigurationError(
                f"Header: name must be another header, got {shown(name)}, which browsers send "
                'whatever page opens the socket; write Cookie("chat_session"), with that cookie\'s '
                "name, and allowed_origins"
            )
        if scheme is not None:
            check_token("Header: scheme", scheme, "Bearer")
        self.scheme = scheme
        self._key = self.name.encode()
        # Daphne joins repeated headers with a comma: the scheme may stand behind one.
        self._mine = re.compile(
            rf"(?:^|,)[ \t]*{re.escape(scheme)}(?!{TOKEN_CHARACTER})" if scheme else "^",
            re.IGNORECASE,
        )
        self._warned = False

    def extract(self, conn: HTTPConnection, /) -> str | None:
        # Not of `conn.headers`, which costs each handshake more than all else here.
        headers = conn.scope["headers"]
        values = [value.decode("latin-1") for key, value in headers if key == self._key]
        if not values:  # as in most handshakes
            return None
        if not any(map(self._mine.search, values)):
            if not self._warned and _STRAY.match(values[0]):
                self._warned = True
                logger.warning('%s ignores a token that has no "%s" before it', self, self.scheme)
            return None
        if len(values) > 1 or len(self._mine.findall(values[0])) > 1:
            raise Denied(Reason.MALFORMED, f"{self} given more than once")
        start = self._mine.match(values[0])
        if start is None:
            raise Denied(Reason.MALFORMED, f"{self} stands behind another scheme")
        value = values[0][start.end() :]
        if self.scheme is not None and value and value[0] != " ":
            raise Denied(Reason.MALFORMED, f"{self} has no space behind the scheme")
        if self.scheme is None and _BEARER.match(value):
            raise Denied(
                Reason.MALFORMED,
                f'{self} begins with a scheme; write Header({self.name!r}, scheme="Bearer")',
            )
        return value.strip(" ") or None

    def redact(self, scope: Scope, /) -> None:
        edit_header(scope, self._key, self._without_mine)

    def _without_mine(self, value: bytes) -> bytes | None:
        return None if self._mine.search(value.decode("latin-1")) else value

    def __repr__(self) -> str:
        return f"header {self.name}"
