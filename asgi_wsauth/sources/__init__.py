"""Where a credential travels in a handshake.

A source has two methods: `extract` finds the credential, `redact` removes it from the scope. Both
walk the same pieces of the raw bytes, so that whatever one of them finds the other one removes.

A credential counts as it was sent. A value is percent-decoded once, in a query string, and in no
other way changed: nothing is stripped of a NUL, folded to ASCII or decoded twice until it fits.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.loops.tasks import Breakable
from asgi_wsauth.options import ConfigurationError, check_count, check_seconds, check_text, shown
from asgi_wsauth.sources.waiting import WaitingRoom

__all__ = [
    "HTTP_TOKEN",
    "Cookie",
    "FirstMessage",
    "Header",
    "QueryParam",
    "Source",
    "Subprotocol",
    "answer",
    "replace_list",
    "stripped",
    "token_in",
]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # RFC 9110 section 5.6.2
HTTP_TOKEN = re.compile(f"{_TOKEN}+")
"""The name of a header, a cookie, a scheme or a subprotocol."""

_BEARER = re.compile(" *Bearer ", re.IGNORECASE)


def _check_token(option: str, given: str, example: str) -> str:
    if not isinstance(given, str) or not HTTP_TOKEN.fullmatch(given):
        raise ConfigurationError(
            f'{option} must be one word of visible ASCII, for example "{example}", got '
            f"{shown(given)}"
        )
    return given


class Source(Protocol):
    """Finds a credential in a handshake, and removes it from the scope. Any object with these two
    methods is one. It may have a third, `log_patterns()`: see `RedactCredentials`."""

    def extract(self, conn: HTTPConnection, /) -> str | None:
        """The credential, or None where there is none.

        Raises:
            Denied: with `Reason.MALFORMED`, where it is there twice or can't be read.
        """
        ...

    def redact(self, scope: Scope, /) -> None:
        """Take the credential out of `scope`, which is the server's own dict.

        Assign new values to its keys, or change the lists in it: `Authenticator.redact` sees to it
        that `headers` and `subprotocols` stay the lists that they were, with the new content,
        because whatever has read the scope before (`CORSMiddleware`, say) holds on to those.
        """
        ...


class QueryParam:
    """A parameter of the query string: `/ws?token=...`. Works in every browser.

    Name and value are percent-decoded once, whatever was escaped. The parameter given twice is
    refused. An empty value counts as none.

    Args:
        name: the parameter's name, case-sensitive.

    Raises:
        ConfigurationError: the name is empty.
    """

    def __init__(self, name: str = "token") -> None:
        self.name = check_text("QueryParam: name", name, "token")
        # One expression for the whole query, which stands between two ampersands: to take it apart
        # and decode each name takes 50 ms for one of 64 KB.
        mine = b"".join(map(_query_character, name))
        self._mine = re.compile(b"&" + mine + b"(?:=([^&]*)|(?=&))")

    def extract(self, conn: HTTPConnection, /) -> str | None:
        found = self._mine.findall(b"&%b&" % (conn.scope.get("query_string") or b""))
        if len(found) > 1:
            raise Denied(Reason.MALFORMED, f"{self} given {len(found)} times")
        return _decoded(found[0]) or None if found else None

    def redact(self, scope: Scope, /) -> None:
        query = scope.get("query_string") or b""
        kept, times = self._mine.subn(b"", b"&%b&" % query)
        if times:
            scope["query_string"] = kept[1:-1]

    def __repr__(self) -> str:
        return f"query parameter {self.name}"


_ESCAPES = re.compile(rb"%[0-9A-Fa-f]{2}(?:%[0-9A-Fa-f]{2})*")


def _decoded(value: bytes) -> str:
    """A query value, percent-decoded once. `urllib` takes 30 ms for 64 KB of percent signs."""
    plain = value.replace(b"+", b" ")
    if b"%" in plain:
        plain = _ESCAPES.sub(lambda run: bytes.fromhex(run[0].decode().replace("%", "")), plain)
    return plain.decode(errors="replace")


def _query_character(character: str) -> bytes:
    """A pattern for one character of a name as it may stand in a query string."""
    either_case = (f"%{byte:02X}" for byte in character.encode())
    escaped = "".join(
        f"[{c}{c.lower()}]" if c in "ABCDEF" else c for code in either_case for c in code
    )
    forms = [escaped.encode()]
    if character == " ":
        forms.append(rb"\+")
    elif character == "%":  # one that begins no escape stands for itself
        forms.append(rb"%(?![0-9A-Fa-f]{2})")
    elif character not in "+&=" and ord(character) < 256:
        forms.append(re.escape(character.encode("latin-1")))
    return b"(?:" + b"|".join(forms) + b")"


class Header:
    """A request header: `Authorization: Bearer ...`, or the whole of a header like `X-API-Key`.

    Browsers can't set one on a WebSocket; programs can. With a scheme (RFC 9110 section 11.4), its
    case and the number of spaces behind it don't matter, and a header of another scheme is none of
    this source's and stays in the scope. The header given twice is refused. An empty value counts
    as none.

    Args:
        name: the header's name; case doesn't matter.
        scheme: the word before the credential, or None where the value is the credential.

    Raises:
        ConfigurationError: the name or the scheme is no RFC 9110 token, or the header is `Cookie`,
            which is for a `Cookie` source.
    """

    def __init__(self, name: str = "authorization", *, scheme: str | None = None) -> None:
        self.name = _check_token("Header: name", name, "authorization").lower()
        if self.name == "cookie":
            raise ConfigurationError(
                f"Header: name must be another header, got {shown(name)}, which browsers send "
                'whatever page opens the socket; write Cookie("chat_session"), with that cookie\'s '
                "name, and allowed_origins"
            )
        if scheme is not None:
            _check_token("Header: scheme", scheme, "Bearer")
        self.scheme = scheme
        # Daphne joins repeated headers with a comma: the scheme may stand behind one.
        self._mine = re.compile(
            rf"(?:^|,)[ \t]*{re.escape(scheme)}(?!{_TOKEN})" if scheme else "^", re.IGNORECASE
        )

    def extract(self, conn: HTTPConnection, /) -> str | None:
        values = conn.headers.getlist(self.name)
        if not any(map(self._mine.search, values)):
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
        _edit_header(
            scope,
            self.name.encode(),
            lambda value: None if self._mine.search(value.decode("latin-1")) else value,
        )

    def __repr__(self) -> str:
        return f"header {self.name}"


class Cookie:
    """A cookie. Browsers send it by themselves, so whoever uses one must also set
    `allowed_origins`, or any site can open a socket in its visitor's name (cross-site WebSocket
    hijacking, OWASP WebSocket Security Cheat Sheet).

    A cookie counts only where no credential was sent explicitly. Given twice, it is refused: a
    subdomain may have planted the second one. Double quotes around it are taken off (RFC 6265
    section 4.1.1), nothing else is decoded. An empty value counts as none.

    Args:
        name: the cookie's name, case-sensitive; for example `login`. `session` is that of
            Starlette's `SessionMiddleware`, which NiceGUI adds by itself.

    Raises:
        ConfigurationError: the name is no RFC 9110 token.
    """

    def __init__(self, name: str) -> None:
        self.name = _check_token("Cookie: name", name, "chat_session")
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
        _edit_header(scope, b"cookie", self._without_mine)
        if isinstance(parsed := scope.get("cookies"), dict):  # by Channels, further out
            parsed.pop(self.name, None)

    def _without_mine(self, header: bytes) -> bytes | None:
        pieces = header.split(b";")
        kept = [p for p in pieces if not self._mine.search(p.decode("latin-1"))]
        return header if len(kept) == len(pieces) else b";".join(kept).strip() or None

    def __repr__(self) -> str:
        return f"cookie {self.name}"


class Subprotocol:
    """The list of offered subprotocols, the one header that a browser's page can fill:
    `new WebSocket(url, ["bearer", token])`.

    The marker stays in the scope, as the last one, and is what the server answers with where the
    app chooses none of the other protocols; the credential is never echoed. With `prefix`, the form
    of Kubernetes: one entry, a prefix and the credential in unpadded base64url, beside at least one
    protocol that can be echoed (RFC 6455 section 4.2.2: a browser drops a connection that echoes
    none).

    Args:
        marker: the protocol name before the credential, case-sensitive.
        prefix: for example `base64url.bearer.authorization.k8s.io.`; takes the marker's place.

    Raises:
        ConfigurationError: the marker or the prefix is no RFC 9110 token.
    """

    def __init__(self, marker: str = "bearer", *, prefix: str | None = None) -> None:
        _check_token("Subprotocol: marker", marker, "bearer")
        if prefix is not None:
            _check_token("Subprotocol: prefix", prefix, "base64url.bearer.")
        self.marker = marker if prefix is None else None
        self.prefix = prefix

    def extract(self, conn: HTTPConnection, /) -> str | None:
        offered = _offered(conn.scope)
        found = [offered[place] for place in self._places(offered)]
        if not found:
            return None
        if len(found) > 1:
            raise Denied(Reason.MALFORMED, f"{self} given {len(found)} times")
        if self.prefix is None:
            return found[0]
        if len(offered) == 1:
            raise Denied(Reason.MALFORMED, f"{self} alone: nothing else is offered to answer with")
        return self._decoded(found[0][len(self.prefix) :])

    def redact(self, scope: Scope, /) -> None:
        offered = _offered(scope)
        places = self._places(offered)
        if not places:
            return
        kept = [word for i, word in enumerate(offered) if i not in places and word != self.marker]
        if self.marker is not None:
            kept.append(self.marker)  # last: what stands behind a marker is a credential
        replace_list(scope, "subprotocols", kept)
        # Some servers leave the header out; where it is there, it says the same as the list.
        first = iter([", ".join(kept).encode(errors="replace") or None])
        _edit_header(scope, _PROTOCOL_HEADER, lambda _: next(first, None))

    def _places(self, offered: list[str]) -> set[int]:
        """Where the entries are that carry a credential."""
        if self.prefix is not None:
            return {i for i, word in enumerate(offered) if word.startswith(self.prefix)}
        return {i for i in range(1, len(offered)) if offered[i - 1] == self.marker}

    def _decoded(self, value: str) -> str | None:
        try:
            raw = value.encode("ascii")
            decoded = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
            # urlsafe_b64decode passes over what it doesn't know; only the exact form is the form.
            if urlsafe_b64encode(decoded).rstrip(b"=") == raw:
                return decoded.decode("ascii") or None
        except ValueError:
            pass
        raise Denied(Reason.MALFORMED, f"{self} is no unpadded base64url")

    def __repr__(self) -> str:
        return f"subprotocol {self.prefix or self.marker}"


class FirstMessage:
    """The client's first message: `{"type": "auth", "token": "..."}`, as text.

    A handshake in which no other source finds a credential is accepted, and the client has some
    time to send it. The app sees an ordinary connect afterwards; the subprotocol that it accepts
    with is not sent, because the socket is accepted by then. `allowed_origins` and the throttle are
    judged before that. Over HTTP it finds nothing.

    A client that sends nothing is MISSING, and counts for the throttle; a message that is another
    one, or too long, is MALFORMED. While `max_waiting` sockets wait, the address that has the most
    of them gives way for one that has fewer; where there is none, one more is TOO_MANY_CONNECTIONS.

    Args:
        timeout: seconds from the accept to the message.
        max_size: characters that the message may have.
        max_waiting: sockets that may be waiting at once, in this process.
        max_waiting_per_client: sockets of one address (of an IPv6 one, its first 64 bits) that may.
            A peer without an address (a Unix socket) has no such limit.
        subprotocol: what to accept with, where the client offers it.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        *,
        timeout: float = 10.0,
        max_size: int = 16_384,
        max_waiting: int = 1_000,
        max_waiting_per_client: int = 20,
        subprotocol: str | None = None,
    ) -> None:
        self.timeout = check_seconds("FirstMessage: timeout", timeout)
        self.max_size = check_count("FirstMessage: max_size", max_size)
        if subprotocol is not None:
            _check_token("FirstMessage: subprotocol", subprotocol, "chat")
        self._subprotocol = subprotocol
        most_each = check_count("FirstMessage: max_waiting_per_client", max_waiting_per_client)
        self._room = WaitingRoom(check_count("FirstMessage: max_waiting", max_waiting), most_each)

    def extract(self, conn: HTTPConnection, /) -> str | None:
        return None

    def redact(self, scope: Scope, /) -> None:
        pass

    def waiting(self, client: str | None = None) -> AbstractContextManager[Breakable]:
        """While one socket waits; see `WaitingRoom.place`."""
        return self._room.place(client)

    @property
    def _waiting(self) -> int:
        return len(self._room)

    def protocols(self, scope: Scope) -> list[str]:
        """What to accept a handshake with: one subprotocol, or none."""
        return [word for word in _offered(scope) if word == self._subprotocol][:1]

    def read(self, text: str | None) -> str:
        """The credential in a message; None stands for one that is not text.

        Raises:
            Denied: with `Reason.MALFORMED`.
        """
        if text is None or len(text) > self.max_size:
            raise Denied(Reason.MALFORMED, f"{self} is no text, or too long")
        token = token_in(text, "auth")
        if token is None:
            raise Denied(Reason.MALFORMED, f"{self} is another one")
        return token

    def __repr__(self) -> str:
        return "first message"


def token_in(text: str, kind: str) -> str | None:
    """The credential in a message `{"type": kind, "token": "..."}`; None for any other message.

    Raises:
        Denied: with `Reason.MALFORMED`, where it is such a message without one.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("type") != kind:
        return None
    token = message.get("token")
    if not isinstance(token, str):
        raise Denied(Reason.MALFORMED, f'a message "{kind}" without a token')
    return token


_PROTOCOL_HEADER = b"sec-websocket-protocol"
_ELEMENT = re.compile(r"[^,\s](?:[^,]*[^,\s])?")  # of a list in a header, RFC 9110 section 5.6.1


def _offered(scope: Scope) -> list[str]:
    """The offered subprotocols: the scope's list, or the header where a server gives no list."""
    words: Iterable[str] = scope.get("subprotocols") or ()
    if not words:
        values = [
            v.decode("latin-1") for k, v in scope.get("headers") or () if k == _PROTOCOL_HEADER
        ]
        return [word for value in values for word in _ELEMENT.findall(value)]
    return stripped(words)


def answer(scope: Scope, sources: Iterable[Source]) -> str | None:
    """The subprotocol to answer a redacted handshake with where the app chooses none: the marker
    that stood before a credential, or else the first one offered."""
    offered = [word for word in _offered(scope) if isinstance(word, str)]
    markers = [source.marker for source in sources if isinstance(source, Subprotocol)]
    return next((word for word in offered if word in markers), offered[0] if offered else None)


def stripped(words: Iterable[str]) -> list[str]:
    """The elements of a list in a header, without the space around them and without empty ones
    (RFC 9110 section 5.6.1). All that servers and frameworks strip counts as space."""
    bare = (word.strip() if isinstance(word, str) else word for word in words)
    return [word for word in bare if word != ""]


def replace_list(scope: Scope, key: str, content: list[Any]) -> None:
    """Put `content` in the place of what `scope[key]` has, into the same list where it is one."""
    given = scope.get(key)
    if isinstance(given, list):
        given[:] = content
    else:
        scope[key] = content


def _edit_header(scope: Scope, name: bytes, edit: Callable[[bytes], bytes | None]) -> None:
    """Put `edit(value)` in the place of every value of a header; None drops it."""
    headers = scope.get("headers") or ()
    if name not in [key.lower() for key, _ in headers]:
        return
    edited = [(key, edit(value) if key.lower() == name else value) for key, value in headers]
    replace_list(scope, "headers", [(key, value) for key, value in edited if value is not None])
