"""Rate limiters and this package, stacked as their users do it: `limiter_apps:app` serves each
stack at a path of its own, `/told` says what became of a client.

    /slowapi, /asgi_ratelimit                   HTTP: limiters inside, 2 requests for each user
    /outside/slowapi, /outside/asgi_ratelimit   ... and outside, 2 requests for each address
    /outside/socket                             a limiter of one's own around sockets, likewise
    /chat, /defaults, /one_bucket               fastapi-limiter: 2 messages in an hour
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketException
from fastapi_limiter.depends import WebSocketRateLimiter
from handshakes import SECRET
from pyrate_limiter import Duration, Limiter, Rate
from rate_limits import BucketForEach
from ratelimit import RateLimitMiddleware, Rule
from ratelimit.backends.simple import MemoryBackend
from slowapi import Limiter as SlowLimiter
from slowapi.middleware import SlowAPIMiddleware
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from asgi_wsauth import (
    Admitted,
    Authenticator,
    Closed,
    ConnectionLimit,
    Event,
    FailureThrottle,
    HTTPAuthMiddleware,
    JWTVerifier,
    MemoryStore,
    WebSocketAuthMiddleware,
)

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


class Told:
    """What became of the clients, by their addresses."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.scopes: list[tuple[str, str, Any]] = []  # the client, the scope as text, and itself

    def show(self, scope: Any) -> None:
        """A limiter sees this."""
        self.scopes.append((scope["client"][0], repr(scope), scope))

    def of(self, client: str) -> dict[str, Any]:
        events = [event for event in self.events if event.client == client]
        admitted = sum(isinstance(e, Admitted) and e.protocol == "websocket" for e in events)
        found = [(seen, scope) for who, seen, scope in self.scopes if who == client]
        return {
            "events": [named(event) for event in events],
            "open": admitted - sum(isinstance(event, Closed) for event in events),
            "seen": [seen for seen, _ in found],
            "seen_since": [repr(scope) for _, scope in found],
        }


def named(event: Event) -> str:
    """As in `refused token_invalid`."""
    reason = getattr(event, "reason", None)
    return event.name if reason is None else f"{event.name} {reason.phrase}"


TOLD = Told()


def authenticator() -> Authenticator:
    return Authenticator(
        [JWTVerifier(SECRET, algorithms=["HS256"])],
        throttle=FailureThrottle("3/hour"),
        observers=[TOLD.events.append],
    )


def guard(app: Any, auth: Authenticator) -> ASGIApp:
    """Both middlewares, with one connection for each user."""
    sockets = WebSocketAuthMiddleware(app, auth, connection_limit=ConnectionLimit(1, MemoryStore()))
    return HTTPAuthMiddleware(sockets, auth)


# Limiters of requests


def user_of(scope: Any) -> str:
    """For a limiter inside."""
    TOLD.show(scope)
    return str(scope["user"].identity)


def address_of(scope: Any) -> str:
    """For one outside, where nobody knows the user."""
    TOLD.show(scope)
    return str(scope["client"][0])


async def no_limit(websocket: WebSocket) -> None: ...


def api(limit: Callable[[WebSocket], Awaitable[None]] = no_limit) -> FastAPI:
    """An API and an echo, the messages of which may be limited."""
    app = FastAPI()

    @app.get("/{path:path}")
    async def me(request: Request) -> dict[str, str]:
        return {"identity": request.user.identity}

    @app.websocket("/{path:path}")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("open")
        async for text in websocket.iter_text():
            await limit(websocket)
            await websocket.send_text(text)

    return app


def slowapi(key: Callable[[Any], str], *, outside: bool) -> ASGIApp:
    app, auth = api(), authenticator()
    app.state.limiter = SlowLimiter(
        key_func=lambda request: key(request.scope), default_limits=["2/hour"]
    )
    if outside:
        app.add_middleware(HTTPAuthMiddleware, authenticator=auth)
    app.add_middleware(SlowAPIMiddleware)
    return app if outside else guard(app, auth)


def asgi_ratelimit(key: Callable[[Any], str], *, outside: bool) -> ASGIApp:
    async def who(scope: Any) -> tuple[str, str]:
        return key(scope), "default"

    def limited(app: ASGIApp) -> ASGIApp:
        return RateLimitMiddleware(app, who, MemoryBackend(), {"": [Rule(hour=2, zone="all")]})

    if outside:
        return limited(guard(api(), authenticator()))
    return guard(limited(api()), authenticator())


class SocketLimit:
    """Two handshakes for each address; more are refused before anybody else sees them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.handshakes: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        address = address_of(scope)
        self.handshakes[address] += 1
        if self.handshakes[address] <= 2:
            await self.app(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.close"})


# Limiters of messages


async def by_user(conn: HTTPConnection) -> str:
    TOLD.show(conn.scope)
    return str(conn.user.identity)


async def too_many(websocket: WebSocket) -> None:
    raise WebSocketException(1013, "too_many_messages")


def chat(limiter: WebSocketRateLimiter) -> ASGIApp:
    return guard(api(limiter), authenticator())


RATE = Rate(2, Duration.HOUR)
USER = {"identifier": by_user, "callback": too_many}


async def told(request: Request) -> JSONResponse:
    return JSONResponse(TOLD.of(request.query_params["client"]))


app = Starlette(
    routes=[
        Route("/told", told),
        Mount("/slowapi", slowapi(user_of, outside=False)),
        Mount("/asgi_ratelimit", asgi_ratelimit(user_of, outside=False)),
        Mount("/outside/slowapi", slowapi(address_of, outside=True)),
        Mount("/outside/asgi_ratelimit", asgi_ratelimit(address_of, outside=True)),
        Mount("/outside/socket", SocketLimit(guard(api(), authenticator()))),
        Mount("/chat", chat(WebSocketRateLimiter(Limiter(BucketForEach(RATE)), **USER))),
        Mount("/one_bucket", chat(WebSocketRateLimiter(Limiter(RATE), **USER))),
        Mount("/defaults", chat(WebSocketRateLimiter(Limiter(BucketForEach(RATE))))),
    ]
)
