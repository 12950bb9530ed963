"""The same login, guarded by what people use today, and by this package: one app, a path for each.

Each takes the JWT `?token=...` (Litestar's own: the header), greets the user, and says everything
back. They are written as their documentation, or the usual tutorial, shows it.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs

import django
import jwt
from django.conf import settings
from fastapi import Depends, FastAPI, WebSocket, WebSocketException
from litestar import Litestar
from litestar import WebSocket as LitestarWebSocket
from litestar import websocket as litestar_websocket
from litestar.exceptions import WebSocketDisconnect as LitestarDisconnect
from litestar.security.jwt import JWTAuth, Token
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    SimpleUser,
)
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount, Router
from starlette.websockets import WebSocket as StarletteWebSocket

from asgi_wsauth import Authenticator, JWTVerifier, WebSocketAuthMiddleware

settings.configure(SECRET_KEY="of no use here")
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402 - as it wants it
from channels.middleware import BaseMiddleware  # noqa: E402

SECRET = os.environ["SECRET"]
KEY: Any = SECRET  # this and the next one are others for some of the benchmarks
ALGORITHM = "HS256"


def user_of(token: str) -> str:
    claims = jwt.decode(token, KEY, [ALGORITHM], options={"require": ["exp", "sub"]})
    return str(claims["sub"])


async def chat(websocket: Any, name: str) -> None:
    await websocket.send_text(name)
    async for text in websocket.iter_text():
        await websocket.send_text(text)


# Starlette's AuthenticationMiddleware


class Backend(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> Any:
        try:
            name = user_of(conn.query_params["token"])
        except (KeyError, jwt.InvalidTokenError) as exc:
            raise AuthenticationError("no") from exc
        return AuthCredentials(["authenticated"]), SimpleUser(name)


async def starlette_chat(scope: Any, receive: Any, send: Any) -> None:
    websocket = StarletteWebSocket(scope, receive, send)
    await websocket.accept()
    await chat(websocket, websocket.user.display_name)


# A FastAPI dependency


async def current_user(websocket: WebSocket) -> str:
    try:
        return user_of(websocket.query_params["token"])
    except (KeyError, jwt.InvalidTokenError) as exc:
        raise WebSocketException(1008, "token_invalid") from exc


fastapi = FastAPI()


@fastapi.websocket("/")
async def fastapi_chat(websocket: WebSocket, name: str = Depends(current_user)) -> None:
    await websocket.accept()
    await chat(websocket, name)


# Litestar's JWTAuth


async def retrieve(token: Token, connection: Any) -> str:
    return token.sub


@litestar_websocket("/")
async def litestar_chat(socket: LitestarWebSocket) -> None:
    await socket.accept()
    await socket.send_text(socket.user)
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except LitestarDisconnect:
        pass


litestar_auth = JWTAuth[str](retrieve_user_handler=retrieve, token_secret=SECRET)
litestar = Litestar(
    [litestar_chat],
    on_app_init=[litestar_auth.on_app_init],
    openapi_config=None,
    logging_config=None,  # its own would be the whole process's
)


# Channels, with a middleware of one's own in front of a consumer


class TokenMiddleware(BaseMiddleware):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        try:
            token = parse_qs(scope["query_string"].decode())["token"][0]
            scope = {**scope, "user": user_of(token)}
        except (KeyError, jwt.InvalidTokenError):
            scope = {**scope, "user": None}
        return await super().__call__(scope, receive, send)


class Chat(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        if self.scope["user"] is None:
            await self.close(4001)
            return
        await self.accept()
        await self.send(self.scope["user"])

    async def receive(self, text_data: str) -> None:
        await self.send(text_data)


# By hand


async def by_hand(scope: Any, receive: Any, send: Any) -> None:
    websocket = StarletteWebSocket(scope, receive, send)
    try:
        name = user_of(websocket.query_params.get("token", ""))
    except jwt.ExpiredSignatureError:
        await websocket.close(4001)
        return
    except jwt.InvalidTokenError:
        await websocket.close(1008)
        return
    await websocket.accept()
    await chat(websocket, name)


# Ours

auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], leeway=0)])

app = Router(
    [
        Mount("/starlette", AuthenticationMiddleware(starlette_chat, Backend())),
        Mount("/fastapi", fastapi),
        Mount("/litestar", litestar),
        Mount("/channels", TokenMiddleware(Chat.as_asgi())),
        Mount("/by-hand", by_hand),
        Mount("/ours", WebSocketAuthMiddleware(starlette_chat, auth)),
    ]
)
