"""Connects to a WebSocket endpoint as clients do, and records what they get. Needs the extra `cli`.

findings.py judges what was `Seen`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.typing import Subprotocol

from asgi_wsauth.cli.target import Case, Target
from asgi_wsauth.denial import Reason

__all__ = ["Seen", "Unreachable", "connect_as"]

_MOST = 200  # characters that are kept of an HTTP body, or of an odd header
_MAX_MESSAGE = 65_536  # bytes; a client that gets more than that was admitted, and leaves


class Unreachable(Exception):
    """There is no WebSocket endpoint; the message says why."""


@dataclass(frozen=True)
class Seen:
    """What a client saw.

    Attributes:
        offered: the subprotocols it offered.
        status: of the HTTP response, 101 for an accepted handshake; None without a response.
        body: the beginning of the HTTP response's body.
        subprotocol: the one the server chose, or None.
        spoke: whether the server sent a message.
        close: the close code and reason, 1006 if the connection was dropped; None if it stayed
            open.
        fault: what was wrong with the response, in words.
        opened: Unix time when the handshake was accepted, or 0.
        until: Unix time when it was closed, or when the client left.
        left: whether the client left early, because a message was too large.
    """

    offered: tuple[str, ...] = ()
    status: int | None = None
    body: str = ""
    subprotocol: str | None = None
    spoke: bool = False
    close: tuple[int, str] | None = None
    fault: str = ""
    opened: float = 0.0
    until: float = 0.0
    left: bool = False

    @property
    def outcome(self) -> Literal["refused", "admitted", "ended"]:
        """`ended`: accepted, and closed with a code that means a normal closure."""
        if self.status != 101 or self.fault:
            return "refused"
        if self.close is None:
            return "admitted"
        code, reason = self.close
        told = {one.phrase for one in Reason}
        return "ended" if code in (1000, 1001, 1005) and reason not in told else "refused"

    @property
    def browser(self) -> tuple[int, str] | None:
        """The code and the reason of a page's close event; None if the socket stays open.

        A page sees nothing of a response other than 101, and browsers fail a socket if the server
        chooses none of the offered subprotocols (WHATWG WebSockets, "establish a connection").
        """
        usable = self.status == 101 and not self.fault and self.echoed
        return self.close if usable else (1006, "")

    @property
    def echoed(self) -> bool:
        """Whether the server chose one of the offered subprotocols, if there were any."""
        return self.subprotocol in self.offered if self.offered else self.subprotocol is None

    @property
    def phrase(self) -> str:
        """The server's reason: the close reason, or `error` in a JSON body."""
        if self.close is not None:
            return self.close[1]
        try:
            answer = json.loads(self.body)
        except ValueError:
            return ""
        word = answer.get("error") if isinstance(answer, dict) else None
        return word if isinstance(word, str) else ""


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
        # Even without a token, send a message: silence is only refused after many seconds.
        told = [{"type": "auth", "token": token} for token in case.tokens] or [{"type": "none"}]
        messages = [json.dumps(message) for message in told]
    if case.origin is not None:
        headers.append(("Origin", case.origin))
    return _Handshake(url, headers, offered, messages)


class _Connect(connect):
    """Follows no redirects: they are responses like any other, and a token is for one URL."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def connect_as(
    target: Target, case: Case, enough: Callable[[], Awaitable[object]] | None = None
) -> Seen:
    """Open a socket as `case` says, and record what happens.

    Args:
        target: what is probed.
        case: the handshake.
        enough: returns when it has been listened to for long enough; by default, after
            `target.patience`. It is cancelled if the socket closes earlier.

    Raises:
        Unreachable: no connection could be made.
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
            subprotocols=[Subprotocol(word) for word in handshake.offered] or None,
            create_connection=Connection,
            proxy=None if target.is_here else True,
            open_timeout=target.timeout,
            close_timeout=target.patience,
            max_size=_MAX_MESSAGE,
            ping_interval=None,
        ) as socket:
            opened = time.time()
            wait = enough or partial(anyio.sleep, target.patience)
            heard = await _listen(socket, handshake.messages, wait)
        return Seen(handshake.offered, 101, "", socket.subprotocol, **heard, opened=opened)
    except InvalidStatus as refused:
        body = bytes(refused.response.body or b"").decode(errors="replace")[:_MOST]
        return Seen(handshake.offered, refused.response.status_code, body)
    except ProxyError as exc:
        raise Unreachable(f"proxy error: {exc}") from exc
    except TimeoutError:
        if not made:
            raise Unreachable(f"no connection within {target.timeout:g} s") from None
        return Seen(handshake.offered, fault=f"No response within {target.timeout:g} s.")
    except InvalidHandshake as exc:
        return _misfit(made[0], handshake, exc)
    except (OSError, WebSocketException) as exc:
        raise Unreachable(str(exc)[:_MOST] or type(exc).__name__) from exc


def _misfit(connection: ClientConnection, handshake: _Handshake, exc: Exception) -> Seen:
    """A response that isn't HTTP, or accepts something that wasn't offered."""
    if connection.response is None:
        return Seen(handshake.offered, fault="The connection was lost before a response.")
    chosen = ", ".join(connection.response.headers.get_all("Sec-WebSocket-Protocol"))
    told = chosen[:_MOST]
    why = f"It accepts with {told!r}, which wasn't offered" if chosen else str(exc)[:_MOST]
    return Seen(handshake.offered, 101, "", chosen or None, fault=f"{why}: every client fails.")


async def _listen(
    socket: ClientConnection, messages: Sequence[str], enough: Callable[[], Awaitable[object]]
) -> dict[str, Any]:
    """What is heard until that is enough: the attributes of `Seen`."""
    heard: dict[str, Any] = {"spoke": False}
    waiting = anyio.CancelScope()

    async def wait() -> None:
        with waiting:
            await enough()
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        try:
            for message in messages:
                await socket.send(message)
            while True:
                await socket.recv()
                heard["spoke"] = True
        except ConnectionClosed as closed:
            heard["until"] = time.time()
            if closed.rcvd is None and closed.sent is not None and closed.sent.code == 1009:
                heard |= {"spoke": True, "left": True}
            else:
                heard["close"] = (1006, "")
            waiting.cancel()
    # Also where the server is yet to close the connection, before which nothing is raised above.
    if told := socket.protocol.close_rcvd:
        heard["close"] = (told.code, told.reason)
    return {"until": time.time(), **heard}
