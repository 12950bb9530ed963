"""One stream of server-sent events in each of four frameworks, behind `HTTPAuthMiddleware`:
`stream_apps:app` has them at `/starlette`, `/fastapi`, `/litestar` and `/django`, and a download
that never ends at `/download`. With `silent=1`, a stream says nothing before its end.

A client is whom `user` in the query names, with a credential that says how long it lasts: `s-0.5`,
or `s-for-ever`.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import anyio
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path
from fastapi import FastAPI
from litestar import Litestar, get
from litestar.response import ServerSentEvent
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from asgi_wsauth import Authenticator, HTTPAuthMiddleware, MemoryStore, Principal, Revocations

ENDED: dict[str, list[str]] = defaultdict(list)
"""For each user, how the generators of the streams ended."""

SENT: dict[str, int] = defaultdict(int)
"""For each user, how many streams have sent two numbers."""

revocations = Revocations(MemoryStore())


async def lasting(credential: Any, conn: Any) -> Principal | None:
    """`s-SECONDS`, or `s-for-ever`."""
    kind, _, life = credential.value.partition("-")
    if kind != "s":
        return None
    expires_at = None if life == "for-ever" else time.time() + float(life)
    return Principal(conn.query_params["user"], expires_at=expires_at)


async def numbers(user: str, silent: bool) -> AsyncIterator[int]:
    """0, 1, 2, ...: one each moment, for as long as the stream lives."""
    try:
        for number in itertools.count():
            if silent:
                await anyio.sleep_forever()
            yield number
            SENT[user] += number == 1
            await anyio.sleep(0.05)
    except BaseException as exc:
        ENDED[user].append(type(exc).__name__)
        raise


async def lines(user: str, silent: bool) -> AsyncIterator[str]:
    """As server-sent events."""
    async for number in numbers(user, silent):
        yield f"data: {number}\n\n"


def asked(params: Any) -> tuple[str, bool]:
    return params["user"], "silent" in params


async def starlettes(request: Request) -> StreamingResponse:
    return StreamingResponse(lines(*asked(request.query_params)), media_type="text/event-stream")


async def download(request: Request) -> StreamingResponse:
    length = {"content-length": "1000000"}
    return StreamingResponse(lines(*asked(request.query_params)), headers=length)


async def revoke(request: Request) -> JSONResponse:
    await revocations.revoke_user(request.query_params["user"])
    return JSONResponse({})


async def ended(request: Request) -> JSONResponse:
    gc.collect()  # who was about to send when the stream ended may have left its generator behind
    return JSONResponse(ENDED[request.query_params["user"]])


async def sent(request: Request) -> JSONResponse:
    return JSONResponse(SENT[request.query_params["user"]])


async def settle(request: Request) -> JSONResponse:
    gc.collect()
    return JSONResponse({})


own = Starlette(
    routes=[
        Route("/starlette", starlettes),
        Route("/download", download),
        Route("/revoke", revoke),
        Route("/ended", ended),
        Route("/sent", sent),
        Route("/settle", settle),
    ]
)
fastapi = FastAPI()


@fastapi.get("/fastapi")
async def fastapis(request: Request) -> EventSourceResponse:
    events = numbers(*asked(request.query_params))
    return EventSourceResponse({"data": number} async for number in events)


@get("/litestar")
async def litestars(request: Any) -> ServerSentEvent:
    return ServerSentEvent(numbers(*asked(request.query_params)))


async def djangos(request: HttpRequest) -> StreamingHttpResponse:
    events = lines(*asked(request.GET))
    return StreamingHttpResponse(events, content_type="text/event-stream")


urlpatterns = [path("django", djangos)]

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="dK3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz",
)
django.setup()

APPS = {
    "/fastapi": fastapi,
    "/litestar": Litestar([litestars], openapi_config=None),
    "/django": get_asgi_application(),
}


async def all_of_them(scope: Any, receive: Any, send: Any) -> None:
    await APPS.get(scope["path"], own)(scope, receive, send)


auth = Authenticator([lasting], revocations=revocations)
guarded = HTTPAuthMiddleware(all_of_them, auth, exclude=["/revoke", "/ended", "/sent", "/settle"])


async def app(scope: Any, receive: Any, send: Any) -> None:
    await (own if scope["type"] == "lifespan" else guarded)(scope, receive, send)
