"""State of which each event loop has its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

from anyio.lowlevel import RunVar

__all__ = ["PerLoop"]

T = TypeVar("T")

_numbers = count(1)


class PerLoop(Generic[T]):
    """A variable that has one value for each event loop, and goes with the loop.

    asyncio's loops keep their values themselves. Most values know their loop, so that any other
    place, `WeakKeyDictionary` and anyio's `RunVar` included, would keep both alive for good.
    """

    def __init__(self) -> None:
        self._name = f"_asgi_wsauth_{next(_numbers)}"  # anyio tells variables apart by it, too
        self._on_trio: RunVar[T | None] = RunVar(self._name, None)

    def get(self) -> T | None:
        """The running loop's value, or None if it has none."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._on_trio.get()
        return vars(loop).get(self._name)

    def set(self, value: T | None) -> None:
        """Set the running loop's value."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._on_trio.set(value)
        else:
            vars(loop)[self._name] = value

    def get_or_make(self, make: Callable[[], T]) -> T:
        """The running loop's value, which `make` makes if it has none."""
        value = self.get()
        if value is None:
            value = make()
            self.set(value)
        return value
