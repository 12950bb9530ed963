"""A program that reconnects for ever."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from servers import Server
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

__all__ = ["loops"]


async def loops(server: Server, path: str, seconds: float = 10.0) -> tuple[int, int]:
    """What a program does that reconnects for ever: how many connections it made, and the status
    that it stopped at, or 0."""
    connections = 0
    ends = time.monotonic() + seconds
    with suppress(TimeoutError):
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + seconds):
            try:
                async for ws in connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None):
                    connections += 1
                    with suppress(ConnectionClosed):
                        async for _ in ws:
                            pass
                    if time.monotonic() > ends:
                        break
            except InvalidStatus as refused:
                return connections + 1, refused.response.status_code
    return connections, 0
