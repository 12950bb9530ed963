"""REST and WebSocket in one FastAPI app, with one login for both.

    pip install -e '.[demo]' fastapi
    python examples/one_policy.py

It prints tokens that are valid for five minutes, and commands to try them with. The port is 8000,
or what the environment variable PORT says. SECRET and DATABASE, a SQLite file, can be set too.

What it shows:

- One `Authenticator` decides for requests and for sockets, and `current_user` reads the user of
  either.
- `load_user` looks up each user in the database. Disable one there while this runs, and the next
  request is refused with 401, the next socket with 4004.
- An expired login closes `/terminal` with 4001 and `/chat` with 1008.
- Without a login, for development: `APP_AUTH_REQUIRED=false python examples/one_policy.py`.
"""

import os
import secrets
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import uvicorn
from anyio import to_thread
from fastapi import Body, Depends, FastAPI, Request, WebSocket
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    Authenticator,
    HTTPAuthMiddleware,
    JWTVerifier,
    Principal,
    Reason,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.testing import make_jwt

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
scratch = tempfile.TemporaryDirectory()  # gone after Ctrl+C
DATABASE = os.environ.get("DATABASE") or f"{scratch.name}/users.db"

# The users


@dataclass
class User:
    """What this app needs of a user. Starlette requires these three names."""

    identity: str
    display_name: str
    is_authenticated: bool = True


def create_users() -> None:
    people = [("alice", "Alice", True), ("bob", "Bob", True), ("mallory", "Mallory", False)]
    with closing(sqlite3.connect(DATABASE)) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, name TEXT, active INT)")
        db.executemany("INSERT OR IGNORE INTO users VALUES (?, ?, ?)", people)


def find_user(identity: str) -> User | None:
    with closing(sqlite3.connect(DATABASE)) as db:
        query = "SELECT id, name FROM users WHERE id = ? AND active"
        row = db.execute(query, [identity]).fetchone()
    return User(*row) if row else None


async def load_user(principal: Principal, conn: HTTPConnection) -> User | None:
    """Called for every request and handshake. None: no such user, or a disabled one."""
    return await to_thread.run_sync(find_user, principal.identity)


# The policy

auth = Authenticator(
    [JWTVerifier(SECRET, algorithms=["HS256"], audience="one-policy")],
    load_user=load_user,
    # Called each time, so that a change of os.environ takes effect at once.
    required=lambda: os.environ.get("APP_AUTH_REQUIRED") != "false",
    # The user while no login is required. Without the scope nobody could write then.
    anonymous=Principal("local", scopes=["chat:write"], method="none"),
)

# Clients of /chat read 4001 as "the host has kicked you". So the reasons that have this code in the
# table need another one there; the phrase tells them apart.
CHAT_CODES = {Reason.EXPIRED: 1008, Reason.KEYS_UNAVAILABLE: 1013}


# The app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await to_thread.run_sync(create_users)
    yield


# Around the whole app, so that no route can be forgotten. Each of the two WebSocket guards excludes
# the other's path; any other path passes both, and is verified once.
guards = [
    Middleware(HTTPAuthMiddleware, authenticator=auth, exclude=["/health"]),
    Middleware(WebSocketAuthMiddleware, authenticator=auth, exclude=["/chat"]),
    Middleware(
        WebSocketAuthMiddleware, authenticator=auth, exclude=["/terminal"], close_codes=CHAT_CODES
    ),
]
app = FastAPI(lifespan=lifespan, middleware=guards)


# `async`, because FastAPI runs other functions in a thread. While no login is required, load_user
# isn't called, and the user is `anonymous`.
async def current_user(conn: HTTPConnection) -> User | Principal:
    user: User | Principal = conn.user
    return user


CurrentUser = Annotated[User | Principal, Depends(current_user)]


def describe(user: User | Principal) -> dict[str, str]:
    return {"identity": user.identity, "display_name": user.display_name}


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/me")
async def me(user: CurrentUser) -> dict[str, str]:
    return describe(user)


@app.post("/messages", status_code=201)
@requires("chat:write")
async def write(
    request: Request, user: CurrentUser, text: Annotated[str, Body(embed=True)]
) -> dict[str, str]:
    return {"from": user.display_name, "text": text}


@app.websocket("/chat")
async def chat(websocket: WebSocket, user: CurrentUser) -> None:
    await websocket.accept()
    await websocket.send_json(describe(user))
    async for text in websocket.iter_text():
        await websocket.send_text(f"{user.display_name}: {text}")


@app.websocket("/terminal")
async def terminal(websocket: WebSocket, user: CurrentUser) -> None:
    await websocket.accept()
    await websocket.send_json(describe(user))
    async for text in websocket.iter_text():
        await websocket.send_text(f"{user.identity}$ {text}")


# What to try


def hints(port: int) -> str:
    token = partial(make_jwt, SECRET, aud="one-policy")
    writer = partial(token, "alice", scopes=["chat:write"])
    return f"""
Paste one of these into a shell, then any of the commands below.

alice:
TOKEN={writer()}
bob, who may not write:
TOKEN={token("bob")}
mallory, who is disabled:
TOKEN={token("mallory")}
alice, expired:
TOKEN={writer(expires_in=-300)}

curl -i http://127.0.0.1:{port}/me -H "Authorization: Bearer $TOKEN"
curl -i http://127.0.0.1:{port}/messages -H "Authorization: Bearer $TOKEN" --json '{{"text": "hi"}}'
python -m websockets "ws://127.0.0.1:{port}/terminal?token=$TOKEN"
python -m websockets "ws://127.0.0.1:{port}/chat?token=$TOKEN"
sqlite3 {DATABASE} "UPDATE users SET active = 0 WHERE id = 'alice'"
"""


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    print(hints(port), flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port)
