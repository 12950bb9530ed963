"""State of which each event loop has its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar
from weakref import ref

from anyio.lowlevel import RunVar

__all__ = ["PerLoop"]

T = TypeVar("T")

_numbers = count(1)  # anyio tells variables apart by their names


class PerLoop(Generic[T]):
    """A variable that has one value for each event loop, and goes with the loop."""

    def __init__(self) -> None:
        self._value: RunVar[T | None] = RunVar(f"asgi_wsauth.{next(_numbers)}")
        # The loop of asyncio's that asked last, and its value: a process rarely has more than one
        # loop, and anyio takes as long to find out which one runs as a handshake for much else.
        self._latest: tuple[Callable[[], object], T | None] = (_nothing, None)

    def get(self) -> T | None:
        """The running loop's value, or None if it has none."""
        of, value = self._latest
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # trio's
            return self._value.get(None)
        if of() is not loop:
            value = self._value.get(None)
            self._latest = ref(loop, self._forget), value
        return value

    def set(self, value: T | None) -> None:
        """Set the running loop's value."""
        self._value.set(value)
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
