"""Apps in a process that reports to Sentry with its defaults, local variables and all, and every
transaction: `sentry_apps:app`, by path. What would have been sent is told at /envelopes. Of the
integrations that Sentry switches on where it finds their libraries, those are named that the apps
use: with all others, it would import each framework of the tests.

    /outside   CORSMiddleware outside of ours, as the README says
    /inside    CORSMiddleware inside
    /around    ours around the app, and around what Sentry puts there
    /fastapi   FastAPI, which adds middleware from the inside out
    /two       two middlewares outside that read the headers, which is one too many
"""

from __future__ import annotations

import json
from typing import Any

import sentry_sdk
from fastapi import FastAPI
from handshakes import SECRET
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.fastapi import FastApiIntegration
from sentry_sdk.integrations.starlette import StarletteIntegration
from sentry_sdk.transport import Transport
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    Authenticator,
    Cookie,
    Credential,
    FailureThrottle,
    Header,
    HTTPAuthMiddleware,
    JWTVerifier,
    Principal,
    QueryParam,
    Subprotocol,
    WebSocketAuthMiddleware,
)

_envelopes: list[str] = []


class Kept(Transport):
    """Sends nothing."""

    def capture_envelope(self, envelope: Envelope) -> None:
        _envelopes.append(envelope.serialize().decode())


sentry_sdk.init(
    "http://key@127.0.0.1:9/1",
    transport=Kept,
    traces_sample_rate=1.0,
    auto_enabling_integrations=False,
    integrations=[StarletteIntegration(), FastApiIntegration()],
)


async def opaque(credential: Credential, conn: HTTPConnection) -> Principal | None:
    """A verifier that breaks over some credentials, in two ways."""
    value = credential.value
    if value.startswith("boom-"):
        raise RuntimeError(f"verifier broke at {value}")
    if value.startswith("lookup-"):
        raise LookupError(value)
    return Principal("alice") if value.startswith("opaque-") else None


auth = Authenticator(
    [JWTVerifier(SECRET, algorithms=["HS256"]), opaque],
    sources=[
        QueryParam("token"),
        Header("authorization", scheme="Bearer"),
        Header("x-api-key"),
        Cookie("login"),
        Subprotocol(),
    ],
    allowed_origins=["https://chat.example"],
    throttle=FailureThrottle("1000/second"),
)


async def page(request: Request) -> JSONResponse:
    raise RuntimeError("page broke")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept(
        websocket.scope["subprotocols"][0] if websocket["subprotocols"] else None
    )
    raise RuntimeError("socket broke")


def starlette(*middleware: Middleware) -> Starlette:
    return Starlette(routes=[Route("/", page), WebSocketRoute("/", socket)], middleware=middleware)


ours = [Middleware(HTTPAuthMiddleware, authenticator=auth)]
ours += [Middleware(WebSocketAuthMiddleware, authenticator=auth)]
cors = Middleware(CORSMiddleware, allow_origins=["https://chat.example"])
hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"])

fastapi = FastAPI()
fastapi.add_api_route("/", page)
fastapi.add_api_websocket_route("/", socket)
fastapi.add_middleware(WebSocketAuthMiddleware, authenticator=auth)
fastapi.add_middleware(HTTPAuthMiddleware, authenticator=auth)
fastapi.add_middleware(CORSMiddleware, allow_origins=["https://chat.example"])

APPS: dict[str, Any] = {
    "/outside": starlette(cors, *ours),
    "/inside": starlette(*ours, cors),
    "/around": HTTPAuthMiddleware(WebSocketAuthMiddleware(starlette(cors), auth), auth),
    "/fastapi": fastapi,
    "/two": starlette(hosts, cors, *ours),
}


async def envelopes(scope: Any, receive: Any, send: Any) -> None:
    """All since the last time."""
    sentry_sdk.flush()
    told, _envelopes[:] = json.dumps(_envelopes), []
    await JSONResponse(json.loads(told))(scope, receive, send)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    if scope["path"] in ("/envelopes", "/settle"):
        await envelopes(scope, receive, send)
        return
    chosen = APPS[scope["path"]]
    scope["path"], scope["raw_path"] = "/", b"/"
    await chosen(scope, receive, send)
