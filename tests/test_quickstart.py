"""examples/quickstart.py, run as its first lines say."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from servers import free_port
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

EXAMPLE = Path(__file__).parent.parent / "examples" / "quickstart.py"


async def chat(address: str) -> None:
    async for attempt in connect(address):  # tries again while the server starts
        async with attempt as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "alice: hello"
            break
    async with connect(address.partition("?")[0]) as websocket:
        try:
            await websocket.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            assert (closed.rcvd.code, closed.rcvd.reason) == (1008, "token_missing")
        else:
            raise AssertionError("admitted without a token")


def test_the_quickstart_admits_alice_and_nobody_else() -> None:
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [sys.executable, str(EXAMPLE)],
            env={**os.environ, "PORT": str(free_port())},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with server:
            try:
                assert server.stdout is not None
                address = server.stdout.readline().strip()
                asyncio.run(asyncio.wait_for(chat(address), 30))
            finally:
                server.terminate()
        log.seek(0)
        token = address.partition("token=")[2]
        assert token
        assert token not in log.read()
