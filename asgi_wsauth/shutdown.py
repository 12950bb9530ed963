"""What empties a process that is told to end: `drain_on_signal`."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager
from functools import partial
from types import FrameType, TracebackType
from typing import Any, cast

import anyio

from asgi_wsauth.connection.passthrough import GUARDS
from asgi_wsauth.events import log_failure, logger
from asgi_wsauth.loops.tasks import from_any_thread, running_loop, spawn
from asgi_wsauth.middleware import WebSocketAuthMiddleware
from asgi_wsauth.options import ConfigurationError, check_seconds, shown

__all__ = ["drain_on_signal"]


def drain_on_signal(
    *, over: float = 30.0, signum: int = signal.SIGTERM
) -> AbstractContextManager[None]:
    """Have SIGTERM drain each `WebSocketAuthMiddleware` of this process, and reach the server when
    that is done. An app's lifespan yields inside it:

        @asynccontextmanager
        async def lifespan(app):
            with drain_on_signal(over=30):
                yield

    Further signals of that kind change nothing: a worker may get it both from its supervisor and
    from systemd. SIGINT ends the server at once, as usual. If only asyncio's loop knows the
    server's handler, which it tells nobody, the server is sent a SIGINT afterwards instead; servers
    handle both alike. If nobody handles SIGTERM, it ends the process then. Signals reach the main
    thread only: elsewhere, as in a test client's thread, nothing is done, and a warning is logged;
    likewise if this is called without `with`.

    Args:
        over: seconds within which sockets are closed, as in `WebSocketAuthMiddleware.drain`.
            Whoever kills a process that doesn't end in time must wait for longer than that.
        signum: the number of the signal: SIGTERM; or another one, which drains and does nothing
            else, for a hook that runs before the process is told to end.

    Raises:
        ConfigurationError: an option can't work; or, on entering it, no event loop is running.
    """
    if type(signum) not in (int, signal.Signals) or signum not in signal.valid_signals():
        raise ConfigurationError(
            f"signum must be a signal, for example signal.SIGTERM, got {shown(signum)}"
        )
    return _OnSignal(check_seconds("over", over, least=0), signal.Signals(signum))


class _OnSignal:
    def __init__(self, over: float, signum: signal.Signals) -> None:
        self._over = over
        self._signum = signum
        self._previous: Any = None  # what handled the signal
        self._was_the_loops = self._has_begun = self._was_entered = False

    def __enter__(self) -> None:
        self._was_entered = True
        loop = running_loop()
        try:
            self._call = from_any_thread()
        except RuntimeError:
            raise ConfigurationError(
                "drain_on_signal must be entered where an event loop runs; write "
                "`with drain_on_signal(): yield` in your app's lifespan"
            ) from None
        try:
            self._previous = signal.signal(self._signum, self._handle)
        except ValueError:
            logger.warning("%s drains nothing: this is not the main thread", self._signum.name)
            return
        if loop is not None and loop.remove_signal_handler(self._signum):
            self._was_the_loops = True
            self._previous = signal.SIG_DFL
            signal.signal(self._signum, self._handle)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._put_back()

    def __del__(self) -> None:
        if not self._was_entered:
            logger.warning(
                "drain_on_signal(...) does nothing by itself; write "
                "`with drain_on_signal(): yield` in your app's lifespan"
            )

    def _put_back(self) -> bool:
        """Whether the signal was handled here until now."""
        was_ours = self._previous is not None
        if was_ours:
            signal.signal(self._signum, self._previous)
            self._previous = None
        return was_ours

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Called between any two steps of the main thread."""
        try:
            self._call(self._begin)
        except RuntimeError:  # the loop has ended, and the lifespan was never told
            self._hand_on()

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            spawn(self._drain)

    async def _drain(self) -> None:
        try:
            async with anyio.create_task_group() as group:
                for guard in GUARDS.all_of("websocket"):
                    drain = cast(WebSocketAuthMiddleware, guard).drain
                    group.start_soon(partial(drain, over=self._over))
        except Exception as exc:
            log_failure("draining on %r failed", self._signum, exc)
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        if self._signum == signal.SIGTERM and self._put_back():
            signal.raise_signal(signal.SIGINT if self._was_the_loops else self._signum)
