"""Credentials cut out of log records, for what was logged before the handshake was redacted."""

from __future__ import annotations

import logging
import re

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.sources import Cookie, Header, QueryParam, Source, Subprotocol

__all__ = ["RedactCredentials"]

_HIDDEN = "[redacted]"
_VALUE = r"[^\s'\"&;,<>]+"
_LINE = r"[^'\"\r\n]+"

# What shows by its shape that it is a credential, wherever it was found.
_SHAPES = (r"()\beyJ[\w-]+\.[\w-]*\.[\w-]*", r"()\bws[tik]_[\w-]{16,}")


class RedactCredentials(logging.Filter):
    """A filter for log handlers that cuts credentials out of every record.

    The middleware redacts the server's own scope, so a server at its usual log level has nothing to
    leak. This filter is for what is logged earlier or elsewhere: a server at debug level, which
    logs the handshake before any app sees it, or a framework that handed on a copy of the scope.

    It knows the parameters, headers, cookies and subprotocols by the names that the authenticator's
    sources have, and JWTs and this package's own credentials by their shape. A source of your own
    is covered by shape alone.

    Args:
        authenticator: the one whose sources are meant.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        super().__init__()
        patterns = [p for source in authenticator.sources for p in _patterns(source)]
        self._patterns = [re.compile(p, re.IGNORECASE) for p in (*patterns, *_SHAPES)]

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact `record` in place; always True."""
        if isinstance(record.args, tuple):  # one by one: some formatters take them apart
            record.args = tuple(self._clean(a) if isinstance(a, str) else a for a in record.args)
        try:
            text = record.getMessage()
        except Exception:  # the record itself is broken: the handler will say so
            return True
        if (clean := self._clean(text)) != text:
            record.msg, record.args = clean, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text and (clean := self._clean(record.exc_text)) != record.exc_text:
            record.exc_text, record.exc_info = clean, None
        return True

    def _clean(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(rf"\1{_HIDDEN}", text)
        return text


def _patterns(source: Source) -> list[str]:
    """For a source, what stands before its credential (group 1), and the credential."""
    if isinstance(source, QueryParam):
        name = "".join(rf"(?:{re.escape(c)}|%{ord(c):02x})" for c in source.name)
        return [rf"((?<![\w-]){name}=){_VALUE}"]
    if isinstance(source, Header):
        # "name: value" in a dump of headers, or the name and the value as two strings of a repr
        found = [rf"((?<![\w-]){re.escape(source.name)}['\"]?\s*[:,=]\s*b?['\"]?){_LINE}"]
        if source.scheme is not None:
            found.append(rf"((?<![\w-]){re.escape(source.scheme)} +){_VALUE}")
        return found
    if isinstance(source, Cookie):
        return [rf"((?<![\w-]){re.escape(source.name)}=\"?){_VALUE}"]
    if isinstance(source, Subprotocol):
        if source.prefix is not None:
            return [rf"({re.escape(source.prefix)}){_VALUE}"]
        return [rf"((?<![\w-]){re.escape(source.marker or '')}['\"]?,\s*['\"]?){_VALUE}"]
    return []
