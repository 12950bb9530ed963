"""docs/guides/deploys.md: its blocks of Python do what it says."""

from __future__ import annotations

import asyncio
import signal
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from pages import blocks
from servers import DEADLINE, free_port
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from asgi_wsauth import Authenticator, Principal, WebSocketAuthMiddleware

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("alone")]

BLOCKS = blocks("docs/guides/deploys.md")


def run(block: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(compile(block, "docs/guides/deploys.md", "exec"), found)
    return found


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """It has its handler back afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_it_has_three() -> None:
    assert len(BLOCKS) == 3


async def test_the_lifespan_handles_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz")
    before = signal.getsignal(signal.SIGTERM)
    page = run(BLOCKS[0])
    async with page["lifespan"](page["app"]):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.live
async def test_hypercorn_as_a_program_ends_when_it_is_drained() -> None:
    async def verify(credential: Any, conn: Any) -> Principal:
        return Principal("alice")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await receive()

    port = free_port()
    page = run(BLOCKS[1].replace("8000", str(port)))
    guarded = WebSocketAuthMiddleware(app, Authenticator([verify], observers=()))
    server = asyncio.create_task(page["main"](guarded, over=0.1))
    ws: Any = None
    async with asyncio.timeout(3 * DEADLINE):
        while ws is None:
            try:
                ws = await connect(f"ws://127.0.0.1:{port}/?token=a", proxy=None)
            except OSError:
                assert not server.done()
                await asyncio.sleep(0.02)
        assert await ws.recv() == "hello"
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "server_restarting")
        await server


async def test_the_lines_for_daphne_set_a_handler_once_the_reactor_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That it does what it should is tested with a real one, in test_wire_deploys.py."""
    later: list[Any] = []
    twisted = types.ModuleType("twisted.internet")
    reactor = types.SimpleNamespace(callLater=lambda seconds, call: later.append((seconds, call)))
    twisted.reactor = reactor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "twisted.internet", twisted)
    before = signal.getsignal(signal.SIGTERM)
    run(BLOCKS[2])
    ((seconds, call),) = later
    call()
    assert seconds == 0
    assert signal.getsignal(signal.SIGTERM) is not before
