"""State of which each event loop has its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

from anyio.lowlevel import RunVar

__all__ = ["PerLoop"]

T = TypeVar("T")

_numbers = count(1)  # anyio tells variables apart by their names


class PerLoop(Generic[T]):
    """A variable that has one value for each event loop, and goes with the loop."""

    def __init__(self) -> None:
        self._value: RunVar[T | None] = RunVar(f"asgi_wsauth.{next(_numbers)}")

    def get(self) -> T | None:
        """The running loop's value, or None if it has none."""
        return self._value.get(None)

    def set(self, value: T | None) -> None:
        """Set the running loop's value."""
        self._value.set(value)

    def get_or_make(self, make: Callable[[], T]) -> T:
        """The running loop's value, which `make` makes if it has none."""
        value = self._value.get(None)
        if value is None:
            value = make()
            self._value.set(value)
        return value
