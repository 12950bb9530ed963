"""A server that is told to end, with sockets open: each client is told that it restarts, and none
loses its connection without a word. The ways are those of docs/guides/deploys.md.

    WSAUTH_SERVERS=all pytest tests/wire/test_wire_deploys.py

has 1,000 clients in place of 40.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from http2 import connected
from programs import needed
from servers import DEADLINE, EVERYTHING, Server, serving
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.live

CLIENTS = 1_000 if EVERYTHING else 40
RESTARTING = (1012, "server_restarting")


def to_the_process(server: Server) -> None:
    """As by a container's runtime, and systemd's KillMode=mixed."""
    server.process.send_signal(signal.SIGTERM)


def to_all_processes(server: Server) -> None:
    """As by systemd's default."""
    os.killpg(server.process.pid, signal.SIGTERM)


def to_the_workers_first(server: Server) -> None:
    """As by a hook that is run before SIGTERM."""
    pkill = [needed("pkill", "procps"), "-USR1", "-f", "-P", str(server.process.pid), "spawn_main"]
    subprocess.run(pkill, check=True)


WAYS: dict[str, tuple[str, list[str], Mapping[str, str], Callable[[Server], None]]] = {
    "uvicorn": ("uvicorn-sansio", [], {}, to_the_process),
    "uvicorn, two workers": ("uvicorn-sansio", ["--workers", "2"], {}, to_all_processes),
    "Hypercorn": ("hypercorn", [], {}, to_the_process),
    "Hypercorn, two workers": (
        "hypercorn",
        ["--workers", "2"],
        {"DRAIN_SIGNAL": "SIGUSR1"},
        to_the_workers_first,
    ),
    "Hypercorn on trio": ("hypercorn-trio", [], {}, to_the_process),
    "Granian": ("granian", ["--workers", "2"], {}, to_all_processes),
    "Daphne": ("daphne", [], {}, to_the_process),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_client_is_told_to_come_again_later(way: str) -> None:
    name, arguments, env, tell = WAYS[way]
    env = {"DRAIN_OVER": "15" if EVERYTHING else "0.5", **env}
    with serving(name, "deploy_app:app", *arguments, env=env) as server:
        number = int(dict(zip(arguments[::2], arguments[1::2], strict=True)).get("--workers", 1))
        while way != "Daphne" and server.log().count("ready") < number:
            assert server.process.poll() is None, server.log()
            time.sleep(0.02)
        closes = asyncio.run(_crowd(server, tell))
        if server.process.poll() is None:  # it may have been a hook that told it
            to_the_process(server)
        server.process.wait(3 * DEADLINE)
        assert not re.search("Traceback|Exception|never awaited", server.log()), server.log()
    if way == "Daphne":  # it drops a client that takes a second to answer
        assert set(closes) <= {(4012, ""), (1006, "")}
        assert closes[4012, ""] > 0.9 * CLIENTS
    else:
        assert closes == {RESTARTING: CLIENTS}


def test_sockets_over_http2_are_told_too() -> None:
    """Many of them share one connection."""

    async def come_and_stay() -> list[Any]:
        async with connected(server) as connection:
            sockets = [await connection.open("/ws?token=ends") for _ in range(5)]
            assert [await socket.until("status") for socket in sockets] == [200] * 5
            to_the_process(server)
            return [await socket.until("close") for socket in sockets]

    with serving("hypercorn", "deploy_app:app", env={"DRAIN_OVER": "0.5"}) as server:
        assert asyncio.run(come_and_stay()) == [RESTARTING] * 5
        server.process.wait(3 * DEADLINE)


async def _crowd(server: Server, tell: Callable[[Server], None]) -> Counter[Any]:
    """With which codes and reasons the clients were closed, half of whom have logins that end."""
    at_once = asyncio.Semaphore(20)

    async def come(number: int) -> ClientConnection:
        token = "ends" if number % 2 else "lasts"
        async with at_once:
            ws = await connect(
                f"ws://127.0.0.1:{server.port}/ws?token={token}",
                sock=server.tcp(),
                open_timeout=6 * DEADLINE,
                ping_interval=None,
                compression=None,
            )
        await ws.send("hello")
        assert await ws.recv() == "hello"
        return ws

    async def stay(ws: ClientConnection) -> Any:
        try:
            await asyncio.wait_for(ws.recv(), 6 * DEADLINE)
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")

    clients = await asyncio.gather(*map(come, range(CLIENTS)))
    tell(server)
    return Counter(await asyncio.gather(*map(stay, clients)))
