"""What nobody can leave out, in as few lines as it takes: the floor under what this package could
reach in Python. It knows one place for a token, one key and one algorithm, has no options, tells
nobody of anything, and ends nothing that is open: not for use."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any

import jwt
from handshakes import SECRET
from starlette.authentication import AuthCredentials

from asgi_wsauth import Principal, Reason

App = Callable[[Any, Any, Any], Awaitable[None]]

_TOKEN = re.compile(rb"(?:^|&)token=([^&]*)")


class Floor:
    """A login by an HS256 token in the query string, which is taken out of it.

    Args:
        app: the app.
        guarded: whether the socket could be ended: its app's `receive` could be broken off, its
            `send` could raise, and there is a timer.
        cached: whether a good signature is remembered.
    """

    def __init__(self, app: App, *, guarded: bool = True, cached: bool = False) -> None:
        self._app = app
        self._guarded = guarded
        self._known: set[bytes] | None = set() if cached else None
        self._algorithm = jwt.get_algorithm_by_name("HS256")
        self._key = self._algorithm.prepare_key(SECRET)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        query = scope["query_string"]
        found = _TOKEN.search(query)
        token = "" if found is None else found[1].decode()
        scope["query_string"] = _TOKEN.sub(b"", query)
        try:
            user = self._verified(token)
        except ValueError:
            await _refuse(receive, send)
            return
        auth = AuthCredentials(["authenticated", *user.scopes])
        scope = {**scope, "user": user, "auth": auth, "wsauth": None}
        if not self._guarded:
            await self._app(scope, receive, send)
            return
        guard = Guard(receive, send)
        timer = asyncio.get_running_loop().call_later(user.expires_at - time.time(), guard.end)
        try:
            await self._app(scope, guard.receive, guard.send)
        finally:
            timer.cancel()

    def _verified(self, token: str) -> Any:
        """Raises a ValueError for a bad one."""
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        digest = b"" if self._known is None else blake2b(token.encode(), key=b"secret").digest()
        if self._known is None or digest not in self._known:
            if json.loads(_decoded(header).decode()).get("alg") != "HS256":
                raise ValueError("alg")
            if not self._algorithm.verify(signed.encode(), self._key, _decoded(signature)):
                raise ValueError("signature")
            if self._known is not None:
                self._known.add(digest)
        claims = json.loads(_decoded(payload).decode())
        if claims["exp"] < time.time():
            raise ValueError("exp")
        return Principal(
            claims["sub"], claims=claims, expires_at=float(claims["exp"]), method="jwt"
        )


def _decoded(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


class Guard:
    """What stands between an app and its server where the socket could be ended.

    Args:
        receive: the server's.
        send: the server's.
    """

    __slots__ = ("_loop", "_receive", "_send", "ended", "waits")

    def __init__(self, receive: Any, send: Any) -> None:
        self._receive, self._send = receive, send
        self._loop = asyncio.get_running_loop()
        self.ended = False
        self.waits: asyncio.Task[Any] | None = None

    async def receive(self) -> Any:
        self.waits = asyncio.current_task(self._loop)
        try:
            message = await self._receive()
        finally:
            self.waits = None
        if message["type"] == "websocket.disconnect":
            self.ended = True
        return message

    def send(self, message: Any) -> Awaitable[None]:
        if self.ended:
            raise OSError("it was ended")
        sending: Awaitable[None] = self._send(message)
        return sending

    def end(self) -> None:
        self.ended = True
        if self.waits is not None:
            self.waits.cancel()


async def _refuse(receive: Any, send: Any) -> None:
    """Accept, close, and read until the client is gone, for a second."""
    task = asyncio.current_task()
    assert task is not None
    await receive()
    await send({"type": "websocket.accept"})
    timer = asyncio.get_running_loop().call_later(1, task.cancel)
    reason = Reason.INVALID
    try:
        await send({"type": "websocket.close", "code": 1008, "reason": reason.phrase})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        timer.cancel()


def with_lines(app: App, count: int) -> App:
    """The app, and so many lines of log behind it, whose text is at hand."""
    logger = logging.getLogger("asgi_wsauth")
    text = "client=127.0.0.1 path=/ws origin=https://chat.example duration=0.0001"

    async def logging_app(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        for _ in range(count):
            logger.warning("websocket %s: %s", "admitted", text)

    return logging_app
