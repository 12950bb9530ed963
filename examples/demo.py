"""Who may open a WebSocket, and for how long: a page to try it on.

    pip install -e '.[demo]'
    python examples/demo.py

Open the URL that it prints. The page has two parts. The first one connects to this server in eight
ways, good and bad, and shows what the browser got beside what the server decided, in each of the
three ways to tell a refusal. The second one logs in and keeps a socket open: it ends with its token
unless that is refreshed in time, and at once when the login is revoked.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import socket
import sys
import time
from collections import deque
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    APIKeyVerifier,
    Authenticator,
    Event,
    Header,
    HTTPAuthMiddleware,
    JWTVerifier,
    MemoryStore,
    QueryParam,
    Reason,
    Rejection,
    Revocations,
    Subprotocol,
    WebSocketAuthMiddleware,
    log_event,
)

# New ones at every start: nothing that this demo hands out is worth stealing.
SECRET = secrets.token_urlsafe(32)
API_KEY = f"wsk_{secrets.token_urlsafe(32)}"

# Seconds that a token may be asked for; the page offers the same. Tests shorten the shortest.
LIFETIMES = {"10": float(os.environ.get("SHORTEST", "10")), "90": 90.0, "300": 300.0}
PAGE = Path(__file__).with_name("demo.html")
NO_STORE = {"cache-control": "no-store"}

# The page's hidden helper from another origin opens the socket that it is asked to open, and
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
revocations = Revocations(MemoryStore())  # several processes share a RedisStore


def mint(
    key: str = SECRET, *, lifetime: float = 300, audience: str = "demo", login: str | None = None
) -> str:
    """A token for alice; `login` is the login that it belongs to, None for a new one."""
    now = time.time()  # not rounded: a token issued right after a revocation is to be newer
    claims = {
        "sub": "alice",
        "aud": audience,
        "iat": now,
        "exp": now + lifetime,
        "sid": login or secrets.token_urlsafe(8),
    }
    return jwt.encode(claims, key, algorithm="HS256")


def tokens(audience: str = "demo") -> JWTVerifier:
    """Verifies what `mint` makes. Both have the same clock, and ten seconds are to be ten."""
    return JWTVerifier(SECRET, algorithms=["HS256"], audience=audience, leeway=0)


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


# The first part: opening a socket.


async def frame(request: Request) -> HTMLResponse:
    return HTMLResponse(FRAME)


async def credentials(request: Request) -> JSONResponse:
    """One of each kind, minted now. No other origin's page can read this: it has no CORS header."""
    given = {
        "good": mint(),
        "expired": mint(lifetime=-300),
        "forged": mint(secrets.token_urlsafe(32)),
        "api_key": API_KEY,
        "foreign_origin": request.app.state.foreign_origin,
    }
    return JSONResponse(given, headers=NO_STORE)


async def decisions(request: Request) -> JSONResponse:
    """What the observer was told of one attempt."""
    end = f"/{request.path_params['attempt']}"
    return JSONResponse([describe(event) for event in events if event.path.endswith(end)])


def describe(event: Event) -> dict[str, Any]:
    """All of it, detail and all: here the client is also the one who reads the log."""
    told = {"event": event.name, **asdict(event)}
    reason = told.get("reason")
    if isinstance(reason, Reason):
        told |= {"reason": reason.phrase, "status": reason.http_status, "advice": reason.advice}
    return told


async def echo(websocket: WebSocket) -> None:
    """The app behind the middleware. It never sees a credential, nor a client that was refused."""
    await websocket.accept()
    # A browser calls a socket open that is about to be refused, too: a first message is how a
    # client knows that it is in.
    await websocket.send_text(f"Hello, {websocket.user.display_name}")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


# The second part: an open socket, and how it ends.


async def log_in(request: Request) -> JSONResponse:
    """At /login a new login: here anybody may be alice, a real one asks for a password first. At
    /refresh, which takes refresh tokens and no other ones, a new token for a login that lasts."""
    lifetime = LIFETIMES.get(request.query_params.get("lifetime", "90"))
    if lifetime is None:
        return JSONResponse({"error": f"lifetime is none of {', '.join(LIFETIMES)}"}, 400)
    known = request.scope.get("user")
    login = known.session_id if known else secrets.token_urlsafe(8)
    given = {
        "token": mint(lifetime=lifetime, login=login),
        "refresh_token": mint(lifetime=3600, audience="demo-refresh", login=login),
    }
    return JSONResponse(given, headers=NO_STORE)


async def me(request: Request) -> JSONResponse:
    return JSONResponse({"name": request.user.display_name})


# Revoking takes a token in a header: no other site's page has it, and there is no cookie that a
# browser would add by itself.


async def revoke_login(request: Request) -> JSONResponse:
    await revocations.revoke_session(request.user.session_id)
    return JSONResponse({"revoked": "this login"})


async def revoke_user(request: Request) -> JSONResponse:
    await revocations.revoke_user(request.user.identity)
    return JSONResponse({"revoked": f"all logins of {request.user.identity}"})


async def live(websocket: WebSocket) -> None:
    """An app that only says hello. It does nothing about the end of a socket, nor about a refresh:
    the middleware does."""
    await websocket.accept()
    expires_at = websocket.scope["wsauth"].expires_at
    hello = {"type": "hello", "name": websocket.user.display_name, "expires_at": expires_at}
    await websocket.send_json(hello)
    async for _ in websocket.iter_text():
        pass


def build(origin: str, foreign_origin: str) -> Starlette:
    policy = partial(
        Authenticator,
        allowed_origins=[origin, origin.replace("127.0.0.1", "localhost")],
        observers=(log_event, events.append),
        revocations=revocations,
    )
    in_header = Header("authorization", scheme="Bearer")
    attempts = policy(
        [tokens(), APIKeyVerifier({"nightly-report": API_KEY})],
        sources=(QueryParam("token"), in_header, Subprotocol()),
    )
    # The same authenticator for HTTP and for the socket: what is revoked is refused by both.
    logins = policy([tokens()], sources=(in_header, Subprotocol()))
    refreshes = policy([tokens(audience="demo-refresh")], sources=(in_header,))

    logged_in = [Middleware(HTTPAuthMiddleware, authenticator=logins)]
    can_refresh = [Middleware(HTTPAuthMiddleware, authenticator=refreshes)]
    refreshed = Middleware(
        WebSocketAuthMiddleware, authenticator=logins, refresh_message="auth.refresh"
    )
    routes: list[BaseRoute] = [
        Route("/", page),
        Route("/frame", frame),
        Route("/credentials", credentials),
        Route("/decisions/{attempt}", decisions),
        Route("/login", log_in, methods=["POST"]),
        Route("/refresh", log_in, methods=["POST"], middleware=can_refresh),
        Route("/me", me, middleware=logged_in),
        Route("/revoke", revoke_login, methods=["POST"], middleware=logged_in),
        Route("/revoke/everywhere", revoke_user, methods=["POST"], middleware=logged_in),
        WebSocketRoute("/live", live, middleware=[refreshed]),
    ]
    for mode in get_args(Rejection):
        guard = Middleware(WebSocketAuthMiddleware, authenticator=attempts, rejection=mode)
        routes.append(WebSocketRoute(f"/ws/{mode}/{{attempt}}", echo, middleware=[guard]))
    app = Starlette(routes=routes)
    app.state.foreign_origin = foreign_origin
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="Who may open a WebSocket, and for how long.")
    parser.add_argument("--port", type=int, default=8765, help="0 for any free one (default: 8765)")
    port = parser.parse_args().port
    try:
        # The same server twice: to a browser, another port is another origin.
        listeners = [socket.create_server(("127.0.0.1", number)) for number in (port, 0)]
    except OSError as exc:
        sys.exit(f"Port {port} can't be used ({exc.strerror}); try --port 0")
    origin, foreign_origin = (f"http://127.0.0.1:{s.getsockname()[1]}" for s in listeners)
    logging.basicConfig(level=logging.INFO, format="%(levelname)-8s %(message)s")
    app = build(origin, foreign_origin)
    config = uvicorn.Config(app, access_log=False, timeout_graceful_shutdown=2)
    print(f"Open {origin} in a browser; Ctrl+C ends it.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=listeners)


if __name__ == "__main__":
    main()
