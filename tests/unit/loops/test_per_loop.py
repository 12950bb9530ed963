"""A variable of which each event loop has its own value."""

from __future__ import annotations

import asyncio
import gc
from weakref import ref

import anyio
import pytest

from asgi_wsauth.loops.per_loop import PerLoop


class Thing:
    """Something that a loop has."""


def test_each_loop_has_its_own_for_as_long_as_it_lives() -> None:
    variable: PerLoop[Thing] = PerLoop()

    async def mine() -> Thing:
        await anyio.lowlevel.checkpoint()
        return variable.get_or_make(Thing)

    with asyncio.Runner() as one, asyncio.Runner() as other:
        first, second = one.run(mine()), other.run(mine())
        assert first is not second
        assert one.run(mine()) is first
        assert other.run(mine()) is second
    assert anyio.run(mine, backend="trio") not in (first, second)


def test_what_is_set_is_what_is_found() -> None:
    variable: PerLoop[str] = PerLoop()

    async def found() -> list[str | None]:
        values = [variable.get()]
        for value in ("one", None, "another"):
            variable.set(value)
            values.append(variable.get())
        return values

    assert asyncio.run(found()) == [None, "one", None, "another"]


@pytest.mark.slow
def test_it_goes_with_its_loop_whichever_loop_asked_last() -> None:
    variable: PerLoop[Thing] = PerLoop()

    async def mine() -> ref[Thing]:
        variable.get_or_make(Thing)
        return ref(variable.get_or_make(Thing))  # the second time, it is known whose it is

    with asyncio.Runner() as other:
        others = other.run(mine())
        last = asyncio.run(mine())
        gc.collect()
        assert last() is None
        with asyncio.Runner() as earlier:
            earliers = earlier.run(mine())
            assert other.run(mine()) == others  # it asks last
        del earlier
        gc.collect()
        assert earliers() is None
        assert other.run(mine())() is others() is not None
