"""Apps of frameworks that have no list of ASGI middlewares for sockets, or one that does less: both
middlewares stand around the app. Each framework is imported only in the process that serves it.

`around_apps:app` is the app of the framework that the environment variable FRAMEWORK names. Over
HTTP it says whom it takes the client for, and so does its socket, which then says everything back.
"""

# No `from __future__ import annotations`: BlackSheep and FastHTML evaluate the annotations.
import os
from typing import Any

from handshakes import SECRET

from asgi_wsauth import Authenticator, HTTPAuthMiddleware, JWTVerifier, WebSocketAuthMiddleware

auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"])])


def falcon() -> Any:
    import falcon.asgi

    class Chat:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.media = {"user": req.scope["user"].identity}

        async def on_websocket(self, req: Any, ws: Any) -> None:
            await ws.accept()
            await ws.send_text(req.scope["user"].identity)
            while True:
                try:
                    await ws.send_text(await ws.receive_text())
                except falcon.WebSocketDisconnected:
                    return

    app = falcon.asgi.App()
    app.add_route("/chat", Chat())
    return app


def blacksheep() -> Any:
    from blacksheep import Application, WebSocket, WebSocketDisconnectError, get, ws

    app = Application()

    @get("/chat")
    async def me(request: Any) -> Any:
        return {"user": request.scope["user"].identity}

    @ws("/chat")
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.scope["user"].identity)
        while True:
            try:
                await websocket.send_text(await websocket.receive_text())
            except WebSocketDisconnectError:
                return

    return app


def sanic() -> Any:
    from sanic import Sanic, json

    app = Sanic("chat")

    @app.get("/me")
    async def me(request: Any) -> Any:
        return json({"user": request.transport.scope["user"].identity})

    @app.websocket("/chat")
    async def chat(request: Any, ws: Any) -> None:
        await ws.send(request.transport.scope["user"].identity)
        while True:
            await ws.send(await ws.recv())

    return app


def fasthtml() -> Any:
    from fasthtml.common import JSONResponse, Request, fast_app

    app, rt = fast_app(exts="ws", secret_key=SECRET)  # or it writes one into a file

    @rt("/chat")
    def get(req: Request):
        return JSONResponse({"user": req.scope["user"].identity})

    async def greet(scope, send):
        await send(scope["user"].identity)

    @app.ws("/chat", conn=greet)
    async def chat(said: str, send):
        await send(said)

    return app


def ariadne() -> Any:
    from ariadne import QueryType, SubscriptionType, make_executable_schema
    from ariadne.asgi import GraphQL
    from ariadne.asgi.handlers import GraphQLTransportWSHandler

    query, subscription = QueryType(), SubscriptionType()

    @query.field("me")
    @subscription.field("me")
    def me(source: Any, info: Any) -> Any:
        return source or info.context["request"].user.identity

    @subscription.source("me")
    async def names(source: Any, info: Any) -> Any:
        yield info.context["request"].user.identity

    schema = make_executable_schema(
        "type Query { me: String } type Subscription { me: String }", query, subscription
    )
    return GraphQL(schema, websocket_handler=GraphQLTransportWSHandler(), execute_get_queries=True)


def nicegui() -> Any:
    from fastapi import FastAPI, Request
    from nicegui import ui

    app = FastAPI()

    @ui.page("/")
    def page(request: Request) -> None:
        ui.label(f"user: {request.scope['user'].identity}")

    ui.run_with(app)
    return app


_app = globals()[os.environ["FRAMEWORK"]]()
_rejection: Any = os.environ.get("REJECTION", "accept_then_close")
app = HTTPAuthMiddleware(WebSocketAuthMiddleware(_app, auth, rejection=_rejection), auth)
