"""Strawberry GraphQL: queries over HTTP, subscriptions over `graphql-transport-ws`, one login.

    pip install -e '.[demo]' strawberry-graphql
    python examples/graphql_app.py

It prints a token that is valid for five minutes, and commands to try it with. The port is 8000, or
what the environment variable PORT says; SECRET can be set too.

A client sends the token in its `connectionParams`. With graphql-ws:

    createClient({
      url: "wss://chat.example/graphql",
      connectionParams: async () => ({ Authorization: `Bearer ${await freshToken()}` }),
    })

It asks for them at each try. On 4001 it comes back with a new token and subscribes again; on 1008
and 4004 it gives up. For clients that know only the codes of GraphQL's protocol, give the
middleware for sockets `close_codes=GRAPHQL_CLOSE_CODES`.

Programs may send the token in the handshake instead: as a header, in the query, or as a subprotocol
beside `graphql-transport-ws`.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator

import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from asgi_wsauth import (
    Authenticator,
    FirstMessage,
    Header,
    HTTPAuthMiddleware,
    JWTVerifier,
    QueryParam,
    Subprotocol,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.testing import make_jwt

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)


def whoami(info: strawberry.Info) -> str:
    name: str = info.context["request"].user.display_name
    return name


@strawberry.type
class Query:
    me: str = strawberry.field(resolver=whoami)


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, info: strawberry.Info, to: int) -> AsyncGenerator[str, None]:
        for number in range(1, to + 1):
            yield f"{whoami(info)}: {number}"
            await asyncio.sleep(0.1)


auth = Authenticator(
    [JWTVerifier(SECRET, algorithms=["HS256"], audience="graphql")],
    sources=[
        FirstMessage(dialect="graphql-transport-ws", replay=True),
        Header("authorization", scheme="Bearer"),
        QueryParam("token"),
        Subprotocol(),
    ],
)
graphql = GraphQL[object, None](
    strawberry.Schema(Query, subscription=Subscription),
    graphql_ide=None,
    subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
)
app = Starlette(
    routes=[Route("/graphql", graphql), WebSocketRoute("/graphql", graphql)],
    middleware=[
        Middleware(HTTPAuthMiddleware, authenticator=auth),
        Middleware(WebSocketAuthMiddleware, authenticator=auth),
    ],
)


def hints(port: int) -> str:
    return f"""
TOKEN={make_jwt(SECRET, "alice", aud="graphql")}
URL=http://127.0.0.1:{port}/graphql

curl $URL -H "Authorization: Bearer $TOKEN" --json '{{"query": "{{ me }}"}}'
"""


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    print(hints(port), flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port)
