"""A page that is logged in by a cookie opens its sockets with tickets.

    pip install -e '.[demo]'
    python examples/tickets.py

Open the address that it prints, and log in with the password beside it. The port is 8000, or what
the environment variable PORT says. SECRET and PASSWORD can be set too.

Open it as `localhost` instead of `127.0.0.1`, and it gets no ticket: to a browser that is another
origin, and `allowed_origins` doesn't name it.
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
PAGE = Path(__file__).with_name("tickets.html")

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
PASSWORD = os.environ.get("PASSWORD") or secrets.token_urlsafe(9)
COOKIE = "tickets_login"
LIFETIME = 3600  # seconds for which a login lasts

tickets = Tickets(MemoryStore())

# Over HTTP the cookie says who it is.
login = Authenticator(
    [JWTVerifier(SECRET, algorithms=["HS256"], audience="tickets")],
    sources=[Cookie(COOKIE)],
    allowed_origins=[ORIGIN],
)
# On sockets a ticket does, and nothing else: a browser sends the cookie with a handshake as well,
# whatever page opens the socket, so here it must count for nothing. Hence a second authenticator,
# which never looks at it. Who may connect is still decided in one place, by `login`: a ticket only
# carries on what that decided.
sockets = Authenticator([tickets], sources=[QueryParam("token")], allowed_origins=[ORIGIN])


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


async def log_in(request: Request) -> Response:
    # Or any site could log its visitor in as somebody else, and read along.
    if request.headers.get("origin") != ORIGIN:
        return JSONResponse({"error": "origin_not_allowed"}, 403)
    form = parse_qs((await request.body()).decode(errors="replace"))
    password = form.get("password", [""])[0]
    if not secrets.compare_digest(password.encode(), PASSWORD.encode()):
        return JSONResponse({"error": "wrong_password"}, 403)
    claims = {"sub": "alice", "aud": "tickets", "exp": int(time.time()) + LIFETIME}
    response = JSONResponse({"name": "alice"})
    response.set_cookie(
        COOKIE,
        jwt.encode(claims, SECRET, algorithm="HS256"),
        max_age=LIFETIME,
        httponly=True,  # no script can read it
        samesite="lax",
        # Over HTTPS also secure=True, and "__Host-" before the name.
    )
    return response


async def log_out(request: Request) -> Response:
    response = JSONResponse({})
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return response


async def me(request: Request) -> Response:
    return JSONResponse({"name": request.user.display_name})


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    # A browser calls a socket open that is about to be refused, too: a first message is how the
    # page knows that it is in.
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
    # Around all of it, so that no route can be forgotten.
    middleware=[
        Middleware(HTTPAuthMiddleware, authenticator=login, exclude=["/", "/login"]),
        Middleware(WebSocketAuthMiddleware, authenticator=sockets),
    ],
)

if __name__ == "__main__":
    print(f"Open {ORIGIN} and log in with the password {PASSWORD}", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=PORT)
