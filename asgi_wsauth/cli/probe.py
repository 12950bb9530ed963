"""Knocks at a WebSocket endpoint as clients do, and notes what they get. Needs the extra `cli`.

A `Case` is one way to knock, `Carrier` says where the token travels in it, and `knock` gives what
was `Seen`. What is wrong with that is for findings.py to say.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from secrets import token_urlsafe
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.typing import Subprotocol as Offer

from asgi_wsauth.credential import VISIBLE
from asgi_wsauth.denial import ConfigurationError, Reason
from asgi_wsauth.origins import parse_origin
from asgi_wsauth.sources import Cookie, Header, QueryParam, Subprotocol
from asgi_wsauth.testing import make_jwt

__all__ = ["Carrier", "Case", "Kind", "Seen", "Target", "Unreachable", "cases", "knock"]

Kind = Literal["query", "header", "cookie", "subprotocol", "first_message"]

_PROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_UNKNOWN = "wsauth-probe"  # offered where the endpoint's own ones are not known
_MOST = 200  # characters of an HTTP body that are of interest


class Unreachable(Exception):
    """There is no WebSocket endpoint. The text says why."""


@dataclass(frozen=True)
class Carrier:
    """Where the token travels.

    Args:
        kind: the part of the handshake, or the first message.
        name: of the parameter, header or cookie; the subprotocol before the token.

    Raises:
        ConfigurationError: it is no such name.
    """

    kind: Kind = "query"
    name: str = "token"

    def __post_init__(self) -> None:
        if self.kind != "first_message":
            source = {"query": QueryParam, "header": Header, "cookie": Cookie}
            source.get(self.kind, Subprotocol)(self.name)

    def check(self, token: str) -> None:
        """Raises:
        ConfigurationError: the token can't travel there.
        """
        fits = VISIBLE.fullmatch(token) is not None
        if self.kind == "cookie":
            fits = fits and not set(token) & set('",;\\')  # RFC 6265 section 4.1.1
        elif self.kind == "subprotocol":
            fits = _PROTOCOL.fullmatch(token) is not None
        if not fits:
            raise ConfigurationError(f"the token has characters that don't fit in a {self}")

    def __str__(self) -> str:
        return {
            "query": f"query parameter {self.name}",
            "subprotocol": f"subprotocol behind {self.name}",
            "first_message": "first message",
        }.get(self.kind, f"{self.kind} {self.name}")


@dataclass(frozen=True)
class Target:
    """What is probed.

    Args:
        url: its address, `ws` or `wss`.
        carrier: where the token travels.
        origin: of the pages that use it, sent in every handshake but the foreign one.
        offered: subprotocols that its clients offer in every handshake.
        timeout: seconds that a handshake may take.
        patience: seconds after the accept in which a refused client has been told.

    Raises:
        ConfigurationError: the address is none, or has a credential in it.
    """

    url: str
    carrier: Carrier = Carrier()
    origin: str | None = None
    offered: tuple[str, ...] = ()
    timeout: float = 5.0
    patience: float = 1.0

    def __post_init__(self) -> None:
        if self.origin is not None and parse_origin(self.origin) is None:
            raise ConfigurationError(f"origin: {self.origin!r} is none; write https://chat.example")
        for word in self.offered:
            Subprotocol(word)
        parts = _split(self.url)
        if parts is None:
            raise ConfigurationError("the address: write it as ws://127.0.0.1:8000/ws, or wss://")
        given = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        if "@" in parts.netloc or (self.carrier.kind == "query" and self.carrier.name in given):
            raise ConfigurationError(
                "the address has a credential in it, where everybody on this machine can read it; "
                "take it out, and put it into an environment variable for --token-env"
            )

    @property
    def is_here(self) -> bool:
        """Is it on this machine?"""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @property
    def foreign_origin(self) -> str:
        """An origin that isn't the pages', but begins like it."""
        if self.origin is not None:
            page = urlsplit(self.origin)
        else:
            page = urlsplit(self.url.replace("ws", "http", 1))
        host = "" if ":" in (page.hostname or "") else f"{page.hostname}."
        port = f":{page.port}" if page.port else ""
        return f"{page.scheme}://{host}invalid{port}"


def _split(url: str) -> SplitResult | None:
    """The parts of an address that a socket can be opened at."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
    except ValueError:  # the port is none, or too large
        return None
    fits = url.isascii() and url.isprintable() and " " not in url and not parts.fragment
    return parts if usable and fits else None


@dataclass(frozen=True)
class Case:
    """One way to knock.

    Attributes:
        name: for machines.
        title: for people.
        tokens: what is given as tokens.
        expected: why it must be refused; None where it must be admitted.
        origin: the `Origin` header, or None.
        offered: subprotocols that are offered beside a token.
    """

    name: str
    title: str
    tokens: tuple[str, ...]
    expected: Reason | None
    origin: str | None
    offered: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """What a client saw.

    Attributes:
        offered: the subprotocols that it offered.
        status: of the HTTP answer, 101 for an accepted handshake; None where there was no answer.
        body: of the HTTP answer, its beginning.
        subprotocol: what was answered to its subprotocols, or None.
        spoke: whether the server sent a message.
        close: the close code and reason, 1006 where the connection just broke; None where it
            stayed open.
        fault: what was wrong with the answer, in words.
    """

    offered: tuple[str, ...] = ()
    status: int | None = None
    body: str = ""
    subprotocol: str | None = None
    spoke: bool = False
    close: tuple[int, str] | None = None
    fault: str = ""

    @property
    def outcome(self) -> Literal["refused", "admitted", "ended"]:
        """`ended`: accepted, and closed with a code that says that all is well."""
        if self.status != 101 or self.fault:
            return "refused"
        if self.close is None:
            return "admitted"
        code, reason = self.close
        told = {one.phrase for one in Reason}
        return "ended" if code in (1000, 1001, 1005) and reason not in told else "refused"

    @property
    def browser(self) -> tuple[int, str] | None:
        """The code and the reason of a page's close event; None where the socket stays open.

        A page learns nothing of an answer that is no 101, and its browser fails a socket that
        answers subprotocols with none of them (WHATWG WebSockets, "establish a connection").
        """
        usable = self.status == 101 and not self.fault and self.echoed
        return self.close if usable else (1006, "")

    @property
    def echoed(self) -> bool:
        """Whether one of the offered subprotocols was answered, where there were some."""
        return self.subprotocol in self.offered if self.offered else self.subprotocol is None

    @property
    def phrase(self) -> str:
        """The word in which the server said why: the close reason, or `error` in a JSON body."""
        if self.close is not None:
            return self.close[1]
        try:
            answer = json.loads(self.body)
        except ValueError:
            return ""
        word = answer.get("error") if isinstance(answer, dict) else None
        return word if isinstance(word, str) else ""


def cases(
    target: Target,
    *,
    token: str | None = None,
    expired: str | None = None,
    claims: Mapping[str, Any] | None = None,
) -> list[Case]:
    """All ways to knock, the good one last, because a ticket works once.

    Args:
        target: what is probed.
        token: one that must be admitted; None where there is none.
        expired: one that is good in every way but its `exp`; None for one of another key.
        claims: what the endpoint asks of its tokens beside `sub` and `exp`, such as `aud`.

    Raises:
        ConfigurationError: a token can't travel there.
    """

    def case(name: str, title: str, reason: Reason | None, *tokens: str, **more: Any) -> Case:
        for one in tokens:
            target.carrier.check(one)
        given = {"origin": target.origin, "offered": target.offered, **more}
        return Case(name, title, tokens, reason, **given)

    claims = claims or {}
    good = [token] if token else []
    twice = 2 * (good or ["rubbish"])
    unsigned = make_jwt(None, algorithm="none", **claims)
    stranger = partial(make_jwt, token_urlsafe(32), **claims)
    made = [
        case("no_token", "no token", Reason.MISSING),
        case("rubbish", "rubbish", Reason.INVALID, "rubbish"),
        case("alg_none", "alg: none", Reason.INVALID, unsigned),
        case("forged", "badly signed", Reason.INVALID, stranger()),
        case("expired", "expired", Reason.EXPIRED, expired)
        if expired
        else case("expired", "badly signed, expired", Reason.INVALID, stranger(expires_in=-3600)),
        case(
            "foreign_origin", "foreign origin", Reason.ORIGIN, *good, origin=target.foreign_origin
        ),
        case("twice", "token given twice", Reason.MALFORMED, *twice),
        case(
            *("subprotocol", "subprotocol offered", Reason.INVALID, "rubbish"),
            offered=target.offered or (_UNKNOWN,),
        ),
        *(case("good", "good token", None, one) for one in good),
    ]
    first = target.carrier.kind == "first_message"  # a second one is for the app
    return [one for one in made if not (first and one.name == "twice")]


@dataclass(frozen=True)
class _Handshake:
    url: str
    headers: list[tuple[str, str]]
    offered: tuple[str, ...]
    messages: list[str]


def _handshake(target: Target, case: Case) -> _Handshake:
    kind, name = target.carrier.kind, target.carrier.name
    url, headers, offered, messages = target.url, [], case.offered, []
    if kind == "query" and case.tokens:
        given = urlencode([(name, token) for token in case.tokens])
        url += f"{'&' if urlsplit(url).query else '?'}{given}"
    elif kind == "header":
        scheme = "Bearer " if name.lower() == "authorization" else ""
        headers = [(name, f"{scheme}{token}") for token in case.tokens]
    elif kind == "cookie" and case.tokens:
        headers = [("Cookie", "; ".join(f"{name}={token}" for token in case.tokens))]
    elif kind == "subprotocol":
        offered = (*(word for token in case.tokens for word in (name, token)), *case.offered)
    elif kind == "first_message":
        # None is said with a message, too: silence would be refused after many seconds.
        told = [{"type": "auth", "token": token} for token in case.tokens] or [{"type": "none"}]
        messages = [json.dumps(message) for message in told]
    if case.origin is not None:
        headers.append(("Origin", case.origin))
    return _Handshake(url, headers, offered, messages)


class _Connect(connect):
    """Follows no redirect: it is an answer like any other, and a token is for one address."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def knock(target: Target, case: Case) -> Seen:
    """Open a socket in the way of `case`, and see what happens.

    Raises:
        Unreachable: no connection could be made.
        ConfigurationError: the token can't travel there.
    """
    handshake = _handshake(target, case)
    made: list[ClientConnection] = []

    class Connection(ClientConnection):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    try:
        async with _Connect(
            handshake.url,
            additional_headers=handshake.headers,
            subprotocols=[Offer(word) for word in handshake.offered] or None,
            create_connection=Connection,
            proxy=None if target.is_here else True,
            open_timeout=target.timeout,
            close_timeout=target.patience,
            max_size=None,
        ) as socket:
            spoke, close = await _listen(socket, handshake.messages, target.patience)
            return Seen(handshake.offered, 101, "", socket.subprotocol, spoke, close)
    except InvalidStatus as refused:
        body = bytes(refused.response.body or b"").decode(errors="replace")[:_MOST]
        return Seen(handshake.offered, refused.response.status_code, body)
    except ProxyError as exc:
        raise Unreachable(f"by its proxy: {exc}") from exc
    except (TimeoutError, asyncio.TimeoutError):  # two classes on Python 3.10
        if not made:
            raise Unreachable(f"no connection within {target.timeout:g} s") from None
        return Seen(handshake.offered, fault=f"No answer within {target.timeout:g} s.")
    except InvalidHandshake as exc:
        return _misfit(made[0], handshake, exc)
    except (OSError, WebSocketException) as exc:
        raise Unreachable(str(exc) or type(exc).__name__) from exc


def _misfit(connection: ClientConnection, handshake: _Handshake, exc: Exception) -> Seen:
    """An answer that is no HTTP, or accepts what was not asked for."""
    if connection.response is None:
        return Seen(handshake.offered, fault="The connection broke before an answer.")
    chosen = ", ".join(connection.response.headers.get_all("Sec-WebSocket-Protocol"))
    why = f"It accepts with {chosen!r}, which was not offered" if chosen else str(exc)
    return Seen(handshake.offered, 101, "", chosen or None, fault=f"{why}: no client goes on.")


async def _listen(
    socket: ClientConnection, messages: Sequence[str], patience: float
) -> tuple[bool, tuple[int, str] | None]:
    """Whether the server sent a message, and how it closed within the time."""
    spoke = False
    try:
        for message in messages:
            await socket.send(message)
        with anyio.move_on_after(patience):
            while True:
                await socket.recv()
                spoke = True
    except ConnectionClosed as closed:
        return spoke, (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
    return spoke, None
