"""Many things, a few at a time: `batches`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

__all__ = ["batches"]

T = TypeVar("T")


def batches(of: Iterable[T], size: int) -> Iterator[list[T]]:
    """All that are there at the beginning, whatever comes and goes meanwhile, `size` at a time."""
    rest = iter(list(of))
    while batch := list(islice(rest, size)):
        yield batch
