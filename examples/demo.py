"""Run `python examples/demo.py` and open the URL that it prints.

A page that connects to this server in eight ways, good and bad, and shows what the browser got
beside what the server decided, in each of the three ways to tell a refusal. It needs the extra
`demo` (`pip install "asgi-wsauth[demo]"`), no other server and no internet.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import secrets
import socket
import sys
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from asgi_wsauth import (
    APIKeyVerifier,
    Authenticator,
    Event,
    Header,
    JWTVerifier,
    QueryParam,
    Refused,
    Rejection,
    Subprotocol,
    WebSocketAuthMiddleware,
    log_event,
)

# New ones at every start: nothing that this demo hands out is worth stealing.
SECRET = secrets.token_urlsafe(32)
API_KEY = f"wsk_{secrets.token_urlsafe(32)}"

PAGE = Path(__file__).with_name("demo.html")

# The page's hidden helper from another origin: it opens the socket that it is asked to open, and
# reports how that ended.
FRAME = """<!doctype html>
<title>Another origin</title>
<script>
addEventListener("message", ({ data: url, ports: [port] }) => {
  const socket = new WebSocket(url);
  let opened = false;
  socket.onopen = () => { opened = true; };
  socket.onclose = ({ code, reason }) => port.postMessage({ opened, code, reason });
});
</script>
"""

events: deque[Event] = deque(maxlen=500)


def mint(key: str = SECRET, lifetime: int = 300) -> str:
    claims = {"sub": "alice", "aud": "demo", "exp": int(time.time()) + lifetime}
    return jwt.encode(claims, key, algorithm="HS256")


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


async def frame(request: Request) -> HTMLResponse:
    return HTMLResponse(FRAME)


async def credentials(request: Request) -> JSONResponse:
    """One of each kind, minted now, so that the good ones are good however long the page is open.

    No other origin's page can read this answer, since it has no CORS headers.
    """
    return JSONResponse(
        {
            "good": mint(),
            "expired": mint(lifetime=-300),
            "forged": mint(key=secrets.token_urlsafe(32)),
            "api_key": API_KEY,
            "foreign_origin": request.app.state.foreign_origin,
        },
        headers={"cache-control": "no-store"},
    )


async def decisions(request: Request) -> JSONResponse:
    """What the observer was told of one attempt."""
    end = f"/{request.path_params['attempt']}"
    return JSONResponse([describe(event) for event in events if event.path.endswith(end)])


def describe(event: Event) -> dict[str, Any]:
    """All of it, detail and all: here the client is also the one who reads the log."""
    told = {"event": event.name, **asdict(event)}
    if isinstance(event, Refused):
        reason = event.reason
        told |= {"reason": reason.phrase, "status": reason.http_status, "advice": reason.advice}
    return told


async def echo(websocket: WebSocket) -> None:
    """The app behind the middleware. It never sees a credential, nor a client that was refused."""
    with contextlib.suppress(WebSocketDisconnect):
        await websocket.accept()
        # A browser calls a socket open that is about to be refused, too: a first message is how a
        # client knows that it is in.
        await websocket.send_text(f"Hello, {websocket.user.display_name}")
        while True:
            await websocket.send_text(await websocket.receive_text())


def build(origin: str, foreign_origin: str) -> Starlette:
    authenticator = Authenticator(
        [
            JWTVerifier(SECRET, algorithms=["HS256"], audience="demo"),
            APIKeyVerifier({"nightly-report": API_KEY}),
        ],
        sources=(QueryParam("token"), Header("authorization", scheme="Bearer"), Subprotocol()),
        allowed_origins=[origin, origin.replace("127.0.0.1", "localhost")],
        observers=(log_event, events.append),
    )
    routes: list[BaseRoute] = [
        Route("/", page),
        Route("/frame", frame),
        Route("/credentials", credentials),
        Route("/decisions/{attempt}", decisions),
    ]
    for mode in get_args(Rejection):
        guard = Middleware(WebSocketAuthMiddleware, authenticator=authenticator, rejection=mode)
        routes.append(WebSocketRoute(f"/ws/{mode}/{{attempt}}", echo, middleware=[guard]))
    app = Starlette(routes=routes)
    app.state.foreign_origin = foreign_origin
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="What a refused WebSocket client sees.")
    parser.add_argument("--port", type=int, default=8765, help="0 for any free one (default: 8765)")
    port = parser.parse_args().port
    try:
        # The same server twice: to a browser, another port is another origin.
        listeners = [socket.create_server(("127.0.0.1", number)) for number in (port, 0)]
    except OSError as exc:
        sys.exit(f"Port {port} can't be used ({exc.strerror}); try --port 0")
    origin, foreign_origin = (f"http://127.0.0.1:{s.getsockname()[1]}" for s in listeners)
    logging.basicConfig(level=logging.INFO, format="%(levelname)-8s %(message)s")
    config = uvicorn.Config(
        build(origin, foreign_origin), access_log=False, timeout_graceful_shutdown=2
    )
    print(f"Open {origin} in a browser; Ctrl+C ends it.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=listeners)


if __name__ == "__main__":
    main()
