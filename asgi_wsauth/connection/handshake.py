"""The messages of one handshake, and what has been taken of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

import anyio
from starlette.types import Message, Receive, Scope, Send

from asgi_wsauth.connection.closing import PATIENCE, read_on, send_close, try_send
from asgi_wsauth.denial import Denied, Reason, SaidNothing
from asgi_wsauth.events import logger
from asgi_wsauth.loops.tasks import Breakable, spawn
from asgi_wsauth.sources import FirstMessage
from asgi_wsauth.sources.dialects import without_token

__all__ = ["Handshake", "accepted_scope"]


class Handshake:
    """One handshake, with the server's `receive` and `send`; and the socket that comes of it, if
    nothing but the app may end that.

    Args:
        receive: the server's.
        send: the server's.
        close_codes: the code for each reason.

    Attributes:
        receive: the server's.
        send: the server's.
        accepted: whether it was accepted, here or by the app, as far as that was seen here.
        client_left: whether the client is known to be gone.
        denied: why it was closed here, or is about to be refused; None if neither.
        is_watched: whether `watch` was called, and `stop_watching` is to be.
    """

    __slots__ = (
        "_cancel",
        "_close_codes",
        "_first",
        "_read_until",
        "_taken",
        "_wait",
        "_watch",
        "accepted",
        "client_left",
        "denied",
        "is_watched",
        "receive",
        "send",
    )

    def __init__(
        self,
        receive: Receive,
        send: Send,
        close_codes: Mapping[Reason | type[SaidNothing], int],
    ) -> None:
        self.receive = receive
        self.send = send
        self._close_codes = close_codes
        self.accepted = False
        self.client_left = self.is_watched = False
        self.denied: Denied | None = None
        self._taken: list[Message] = []
        self._first: FirstMessage | None = None  # what it was accepted for
        self._wait: Breakable | None = None  # for that
        self._watch: tuple[anyio.CancelScope, anyio.Event] | None = None
        self._cancel: Callable[[], None] | None = None
        self._read_until: float | None = None

    # The client's side, while the chain runs.

    def watch(self, cancel: Callable[[], None]) -> None:
        """Call `cancel` if the client leaves; the last one that was given."""
        self._cancel = cancel
        if self._watch is None:
            self._watch, self.is_watched = (anyio.CancelScope(), anyio.Event()), True
            spawn(partial(self._wait_for_leave, *self._watch))
        elif self.client_left:
            cancel()

    async def _wait_for_leave(self, scope: anyio.CancelScope, ended: anyio.Event) -> None:
        try:
            with scope:
                await self.take_connect()
                if not self.client_left:
                    await self._take()
        finally:
            ended.set()
        if self.client_left and self._cancel is not None:
            self._cancel()

    async def stop_watching(self) -> None:
        """End the watch, so that only the app waits for messages."""
        assert self._watch is not None
        scope, ended = self._watch
        scope.cancel()
        with anyio.CancelScope(shield=True):  # also where the handshake itself is cancelled
            await ended.wait()
        self._watch = self._cancel = None  # they would live as long as the socket
        self.is_watched = False

    async def take_connect(self) -> None:
        """Take the connect, unless that has been done."""
        if not self._taken:
            await self._take()

    async def _take(self) -> None:
        try:
            message = await self.receive()
        except Exception as exc:  # receive() itself failed: there is no client any more
            logger.debug("the client could not be heard: %s", type(exc).__qualname__)
            self.client_left = True
            return
        self._taken.append(message)
        if message["type"] == "websocket.disconnect":
            self.client_left = True

    async def first_message(
        self, source: FirstMessage, protocols: list[str], client: str | None
    ) -> str:
        """Accept, and wait for the credential that `source` means.

        Args:
            source: the source.
            protocols: the subprotocol to accept with, or none.
            client: the peer's host, as `client_host` gives it.

        Raises:
            Denied: there is none; also where the client left.
        """
        message: Message | None = None
        with source.waiting(client) as wait:
            await self.take_connect()
            if not self.client_left and self.denied is None:
                accept: Message = {
                    "type": "websocket.accept",
                    "subprotocol": protocols[0] if protocols else None,
                    "headers": [],
                }
                self.accepted, self._first = True, source
                hello = _said(source.dialect.hello)
                self.client_left = await try_send(self.send, accept, *hello) is not None
            if not self.client_left and not wait.broken and self.denied is None:
                self._wait = wait
                with wait, anyio.move_on_after(source.timeout):
                    await self._take()
                    message = None if self.client_left else self._taken.pop()
                self._wait = None
        if self.denied is not None:
            raise self.denied
        if message is not None:
            return self._read(source, message)
        if wait.broken:
            raise Denied(
                Reason.TOO_MANY_CONNECTIONS, "it made room for a client of another address"
            )
        why = f"no {source} within {source.timeout:g} s"
        raise Denied(Reason.MISSING, why) if self.client_left else SaidNothing(why)

    def interrupt(self, denied: Denied) -> None:
        """Refuse it for this, if its first message has not come yet."""
        if self.denied is None:
            self.denied = denied
            if self._wait is not None:
                self._wait.break_off()

    def _read(self, source: FirstMessage, message: Message) -> str:
        """The credential in the first message, which the app gets without it if it is to."""
        key = "bytes" if message.get("text") is None else "text"
        said: Any = message.get(key)
        token = source.read(said)
        if source.replay:
            self._taken.append({**message, key: without_token(said, token)})
        return token

    # What clients of some dialects are told, if the handshake was accepted for a first message.

    async def tell_admitted(self) -> None:
        """Tell the client that it was admitted."""
        assert self._first is not None
        welcome = _said(self._first.dialect.welcome)
        self.client_left |= await try_send(self.send, *welcome) is not None

    async def tell_refused(self, denied: Denied) -> None:
        """Tell the client why it is about to be closed."""
        assert self._first is not None
        await try_send(self.send, *_said(self._first.dialect.refusal(denied)))

    # What the app gets: the server's own objects, as long as nothing had to be taken or filled in.

    def app_receive(self) -> Receive:
        """What the app receives with."""
        taken = self._taken
        if not taken:
            return self.receive

        async def receive() -> Message:
            return taken.pop(0) if taken else await self.receive()  # none is kept for longer

        return receive

    def app_send(self, marker: str | None) -> Send:
        """What the app sends with.

        Args:
            marker: the subprotocol to accept with where the app chooses none.
        """
        if marker is None and not self.accepted:
            return self.send
        accepted = self.accepted

        async def send(message: Message) -> None:
            nonlocal accepted
            if message["type"] == "websocket.accept":
                if accepted:
                    accepted = False
                    return
                if not message.get("subprotocol"):
                    message = {**message, "subprotocol": marker}
            await self.send(message)

        return send

    def note_accepted(self) -> None:
        """The app has accepted it."""
        self.accepted = True

    # The end of a socket that has no guard.

    def end(self, denied: Denied, /) -> None:
        """`close`, soon."""
        spawn(partial(self.close, denied))

    async def close(self, denied: Denied, /) -> None:
        """Close it, unless that was done, and have `read_on` do its work: the app may be receiving
        still."""
        if self.denied is not None:
            return
        self.denied = denied
        self._read_until = anyio.current_time() + PATIENCE
        with anyio.CancelScope(deadline=self._read_until):
            await send_close(self.send, denied, self._close_codes[denied.reason])

    @property
    def close_code(self) -> int | None:
        """See `LiveConnection`."""
        return None if self.denied is None else self._close_codes[self.denied.reason]

    @property
    def needs_refresh(self) -> bool:
        """See `LiveConnection`."""
        return False

    def reschedule(self) -> None:
        """Nothing: only a guard ends a socket with its login."""

    async def read_on(self) -> None:
        """Now that the app is done, read until the client is gone, if `close` was called and that
        was less than a second ago.

        Not on Granian, whose `receive` is not a coroutine function: it drops the client with the
        close, and its worker would die if the app had never received its connect.
        """
        if self._read_until is not None and iscoroutinefunction(self.receive):
            await read_on(self.receive, self._read_until)


def _said(text: str | None) -> tuple[Message, ...]:
    """The messages with which a server says that, if it is anything."""
    return () if text is None else ({"type": "websocket.send", "text": text},)


def accepted_scope(scope: Scope, protocols: list[str]) -> Scope:
    """What the app is told of a handshake that was accepted with `protocols` before it saw it."""
    extensions = dict(scope.get("extensions") or {})
    extensions.pop("websocket.http.response", None)
    return {**scope, "subprotocols": protocols, "extensions": extensions}
