"""Starlette: one login for sockets and requests, and a route that takes a scope.

    pip install -e '.[demo]'
    python examples/starlette_app.py

It prints URLs with tokens that are valid for five minutes; connect to one with
`python -m websockets URL`. Without a token, or as bob on /admin, that prints the close code and the
phrase; a web page gets them as `event.code` and `event.reason`. Set PORT to change the port (8000),
and SECRET to choose the key.
"""

import os
import secrets

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import Authenticator, HTTPAuthMiddleware, JWTVerifier, WebSocketAuthMiddleware
from asgi_wsauth.testing import make_jwt

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)

auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")])


async def me(request: Request) -> JSONResponse:
    return JSONResponse({"name": request.user.display_name, "scopes": request.auth.scopes})


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.user.display_name}: {text}")


# Around one route. It has the same authenticator as the one around the app, so nothing is verified
# twice. To guard only some routes, this alone is enough.
admins_only = Middleware(WebSocketAuthMiddleware, authenticator=auth, required_scopes=["admin"])

app = Starlette(
    routes=[
        Route("/me", me),
        WebSocketRoute("/chat", chat),
        WebSocketRoute("/admin", chat, middleware=[admins_only]),
    ],
    middleware=[
        Middleware(HTTPAuthMiddleware, authenticator=auth),
        Middleware(WebSocketAuthMiddleware, authenticator=auth),
    ],
)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    alice = make_jwt(SECRET, "alice", aud="chat", scopes=["admin"])
    bob = make_jwt(SECRET, "bob", aud="chat")
    for token in (alice, bob):
        print(f"ws://127.0.0.1:{port}/chat?token={token}")
        print(f"ws://127.0.0.1:{port}/admin?token={token}")
    print(f"curl -i http://127.0.0.1:{port}/me -H 'Authorization: Bearer {alice}'", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port)
