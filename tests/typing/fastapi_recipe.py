"""The app of docs/guides/fastapi.md, as type checkers see it."""

import os
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from fastapi.security import HTTPBearer

from asgi_wsauth import (
    Authenticator,
    HTTPAuthMiddleware,
    JWTVerifier,
    Principal,
    Session,
    WebSocketAuthMiddleware,
    current_principal,
    current_session,
)

auth = Authenticator([JWTVerifier(os.environ["SECRET"], algorithms=["HS256"])])

User = Annotated[Principal, Depends(current_principal)]
Login = Annotated[Session, Depends(current_session)]

# For the document, and the Authorize button of /docs. The login itself is the middleware's, which
# has taken the header away by now: so the scheme must not refuse by itself.
api = APIRouter(dependencies=[Security(HTTPBearer(auto_error=False))])


@api.get("/me")
async def me(user: User, login: Login) -> dict[str, str | float | None]:
    return {"name": user.display_name, "until": login.expires_at}


app = FastAPI()
app.include_router(api)


@app.websocket("/chat")
async def chat(websocket: WebSocket, user: User, login: Login) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{user.display_name}: {text}")
        if text == "bye":
            await login.close()


app.add_middleware(WebSocketAuthMiddleware, authenticator=auth)
app.add_middleware(HTTPAuthMiddleware, authenticator=auth, exclude=["/docs", "/openapi.json"])
