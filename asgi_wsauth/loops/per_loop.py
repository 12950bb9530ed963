"""State of which each event loop has its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, Generic, TypeVar
from weakref import ref

from anyio.lowlevel import RunVar

__all__ = ["PerLoop"]

T = TypeVar("T")

_numbers = count(1)  # anyio tells variables apart by their names

# What asyncio's loops have. Many a value knows its loop, and would keep it alive for good behind a
# weak key, too; so a loop that was closed goes when another one gets its first value.
_of_loops: dict[asyncio.AbstractEventLoop, dict[Any, Any]] = {}


class PerLoop(Generic[T]):
    """A variable that has one value for each event loop, for as long as that is open."""

    def __init__(self) -> None:
        self._on_trio: RunVar[T | None] = RunVar(f"asgi_wsauth.{next(_numbers)}")
        # The loop of asyncio's that asked last, and its value: a process rarely has more than one
        # loop.
        self._latest: tuple[Callable[[], object], T | None] = (_nothing, None)

    def get(self) -> T | None:
        """The running loop's value, or None if it has none."""
        of, value = self._latest
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # trio's
            return self._on_trio.get(None)
        if of() is not loop:
            value = _of_loops.get(loop, {}).get(self)
            self._latest = ref(loop, self._forget), value
        return value

    def set(self, value: T | None) -> None:
        """Set the running loop's value."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._on_trio.set(value)
            return
        if loop not in _of_loops:
            for other in [each for each in list(_of_loops) if each.is_closed()]:
                _of_loops.pop(other, None)
            _of_loops[loop] = {}
        _of_loops[loop][self] = value
        self._latest = (_nothing, None)

    def get_or_make(self, make: Callable[[], T]) -> T:
        """The running loop's value, which `make` makes if it has none."""
        value = self.get()
        if value is None:
            value = make()
            self.set(value)
        return value

    def _forget(self, _: object) -> None:
        self._latest = (_nothing, None)


def _nothing() -> None:
    """Stands for a loop that is gone."""
