"""FastAPI: one login for sockets and requests, and documentation with a working Authorize button.

    pip install -e '.[demo]' fastapi
    python examples/fastapi_app.py

It prints a URL with a token that is valid for five minutes; connect to it with
`python -m websockets URL`. Without the token, that prints the close code and the phrase; a web page
gets them as `event.code` and `event.reason`. Set PORT to change the port (8000), and SECRET to
choose the key.
"""

import os
import secrets
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Security, WebSocket
from fastapi.security import HTTPBearer

from asgi_wsauth import (
    Authenticator,
    HTTPAuthMiddleware,
    JWTVerifier,
    Principal,
    WebSocketAuthMiddleware,
    current_principal,
)
from asgi_wsauth.testing import make_jwt

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)

auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")])

app = FastAPI()
app.add_middleware(WebSocketAuthMiddleware, authenticator=auth)
app.add_middleware(HTTPAuthMiddleware, authenticator=auth, exclude=["/docs", "/openapi.json"])


CurrentUser = Annotated[Principal, Depends(current_principal)]

# For /docs only. It must not refuse by itself: the middleware has removed the header it looks for.
documented = Security(HTTPBearer(auto_error=False))


@app.get("/me", dependencies=[documented])
async def me(user: CurrentUser) -> dict[str, str]:
    return {"name": user.display_name}


@app.websocket("/chat")
async def chat(websocket: WebSocket, user: CurrentUser) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{user.display_name}: {text}")


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    token = make_jwt(SECRET, "alice", aud="chat")
    print(f"ws://127.0.0.1:{port}/chat?token={token}")
    print(f"curl -i http://127.0.0.1:{port}/me -H 'Authorization: Bearer {token}'")
    print(f"http://127.0.0.1:{port}/docs", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port)
