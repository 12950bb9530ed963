"""Litestar: one login for sockets and requests.

    pip install -e '.[demo]' litestar
    python examples/litestar_app.py

It prints a URL with a token that is valid for five minutes; connect to it with
`python -m websockets URL`. Without the token, that prints the close code and the phrase; a web page
gets them as `event.code` and `event.reason`. Set PORT to change the port (8000), and SECRET to
choose the key.
"""

import os
import secrets
from typing import Any

import uvicorn
from litestar import Litestar, Request, WebSocket, get, websocket_listener
from litestar.middleware import DefineMiddleware
from starlette.authentication import AuthCredentials

from asgi_wsauth import (
    Authenticator,
    HTTPAuthMiddleware,
    JWTVerifier,
    Principal,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.testing import make_jwt

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)

auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")])


@get("/me")
async def me(request: Request[Principal, AuthCredentials, Any]) -> dict[str, str]:
    return {"name": request.user.display_name}


@websocket_listener("/chat")
async def chat(data: str, socket: WebSocket[Principal, AuthCredentials, Any]) -> str:
    return f"{socket.user.display_name}: {data}"


app = Litestar(
    [me, chat],
    middleware=[
        DefineMiddleware(HTTPAuthMiddleware, authenticator=auth),
        DefineMiddleware(WebSocketAuthMiddleware, authenticator=auth),
    ],
)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    token = make_jwt(SECRET, "alice", aud="chat")
    print(f"ws://127.0.0.1:{port}/chat?token={token}")
    print(f"curl -i http://127.0.0.1:{port}/me -H 'Authorization: Bearer {token}'", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port)
