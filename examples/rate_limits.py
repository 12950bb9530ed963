"""Rate limits per user with well-known libraries: for requests and messages (FastAPI).

    pip install -e '.[demo]' fastapi fastapi-limiter slowapi
    python examples/rate_limits.py

It prints an address and a command to try, with a token that is valid for five minutes. The port is
8000, or what the environment variable PORT says; SECRET can be set too.

Both limiters are inside the login, so that each user has a limit of their own, whatever the
address, and neither limiter sees a token. What they refuse isn't counted by asgi-wsauth.
"""

import os
import secrets
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketException
from fastapi_limiter.depends import WebSocketRateLimiter
from pyrate_limiter import (
    AbstractBucket,
    BucketFactory,
    Duration,
    InMemoryBucket,
    Limiter,
    Rate,
    RateItem,
)
from slowapi import Limiter as SlowLimiter
from slowapi.middleware import SlowAPIMiddleware
from starlette.requests import HTTPConnection

from asgi_wsauth import Authenticator, HTTPAuthMiddleware, JWTVerifier, WebSocketAuthMiddleware
from asgi_wsauth.testing import make_jwt

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")])
app = FastAPI()


def by_user(request: Request) -> str:
    identity: str = request.user.identity
    return identity


# Requests: slowapi. What is added last is outermost, so the user is known when it counts.
app.state.limiter = SlowLimiter(key_func=by_user, default_limits=["5/minute"])
app.add_middleware(SlowAPIMiddleware)
app.add_middleware(HTTPAuthMiddleware, authenticator=auth)
app.add_middleware(WebSocketAuthMiddleware, authenticator=auth)


# Messages: fastapi-limiter. `Limiter(Rate(...))` alone would have one bucket for all users.
class BucketForEach(BucketFactory):
    def __init__(self, *rates: Rate) -> None:
        self.rates = list(rates)
        self.buckets: dict[str, Any] = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        if name not in self.buckets:
            self.buckets[name] = self.create(InMemoryBucket, self.rates)
        return RateItem(name, self.buckets[name].now(), weight=weight)

    def get(self, item: RateItem) -> AbstractBucket:
        bucket: AbstractBucket = self.buckets[item.name]
        return bucket


async def message_by_user(conn: HTTPConnection) -> str:
    return str(conn.user.identity)  # its own default is X-Forwarded-For, which anybody can send


async def too_many(websocket: WebSocket) -> NoReturn:
    raise WebSocketException(1013, "too_many_messages")  # its own default closes without a code


limit = WebSocketRateLimiter(
    Limiter(BucketForEach(Rate(20, Duration.MINUTE))),
    identifier=message_by_user,
    callback=too_many,
)


@app.get("/me")
async def me(request: Request) -> dict[str, str]:
    return {"identity": request.user.identity}


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await limit(websocket)
        await websocket.send_text(f"{websocket.user.display_name}: {text}")


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    token = make_jwt(SECRET, "alice", aud="chat")
    print(f"ws://127.0.0.1:{port}/chat?token={token}")
    print(f'curl -i http://127.0.0.1:{port}/me -H "Authorization: Bearer {token}"', flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port)
