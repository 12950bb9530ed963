"""What strangers knock at: `stranger_apps:app`, over HTTP and WebSocket, by path.

`good` is admitted, and so is `good...`; `expired...` is EXPIRED, `revoked...` REVOKED, everything
else INVALID. `slow...` takes its time to be judged.

    /door/ID      the middlewares as they come
    /door-auto/ID     with `rejection="auto"`
    /first/ID     with a first message
    /throttled/ID     with a throttle at 10/minute, and any origin
    /named/ID     with a throttle at 10/minute, and this server's own origin
    /off/ID       where login is off
    /judged/ID    how many bad credentials were judged there
    /page         a page

Each ID has middlewares of its own.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, JSONResponse

from asgi_wsauth import (
    Authenticator,
    Credential,
    Denied,
    FailureThrottle,
    FirstMessage,
    HTTPAuthMiddleware,
    Principal,
    Reason,
    WebSocketAuthMiddleware,
)

JUDGED: Counter[str] = Counter()


async def verify(credential: Credential, conn: HTTPConnection) -> Principal | None:
    value = credential.value
    if value.startswith("slow"):
        await anyio.sleep(0.05)
        value = value.removeprefix("slow-")
    if value.startswith("good"):
        return Principal("alice")
    JUDGED[conn.scope["path"].rpartition("/")[2]] += 1
    if value.startswith("expired"):
        raise Denied(Reason.EXPIRED)
    raise Denied(Reason.REVOKED if value.startswith("revoked") else Reason.INVALID)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await JSONResponse("hello")(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message.get("text", "")})


def guarded(kind: str) -> tuple[Any, Any]:
    options: dict[str, Any] = {}
    more: dict[str, Any] = {}
    if kind == "door-auto":
        more["rejection"] = "auto"
    if kind == "first":
        options["sources"] = [FirstMessage()]
    if kind in ("throttled", "named"):
        options["throttle"] = FailureThrottle("10/minute")
    if kind == "named":
        options["allowed_origins"] = [f"http://127.0.0.1:{os.environ['WIRE_PORT']}"]
    if kind == "off":
        options["required"] = False
    auth = Authenticator([verify], **options)
    return WebSocketAuthMiddleware(hello, auth, **more), HTTPAuthMiddleware(hello, auth)


_GUARDED: dict[str, tuple[Any, Any]] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await Starlette()(scope, receive, send)
        return
    _, kind, *rest = scope["path"].split("/")
    if kind == "page":
        page = "<!doctype html><link rel=icon href=data:,><title>a page</title>"
        await HTMLResponse(page)(scope, receive, send)
    elif kind == "judged":
        await JSONResponse(JUDGED[rest[0]])(scope, receive, send)
    else:
        if scope["path"] not in _GUARDED:
            _GUARDED[scope["path"]] = guarded(kind)
        await _GUARDED[scope["path"]][scope["type"] == "http"](scope, receive, send)
