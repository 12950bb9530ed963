"""One of the worker processes, with the package as its users have it.

/chat      echoes; three sockets a user
/stream    sends, and never receives
/deaf      does neither, and notices nothing
/newest    echoes; a user's newest three sockets
/first     echoes; the credential is the first message
/events    server-sent events, which go on
/watched   echoes, and tells its id; listed, rechecked, and open for a limited time
/ticket    tickets, by POST
/sessions  a user's sockets on /watched
/lock      locks `user`, by POST: a recheck finds that out
/revoke    revokes `user`, `token` or `session`, by POST
/logout    where the issuer reports logouts
/counts    what there is in this process

SOAK_REDIS   the URL of the Redis
SOAK_ISSUER  the URL of the issuer
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType
from typing import Any

import anyio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ReadOnlyError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route, request_response
from starlette.websockets import WebSocket, WebSocketDisconnect

import asgi_wsauth
from asgi_wsauth import (
    JWKS,
    Authenticator,
    ConnectionLimit,
    Denied,
    FailureThrottle,
    FirstMessage,
    HTTPAuthMiddleware,
    JWTVerifier,
    LogoutEndpoint,
    Revocations,
    Sessions,
    SessionsEndpoint,
    TicketEndpoint,
    Tickets,
    VerdictCache,
    WebSocketAuthMiddleware,
    drain_on_signal,
    log_event,
)
from asgi_wsauth.connection.budget import budget
from asgi_wsauth.denial import FailsClosed
from asgi_wsauth.events import Admitted, Closed, Event
from asgi_wsauth.redis import RedisStore

from . import terms

_ISSUER = os.environ["SOAK_ISSUER"]
_REDIS = os.environ["SOAK_REDIS"]
_PACKAGE = str(Path(asgi_wsauth.__file__).parent)


class Ledger:
    """An observer that compares admissions with closes. A refresh changes nobody's identity; and
    whoever has a stream stays until it is ended, so it has a close, too. Other requests have none.

    Attributes:
        open: how many sockets and streams each user has.
        closed_twice: how often there was a close without an admission.
        events: how often there was which event.
    """

    def __init__(self) -> None:
        self.open: Counter[object] = Counter()
        self.closed_twice = 0
        self.events: Counter[str] = Counter()

    def __call__(self, event: Event, /) -> None:
        reason = getattr(event, "reason", None)
        self.events[event.name if reason is None else f"{event.name} {reason.phrase}"] += 1
        user = event.issuer, event.identity
        if event.protocol == "http" and event.path != "/events":
            return
        if isinstance(event, Admitted):
            self.open[user] += 1
        elif isinstance(event, Closed):
            self.open[user] -= 1
            self.closed_twice += self.open[user] < 0
            if not self.open[user]:
                del self.open[user]


LEDGER = Ledger()
RUNNING: Counter[str] = Counter()

STORE = RedisStore.from_url(_REDIS, prefix="soak", lease=terms.LEASE)
TICKETS = Tickets(STORE)
REVOCATIONS = Revocations(STORE)
SESSIONS = Sessions(STORE)
KEYS = JWKS(
    f"{_ISSUER}/jwks",
    ttl=terms.KEYS_TTL,
    stale_for=terms.KEYS_STALE_FOR,
    cooldown=terms.KEYS_COOLDOWN,
    timeout=terms.KEYS_TIMEOUT,
    observers=[log_event, LEDGER],
)
VERIFIERS: list[Any] = [
    TICKETS,
    JWTVerifier(
        KEYS,
        algorithms=["RS256", "ES256"],
        issuer=_ISSUER,
        leeway=terms.LEEWAY,
        cache=VerdictCache(size=terms.VERDICTS),
    ),
    JWTVerifier(terms.SECRET, algorithms=["HS256"], issuer=terms.LOGIN, leeway=terms.LEEWAY),
]


def _authenticator(**options: Any) -> Authenticator:
    return Authenticator(
        VERIFIERS,
        allowed_origins=[terms.ORIGIN],
        revocations=REVOCATIONS,
        throttle=FailureThrottle(f"{terms.FAILURES} per {terms.FAILURES_WITHIN} seconds"),
        observers=[log_event, LEDGER],
        **options,
    )


AUTH = _authenticator()


# The table of users: a key for each who is locked.
USERS = Redis.from_url(_REDIS, retry=Retry(ConstantBackoff(0.05), 3))


async def _is_locked(identity: str) -> bool:
    """It is asked by a command that no replica takes: after a failover, connections that are open
    lead to one, which may not have heard of what was written since."""
    key = f"soak:locked:{identity}"
    try:
        return await USERS.expire(key, 600)
    except ReadOnlyError:
        await USERS.connection_pool.disconnect(inuse_connections=False)
        return await USERS.expire(key, 600)


async def _load_user(principal: Any, _: Any) -> Any:
    with FailsClosed("the table of users"):
        is_locked = await _is_locked(principal.identity)
    return None if is_locked else principal


async def _echo(socket: WebSocket) -> None:
    async for text in socket.iter_text():
        await socket.send_text(text)


async def _watched(socket: WebSocket) -> None:
    async for text in socket.iter_text():
        await socket.send_text(socket.scope["wsauth"].id if text == "id" else text)


async def _stream(socket: WebSocket) -> None:
    while True:
        await socket.send_text("tick")
        await anyio.sleep(1)


async def _deaf(socket: WebSocket) -> None:
    await anyio.sleep_forever()


_APPS = {
    "/chat": _echo,
    "/stream": _stream,
    "/deaf": _deaf,
    "/newest": _echo,
    "/first": _echo,
    "/watched": _watched,
}


async def sockets(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    socket = WebSocket(scope, receive, send)
    RUNNING[path] += 1
    try:
        with suppress(WebSocketDisconnect, OSError):  # the client has left, or had to
            await socket.accept()
            await socket.send_text(f"hello {scope['user'].identity}")
            await _APPS[path](socket)
    except RuntimeError as exc:
        # uvicorn says nothing where an accept meets a connection that has just broken, and takes
        # the next message for the first one.
        if "Expected ASGI message 'websocket.accept'" not in str(exc):
            raise
    finally:
        RUNNING[path] -= 1


def _guarded(
    auth: Authenticator, limit: ConnectionLimit, **options: Any
) -> WebSocketAuthMiddleware:
    return WebSocketAuthMiddleware(
        sockets,
        auth,
        grace=terms.GRACE,
        connection_limit=limit,
        refresh_message=terms.REFRESH,
        **options,
    )


_newest = ConnectionLimit(terms.LIMIT, STORE, overflow="evict_oldest", name="newest")
_limit = ConnectionLimit(terms.LIMIT, STORE, total=100_000)
_places = _limit.in_process
_first = _authenticator(sources=[FirstMessage(timeout=terms.FIRST_MESSAGE_WITHIN)])
_watching = _authenticator(load_user=_load_user)
_watch: dict[str, Any] = {
    "recheck": terms.RECHECK,
    "max_age": terms.MAX_AGE,
    "sessions": SESSIONS,
}
_others = {
    "/newest": _guarded(AUTH, _newest),
    "/first": _guarded(_first, _limit),
    "/watched": _guarded(_watching, _limit, **_watch),
}
_chat = _guarded(AUTH, _limit)


async def events(request: Request) -> StreamingResponse:
    return StreamingResponse(_events(request.user.identity), media_type="text/event-stream")


async def _events(user: str) -> AsyncIterator[str]:
    yield f"data: hello {user}\n\n"
    while True:
        yield "data: tick\n\n"
        await anyio.sleep(1)


async def revoke(request: Request) -> JSONResponse:
    ((kind, name),) = request.query_params.items()
    try:
        await getattr(REVOCATIONS, f"revoke_{kind}")(name)
    except Denied as denied:
        return JSONResponse(denied.reason.phrase, denied.reason.http_status)
    return JSONResponse("revoked")


async def lock(request: Request) -> JSONResponse:
    try:
        with FailsClosed("the table of users"):
            # By a new connection, because one that is open may lead to what is the primary no more.
            async with asyncio.timeout(4), Redis.from_url(_REDIS) as users:
                await users.set(f"soak:locked:{request.query_params['user']}", "", ex=600)
    except Denied as denied:
        return JSONResponse(denied.reason.phrase, denied.reason.http_status)
    return JSONResponse("locked")


async def counts(request: Request) -> JSONResponse:
    gc.collect()
    everything = gc.get_objects()
    return JSONResponse(
        {
            "tasks": Counter(_name(task.get_coro()) for task in asyncio.all_tasks()),
            "objects": Counter(_of_the_package(everything)),
            "everything": len(everything),
            "apps": +RUNNING,
            "open": sum(LEDGER.open.values()),
            "places": 0 if _places is None else len(_places),
            "closed twice": LEDGER.closed_twice,
            "lingering": len(budget()),
            "events": LEDGER.events,
        }
    )


def _of_the_package(objects: list[Any]) -> Iterator[str]:
    """Instances of its classes, and its coroutines and generators that have not ended."""
    for found in objects:
        if isinstance(found, CoroutineType):
            code: Any = found.cr_code
        elif isinstance(found, AsyncGeneratorType):
            code = found.ag_code
        else:
            if str(type(found).__module__).startswith("asgi_wsauth"):
                yield type(found).__qualname__
            continue
        if code.co_filename.startswith(_PACKAGE):
            yield f"{_name(found)}()"


def _name(work: Any) -> str:
    return str(getattr(work, "__qualname__", work))


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    with drain_on_signal(over=terms.DRAIN_OVER):
        yield


_guarded_events = HTTPAuthMiddleware(
    request_response(events), AUTH, grace=terms.GRACE, allow_unguarded_websockets=True
)
_logouts = JWTVerifier(
    KEYS, algorithms=["RS256"], issuer=_ISSUER, audience=terms.CLIENT, leeway=terms.LEEWAY
)
_http = Starlette(
    lifespan=_lifespan,
    routes=[
        Route("/events", _guarded_events),
        Route(
            "/logout",
            LogoutEndpoint(REVOCATIONS, _logouts, observers=[log_event, LEDGER]),
            methods=["POST"],
        ),
        Route("/ticket", TicketEndpoint(TICKETS, AUTH), methods=["POST"]),
        Route("/revoke", revoke, methods=["POST"]),
        Route("/lock", lock, methods=["POST"]),
        Mount("/sessions", SessionsEndpoint(SESSIONS, _watching)),
        Route("/counts", counts, methods=["POST"]),
    ],
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        await _http(scope, receive, send)
    else:
        await _others.get(scope["path"], _chat)(scope, receive, send)


gc.freeze()  # so that only what came after the imports is looked at
