"""A close that reaches its client.

Who closes a TCP connection while something that the client sent is still unread resets it, and a
close that the client has not read by then is lost: a page that talks sees 1006 (RFC 9293 section
3.6.1). So whoever closes a socket here reads on until the client has answered, or is gone.
"""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint
from starlette.types import Message, Receive, Send

from asgi_wsauth.denial import DAPHNE_CLOSE_CODES, Denied
from asgi_wsauth.events import logger
from asgi_wsauth.tasks import call_on_first_wait, spawn

__all__ = ["PATIENCE", "close", "close_message", "read_on", "send_close", "try_send"]

PATIENCE = 1.0  # seconds that a client has to answer a close

# Seconds until a client is listened to although the server is not done with the close yet. uvicorn
# waits for the client's answer, which may stand behind more messages than it keeps; Granian would
# not send the close while somebody listens.
_HEAD_START = 0.05


async def close(receive: Receive, send: Send, denied: Denied, code: int, *first: Message) -> bool:
    """Close a socket that was accepted, or is by `first`, and read on until the client is gone, for
    a second at most; what it still says goes nowhere.

    Args:
        receive: the server's. Nobody else may wait for it.
        send: the server's.
        denied: why.
        code: the close code for that.
        first: what is to be sent before.

    Returns:
        Whether the client is gone.
    """
    if await try_send(send, *first) is not None:
        return True
    listener = _Listener(receive)
    try:
        with anyio.move_on_after(PATIENCE):
            sending = send_close(send, denied, code)
            if not await call_on_first_wait(sending, listener.start_soon):
                return True
            await listener.listen()
    finally:
        await listener.stop()
    return listener.client_is_gone


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
    """Send an answer; what the server raises is returned. A client that is gone by now is nobody's
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

    def __init__(self, receive: Receive) -> None:
        self.client_is_gone = False
        self._receive = receive
        self._scope: anyio.CancelScope | None = None  # of the task, where there is one
        self._sent: anyio.Event | None = None
        self._ended: anyio.Event | None = None

    def start_soon(self) -> None:
        """Listen in a task of its own, unless `listen` is called within the head start."""
        self._scope, self._sent, self._ended = anyio.CancelScope(), anyio.Event(), anyio.Event()
        spawn(self._listen_in_task)

    async def listen(self) -> None:
        """Listen until the client is gone."""
        if self._sent is None or self._ended is None:
            await self._listen()
        else:
            self._sent.set()
            await self._ended.wait()

    async def stop(self) -> None:
        """Wait no more, so that nobody does when the server gets its callable back."""
        if self._scope is not None and self._ended is not None:
            self._scope.cancel()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()

    async def _listen_in_task(self) -> None:
        assert self._scope is not None and self._sent is not None and self._ended is not None
        try:
            with self._scope:
                with anyio.move_on_after(_HEAD_START):
                    await self._sent.wait()
                await self._listen()
        finally:
            self._ended.set()

    async def _listen(self) -> None:
        await _until_gone(self._receive)
        self.client_is_gone = True


async def _until_gone(receive: Receive) -> None:
    try:
        while (await receive())["type"] != "websocket.disconnect":
            await checkpoint()  # what was queued is no reason to hold up the event loop
    except Exception as exc:  # receive() itself failed: there is no client any more
        logger.debug("the client could not be heard: %s", type(exc).__qualname__)
