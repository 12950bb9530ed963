"""A variable of which each event loop has its own value."""

from __future__ import annotations

import asyncio
import gc
from weakref import ref

import anyio
import pytest
from cases import cases

from asgi_wsauth.loops.per_loop import PerLoop


class Thing:
    """Something that a loop has."""


def test_each_loop_has_its_own() -> None:
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


@cases("backend", ["asyncio", "trio"])
def test_what_is_set_is_what_is_found(backend: str) -> None:
    variable: PerLoop[str] = PerLoop()
    other: PerLoop[str] = PerLoop()

    async def found() -> list[str | None]:
        values = [variable.get()]
        for value in ("one", None, "another"):
            variable.set(value)
            values.append(variable.get())
        assert other.get() is None
        return values

    assert anyio.run(found, backend=backend) == [None, "one", None, "another"]


@pytest.mark.slow
@pytest.mark.usefixtures("little_to_collect")
@cases("of", ["asyncio", "uvloop"])
def test_a_loop_that_was_closed_goes_with_all_that_it_had_when_another_one_begins(of: str) -> None:
    new_loop = pytest.importorskip(of).new_event_loop
    variables = PerLoop[object](), PerLoop[object]()

    async def mine() -> ref[asyncio.AbstractEventLoop]:
        loop = asyncio.get_running_loop()
        for variable in variables:
            variable.get_or_make(lambda: loop)  # a value that keeps its loop alive
            assert variable.get() is loop
        return ref(loop)

    with asyncio.Runner(loop_factory=new_loop) as open_one:
        still_open = open_one.run(mine())
        ended = []
        for _ in range(3):
            with asyncio.Runner(loop_factory=new_loop) as other:
                ended.append(other.run(mine()))
        del other
        gc.collect()
        assert [loop() is None for loop in ended] == [True, True, False]
        assert open_one.run(mine())() is still_open() is not None


def test_it_stays_for_as_long_as_its_loop_even_if_nobody_has_the_variable() -> None:
    """Such as a pool of connections, which is closed when the loop ends."""

    async def left_behind() -> ref[Thing]:
        return ref(PerLoop[Thing]().get_or_make(Thing))

    with asyncio.Runner() as runner:
        thing = runner.run(left_behind())
        gc.collect()
        assert thing() is not None
