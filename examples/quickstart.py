"""A chat that only holders of a token may join.

    pip install -e '.[demo]'
    python examples/quickstart.py

It prints a URL with a token that is valid for five minutes. Connect to it with
`python -m websockets ADDRESS`, or in a browser's console with `new WebSocket(ADDRESS)`. The port is
8000, or what the environment variable PORT says.
"""

import os
import secrets

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import Authenticator, JWTVerifier, WebSocketAuthMiddleware
from asgi_wsauth.testing import make_jwt

SECRET = secrets.token_urlsafe(32)  # yours comes from the environment


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.user.display_name}: {text}")


auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")])
app = WebSocketAuthMiddleware(Starlette(routes=[WebSocketRoute("/chat", chat)]), auth)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    token = make_jwt(SECRET, "alice", aud="chat")
    print(f"ws://127.0.0.1:{port}/chat?token={token}", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port)
