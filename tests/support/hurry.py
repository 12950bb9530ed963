"""The event loops of tests.

On one that is hurried, no time is waited for: whenever all that runs waits, it is at once as late
as the first of them waits for. A second that somebody waits for takes no time, and is a second,
however long a busy machine takes for it. What another thread or process does takes time that such a
loop knows nothing of: tests of those use a usual one.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import trio.testing
from anyio.lowlevel import _run_vars

__all__ = ["hurried", "usual"]


_TURN = 1e-5  # seconds that a turn of the loop takes: who never waits comes to an end, too


class _Selector(selectors.DefaultSelector):
    """Passes the time by which it would be late, in place of waiting for it."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout if timeout is None else 0)
        self.passed += _TURN if ready else max(timeout or 0, _TURN)
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
        return self._own.passed


def hurried(backend: str) -> tuple[str, dict[str, Any]]:
    """What anyio takes for an event loop of this kind that is in a hurry."""
    if backend == "trio":
        return backend, {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return backend, {"loop_factory": _Hurried}


def usual(backend: str) -> tuple[str, dict[str, Any]]:
    """What anyio takes for an event loop of this kind that waits as any does."""
    return backend, {} if backend == "trio" else {"loop_factory": _Loop}
