"""Credentials cut out of log records, for what was logged before the handshake was redacted."""

from __future__ import annotations

import logging
import re
from typing import Any

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.sources import Cookie, Header, QueryParam, Source, Subprotocol

__all__ = ["RedactCredentials"]

_HIDDEN = r"\1[redacted]"

# Where a name may begin: not inside a longer one, but behind the "\n" of a repr.
_START = r"(?:(?<![\w-])|(?<=\\[nrt]))"
# Between a name and its value: "=", or the end and the beginning of two strings in a repr or JSON.
_IS = r"(?:=|\s+=\s+|['\"]\s*[:,]\s*(?:b(?=['\"]))?['\"])"
# A quote ends a value only where something follows that ends a string.
_QUOTE = r"['\"](?![,;:)\]}>\s]|$)"
_LINE = r"[^'\"\r\n]+"

# What shows by its shape that it is a credential, wherever it stands. Matched from the beginning of
# a word, once for each word, so that a hostile line takes no more than linear time.
_SHAPES = [
    rf"(?<![\w-])((?:(?!{start})[\w-])*){start}{rest}"
    for start, rest in (("eyJ", r"[\w-]+\.[\w-]*\.[\w-]*"), ("ws[tik]_", r"[\w-]{16,}"))
]


class RedactCredentials(logging.Filter):
    """A filter for log handlers that cuts credentials out of every record.

    The middleware redacts the server's own scope, so a server at its usual log level has nothing to
    leak. This filter is for what is logged earlier or elsewhere: a server at debug level, which
    logs the handshake before any app sees it, or a framework that handed on a copy of the scope.

    It knows the parameters, headers, cookies and subprotocols by the names that the authenticator's
    sources have, and JWTs and this package's own credentials by their shape. A source of your own
    is covered by shape alone. It reads a record's message and traceback, not its `extra`.

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
            record.args = tuple(map(self._clean_argument, record.args))
        try:
            text = record.getMessage()
        except Exception:  # the arguments don't fit: logging will print its parts as they are
            record.msg = self._clean_argument(record.msg)
            return True
        if (clean := self._clean(text)) != text:
            record.msg, record.args = clean, ()
        traceback = record.exc_text
        if record.exc_info and not traceback:
            traceback = logging.Formatter().formatException(record.exc_info)
        if traceback and (clean := self._clean(traceback)) != traceback:
            record.exc_text, record.exc_info = clean, None
        return True

    def _clean_argument(self, value: object) -> Any:
        if isinstance(value, str):
            return self._clean(value)
        if isinstance(value, bytes):
            return self._clean(value.decode("latin-1")).encode("latin-1")
        return value

    def _clean(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(_HIDDEN, text)
        return text


def _patterns(source: Source) -> list[str]:
    """For a source, what stands before its credential (group 1), and the credential."""
    if isinstance(source, QueryParam):
        name = "".join(map(_query_character, source.name))
        return [rf"({_START}{name}{_IS})(?:[^&\s'\"]|{_QUOTE})+"]
    if isinstance(source, Header):
        # "name: value" in a dump of headers, or the name and the value as two strings
        name = re.escape(source.name)
        found = [rf"({_START}{name}(?:\s*:\s*|{_IS})){_LINE}"]
        if source.scheme is not None:
            found.append(rf"({_START}{re.escape(source.scheme)} +)(?:[^\s'\"]|{_QUOTE})+")
        return found
    if isinstance(source, Cookie):
        return [rf"({_START}{re.escape(source.name)}{_IS}\"?)(?:[^;\s'\"]|{_QUOTE})+"]
    if isinstance(source, Subprotocol):
        if source.marker is None:
            return [rf"({re.escape(source.prefix or '')})[^\s,'\"]+"]
        marker = re.escape(source.marker)
        return [
            rf"({_START}{marker}['\"]?\s*,\s*['\"]?)[^\s,'\"]+",
            # The list may come in two headers, each of which is logged on a line of its own.
            rf"(sec-websocket-protocol:(?!\s*{marker}\s*$)\s*(?:{marker}\s*,\s*)?){_LINE}",
        ]
    return []


def _query_character(character: str) -> str:
    """One character of a parameter's name, as it may stand in a query string."""
    escaped = "".join(f"%{byte:02x}" for byte in character.encode())
    plus = r"|\+" if character == " " else ""
    return f"(?:{re.escape(character)}|{escaped}{plus})"
