"""Quart: one login for sockets and requests.

    pip install -e . quart websockets
    python examples/quart_app.py

It prints an address with a token in it that is good for five minutes; connect to it with
`python -m websockets ADDRESS`. Without the token, that says with which code and phrase the socket
was closed; a browser's page has them as `event.code` and `event.reason`. The port is 8000, or what
the environment variable PORT says. SECRET can be set too.
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
