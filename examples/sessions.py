"""Where you are logged in: a page that lists a user's open sockets, and logs out other devices.

    pip install -e '.[demo]'
    python examples/sessions.py

Open the address that it prints in two browsers, or in one and in a private window of it, and log in
with the password beside it: as alice or bob, or as root, who is the administrator. The port is
8000, or what the environment variable PORT says. SECRET and PASSWORD can be set too.
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
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    Authenticator,
    Cookie,
    Credential,
    HTTPAuthMiddleware,
    JWTVerifier,
    MemoryStore,
    Revocations,
    SessionEntry,
    Sessions,
    SessionsEndpoint,
    WebSocketAuthMiddleware,
    current_principal,
    current_session,
)

PORT = int(os.environ.get("PORT", "8000"))
ORIGIN = f"http://127.0.0.1:{PORT}"

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
PASSWORD = os.environ.get("PASSWORD") or secrets.token_urlsafe(9)
COOKIE = "sessions_login"
LIFETIME = 3600  # seconds for which a login lasts
USERS = {"alice": "", "bob": "", "root": "admin"}  # with their scopes

store = MemoryStore()  # several processes share a RedisStore
revocations = Revocations(store)
sessions = Sessions(store, user_agent=True)
login = Authenticator(
    [JWTVerifier(SECRET, algorithms=["HS256"], audience="sessions")],
    sources=[Cookie(COOKIE)],
    allowed_origins=[ORIGIN],
    revocations=revocations,
)

logins: dict[str, str] = {}
"""The session id (`sid`) of each login, by the fingerprint of its cookie; in a database, else."""


async def log_out_device(entry: SessionEntry) -> None:
    """Called with each socket that is about to be ended: its device is to be logged out, too. Its
    cookie could open another socket otherwise."""
    await revocations.revoke_session(logins[entry.fingerprint or ""])


async def page(request: Request) -> FileResponse:
    return FileResponse(Path(__file__).with_name("sessions.html"))


async def log_in(request: Request) -> Response:
    # Otherwise any site could log its visitor in as somebody else.
    if request.headers.get("origin") != ORIGIN:
        return JSONResponse({"error": "origin_not_allowed"}, 403)
    form = parse_qs((await request.body()).decode(errors="replace"))
    name, password = (form.get(field, [""])[0] for field in ("name", "password"))
    right = secrets.compare_digest(password.encode(), PASSWORD.encode())
    if not right or name not in USERS:
        return JSONResponse({"error": "wrong_password"}, 403)
    session_id = secrets.token_urlsafe(9)
    claims = {"sub": name, "aud": "sessions", "sid": session_id, "scope": USERS[name]}
    ends = {"exp": int(time.time()) + LIFETIME}
    token = jwt.encode(claims | ends, SECRET, algorithm="HS256")
    logins[Credential(token).fingerprint] = session_id
    response = JSONResponse({"name": name, "admin": "admin" in USERS[name]})
    # No script can read it. Over HTTPS also secure=True, and "__Host-" before the name.
    response.set_cookie(COOKIE, token, max_age=LIFETIME, httponly=True, samesite="lax")
    return response


async def log_out(request: Request) -> Response:
    """Logs this device out, with all of its pages."""
    principal = current_principal(request)
    assert principal.session_id is not None
    await revocations.revoke_session(principal.session_id)
    response = JSONResponse({})
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return response


async def me(request: Request) -> Response:
    principal = current_principal(request)
    return JSONResponse({"name": principal.identity, "admin": "admin" in principal.scopes})


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(current_session(websocket).id)  # which of those listed is this one
    async for _ in websocket.iter_text():
        pass


listed = SessionsEndpoint(sessions, login, admin_scope="admin", on_end=log_out_device)
app = Starlette(
    routes=[
        Route("/", page),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
        Route("/me", me),
        Mount("/sessions", listed),
        WebSocketRoute("/ws", socket),
    ],
    middleware=[
        Middleware(HTTPAuthMiddleware, authenticator=login, exclude=["/", "/login"]),
        Middleware(WebSocketAuthMiddleware, authenticator=login, sessions=sessions),
    ],
)

if __name__ == "__main__":
    print(f"Open {ORIGIN} and log in with the password {PASSWORD}", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=PORT)
