"""The first message on a socket that was accepted for it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.loops.tasks import Breakable
from asgi_wsauth.options import check_bool, check_count, check_seconds, kind_of
from asgi_wsauth.sources.dialects import DialectName, Read, dialect_for, token_in
from asgi_wsauth.sources.source import check_token
from asgi_wsauth.sources.subprotocol import offered_subprotocols
from asgi_wsauth.sources.waiting import WaitingRoom

__all__ = ["FirstMessage", "token_in"]


class FirstMessage:
    """The client's first message: `{"type": "auth", "token": "..."}`, as text, or what the clients
    of another `dialect` send.

    A handshake in which no other source finds a credential is accepted, and the client has some
    time to send the message. The app sees an ordinary connect afterwards; the subprotocol that it
    accepts with is not sent, because the socket was accepted before. `allowed_origins` and the
    throttle are checked before that. Over HTTP, this source finds nothing.

    A client that sends nothing is MISSING, and counts for the throttle; a message that is another
    one, or too long, is MALFORMED. While `max_waiting` sockets wait, a new one takes the place of
    one from the address that has the most of them, if its own address has fewer; otherwise it is
    refused as TOO_MANY_CONNECTIONS.

    The dialects:

    - `graphql-transport-ws`: GraphQL's `connection_init`, with `Authorization`, in any case, in its
      `payload`, with or without `Bearer` before the token. Without it, the client is MISSING. The
      socket is accepted with `graphql-transport-ws`, or else the older `graphql-ws`, if the client
      offers it. The server behind waits for that message, too, so set `replay`; and for the codes
      of that protocol, see `GRAPHQL_CLOSE_CODES`.
    - `home-assistant`: the client is sent `{"type": "auth_required"}`, sends `{"type": "auth",
      "access_token": "..."}`, and is sent `auth_ok`; or `auth_invalid`, before the close, unless it
      should try again with the same token.
    - a function from a message (str, or bytes if it is binary) to the token in it, or to None,
      which is MALFORMED. It may raise `Denied`; whatever else it raises is ERROR.

    Args:
        timeout: seconds from the accept to the message.
        max_size: characters that the message may have, or bytes if it is binary. Raise it if your
            tokens are larger.
        max_waiting: how many sockets may be waiting at once, in this process.
        max_waiting_per_client: how many sockets of one address may be waiting at once (of an IPv6
            address, the first 64 bits count). A peer without an address (a Unix socket) has no such
            limit.
        subprotocol: what to accept with, if the client offers it; None for the dialect's own. Set
            it if pages offer subprotocols: a browser fails a socket that echoes none of them.
        dialect: what the message is like: `"graphql-transport-ws"`, `"home-assistant"` or a
            function; None for `{"type": "auth", "token": "..."}`.
        replay: whether the app gets the message too, without the token, as the first one after its
            connect, as a GraphQL server needs. In JSON, strings that are the token are left out;
            from longer strings and from other messages, it is cut out. A message that doesn't
            contain it literally is refused, with ERROR.

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
        dialect: DialectName | Read | None = None,
        replay: bool = False,
    ) -> None:
        self.timeout = check_seconds("FirstMessage: timeout", timeout)
        self.max_size = check_count("FirstMessage: max_size", max_size)
        self.dialect = dialect_for("FirstMessage: dialect", dialect)
        self.replay = check_bool("FirstMessage: replay", replay)
        self._subprotocols = self.dialect.subprotocols
        if subprotocol is not None:
            self._subprotocols = (check_token("FirstMessage: subprotocol", subprotocol, "chat"),)
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
        offered = offered_subprotocols(scope)
        return [word for word in self._subprotocols if word in offered][:1]

    def read(self, message: str | bytes | None) -> str:
        """The credential in a message.

        Raises:
            Denied: there is none.
        """
        if message is None or len(message) > self.max_size:
            raise Denied(Reason.MALFORMED, f"{self} is not text, or is too long")
        try:
            token: object = self.dialect.read(message)
            if not isinstance(token, (str, type(None))):
                raise TypeError(f"a dialect found {kind_of(token)}; it must be a str")
        except Denied:
            raise
        except Exception as exc:  # of a user's own function, whose message may quote the client's
            raise Denied.because(self, exc, may_quote=False) from exc
        if token is None:
            raise Denied(Reason.MALFORMED, f"{self} is another one")
        return token

    def __repr__(self) -> str:
        return "first message"
