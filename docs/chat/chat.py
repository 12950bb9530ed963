"""A chat with a login."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException, Response, WebSocket
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.routing import Mount, Route

import users
from asgi_wsauth import (
    Authenticator,
    ConnectionLimit,
    Cookie,
    HTTPAuthMiddleware,
    JWTVerifier,
    Principal,
    Revocations,
    Session,
    SessionEntry,
    Sessions,
    SessionsEndpoint,
    TicketEndpoint,
    Tickets,
    WebSocketAuthMiddleware,
    current_principal,
    current_session,
    drain_on_signal,
)
from asgi_wsauth.redis import RedisStore
from room import Room

SECRET = os.environ["SECRET"]
ORIGIN = os.environ["ORIGIN"]  # of the page, as browsers send it
LIFETIME = int(os.environ.get("LIFETIME", 8 * 3600))  # seconds for which a login lasts
REDIS_URL = os.environ["REDIS_URL"]

IS_HTTPS = ORIGIN.startswith("https://")
COOKIE = "__Host-login" if IS_HTTPS else "login"

store = RedisStore.from_url(REDIS_URL)
tickets = Tickets(store)
revocations = Revocations(store)
sessions = Sessions(store, user_agent=True)

# Requests are logged in by a cookie, sockets by a ticket.
login = Authenticator(
    [JWTVerifier(SECRET, algorithms=["HS256"], audience="chat", leeway=0)],
    sources=[Cookie(COOKIE)],
    allowed_origins=[ORIGIN],
    revocations=revocations,
)
sockets = Authenticator([tickets], allowed_origins=[ORIGIN], revocations=revocations)

User = Annotated[Principal, Depends(current_principal)]
Socket = Annotated[Session, Depends(current_session)]


async def log_out_device(entry: SessionEntry) -> None:
    """Without this, the device would only lose its socket, and open another one."""
    if device := await asyncio.to_thread(users.login_of, entry.id):
        await revocations.revoke_session(device)


room = Room(REDIS_URL)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    listening = asyncio.create_task(room.listen())
    with drain_on_signal(over=10):
        yield
    listening.cancel()


app = FastAPI(
    lifespan=lifespan,
    routes=[
        Route("/ticket", TicketEndpoint(tickets, login), methods=["POST"]),
        Mount("/sessions", SessionsEndpoint(sessions, login, on_end=log_out_device)),
        Mount("/static", StaticFiles(directory="static")),
    ],
)
app.add_middleware(
    WebSocketAuthMiddleware,
    authenticator=sockets,
    connection_limit=ConnectionLimit(3, store),
    sessions=sessions,
)
app.add_middleware(HTTPAuthMiddleware, authenticator=login, exclude=["/", "/static/*", "/login"])


@app.get("/")
async def page() -> FileResponse:
    return FileResponse("static/index.html")


class Form(BaseModel):
    name: str
    password: str


@app.post("/login", status_code=204)
def log_in(form: Form, response: Response, origin: Annotated[str, Header()] = "") -> None:
    if origin != ORIGIN:  # or any site could log its visitors in as somebody else
        raise HTTPException(403, "another site's page")
    if not users.is_right(form.name, form.password):
        raise HTTPException(403, "wrong name or password")
    now = int(time.time())
    claims = {
        "sub": form.name,
        "sid": secrets.token_urlsafe(16),
        "aud": "chat",
        "iat": now,
        "exp": now + LIFETIME,
    }
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    response.set_cookie(COOKIE, token, LIFETIME, secure=IS_HTTPS, httponly=True, samesite="strict")


@app.post("/logout", status_code=204)
async def log_out(user: User, response: Response) -> None:
    assert user.session_id  # the cookie's `sid`
    await revocations.revoke_session(user.session_id)
    response.delete_cookie(COOKIE, secure=IS_HTTPS)


@app.get("/me")
async def me(user: User) -> dict[str, str]:
    return {"name": user.identity}


@app.websocket("/ws")
async def chat(websocket: WebSocket, user: User, socket: Socket) -> None:
    await websocket.accept()
    await asyncio.to_thread(users.note_socket, socket.id, user.session_id)
    try:
        await websocket.send_json({"you": user.identity, "session": socket.id})
        async with room.joined(websocket.send_text):
            async for text in websocket.iter_text():
                await room.say(json.dumps({"from": user.identity, "text": text}))
    finally:
        await asyncio.to_thread(users.forget_socket, socket.id)
