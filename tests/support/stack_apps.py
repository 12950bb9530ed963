"""Django Channels, Socket.IO and Strawberry with the middleware in the right place and in the wrong
ones: `stack_apps:app` has each at a path of its own (see test_framework_stacks.py).

uvicorn's log handlers have `RedactCredentials` for what is below /filtered.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import django
import socketio
import strawberry
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.functional import SimpleLazyObject
from handshakes import SECRET
from starlette.requests import HTTPConnection
from strawberry.asgi import GraphQL

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    GRAPHQL_CLOSE_CODES,
    Authenticator,
    FirstMessage,
    HTTPAuthMiddleware,
    JWTVerifier,
    Principal,
    RedactCredentials,
    WebSocketAuthMiddleware,
)

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY=SECRET,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",  # so no database is needed
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - it needs the settings


@dataclass(frozen=True)
class Frozen:
    username: str


async def django_user(principal: Principal, conn: HTTPConnection) -> User:
    return User(username=principal.identity)


async def lazy_user(principal: Principal, conn: HTTPConnection) -> SimpleLazyObject:
    return SimpleLazyObject(lambda: User(username=principal.identity))


async def frozen_user(principal: Principal, conn: HTTPConnection) -> Frozen:
    return Frozen(principal.identity)


class Me(AsyncJsonWebsocketConsumer):
    """Says who it takes the client for."""

    async def connect(self) -> None:
        await self.accept()
        user = self.scope["user"]
        await self.send_json({"me": user.identity if isinstance(user, Principal) else str(user)})


def me(request: HttpRequest) -> JsonResponse:
    users = {"request.user": request.user, "request.scope": request.scope["user"]}
    return JsonResponse({where: str(user) for where, user in users.items()})


def secret(request: HttpRequest) -> JsonResponse:
    """Looks neither at the method nor at the user."""
    return JsonResponse({"secret": "xyzzy"})


def authenticator(**options: Any) -> Authenticator:
    return Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")], **options)


def guarded(app: Any, auth: Authenticator) -> WebSocketAuthMiddleware:
    """`app` behind the middleware, with codes that every server can send."""
    return WebSocketAuthMiddleware(app, auth, close_codes=DAPHNE_CLOSE_CODES)


auth = authenticator(load_user=django_user)
plain = authenticator()
only_here = authenticator(allowed_origins=["https://chat.example"])
urlpatterns = [path("django", me), path("django/secret", secret)]
consumer = Me.as_asgi()

channels = {
    "/around": guarded(AuthMiddlewareStack(consumer), auth),
    "/around/principal": guarded(AuthMiddlewareStack(consumer), plain),
    "/around/lazy": guarded(AuthMiddlewareStack(consumer), authenticator(load_user=lazy_user)),
    "/around/frozen": guarded(AuthMiddlewareStack(consumer), authenticator(load_user=frozen_user)),
    "/within": AuthMiddlewareStack(guarded(consumer, auth)),
    "/filtered/within": AuthMiddlewareStack(guarded(consumer, auth)),
    "/within/lazy": AuthMiddlewareStack(guarded(consumer, authenticator(load_user=lazy_user))),
    "/alone": guarded(consumer, auth),
    "/alone/origins": guarded(consumer, only_here),
    "/validator/around": AllowedHostsOriginValidator(guarded(consumer, auth)),
    "/validator/within": guarded(AllowedHostsOriginValidator(consumer), auth),
    "/django": HTTPAuthMiddleware(get_asgi_application(), auth),
    "/django/secret": HTTPAuthMiddleware(get_asgi_application(), auth),
}

# Socket.IO

sio = socketio.AsyncServer(async_mode="asgi")


@sio.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    user = environ["asgi.scope"].get("user")
    await sio.save_session(sid, {"name": user.identity if user else "nobody"})
    await sio.emit("hello", {"me": user.identity if user else "nobody", "environ": repr(environ)})


@sio.event
async def say(sid: str, text: str) -> str:
    return f"{(await sio.get_session(sid))['name']}: {text}"


def socket_io(where: str, other: Any = None) -> Any:
    return socketio.ASGIApp(sio, other_asgi_app=other, socketio_path=where)


def both(app: Any, **options: Any) -> Any:
    return HTTPAuthMiddleware(WebSocketAuthMiddleware(app, plain, **options), plain)


socket_ios = {
    "/sio/both/": both(socket_io("sio/both"), rejection="http_response"),
    "/sio/default/": both(socket_io("sio/default")),
    "/sio/sockets-only/": WebSocketAuthMiddleware(socket_io("sio/sockets-only"), plain),
    "/sio/beside/": socket_io("sio/beside", other=both(get_asgi_application())),
}

# Strawberry


@strawberry.type
class Query:
    @strawberry.field
    def me(self, info: strawberry.Info) -> str:
        user = info.context["request"].scope.get("user")
        return user.identity if user else "nobody"


graphql: Any = GraphQL(strawberry.Schema(Query), graphql_ide=None)
first = authenticator(sources=[FirstMessage(subprotocol="graphql-transport-ws")])
by_params = authenticator(
    sources=[FirstMessage(dialect="graphql-transport-ws", replay=True, timeout=5)]
)

graphqls = {
    "/graphql/both": both(graphql),
    "/graphql/sockets-only": WebSocketAuthMiddleware(graphql, plain),
    "/graphql/refresh": both(graphql, refresh_message="auth.refresh"),
    "/graphql/first": WebSocketAuthMiddleware(graphql, first),
    "/graphql/codes": WebSocketAuthMiddleware(
        graphql, by_params, required_scopes=["chat"], close_codes=GRAPHQL_CLOSE_CODES
    ),
}


class RedactFiltered(RedactCredentials):
    def filter(self, record: logging.LogRecord) -> bool:
        return "/filtered/" not in record.getMessage() or super().filter(record)


for name in ("uvicorn", "uvicorn.access"):
    for handler in logging.getLogger(name).handlers:
        handler.addFilter(RedactFiltered(auth))


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await {**channels, **socket_ios, **graphqls}[scope["path"]](scope, receive, send)
