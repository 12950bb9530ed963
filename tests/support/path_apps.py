"""Apps of several frameworks that all have `/health` and `/public/...`, which are excluded, and
`/secret`, over HTTP and WebSocket. They tell for which of these they took a path.

`path_apps:app` is the one that the header `x-app` names, at whatever root the server was told.
"""

from __future__ import annotations

import logging
from typing import Any

import blacksheep
import django
import litestar
import quart
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path, re_path
from fastapi import FastAPI
from handshakes import SECRET
from litestar import Litestar
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    Authenticator,
    HTTPAuthMiddleware,
    JWTVerifier,
    MemoryStore,
    TicketEndpoint,
    Tickets,
    WebSocketAuthMiddleware,
)

tickets = Tickets(MemoryStore())
auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"]), tickets])
EXCLUDE = ["/health", "/public/*", "/ticket"]
ONLY = ["/secret", "/inner/*"]


def http(app: Any, **options: Any) -> HTTPAuthMiddleware:
    return HTTPAuthMiddleware(app, auth, **(options or {"exclude": EXCLUDE}))


def sockets(app: Any, **options: Any) -> WebSocketAuthMiddleware:
    return WebSocketAuthMiddleware(
        app, auth, close_codes=DAPHNE_CLOSE_CODES, **(options or {"exclude": EXCLUDE})
    )


def both(app: Any, **options: Any) -> Any:
    return http(sockets(app, **options), **options)


# Starlette


def _answers(took: str) -> Any:
    async def answer(request: Request) -> JSONResponse:
        return JSONResponse({"took": took})

    return answer


def _chats(took: str) -> Any:
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json({"took": took})
        await socket.receive()

    return chat


TOOK = {"/health": "health", "/secret": "secret", "/public/{rest:path}": "public"}
ROUTES = [
    *(Route(where, _answers(took)) for where, took in TOOK.items()),
    *(WebSocketRoute(where, _chats(took)) for where, took in TOOK.items()),
    Route("/ticket", TicketEndpoint(tickets, auth), methods=["POST"]),
]


def ours(**options: Any) -> list[Middleware]:
    return [
        Middleware(HTTPAuthMiddleware, authenticator=auth, **options),
        Middleware(WebSocketAuthMiddleware, authenticator=auth, **options),
    ]


starlette = Starlette(routes=ROUTES)
fastapi = FastAPI(root_path="/api", openapi_url=None)
for _where, _took in TOOK.items():
    fastapi.add_route(_where, _answers(_took))
    fastapi.add_api_websocket_route(_where, _chats(_took))
for _middleware in (HTTPAuthMiddleware, WebSocketAuthMiddleware):
    fastapi.add_middleware(_middleware, authenticator=auth, exclude=EXCLUDE)

# Litestar


@litestar.get("/health")
async def litestar_health() -> dict[str, str]:
    return {"took": "health"}


@litestar.get("/secret")
async def litestar_secret() -> dict[str, str]:
    return {"took": "secret"}


@litestar.get("/public/{rest:path}")
async def litestar_public(rest: str) -> dict[str, str]:
    return {"took": "public"}


@litestar.websocket(["/health", "/secret", "/public/{rest:path}"])
async def litestar_chat(socket: litestar.WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_json({"took": socket.scope["path"].split("/")[1]})
    await socket.receive_data("text")


def litestar_app(*middleware: Any) -> Litestar:
    return Litestar(
        [litestar_health, litestar_secret, litestar_public, litestar_chat],
        middleware=middleware,
        openapi_config=None,
    )


in_litestars_list = litestar_app(
    *(
        DefineMiddleware(kind, authenticator=auth, exclude=EXCLUDE)
        for kind in (HTTPAuthMiddleware, WebSocketAuthMiddleware)
    )
)

# Quart

quart_app = quart.Quart(__name__)


def _quart_answers(took: str) -> Any:
    async def answer(rest: str = "") -> dict[str, str]:
        return {"took": took}

    return answer


def _quart_chats(took: str) -> Any:
    async def chat(rest: str = "") -> None:
        await quart.websocket.send_json({"took": took})
        await quart.websocket.receive()

    return chat


for _where, _took in TOOK.items():
    _where = _where.replace("{rest:path}", "<path:rest>")
    quart_app.add_url_rule(_where, _took, _quart_answers(_took))
    quart_app.add_websocket(_where, f"{_took} socket", _quart_chats(_took))

# BlackSheep

blacksheep_app = blacksheep.Application(router=blacksheep.Router())


def _blacksheep_answers(took: str) -> Any:
    async def answer(request: blacksheep.Request) -> blacksheep.Response:
        return blacksheep.json({"took": took})

    return answer


def _blacksheep_chats(took: str) -> Any:
    async def chat(websocket: blacksheep.WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json({"took": took})
        await websocket.receive()

    return chat


for _where, _took in TOOK.items():
    _where = _where.replace("{rest:path}", "*")
    blacksheep_app.router.add_get(_where, _blacksheep_answers(_took))
    blacksheep_app.router.add_ws(_where, _blacksheep_chats(_took))


async def started_blacksheep(scope: Any, receive: Any, send: Any) -> None:
    if not blacksheep_app.started:
        await blacksheep_app.start()
    await blacksheep_app(scope, receive, send)


# Django

settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY=SECRET)
django.setup()


def _views(took: str) -> Any:
    def view(request: HttpRequest) -> JsonResponse:
        return JsonResponse({"took": took})

    return view


urlpatterns = [
    path("health", _views("health")),
    path("secret", _views("secret")),
    re_path("^public/", _views("public")),
]


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """An app that knows of no root, and has no user where it took a path."""
    took = {"took": scope["path"], "user": "user" in scope}
    if scope["type"] == "http":
        await JSONResponse(took)(scope, receive, send)
    else:
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.send_json(took)
        await socket.receive()


APPS: dict[str, Any] = {
    "raw": both(raw),
    "raw, mounted": Starlette(routes=[Mount("/inner", both(raw))]),
    "blacksheep, only": both(started_blacksheep, only=ONLY),
    "starlette": Starlette(routes=ROUTES, middleware=ours(exclude=EXCLUDE)),
    "starlette, around": both(starlette),
    "starlette, only": both(starlette, only=ONLY),
    "starlette, mounted": Starlette(routes=[Mount("/inner", both(starlette))]),
    "starlette, in a mount": Starlette(
        routes=[Mount("/inner", routes=ROUTES, middleware=ours(exclude=EXCLUDE))]
    ),
    "starlette, a route": Starlette(
        routes=[
            *(
                Route(where, _answers(took), middleware=ours(exclude=EXCLUDE)[:1])
                for where, took in TOOK.items()
            ),
            *(
                WebSocketRoute(where, _chats(took), middleware=ours(exclude=EXCLUDE)[1:])
                for where, took in TOOK.items()
            ),
        ]
    ),
    "fastapi": fastapi,
    "litestar": in_litestars_list,
    "litestar, around": both(litestar_app()),
    "litestar, only": both(litestar_app(), only=ONLY),
    "quart": both(quart_app),
    "quart, only": both(quart_app, only=ONLY),
    "django": http(get_asgi_application()),
    "django, only": http(get_asgi_application(), only=ONLY),
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await starlette(scope, receive, send)
        return
    name = dict(scope["headers"]).get(b"x-app", b"").decode()
    if not name:
        await JSONResponse({"root": scope.get("root_path")})(scope, receive, send)
        return
    await APPS[name](scope, receive, send)


logging.basicConfig()
