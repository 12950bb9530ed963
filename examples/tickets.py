"""A page that is logged in by a cookie opens its sockets with tickets.

    pip install -e '.[demo]'
    python examples/tickets.py

Open the address that it prints, and log in with the password beside it. The port is 8000, or what
the environment variable PORT says. SECRET and PASSWORD can be set too.

As `localhost` instead of `127.0.0.1`, the page gets no ticket: that is another origin, which isn't
in `allowed_origins`.
"""

import os
import secrets
import time
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    Authenticator,
    Cookie,
    HTTPAuthMiddleware,
    JWTVerifier,
    MemoryStore,
    QueryParam,
    TicketEndpoint,
    Tickets,
    WebSocketAuthMiddleware,
)

PORT = int(os.environ.get("PORT", "8000"))
ORIGIN = f"http://127.0.0.1:{PORT}"

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
PASSWORD = os.environ.get("PASSWORD") or secrets.token_urlsafe(9)
COOKIE = "tickets_login"
LIFETIME = 3600  # seconds for which a login lasts

tickets = Tickets(MemoryStore())

# Over HTTP the cookie identifies the user.
login = Authenticator(
    [JWTVerifier(SECRET, algorithms=["HS256"], audience="tickets")],
    sources=[Cookie(COOKIE)],
    allowed_origins=[ORIGIN],
)
# On sockets only a ticket does. Browsers send the cookie with a handshake, too, whichever page
# opens the socket, so it must not count there. Hence a second authenticator,
# which never looks at it. Who may connect is still decided in one place, by `login`: a ticket only
# carries that decision over.
sockets = Authenticator([tickets], sources=[QueryParam("token")], allowed_origins=[ORIGIN])


async def page(request: Request) -> FileResponse:
    return FileResponse(Path(__file__).with_name("tickets.html"))


async def log_in(request: Request) -> Response:
    # Otherwise any site could log its visitor in as somebody else, and read along.
    if request.headers.get("origin") != ORIGIN:
        return JSONResponse({"error": "origin_not_allowed"}, 403)
    form = parse_qs((await request.body()).decode(errors="replace"))
    password = form.get("password", [""])[0]
    if not secrets.compare_digest(password.encode(), PASSWORD.encode()):
        return JSONResponse({"error": "wrong_password"}, 403)
    claims = {"sub": "alice", "aud": "tickets", "exp": int(time.time()) + LIFETIME}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    response = JSONResponse({"name": "alice"})
    # No script can read it. Over HTTPS also secure=True, and "__Host-" before the name.
    response.set_cookie(COOKIE, token, max_age=LIFETIME, httponly=True, samesite="lax")
    return response


async def log_out(request: Request) -> Response:
    response = JSONResponse({})
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return response


async def me(request: Request) -> Response:
    return JSONResponse({"name": request.user.display_name})


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    # Browsers report a refused socket as open, too: a first message tells the page that it was
    # admitted.
    await websocket.send_text(f"Hello, {websocket.user.display_name}")
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.user.display_name}: {text}")


app = Starlette(
    routes=[
        Route("/", page),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
        Route("/me", me),
        Route("/ticket", TicketEndpoint(tickets, login), methods=["POST"]),
        WebSocketRoute("/ws", chat),
    ],
    # Around the whole app, so that no route can be forgotten.
    middleware=[
        Middleware(HTTPAuthMiddleware, authenticator=login, exclude=["/", "/login"]),
        Middleware(WebSocketAuthMiddleware, authenticator=sockets),
    ],
)

if __name__ == "__main__":
    print(f"Open {ORIGIN} and log in with the password {PASSWORD}", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=PORT)
