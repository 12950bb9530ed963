"""Endpoints to be probed, by path: guarded well, guarded as people do, badly, and not at all."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import anyio
import jwt
from fastapi import Depends, FastAPI, WebSocketException
from handshakes import SECRET
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
    SimpleUser,
)
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    Authenticator,
    Cookie,
    FirstMessage,
    Header,
    JWTVerifier,
    MemoryStore,
    QueryParam,
    Revocations,
    Subprotocol,
    WebSocketAuthMiddleware,
)

PAGES = "https://chat.example"


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


def verdict(conn: HTTPConnection) -> str:
    """`good`, `expired`, `bad` or `missing`."""
    token = conn.query_params.get("token") or conn.cookies.get("token")
    if token is None:
        return "missing"
    try:
        jwt.decode(token, SECRET, algorithms=["HS256"], audience="chat")
    except jwt.ExpiredSignatureError:
        return "expired"
    except jwt.InvalidTokenError:
        return "bad"
    return "good"


# Guards as other frameworks have them.


class Backend(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser]:
        if verdict(conn) != "good":
            raise AuthenticationError("no")
        return AuthCredentials(), SimpleUser("alice")


fastapi = FastAPI()


async def user(websocket: WebSocket) -> str:
    if verdict(websocket) != "good":
        raise WebSocketException(code=4001, reason="token_expired")
    return "alice"


@fastapi.websocket("/")
async def fastapi_echo(websocket: WebSocket, name: Annotated[str, Depends(user)]) -> None:
    await echo(websocket)


# Guards that are written by hand: what happens to whom is not good.

Refusal = Callable[[WebSocket], Awaitable[None]]


def by_hand(refuse: Refusal, expired: Refusal | None = None) -> Callable[[Any], Awaitable[None]]:
    async def endpoint(websocket: WebSocket) -> None:
        found = verdict(websocket)
        if found == "good":
            await echo(websocket)
        else:
            await (expired if expired and found == "expired" else refuse)(websocket)

    return endpoint


def closes(code: int, reason: str = "", *, saying: str = "") -> Refusal:
    async def refuse(websocket: WebSocket) -> None:
        await websocket.accept(next(iter(websocket.scope["subprotocols"]), None))
        if saying:
            await websocket.send_text(saying)
        await websocket.close(code, reason)

    return refuse


def answers(text: str, status: int, **headers: str) -> Refusal:
    async def refuse(websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse(text, status, headers))

    return refuse


async def says_nothing(websocket: WebSocket) -> None:
    pass


async def hangs(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def breaks(websocket: WebSocket) -> None:
    """The connection goes, without a close."""
    await websocket.accept()
    await websocket.close(*GONE)


async def echoes_no_protocol(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(1008)


async def echoes_the_token(websocket: WebSocket) -> None:
    offered = websocket.scope["subprotocols"]
    await websocket.accept(offered[-1] if offered else None)
    await websocket.receive()


async def answers_what_was_not_asked(websocket: WebSocket) -> None:
    await websocket.accept("chat.v1")


async def forgets_expiry(websocket: WebSocket) -> None:
    if verdict(websocket) in ("good", "expired"):
        await echo(websocket)
    else:
        await closes(1008)(websocket)


def admits(*algorithms: str) -> Callable[[Any], Awaitable[None]]:
    """A guard that believes any token of these algorithms."""

    async def endpoint(websocket: WebSocket) -> None:
        token = websocket.query_params.get("token", "")
        known = token.count(".") == 2 and jwt.get_unverified_header(token)["alg"] in algorithms
        await (echo if known else closes(1008))(websocket)

    return endpoint


def ends(after: float, *close: Any) -> Callable[[Any], Awaitable[None]]:
    """Ends good sockets so many seconds after their token's expiry."""

    async def endpoint(websocket: WebSocket) -> None:
        if verdict(websocket) != "good":
            await closes(1008)(websocket)
            return
        token = websocket.query_params["token"]
        claims = jwt.decode(token, options={"verify_signature": False})
        await websocket.accept()
        await anyio.sleep(claims["exp"] + after - time.time())
        await websocket.close(*close)

    return endpoint


GONE = (1000, "x" * 200)  # too long: the connection goes, without a close


async def sends_much(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("x" * 100_000)
    await websocket.receive()


async def ends_at_once(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("bye")
    await websocket.close(reason="bye")


# Ours.

revocations = Revocations(MemoryStore())


async def revoke(request: Request) -> PlainTextResponse:
    """Revokes, by one of the parameters `jti`, `sid` and `user`."""
    ((what, value),) = request.query_params.items()
    ways = {
        "jti": revocations.revoke_token,
        "sid": revocations.revoke_session,
        "user": revocations.revoke_user,
    }
    await ways[what](value)
    return PlainTextResponse("")


def ours(
    path: str,
    *sources: Any,
    origins: Any = None,
    leeway: float = 30,
    revocations: Any = None,
    **options: Any,
) -> WebSocketRoute:
    auth = Authenticator(
        [JWTVerifier(SECRET, algorithms=["HS256"], audience="chat", leeway=leeway)],
        sources=sources or (QueryParam(),),
        allowed_origins=origins,
        revocations=revocations,
    )
    guard = Middleware(WebSocketAuthMiddleware, authenticator=auth, **options)
    return WebSocketRoute(path, echo, middleware=[guard])


app = Starlette(
    routes=[
        ours("/ours"),
        ours("/ours/daphne", close_codes=DAPHNE_CLOSE_CODES),
        ours("/ours/header", Header(scheme="Bearer"), origins=[PAGES]),
        ours("/ours/x-token", Header("x-token"), origins=[PAGES]),
        ours("/ours/subprotocol", Subprotocol(), origins=[PAGES]),
        ours("/ours/cookie", Cookie("session"), origins=[PAGES]),
        ours("/ours/first-message", FirstMessage(subprotocol="chat.v1"), origins=[PAGES]),
        ours("/ours/origin", origins=[PAGES]),
        ours("/ours/ends", leeway=0, revocations=revocations),
        ours("/ours/ends/first", FirstMessage(), leeway=0),
        Route("/revoke", revoke, methods=["POST"]),
        WebSocketRoute("/ends/late", ends(4, 4001)),
        WebSocketRoute("/ends/early", ends(-1.5, 1000, "idle")),
        WebSocketRoute("/ends/1000", ends(0, 1000)),
        WebSocketRoute("/ends/1006", ends(0, *GONE)),
        WebSocketRoute("/ends/much", sends_much),
        Mount(
            "/starlette",
            routes=[WebSocketRoute("/", echo)],
            middleware=[Middleware(AuthenticationMiddleware, backend=Backend())],
        ),
        Mount("/fastapi", fastapi),
        WebSocketRoute("/open", echo),
        WebSocketRoute("/open/ends", ends_at_once),
        WebSocketRoute("/any-origin", by_hand(closes(1008), closes(4001))),
        WebSocketRoute("/expiry", forgets_expiry),
        WebSocketRoute("/alg-none", admits("none")),
        WebSocketRoute("/unverified", admits("none", "HS256")),
        WebSocketRoute("/1000", by_hand(closes(1000))),
        WebSocketRoute("/1008", by_hand(closes(1008), closes(1008))),
        WebSocketRoute("/1011", by_hand(closes(1011))),
        WebSocketRoute("/4000", by_hand(closes(4000))),
        WebSocketRoute("/4001", by_hand(closes(4001))),
        WebSocketRoute("/own", by_hand(closes(4401), closes(4402))),
        WebSocketRoute("/told", by_hand(closes(4401, saying='{"error": "no"}'), closes(4402))),
        WebSocketRoute("/expired-first", by_hand(closes(4001, "token_expired"))),
        WebSocketRoute("/busy", by_hand(closes(1013, "too_many_failures"))),
        WebSocketRoute("/ugly", by_hand(closes(4000, "[red]a\x1b[31mb\u202ec[/red]"))),
        WebSocketRoute("/ugly/http", by_hand(answers('{"error": "[red]a\\u001b[31mb"}', 403))),
        WebSocketRoute("/503", by_hand(answers("", 503))),
        WebSocketRoute("/nothing", by_hand(says_nothing)),
        WebSocketRoute("/hangs", by_hand(hangs)),
        WebSocketRoute("/breaks", by_hand(breaks)),
        WebSocketRoute("/no-protocol", by_hand(echoes_no_protocol)),
        WebSocketRoute("/token-protocol", echoes_the_token),
        WebSocketRoute("/other-protocol", answers_what_was_not_asked),
        WebSocketRoute("/404", answers("", 404)),
        WebSocketRoute("/redirect", answers("", 307, location="/open")),
    ]
)
