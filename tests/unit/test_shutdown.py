"""`drain_on_signal`: a signal empties the process, and goes to whoever handled it before.

What real servers make of it is in test_wire_deploys.py.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from cases import cases
from doors import Door
from handshakes import App, drive, websocket
from sockets import Seat, running, settled, until

from asgi_wsauth import ConfigurationError, WebSocketAuthMiddleware, drain_on_signal

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.both_loops,
    pytest.mark.hurried,
    pytest.mark.usefixtures("alone"),
]

RESTARTING = (1012, "server_restarting")


class Server:
    """A server's handler, and the signals that it got."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def __call__(self, signum: int, frame: Any) -> None:
        self.got.append(signum)


@pytest.fixture(autouse=True)
def server() -> Iterator[Server]:
    """It handles these signals."""
    found = Server()
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.signal(signum, found) for signum in signals]
    yield found
    for signum, handler in zip(signals, before, strict=True):
        signal.signal(signum, handler)


async def test_sigterm_closes_all_sockets_and_then_goes_to_the_server(server: Server) -> None:
    doors = Door(Seat()), Door(Seat())
    async with running(doors[0]) as one, running(doors[1]) as other:
        await until(lambda: one.sent and other.sent)
        with drain_on_signal(over=1):
            signal.raise_signal(signal.SIGTERM)
            await settled()
            assert server.got == []
            assert (await drive(doors[0], websocket("token=a"))).close == RESTARTING
            await until(lambda: server.got)
            assert (one.close, other.close) == (RESTARTING, RESTARTING)
            assert signal.getsignal(signal.SIGTERM) is server
    assert server.got == [signal.SIGTERM]


async def test_more_of_them_change_nothing(server: Server) -> None:
    door = Door(Seat())
    async with running(door) as wire:
        await until(lambda: wire.sent)
        with drain_on_signal(over=1):
            for _ in range(3):
                signal.raise_signal(signal.SIGTERM)
                await settled()
            assert server.got == []
            await until(lambda: server.got)
            assert wire.close == RESTARTING
    assert server.got == [signal.SIGTERM]


async def test_sigint_is_the_servers_own(server: Server) -> None:
    with drain_on_signal():
        signal.raise_signal(signal.SIGINT)
        assert server.got == [signal.SIGINT]


async def test_a_handler_that_only_the_loop_knows_of_gets_a_sigint_in_its_place(
    server: Server, anyio_backend_name: str
) -> None:
    """So Hypercorn and Granian handle signals."""
    if anyio_backend_name == "trio":
        return
    loop, called = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGTERM, called.append, "the loop's")
    with drain_on_signal(over=0):
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: server.got)
        await settled()
    assert (server.got, called) == ([signal.SIGINT], [])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_any_other_signal_drains_and_does_nothing_else(server: Server) -> None:
    door = Door(Seat())
    async with running(door) as wire:
        await until(lambda: wire.sent)
        with drain_on_signal(over=0, signum=signal.SIGUSR1):
            for _ in range(2):
                signal.raise_signal(signal.SIGUSR1)
                await until(lambda: wire.close)
    assert (wire.close, server.got) == (RESTARTING, [])


async def test_without_a_signal_all_is_as_it_was(server: Server) -> None:
    with drain_on_signal():
        assert signal.getsignal(signal.SIGTERM) is not server
    assert signal.getsignal(signal.SIGTERM) is server


async def test_after_the_lifespan_nothing_is_handed_on(server: Server) -> None:
    """The server has its handler back, and ends already."""
    door = Door(Seat())
    async with running(door) as wire:
        await until(lambda: wire.sent)
        with drain_on_signal(over=1):
            signal.raise_signal(signal.SIGTERM)
            await settled()
        await until(lambda: wire.close)
        await settled()
    assert server.got == []


async def test_the_server_is_told_even_if_draining_fails(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: Any, *, over: float) -> None:
        raise OSError("broken")

    door = Door(App())
    monkeypatch.setattr(WebSocketAuthMiddleware, "drain", fail)
    with drain_on_signal():
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: server.got)
    assert "draining on <Signals.SIGTERM: 15> failed" in caplog.text
    assert not door.middleware.is_draining


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_where_the_loop_ended_without_its_lifespan_the_server_is_told(
    server: Server, backend: str
) -> None:
    draining = drain_on_signal(over=1)

    async def begin() -> None:
        draining.__enter__()

    anyio.run(begin, backend=backend)
    signal.raise_signal(signal.SIGTERM)
    assert server.got == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is server


@pytest.mark.hurried(False)
async def test_outside_the_main_thread_it_only_warns(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def lifespan() -> None:
        with drain_on_signal():
            signal.raise_signal(signal.SIGTERM)

    with caplog.at_level(logging.WARNING, "asgi_wsauth"):
        thread = threading.Thread(target=anyio.run, args=(lifespan,))
        thread.start()
        thread.join()
    assert "SIGTERM drains nothing: this is not the main thread" in caplog.text
    assert server.got == [signal.SIGTERM]


@pytest.mark.usefixtures("little_to_collect")
async def test_without_with_it_warns(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with drain_on_signal():
        pass
    gc.collect()
    assert caplog.text == ""
    drain_on_signal(over=1)
    gc.collect()
    assert "does nothing by itself; write `with drain_on_signal(): yield`" in caplog.text
    signal.raise_signal(signal.SIGTERM)
    assert server.got == [signal.SIGTERM]


def test_it_needs_an_event_loop(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="in your app's lifespan"):
        drain_on_signal().__enter__()
    signal.raise_signal(signal.SIGTERM)
    assert server.got == [signal.SIGTERM]


@cases("over", [-1, None])
def test_its_time_is_checked_at_once(over: Any) -> None:
    with pytest.raises(ValueError, match="over must be"):
        drain_on_signal(over=over)
