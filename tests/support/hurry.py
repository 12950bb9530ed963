"""The event loops of tests.

On one that is hurried, no time is waited for: whenever all that runs waits, it is at once as late
as the first of them waits for. A second that somebody waits for takes no time, and is exactly a
second. What another thread or process does takes time that such a loop knows nothing of: tests of
those use a usual one.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import trio.testing
from anyio.lowlevel import _run_vars

__all__ = ["hurried", "usual"]


class _Selector(selectors.DefaultSelector):
    """Passes the time by which it would be late, in place of waiting for it."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self.passed += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    """Once it is closed, it goes with all that it had. As it is, anyio keeps that as long as there
    is the loop, and much of it keeps the loop: thousands of tests would leave theirs for the
    garbage collector to look through, each time."""

    def close(self) -> None:
        super().close()
        _run_vars.pop(self, None)


class _Hurried(_Loop):
    def __init__(self) -> None:
        self._own = _Selector()
        super().__init__(self._own)

    def time(self) -> float:
        return super().time() + self._own.passed


def hurried(backend: str) -> tuple[str, dict[str, Any]]:
    """What anyio takes for an event loop of this kind that is in a hurry."""
    if backend == "trio":
        return backend, {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return backend, {"loop_factory": _Hurried}


def usual(backend: str) -> tuple[str, dict[str, Any]]:
    """What anyio takes for an event loop of this kind that waits as any does."""
    return backend, {} if backend == "trio" else {"loop_factory": _Loop}
