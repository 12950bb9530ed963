"""A page whose socket reconnects: when its login is renewed, or the network or the server returns.

    pip install -e '.[demo]'
    python examples/browser/app.py

Open the URL that it prints, log in, and then restart this server, disconnect the network, wait
until the login ends after a minute, or log out in another tab. What the page does then is in
wsauth.js; copy that file. Set PORT to change the port (8000). SECRET keeps logins valid after a
restart; without it the page asks for a new one."""

import os
import secrets
import time
from pathlib import Path

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    Authenticator,
    Cookie,
    HTTPAuthMiddleware,
    JWTVerifier,
    MemoryStore,
    Revocations,
    TicketEndpoint,
    Tickets,
    WebSocketAuthMiddleware,
)

PORT = int(os.environ.get("PORT", "8000"))
ORIGIN = f"http://127.0.0.1:{PORT}"
HERE = Path(__file__).parent
SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
LIFETIMES = {"login": 60, "renewal": 3600}  # seconds for which each cookie is valid

tickets = Tickets(MemoryStore())
revocations = Revocations(MemoryStore())


def by_cookie(name: str) -> Authenticator:
    return Authenticator(
        [JWTVerifier(SECRET, algorithms=["HS256"], audience=name, leeway=0)],
        sources=[Cookie(name)],
        allowed_origins=[ORIGIN],
        revocations=revocations,
    )


login, renewal = by_cookie("login"), by_cookie("renewal")
sockets = Authenticator([tickets], allowed_origins=[ORIGIN], revocations=revocations)


def with_cookies(*names: str) -> Response:
    response = Response(status_code=204)
    now = time.time()  # not rounded, so that a login right after a logout is newer
    for name in names:
        claims = {"sub": "alice", "aud": name, "iat": now, "exp": now + LIFETIMES[name]}
        token = jwt.encode(claims, SECRET, algorithm="HS256")
        # Over HTTPS also secure=True, and "__Host-" before the name.
        response.set_cookie(name, token, LIFETIMES[name], httponly=True, samesite="strict")
    return response


async def page(request: Request) -> FileResponse:
    return FileResponse(HERE / "index.html")


async def module(request: Request) -> FileResponse:
    return FileResponse(HERE / "wsauth.js", media_type="text/javascript")


async def log_in(request: Request) -> Response:
    if request.headers.get("origin") != ORIGIN:
        return Response(status_code=403)
    return with_cookies("login", "renewal")  # yours asks for a password


async def renew(request: Request) -> Response:
    return with_cookies("login")


async def log_out_everywhere(request: Request) -> Response:
    await revocations.revoke_user(request.user.identity)
    return Response(status_code=204)


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(f"Hello, {websocket.user.display_name}")
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.user.display_name}: {text}")


renewable = [Middleware(HTTPAuthMiddleware, authenticator=renewal)]
app = Starlette(
    routes=[
        Route("/", page),
        Route("/wsauth.js", module),
        Route("/login", log_in, methods=["POST"]),
        Route("/renew", renew, methods=["POST"], middleware=renewable),
        Route("/logout", log_out_everywhere, methods=["POST"], middleware=renewable),
        Route("/ticket", TicketEndpoint(tickets, login), methods=["POST"]),
        WebSocketRoute("/ws", chat),
    ],
    middleware=[Middleware(WebSocketAuthMiddleware, authenticator=sockets)],
)

if __name__ == "__main__":
    print(f"Open {ORIGIN}", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=PORT)
