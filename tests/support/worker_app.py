"""One of several worker processes that share a Redis, as tests/wire/test_workers.py starts them.

    /chat      tickets and logins; three sockets a user
    /newest    the same logins; a user's newest three sockets
    /counted   logins that nobody can revoke; three sockets a user
    /open      tickets and logins; any number of sockets
    /renewed   the same, and clients may renew their logins
    /listed    the same logins, in a list of sessions; `id` is answered with the socket's
    /me        the same over HTTP
    /sessions  the list, and ending what is in it
    /logout    where an issuer reports logouts, with tokens of `handshakes.mint`

A login is `<user>.<token id>.<session id>.<Unix time of issue>`, and perhaps `@<issuer>`. Whoever
is admitted is told the number of the process that he talks to, and hears everything back.

    WORKER_REDIS  the URL of the Redis
    WORKER_LEASE  seconds after which the slots of a process that is gone are free
    WORKER_SESSIONS_LEASE  the same for its sessions
    WORKER_PREFIX what its keys there begin with
"""

from __future__ import annotations

import gc
import os
import time
import warnings
from typing import Any

import anyio.lowlevel
from handshakes import SECRET
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.websockets import WebSocket

from asgi_wsauth import (
    Authenticator,
    ConnectionLimit,
    Denied,
    HTTPAuthMiddleware,
    JWTVerifier,
    LogoutEndpoint,
    Principal,
    Revocations,
    Sessions,
    SessionsEndpoint,
    TicketEndpoint,
    Tickets,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.redis import RedisStore

warnings.simplefilter("default")

_LEASE = float(os.environ["WORKER_LEASE"])

STORE = RedisStore.from_url(
    os.environ["WORKER_REDIS"], prefix=os.environ["WORKER_PREFIX"], lease=_LEASE
)
# Of their own: they watch their stores, and tell the log when they are cut off, too.
NEWEST = RedisStore.from_url(os.environ["WORKER_REDIS"], prefix="newest", lease=_LEASE)
LISTED = RedisStore.from_url(
    os.environ["WORKER_REDIS"], prefix="listed", lease=float(os.environ["WORKER_SESSIONS_LEASE"])
)

TICKETS = Tickets(STORE)
REVOCATIONS = Revocations(STORE)
SESSIONS = Sessions(LISTED, user_agent=True)
ISSUER = JWTVerifier(SECRET, algorithms=["HS256"], audience="chat", issuer="https://id.example")
LIVE: list[str] = []


async def login(credential: Any, conn: Any) -> Principal | None:
    user, token_id, session_id, issued_at = credential.value.split(".", 3)
    issued_at, _, issuer = issued_at.partition("@")
    return Principal(
        user,
        issuer=issuer or None,
        token_id=token_id,
        session_id=session_id,
        issued_at=float(issued_at),
        method="login",
    )


AUTH = Authenticator([TICKETS, login], revocations=REVOCATIONS)
COUNTED = Authenticator([login])


async def talk(scope: Any, receive: Any, send: Any) -> None:
    socket = WebSocket(scope, receive, send)
    user = scope["user"].identity
    LIVE.append(user)
    try:
        await socket.accept()
        await socket.send_text(str(os.getpid()))
        async for text in socket.iter_text():
            await socket.send_text(scope["wsauth"].id if text == "id" else text)
    finally:
        LIVE.remove(user)


WEBSOCKETS = {
    "/chat": WebSocketAuthMiddleware(talk, AUTH, connection_limit=ConnectionLimit(3, STORE)),
    "/newest": WebSocketAuthMiddleware(
        talk, AUTH, connection_limit=ConnectionLimit(3, NEWEST, overflow="evict_oldest")
    ),
    "/counted": WebSocketAuthMiddleware(
        talk, COUNTED, connection_limit=ConnectionLimit(3, STORE, name="counted")
    ),
    "/open": WebSocketAuthMiddleware(talk, AUTH),
    "/renewed": WebSocketAuthMiddleware(talk, AUTH, refresh_message="auth.refresh"),
    "/listed": WebSocketAuthMiddleware(
        talk, AUTH, sessions=SESSIONS, refresh_message="auth.refresh", max_age=3600
    ),
}


async def me(request: Request) -> JSONResponse:
    return JSONResponse(request.user.identity)


async def revoke(request: Request) -> JSONResponse:
    """Revokes a `user`, `token` or `session`, at an `issuer` perhaps, or `everybody`, with some
    seconds to renew `within`; or blocks a user `until` then, or unblocks one. Tells when that was
    done."""
    query = dict(request.query_params)
    issuer, until = query.pop("issuer", None), query.pop("until", None)
    within = float(query.pop("within", "0"))
    ((kind, name),) = query.items()
    try:
        if until is not None:
            await REVOCATIONS.block_user(name, float(until), issuer=issuer)
        elif kind == "unblock":
            await REVOCATIONS.unblock_user(name, issuer=issuer)
        elif kind == "everybody":
            await REVOCATIONS.revoke_everybody(renew_within=within)
        else:
            revoke_it = getattr(REVOCATIONS, f"revoke_{kind}")
            await revoke_it(name, issuer=issuer, renew_within=within)
    except Denied as denied:
        return JSONResponse(denied.reason.phrase, denied.reason.http_status)
    return JSONResponse(time.time())


async def end_others(request: Request) -> JSONResponse:
    """Ends a `user`'s sessions, but the one to `keep`."""
    await SESSIONS.end_others(request.query_params["user"], keep=request.query_params["keep"])
    return JSONResponse(time.time())


async def live(request: Request) -> JSONResponse:
    return JSONResponse(LIVE)


async def settle(request: Request) -> JSONResponse:
    """Collects what was dropped, so that it is complained of now."""
    await anyio.lowlevel.checkpoint()
    gc.collect()
    return JSONResponse("ok")


_routes = [
    Route("/me", me),
    Route("/ticket", TicketEndpoint(TICKETS, AUTH), methods=["POST"]),
    Route("/logout", LogoutEndpoint(REVOCATIONS, ISSUER), methods=["POST"]),
    Route("/revoke", revoke, methods=["POST"]),
    Mount("/sessions", SessionsEndpoint(SESSIONS, AUTH)),
    Route("/end-others", end_others, methods=["POST"]),
    Route("/live", live),
    Route("/settle", settle),
]
_http = HTTPAuthMiddleware(
    Starlette(routes=_routes),
    AUTH,
    exclude=["/logout", "/revoke", "/end-others", "/live", "/settle"],
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    inner = WEBSOCKETS[scope["path"]] if scope["type"] == "websocket" else _http
    await inner(scope, receive, send)


gc.freeze()  # so that collecting looks only at what came after the imports
