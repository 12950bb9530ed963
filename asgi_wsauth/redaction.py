"""Removes credentials from log records, and from texts that are known to contain them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, unquote

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.options import ConfigurationError, check_instance, check_list, shown
from asgi_wsauth.sources import Cookie, FirstMessage, Header, QueryParam, Source, Subprotocol
from asgi_wsauth.verifiers.proxy_header import ProxyHeader

__all__ = ["HIDDEN", "RedactCredentials", "hidden", "scrubbed"]

HIDDEN = "[redacted]"

_NEVER_QUOTED = re.compile(r"[\w.~-]*", re.ASCII)  # RFC 3986 section 2.3
_ESCAPE = re.compile(r"%([0-9a-fA-F]{2})")
_DEEPEST = 4  # an address in an address in an address, and one more


class RedactCredentials(logging.Filter):
    """A filter for log handlers that removes credentials from every record.

    The middleware redacts the server's own scope, so a server at its usual log level leaks nothing.
    This filter is for records made earlier or elsewhere: by a server at debug level, which logs the
    handshake before any app sees it, or by a framework that passed on a copy of the scope.

    It finds parameters, headers, cookies and subprotocols by the names of the authenticator's
    sources, in URLs, header dumps, reprs, JSON (also within JSON, or percent-escaped) and CGI
    variables; and JWTs and this package's own credentials by their shape. It covers a record's
    message and traceback, but not its `extra`.

    A source of your own is covered by the shape of its credentials, and by its method
    `log_patterns()`, if it has one: that returns a list of regular expressions, whose matches are
    removed except for the first group, if there is one. Every logged line is searched for them, so
    each must run in linear time.

    Args:
        authenticator: the one whose sources are used.

    Raises:
        ConfigurationError: it isn't an `Authenticator`, or a source's patterns are invalid.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        super().__init__()
        check_instance("authenticator", authenticator, Authenticator, "Authenticator([...])")
        self._rules = [rule for source in authenticator.sources for rule in _rules(source)]

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
            text = value.decode("latin-1")
            return value if (clean := self._clean(text)) == text else clean.encode("latin-1")
        return value

    def _clean(self, text: str) -> str:
        said = text.lower()
        if "%" in said:
            said += _unescaped(said).lower()
        for rule in self._rules:
            if rule.word in said:
                text = rule.pattern.sub(_hide, text)
        if any(word in said for word in _SHAPE_WORDS):
            text = _SHAPE.sub(_hide, text)
            text = _ESCAPED_RUN.sub(_hide_shape, text) if "%" in text else text
        return text


class _Rule(NamedTuple):
    """What to look for, and a word without which there is none, in lower case and unescaped."""

    word: str
    pattern: re.Pattern[str]


def _hide(match: re.Match[str]) -> str:
    kept = match[1] if match.re.groups else None
    return f"{kept or ''}{HIDDEN}"


def _unescaped(text: str) -> str:
    """The text without its percent escapes, and without those that are in them."""
    for _ in range(_DEEPEST):
        if not _ESCAPE.search(text):
            break
        text = unquote(text, "latin-1")
    return text


# What shows by its shape that it is a credential, wherever it stands. Matched from the beginning of
# a word, once for each word, so that a hostile line takes no more than linear time.

_SHAPE_WORDS = ("eyj", "wst_", "wsi_", "wsk_")
_START_OF_ONE = r"(?:eyJ|ws[tik]_)"
_SHAPE = re.compile(
    rf"(?<![\w-])((?>(?:(?!{_START_OF_ONE})[\w-])*))"
    r"(?:eyJ[\w-]++\.[\w-]*+\.[\w-]*+|ws[tik]_[\w-]{16,})",
    re.IGNORECASE,
)


def hidden(text: str) -> str:
    """`text` without what shows by its shape that it is a credential."""
    return _SHAPE.sub(_hide, text)


_ESCAPED_RUN = re.compile(r"(?<![\w.~%-])[\w.~-]*+%[\w.~%-]{16,}")


def _hide_shape(run: re.Match[str]) -> str:
    """A word with escapes in it goes as a whole, if it is a credential without them."""
    return HIDDEN if _SHAPE.search(_unescaped(run[0])) else run[0]


# What stands behind a name. Every part may have been percent-escaped, in an address that is a
# parameter of another one, and a quote may stand behind any number of backslashes, in JSON that is
# a string in JSON. Nothing is given back, so that no line takes more than linear time: where one
# character is repeated, that is possessive, `[ab]*+`; where a group is, atomic, `(?>(?:ab)*)`, as
# up to Python 3.11.4 a possessive group may miss what it should match.

_AGAIN = "(?>(?:25)*)"  # of a percent sign that was escaped, any number of times


def _one_of(characters: str) -> str:
    """One of these characters, or its escape, escaped again or not."""
    codes = "|".join(f"{ord(character):02x}" for character in characters)
    return rf"(?:[{re.escape(characters)}]|%{_AGAIN}(?:{codes}))"


_QUOTE = rf"(?:(?>(?:\\|%{_AGAIN}5c)*){_one_of(chr(34) + chr(39))})"
_SPACES = rf"(?>(?:{_one_of(' ')}|[\t\n])*)"
# Where a name may begin: not inside a longer one, but behind the "\n" of a repr, or an escape.
_ESCAPE_BEFORE = "".join(rf"|(?<=%{'25' * depth}[0-9a-f]{{2}})" for depth in range(_DEEPEST))
_START = rf"(?:(?<![\w-])|(?<=\\[nrt])|(?<=\\u[0-9a-f]{{4}}){_ESCAPE_BEFORE})"
# Between a name and its value: an equals sign, a colon, or, in a pair of strings, a comma.
_IS = (
    rf"(?:{_one_of('=')}|\s++=\s++|{_QUOTE}?[ \t]*+(?:{_one_of(':')}|=>)[ \t]*+"
    rf"|{_QUOTE}{_SPACES}{_one_of(',')}{_SPACES}(?=b?{_QUOTE}))(?:b(?={_QUOTE}))?{_QUOTE}?"
)


def _value(ends: str) -> str:
    """A value, which one of `ends` ends. A quote does that only where something follows that ends a
    string; it may be the value's own."""
    end_of_string = r"[,;:)\]}>\s]|$"
    return rf"(?>(?:[^{ends}'\"\\]|\\++(?!['\"])|\\*+['\"](?!{end_of_string}))+)"


_PARAMETER, _COOKIE, _LINE = _value(r"&\s"), _value(r";\s"), _value(r"\r\n")
_WORD, _ELEMENT = _value(r"\s"), _value(r",\s")


def _rules(source: Source) -> Iterator[_Rule]:
    for word, pattern in _built_in(source):
        yield _Rule(word, re.compile(pattern, re.IGNORECASE))
    log_patterns: Any = getattr(source, "log_patterns", None)
    if log_patterns is None:
        return
    if not callable(log_patterns):
        raise ConfigurationError(f"sources: log_patterns of {shown(source)} must be a method")
    patterns: Any = log_patterns()
    for pattern in check_list(f"log_patterns() of {shown(source)}", patterns):
        yield _Rule("", _compiled(source, pattern))


def _compiled(source: Source, pattern: str) -> re.Pattern[str]:
    why = "that is not a string"
    if isinstance(pattern, str):
        try:
            return re.compile(pattern)
        except re.error as exc:
            why = str(exc)
    raise ConfigurationError(
        f"log_patterns() of {shown(source)} must be a list of regular expressions, got "
        f"{shown(pattern)}: {why}"
    )


def _built_in(source: Source) -> Iterator[tuple[str, str]]:
    """For a source of this package, a word and a pattern: what stands before the credential (group
    1), and the credential."""
    if isinstance(source, QueryParam):
        yield _word(source.name), rf"({_START}{_name(source.name)}{_IS}){_PARAMETER}"
    elif isinstance(source, FirstMessage):
        # Within the message, or within the part of it where a protocol of the app's has it.
        yield "token", rf"({_START}(?:access_?)?token{_IS}){_PARAMETER}"
        yield "authorization", rf"({_START}authorization{_IS}){_LINE}"
    elif isinstance(source, Cookie):
        yield _word(source.name), rf"({_START}{_name(source.name)}{_IS}){_COOKIE}"
    elif isinstance(source, Header):
        # CGI has HTTP_X_API_KEY for X-API-Key.
        name = _name(source.name).replace(_character("-"), f"(?:_|{_character('-')})")
        start = rf"(?:{_START}|(?<=http_))"
        longest = max(source.name.split("-"), key=len)
        yield _word(longest), rf"({start}{name}{_IS}){_LINE}"
        if source.scheme is not None:
            scheme = rf"{_START}{re.escape(source.scheme)}(?>(?:\+|{_one_of(' ')})+)"
            yield _word(source.scheme), rf"({scheme}){_WORD}"
    elif isinstance(source, ProxyHeader):
        for name in (source.header, source.secret_header):
            yield from _built_in(Header(name))
    elif isinstance(source, Subprotocol) and source.prefix is not None:
        yield _word(source.prefix), rf"({_name(source.prefix)}){_ELEMENT}"
    elif isinstance(source, Subprotocol) and source.marker is not None:
        comma = rf"{_QUOTE}?{_SPACES}{_one_of(',')}{_SPACES}{_QUOTE}?"
        yield _word(source.marker), rf"({_START}{_name(source.marker)}{comma}){_ELEMENT}"
        # The list may come in two headers, each of which is logged on a line of its own.
        marker, header = re.escape(source.marker), r"sec[-_]websocket[-_]protocol"
        alone = rf"(?!\s*{marker}\s*$)\s*(?:{marker}\s*,\s*)?"
        yield "protocol", rf"({header}:{alone}){_LINE}"


def _word(name: str) -> str:
    """What is in every text in which the name is, in lower case and unescaped."""
    return name.lower() if re.fullmatch(r"[\w.~-]+", name, re.ASCII) else ""


def _name(name: str) -> str:
    """A name, of which any character may be escaped."""
    return "".join(map(_character, name))


def _character(character: str) -> str:
    escaped = "".join(f"%{_AGAIN}{byte:02x}" for byte in character.encode())
    plus = r"|\+" if character == " " else ""
    return f"(?:{re.escape(character)}|{escaped}{plus})"


# Known credentials


def scrubbed(text: str, values: Iterable[str]) -> str:
    """`text` without `values`: as they are, as in a `repr` or in JSON, and percent-escaped,
    whichever of their characters and however often."""
    fit = [value for value in values if len(value) <= len(text)]  # no form of one is shorter
    if not fit:
        return text
    forms = {form for value in fit for form in _forms(value) if form}
    longest_first = sorted(forms, key=len)[::-1]
    # The marks come last, so that no part of one is taken for a credential. It takes no regular
    # expression: to compile one of a long credential takes longer than all the rest.
    parts = [text]
    for form in longest_first:
        parts = [piece for part in parts for piece in part.split(form)]
    if "%" in text:
        for form in longest_first:
            parts = [piece for part in parts for piece in _split_escaped(part, form)]
    return HIDDEN.join(parts)


def _forms(value: str) -> tuple[str, ...]:
    """How it may be written down. In a message, it may have half a surrogate pair."""
    if _NEVER_QUOTED.fullmatch(value):
        return (value,)
    quoted = (quoted(value, errors="replace") for quoted in (quote, quote_plus))
    return value, repr(value)[1:-1], json.dumps(value)[1:-1], *quoted


def _split_escaped(text: str, value: str) -> list[str]:
    """`text.split(value)`, where any of its characters may be escaped in `text`, up to so many
    times over."""
    decoded, starts = text, list(range(len(text) + 1))
    for _ in range(_DEEPEST):
        decoded, starts = _decoded(decoded, starts)
        if value in decoded:
            pieces, start, place = [], 0, 0
            for piece in decoded.split(value)[:-1]:
                place += len(piece)
                pieces.append(text[start : starts[place]])
                place += len(value)
                start = starts[place]
            return [
                part for piece in (*pieces, text[start:]) for part in _split_escaped(piece, value)
            ]
    return [text]


def _decoded(text: str, starts: list[int]) -> tuple[str, list[int]]:
    """The text, percent-decoded once, and where each of its characters began: `starts` says that of
    the text as it is, and of its end."""
    pieces, begun, end = [], [], 0
    for escape in _ESCAPE.finditer(text):
        pieces += [text[end : escape.start()], chr(int(escape[1], 16))]
        begun += starts[end : escape.start() + 1]
        end = escape.end()
    return "".join([*pieces, text[end:]]), begun + starts[end:]
