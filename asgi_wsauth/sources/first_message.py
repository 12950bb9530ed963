"""The first message on a socket that was accepted for it."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.loops.tasks import Breakable
from asgi_wsauth.options import check_count, check_seconds
from asgi_wsauth.sources.source import check_token
from asgi_wsauth.sources.subprotocol import offered_subprotocols
from asgi_wsauth.sources.waiting import WaitingRoom

__all__ = ["FirstMessage", "token_in"]


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
            check_token("FirstMessage: subprotocol", subprotocol, "chat")
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
    def number_waiting(self) -> int:
        """How many sockets wait."""
        return len(self._room)

    def protocols(self, scope: Scope) -> list[str]:
        """What to accept a handshake with: one subprotocol, or none."""
        return [word for word in offered_subprotocols(scope) if word == self._subprotocol][:1]

    def read(self, text: str | None) -> str:
        """The credential in a message; None stands for one that is not text.

        Raises:
            Denied: with `Reason.MALFORMED`.
        """
        if text is None or len(text) > self.max_size:
            raise Denied(Reason.MALFORMED, f"{self} is not text, or is too long")
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
