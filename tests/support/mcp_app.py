"""An MCP server as a test starts it: `/principal/` with our own user in its scope, and
`/mcp/` with the `load_user` of docs/guides/frameworks.md."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from handshakes import SECRET
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pages import blocks
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_wsauth import APIKeyVerifier, Authenticator, HTTPAuthMiddleware, JWTVerifier

API_KEY = os.environ["API_KEY"]

_names: dict[str, Any] = {}
_BLOCKS = blocks("docs/guides/frameworks.md")
exec(next(block for block in _BLOCKS if "def mcp_user" in block), _names)

MANAGERS = [StreamableHTTPSessionManager(Server("demo"), json_response=True) for _ in range(2)]


def guarded(manager: StreamableHTTPSessionManager, **options: Any) -> HTTPAuthMiddleware:
    tokens = JWTVerifier(SECRET, algorithms=["HS256"])
    auth = Authenticator([APIKeyVerifier({"alice": API_KEY}), tokens], **options)
    return HTTPAuthMiddleware(manager.handle_request, auth)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with MANAGERS[0].run(), MANAGERS[1].run():
        yield


app = Starlette(
    routes=[
        Mount("/principal", guarded(MANAGERS[0])),
        Mount("/mcp", guarded(MANAGERS[1], load_user=_names["mcp_user"])),
    ],
    lifespan=lifespan,
)
