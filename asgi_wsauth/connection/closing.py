"""A close that reaches its client.

Closing a TCP connection while data from the client is unread resets it, and a close frame that the
client has not read by then is lost: a page that is sending sees 1006 (RFC 9293 section 3.6.1). So
after a close, the client is read from until it has answered or disconnected.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial

import anyio
from anyio.lowlevel import checkpoint
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Send
from starlette.websockets import WebSocketDisconnect

from asgi_wsauth.connection.valve import Valve
from asgi_wsauth.denial import DAPHNE_CLOSE_CODES, Denied
from asgi_wsauth.events import logger
from asgi_wsauth.loops.tasks import call_on_first_wait, spawn
from asgi_wsauth.loops.timers import Timer, timers, within

__all__ = [
    "PATIENCE",
    "SocketClosed",
    "StreamClosed",
    "close",
    "close_message",
    "read_on",
    "send_close",
    "tells_of_end",
    "try_send",
]

PATIENCE = 1.0  # seconds that a client has to answer a close
_STEPS = 4  # of it: the event loop may stand still, as where hundreds are refused at once

# Seconds until a client is listened to although the server is not done with the close yet. uvicorn
# waits for the client's answer, which may stand behind more messages than it keeps; Granian would
# not send the close while somebody listens.
_HEAD_START = 0.05

# Bytes, or characters. A client that sends more is dropped, whether it has read its code or not: a
# message may be 16 MB that took 16 kB to send.
_TOO_MUCH = 4 * 1024 * 1024


class SocketClosed(OSError):
    """What an app's `send` raises after its socket was closed, by the middleware or by the app
    itself (ASGI 2.4, "Disconnected client"). An app that only sends may catch it to end:

        with suppress(SocketClosed):
            async for line in news:
                await websocket.send_text(line)
    """


class StreamClosed(OSError):
    """What an app's `send` raises after its response was ended with the login (ASGI 2.4,
    "Disconnected client"). Frameworks then end the stream, as if its client had left.
    """


for _public in (SocketClosed, StreamClosed):  # where they are imported from: tracebacks say it
    _public.__module__ = "asgi_wsauth"


async def close(
    receive: Receive,
    send: Send,
    denied: Denied,
    code: int,
    *first: Message,
    valve: Valve | None = None,
) -> bool:
    """Close a socket that was accepted, or is by `first`, and read on until the client is gone, for
    a second at most; what it still says goes nowhere.

    Args:
        receive: the server's. Nobody else may wait for it.
        send: the server's.
        denied: why.
        code: the close code for that.
        first: what is to be sent before.
        valve: the connection's, for a client that isn't trusted.

    Returns:
        Whether the client is gone.
    """
    if first and await try_send(send, *first) is not None:
        return True
    listener = _Listener(receive, valve, close_message(denied, code))
    try:
        work = _tell(send, denied, code, listener)
        await within(PATIENCE, work, late=TimeoutError, steps=_STEPS)
    except TimeoutError:
        pass
    finally:
        await listener.stop()
    return listener.client_is_gone


async def _tell(send: Send, denied: Denied, code: int, listener: _Listener) -> None:
    if await call_on_first_wait(send_close(send, denied, code), listener.start_soon):
        await listener.listen()
    else:
        listener.client_is_gone = True


async def read_on(receive: Receive, deadline: float) -> None:
    """Read until the client of a socket that was closed is gone, or until `deadline` by anyio's
    clock."""
    with anyio.CancelScope(deadline=deadline):
        await _until_gone(receive)


async def send_close(send: Send, denied: Denied, code: int) -> bool:
    """Close a socket that was accepted; whether the server took it."""
    failure = await try_send(send, close_message(denied, code))
    spare = DAPHNE_CLOSE_CODES.get(denied.reason, code)
    if failure is not None and not isinstance(failure, OSError) and spare != code:
        # Daphne raises for a code that it can't send, and would keep the socket open.
        logger.warning("the server can't send %d: sent %d; see close_codes", code, spare)
        failure = await try_send(send, close_message(denied, spare))
    return failure is None


def close_message(denied: Denied, code: int) -> Message:
    """The close that tells of a refusal."""
    return {"type": "websocket.close", "code": code, "reason": denied.reason.phrase}


async def try_send(send: Send, *messages: Message) -> Exception | None:
    """Send an answer; return what the server raises. A client that has disconnected by now is no
    error."""
    try:
        for message in messages:
            await send(message)
    except Exception as exc:
        logger.debug("the client could not be told: %s", type(exc).__qualname__)
        return exc
    return None


class _Listener:
    """Listens to a client that was told to go.

    Attributes:
        client_is_gone: whether it is.
    """

    def __init__(self, receive: Receive, valve: Valve | None, told: Message) -> None:
        self.client_is_gone = False
        self._told = told
        self._receive = receive
        self._valve = valve
        self._head_start: Timer | None = None
        self._task: tuple[anyio.CancelScope, anyio.Event] | None = None  # what ends it, its end

    def start_soon(self) -> None:
        """Listen in a task of its own, unless `listen` is called within the head start."""
        if self._valve is None:
            here = timers(anyio.current_time)
            # The server's `receive` may be wrapped by what looks at the request's context.
            self._head_start = here.call_in(_HEAD_START, partial(copy_context().run, self._start))
        else:
            self._start()

    def _start(self) -> None:
        self._task = anyio.CancelScope(), anyio.Event()
        spawn(partial(self._listen_in_task, *self._task))

    async def _listen_in_task(self, scope: anyio.CancelScope, ended: anyio.Event) -> None:
        try:
            with scope:
                await self._listen()
        finally:
            ended.set()

    async def listen(self) -> None:
        """Listen until the client is gone."""
        if self._head_start is not None:
            self._head_start.cancel()
        if self._task is None:
            await self._listen()
        else:
            await self._task[1].wait()

    async def stop(self) -> None:
        """Stop waiting, so that nothing waits when the server gets its callable back."""
        if self._head_start is not None:
            self._head_start.cancel()
        if self._task is not None:
            scope, ended = self._task
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await ended.wait()

    async def _listen(self) -> None:
        if self._valve is None:
            self.client_is_gone = await _until_gone(self._receive, self._told)
        else:
            await self._valve.until_gone()
            self.client_is_gone = True


async def _until_gone(receive: Receive, told: Message | None = None) -> bool:
    """Whether it is; False where it says too much.

    Args:
        receive: the server's.
        told: the close that it was sent.
    """
    size = 0
    try:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                if not _is_echo(message, told):
                    return True
                told = None
            size += len(message.get("bytes") or message.get("text") or "")
            if size > _TOO_MUCH:
                return False
            await checkpoint()  # a long queue must not hold up the event loop
    except Exception as exc:  # receive() itself failed: there is no client any more
        logger.debug("the client could not be heard: %s", type(exc).__qualname__)
    return True


def _is_echo(disconnect: Message, told: Message | None) -> bool:
    """Whether a server says what it was told itself, as uvicorn does at once (websockets-sansio,
    wsproto). When the client is gone, it says so once more."""
    return (
        told is not None
        and disconnect.get("code") == told["code"]
        and disconnect.get("reason") == told["reason"]
    )


_ENDS = (SocketClosed, WebSocketDisconnect, StreamClosed, ClientDisconnect)


def tells_of_end(exc: BaseException) -> bool:
    """Whether an app ended with `exc` because its socket did, or its stream. Litestar raises an
    error of its own from the one of a stream."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(tells_of_end, exc.exceptions))
    cause = exc.__cause__
    if isinstance(cause, BaseExceptionGroup):
        return all(isinstance(error, StreamClosed) for error in cause.exceptions)
    return isinstance(exc, _ENDS) or isinstance(cause, StreamClosed)
