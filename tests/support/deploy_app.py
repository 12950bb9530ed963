"""An app that drains its sockets when its process is told to end, as docs/guides/deploys.md says;
for test_wire_deploys.py, and by hand for crowds of any size."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    Authenticator,
    Principal,
    WebSocketAuthMiddleware,
    drain_on_signal,
)

OVER = float(os.environ.get("DRAIN_OVER", "1"))
SIGNUM = signal.Signals[os.environ.get("DRAIN_SIGNAL", "SIGTERM")]
IS_DAPHNE = "daphne" in sys.modules


async def verify(credential: Any, conn: Any) -> Principal:
    return Principal("alice", expires_at=time.time() + 3600 if credential.value == "ends" else None)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for words in websocket.iter_text():
        await websocket.send_text(words)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    with drain_on_signal(over=OVER, signum=SIGNUM):
        print("ready")
        yield


app = WebSocketAuthMiddleware(
    Starlette(routes=[WebSocketRoute("/ws", echo)], lifespan=lifespan),
    Authenticator([verify], observers=()),
    close_codes=DAPHNE_CLOSE_CODES if IS_DAPHNE else {},
)

if IS_DAPHNE:  # which tells an app nothing of its own beginning
    from twisted.internet import reactor

    when_it_runs: Any = reactor
    when_it_runs.callLater(0, drain_on_signal(over=OVER, signum=SIGNUM).__enter__)
