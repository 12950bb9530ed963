"""State of which each event loop has its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, Generic, TypeVar

from anyio.lowlevel import RunVar

__all__ = ["PerLoop"]

T = TypeVar("T")

_numbers = count(1)  # anyio tells variables apart by their names

# What asyncio's loops have. Most values know their loop, and would keep it alive for good behind a
# weak key, too, which is all that anyio's `RunVar` is; and the loop itself is no place for them,
# because an app gets to it from its `receive`, and would find others' credentials there.
_of_loops: dict[asyncio.AbstractEventLoop, dict[Any, Any]] = {}


class PerLoop(Generic[T]):
    """A variable that has one value for each event loop, for as long as the loop is open. A closed
    loop is released, with all its values, when another loop gets its first one."""

    def __init__(self) -> None:
        self._on_trio: RunVar[T | None] = RunVar(f"asgi_wsauth.{next(_numbers)}", None)

    def get(self) -> T | None:
        """The running loop's value, or None if it has none."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._on_trio.get()
        values = _of_loops.get(loop)
        return None if values is None else values.get(self)

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

    def get_or_make(self, make: Callable[[], T]) -> T:
        """The running loop's value, which `make` makes if it has none."""
        value = self.get()
        if value is None:
            value = make()
            self.set(value)
        return value
