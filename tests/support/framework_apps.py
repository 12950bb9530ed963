"""Small apps in Starlette, FastAPI, Litestar and Quart, with the middleware in the right places and
in wrong ones. `framework_apps:app` asks for one of them in the query: `/?app=quart.plain`.

Every socket says first what its app finds in the scope, and then everything back.
"""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs

import anyio
import litestar
import quart
from fastapi import Depends, FastAPI, HTTPException, Request, WebSocket, WebSocketException
from fastapi.security import HTTPBearer
from handshakes import SECRET
from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.exceptions import PermissionDeniedException
from litestar.exceptions import WebSocketDisconnect as LitestarDisconnect
from litestar.exceptions import WebSocketException as LitestarWebSocketException
from litestar.middleware import (
    AbstractAuthenticationMiddleware,
    AuthenticationResult,
    DefineMiddleware,
)
from litestar.security.jwt import JWTAuth
from starlette.applications import Starlette
from starlette.authentication import AuthenticationBackend, requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket as StarletteWebSocket

from asgi_wsauth import (
    Authenticator,
    HTTPAuthMiddleware,
    JWTVerifier,
    Principal,
    WebSocketAuthMiddleware,
)

STARTED: list[str] = []  # the frameworks whose startup hooks have run


async def short_lived(credential: Any, conn: Any) -> Principal | None:
    """`short-NAME` is NAME for two seconds."""
    kind, _, name = credential.value.partition("-")
    return Principal(name, expires_at=time.time() + 2) if kind == "short" else None


auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"]), short_lived])


def found(scope: Any, conn: Any = None) -> dict[str, Any]:
    """What an app finds in its scope, and what its framework makes of that."""
    user = scope.get("user")
    made = {} if conn is None else {"query": conn.query_params, "headers": conn.headers}
    return {
        "user": getattr(user, "display_name", user),
        "scope": repr(scope),
        **{name: dict(value) for name, value in made.items()},
        "path": scope["path"],
        "started": STARTED,
    }


# Starlette


def ours(**options: Any) -> Middleware:
    return Middleware(WebSocketAuthMiddleware, authenticator=auth, **options)


async def chat(websocket: Any) -> None:
    await websocket.accept()
    await websocket.send_json(found(websocket.scope, websocket))
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def chat_of_user(websocket: Any) -> None:
    name = websocket.user.display_name
    await websocket.accept()
    await websocket.send_json({"user": name})


class Nobody(AuthenticationBackend):
    """Finds no login of its own, and leaves it at that."""

    async def authenticate(self, conn: Any) -> None:
        return None


theirs = Middleware(AuthenticationMiddleware, backend=Nobody())


async def refuse(request: Any, call_next: Any) -> Any:
    return PlainTextResponse("no", 401)


def route(path: str = "/", endpoint: Any = chat, *middleware: Middleware) -> WebSocketRoute:
    return WebSocketRoute(path, endpoint, middleware=middleware)


@asynccontextmanager
async def starting(app: Starlette) -> AsyncIterator[None]:
    STARTED.append(type(app).__name__)
    yield


STARLETTE: dict[str, Any] = {
    "plain": Starlette(routes=[route()], middleware=[ours()], lifespan=starting),
    "theirs outside": Starlette(routes=[route()], middleware=[theirs, ours()]),
    "theirs inside": Starlette(routes=[route()], middleware=[ours(), theirs]),
    "http middleware": Starlette(
        routes=[route()], middleware=[Middleware(BaseHTTPMiddleware, dispatch=refuse)]
    ),
    "route": Starlette(routes=[route("/open"), route("/guarded", chat, ours())]),
    "mount": Starlette(
        routes=[
            Mount("/in", routes=[route("/open"), route("/x")], middleware=[ours(exclude=["/open"])])
        ]
    ),
    "mount, whole path": Starlette(
        routes=[Mount("/in", routes=[route("/open")], middleware=[ours(exclude=["/in/open"])])]
    ),
    "excluded": Starlette(
        routes=[route(), route("/user", chat_of_user)], middleware=[ours(exclude=["/*"])]
    ),
    "check before accept": Starlette(
        routes=[route("/", requires("admin")(chat))], middleware=[ours()]
    ),
    "required scopes": Starlette(
        routes=[route("/", chat, ours(required_scopes=["admin"]))], middleware=[ours()]
    ),
}


# FastAPI


def fastapi(*middleware: Middleware, check: Any = None, **options: Any) -> FastAPI:
    """An app with these middlewares, added in this order."""
    app = FastAPI(dependencies=[Depends(check)] if check else [], **options)
    app.add_api_websocket_route("/", fastapi_chat)
    app.add_api_websocket_route("/user", fastapi_chat_of_user)
    app.add_api_route("/", fastapi_hello)
    for added in middleware:
        app.add_middleware(added.cls, *added.args, **added.kwargs)
    return app


async def fastapi_chat(websocket: WebSocket) -> None:
    await chat(websocket)


async def fastapi_chat_of_user(websocket: WebSocket) -> None:
    await chat_of_user(websocket)


async def fastapi_hello(request: Request) -> Any:
    return found(request.scope, request)


async def http_exception() -> None:
    raise HTTPException(403)


async def websocket_exception() -> None:
    raise WebSocketException(1008, "not_admin")


async def accept_first(websocket: WebSocket) -> None:
    await websocket.accept()
    raise WebSocketException(1008, "not_admin")


cors = Middleware(CORSMiddleware, allow_origins=["*"])
http = Middleware(HTTPAuthMiddleware, authenticator=auth)

FASTAPI: dict[str, Any] = {
    "plain": fastapi(ours(), lifespan=starting),
    "theirs outside": fastapi(ours(), theirs),  # the last one is the outermost
    "theirs inside": fastapi(theirs, ours()),
    "http middleware": fastapi(Middleware(BaseHTTPMiddleware, dispatch=refuse)),
    "excluded": fastapi(ours(exclude=["/*"])),
    "check before accept": fastapi(ours(), check=websocket_exception),
    "HTTP error before accept": fastapi(ours(), check=http_exception),
    "check accepts first": fastapi(ours(), check=accept_first),
    "bearer": fastapi(http, check=HTTPBearer()),
    "bearer, for the docs": fastapi(http, check=HTTPBearer(auto_error=False)),
    "cors outside": fastapi(http, cors),
    "cors inside": fastapi(cors, http),
}


# Litestar

Socket = litestar.WebSocket[Any, Any, Any]


@litestar.websocket(["/", "/open"])
async def litestar_chat(socket: Socket) -> None:
    await socket.accept()
    await socket.send_json(found(socket.scope, socket))
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except LitestarDisconnect:
        pass


@litestar.websocket("/user")
async def litestar_chat_of_user(socket: Socket) -> None:
    await chat_of_user(socket)


@litestar.get("/")
async def litestar_hello(request: litestar.Request[Any, Any, Any]) -> Any:
    return found(request.scope, request)


@litestar.asgi("/in", is_mount=True, copy_scope=True)
async def litestar_mounted(scope: Any, receive: Any, send: Any) -> None:
    await chat(StarletteWebSocket(scope, receive, send))


class Theirs(AbstractAuthenticationMiddleware):
    """Finds its own user, after it has looked for one everywhere."""

    async def authenticate_request(self, connection: Any) -> AuthenticationResult:
        looked_at = connection.query_params, connection.headers
        return AuthenticationResult(user="theirs", auth=looked_at and None)


def define(middleware: Any = WebSocketAuthMiddleware, **options: Any) -> DefineMiddleware:
    return DefineMiddleware(middleware, authenticator=auth, **options)


def litestar_app(*middleware: Any, handlers: Any = (), **options: Any) -> Litestar:
    handlers = handlers or [litestar_chat, litestar_chat_of_user, litestar_hello, litestar_mounted]
    return Litestar(handlers, middleware=middleware, openapi_config=None, **options)


async def refusing_guard(connection: Any, handler: Any) -> None:
    raise PermissionDeniedException("not_admin")


async def accepting_guard(connection: Any, handler: Any) -> None:
    await connection.accept()
    raise LitestarWebSocketException(code=1008, detail="not_admin")


def jwt_auth(**options: Any) -> Any:
    """Litestar's own authentication, which reads the header."""
    login = JWTAuth[Any](retrieve_user_handler=retrieve, token_secret=SECRET, **options)
    return [login.on_app_init]


async def retrieve(token: Any, connection: Any) -> Any:
    return token.sub


@litestar.websocket("/", middleware=[define()])
async def litestar_guarded(socket: Socket) -> None:
    await litestar_chat.fn(socket)


@litestar.websocket("/open", exclude_from_auth=True)
async def litestar_open(socket: Socket) -> None:
    await litestar_chat.fn(socket)


LITESTAR: dict[str, Any] = {
    "plain": litestar_app(define(), on_startup=[lambda: STARTED.append("Litestar")]),
    "around": WebSocketAuthMiddleware(litestar_app(), auth),
    "theirs outside": litestar_app(Theirs, define()),
    "theirs inside": litestar_app(define(), Theirs),
    "JWTAuth": litestar_app(define(), on_app_init=jwt_auth()),
    "JWTAuth for HTTP": litestar_app(define(), on_app_init=jwt_auth(scopes={ScopeType.HTTP})),
    "route": litestar_app(handlers=[litestar_guarded, litestar_open]),
    "exclude_from_auth": litestar_app(define(), handlers=[litestar_open]),
    "excluded": litestar_app(define(exclude=["/*"])),
    "excludes open": litestar_app(define(exclude=["/open/*"])),
    "excludes open, around": WebSocketAuthMiddleware(litestar_app(), auth, exclude=["/open/*"]),
    "check before accept": litestar_app(define(), guards=[refusing_guard]),
    "check accepts first": litestar_app(define(), guards=[accepting_guard]),
    "required scopes": litestar_app(define(required_scopes=["admin"])),
    "cors": litestar_app(define(HTTPAuthMiddleware), cors_config=CORSConfig()),
    "cors, around": HTTPAuthMiddleware(litestar_app(cors_config=CORSConfig()), auth),
}


# Quart


def quart_app(check: Any = None, **options: Any) -> quart.Quart:
    app = quart.Quart(__name__)
    app.add_websocket("/", view_func=quart_chat)
    app.add_websocket("/user", view_func=quart_chat_of_user)
    app.before_serving(lambda: STARTED.append("Quart"))
    if check is not None:
        app.before_websocket(check)
    app.asgi_app = WebSocketAuthMiddleware(app.asgi_app, auth, **options)
    return app


# What Quart's `send` raises then; from 0.23 on, it makes an error of its own of each OSError.
SEND_AFTER_THE_END = OSError, getattr(quart.wrappers, "ClientDisconnectedError", OSError)


async def quart_chat() -> None:
    websocket = quart.websocket
    await websocket.send_json(
        {**found(websocket.scope), "query": websocket.args, "headers": dict(websocket.headers)}
    )
    with suppress(*SEND_AFTER_THE_END):  # Quart would log it as an error
        while True:
            await websocket.send(await websocket.receive())


async def quart_chat_of_user() -> None:
    await quart.websocket.send_json({"user": quart.websocket.scope["user"].display_name})


async def quart_abort() -> None:
    quart.abort(403)


async def quart_accept() -> tuple[str, int]:
    await quart.websocket.accept()
    await quart.websocket.close(1008, "not_admin")
    return "", 403


QUART: dict[str, Any] = {
    "plain": quart_app(),
    "excluded": quart_app(exclude=["/*"]),
    "check before accept": quart_app(quart_abort),
    "check accepts first": quart_app(quart_accept),
    "required scopes": quart_app(required_scopes=["admin"]),
}


# All of them

APPS: dict[str, Any] = {
    f"{framework}.{name}": app
    for framework, apps in {
        "starlette": STARLETTE,
        "fastapi": FASTAPI,
        "litestar": LITESTAR,
        "quart": QUART,
    }.items()
    for name, app in apps.items()
}


@asynccontextmanager
async def lifespan_of(app: Any) -> AsyncIterator[None]:
    """Start an app and stop it, as a server does."""
    ask, asked = anyio.create_memory_object_stream[Any](1)
    tell, told = anyio.create_memory_object_stream[Any](1)
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    async with ask, asked, tell, told, anyio.create_task_group() as group:
        group.start_soon(app, scope, asked.receive, tell.send)
        await ask.send({"type": "lifespan.startup"})
        assert await told.receive() == {"type": "lifespan.startup.complete"}
        yield
        await ask.send({"type": "lifespan.shutdown"})
        assert await told.receive() == {"type": "lifespan.shutdown.complete"}


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for name in ("starlette", "fastapi", "litestar", "quart"):
            await stack.enter_async_context(lifespan_of(APPS[f"{name}.plain"]))
        gc.freeze()  # so that `settle` is quick
        yield


async def settle(request: Any) -> JSONResponse:
    gc.collect()
    return JSONResponse({})


own = Starlette(routes=[Route("/settle", settle)], lifespan=lifespan)


async def app(scope: Any, receive: Any, send: Any) -> None:
    asked_for = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("app")
    await (APPS[asked_for[0]] if asked_for else own)(scope, receive, send)
