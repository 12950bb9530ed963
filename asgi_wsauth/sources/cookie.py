"""A cookie."""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.sources.source import check_token, edit_header

__all__ = ["Cookie"]


class Cookie:
    """A cookie. Browsers send it by themselves, so with one you must also set `allowed_origins`:
    otherwise any site could open a socket in its visitor's name (cross-site WebSocket hijacking,
    OWASP WebSocket Security Cheat Sheet).

    A cookie counts only if no credential was sent explicitly. One that is sent twice is refused: a
    subdomain may have planted the second one. Double quotes around it are taken off (RFC 6265
    section 4.1.1), nothing else is decoded. An empty value counts as none.

    Args:
        name: the cookie's name, case-sensitive; for example `login`. `session` is the name that
            Starlette's `SessionMiddleware` uses, which NiceGUI adds by itself.

    Raises:
        ConfigurationError: the name isn't an RFC 9110 token.
    """

    def __init__(self, name: str) -> None:
        self.name = check_token("Cookie: name", name, "chat_session")
        # Daphne joins repeated Cookie headers with a comma, which no cookie's value may contain.
        # \s, because frameworks strip more than spaces from a cookie's name.
        self._mine = re.compile(rf"(?:^|,)\s*{re.escape(name)}\s*=")

    def extract(self, conn: HTTPConnection, /) -> str | None:
        found = [
            piece
            for header in conn.headers.getlist("cookie")
            for piece in header.split(";")
            if self._mine.search(piece)
        ]
        if not found:
            return None
        if len(found) > 1 or "," in found[0]:
            raise Denied(Reason.MALFORMED, f"{self} given more than once, or with a comma in it")
        value = found[0].partition("=")[2].strip(" \t")
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        return value or None

    def redact(self, scope: Scope, /) -> None:
        edit_header(scope, b"cookie", self._without_mine)
        if isinstance(parsed := scope.get("cookies"), dict):  # by Channels, further out
            parsed.pop(self.name, None)

    def _without_mine(self, header: bytes) -> bytes | None:
        pieces = header.split(b";")
        kept = [p for p in pieces if not self._mine.search(p.decode("latin-1"))]
        return header if len(kept) == len(pieces) else b";".join(kept).strip() or None

    def __repr__(self) -> str:
        return f"cookie {self.name}"
