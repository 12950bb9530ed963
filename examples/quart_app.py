"""Quart: one login for sockets and requests.

    pip install -e . quart websockets
    python examples/quart_app.py

It prints a URL with a token that is valid for five minutes; connect to it with
`python -m websockets URL`. Without the token, that prints the close code and the phrase; a web page
gets them as `event.code` and `event.reason`. Set PORT to change the port (8000), and SECRET to
choose the key.
"""

import os
import secrets
from typing import Any

from quart import Quart, Request, Websocket, request, websocket

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

app = Quart(__name__)
app.asgi_app = HTTPAuthMiddleware(app.asgi_app, auth)  # type: ignore[method-assign]
app.asgi_app = WebSocketAuthMiddleware(app.asgi_app, auth)  # type: ignore[method-assign]


def user_of(connection: Request | Websocket) -> Principal:
    scope: Any = connection.scope  # Quart's types know of no user in it
    user: Principal = scope["user"]
    return user


@app.get("/me")
async def me() -> dict[str, str]:
    return {"name": user_of(request).display_name}


@app.websocket("/chat")
async def chat() -> None:
    name = user_of(websocket).display_name
    while True:
        await websocket.send(f"{name}: {await websocket.receive()!s}")


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    token = make_jwt(SECRET, "alice", aud="chat")
    print(f"ws://127.0.0.1:{port}/chat?token={token}")
    print(f"curl -i http://127.0.0.1:{port}/me -H 'Authorization: Bearer {token}'", flush=True)
    app.run(port=port, use_reloader=False)
