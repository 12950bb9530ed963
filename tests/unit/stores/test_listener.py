"""Listener: hears what a store tells of, and makes up for what it missed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import anyio
import pytest
from sockets import settled, until

from asgi_wsauth.stores import listener as rooms
from asgi_wsauth.stores.listener import Listener
from asgi_wsauth.stores.protocols import Notice

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]


def notice(name: str) -> Notice:
    return Notice(("user", name), 1.0)


class Script:
    """A store whose watches go as written: a list of items for each, which is yielded, raised, or
    waited for. After the last one, a watch lasts."""

    def __init__(self, *watches: Sequence[Any]) -> None:
        self._watches = iter(watches)
        self.journal: list[Any] = []
        self.open = 0

    async def watch(self) -> AsyncGenerator[Sequence[Notice] | None, None]:
        self.open += 1
        try:
            for item in next(self._watches, [anyio.Event()]):
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, anyio.Event):
                    await item.wait()
                else:
                    yield item
        finally:
            self.open -= 1

    async def hear(self, notices: Sequence[Notice]) -> None:
        self.journal.extend(name for (_, name), _ in notices)

    async def catch_up(self) -> None:
        self.journal.append("catches up")

    def __repr__(self) -> str:
        return "<the store>"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """How long each pause may be; none of them is waited for."""
    found: list[tuple[float, float]] = []

    def uniform(least: float, most: float) -> float:
        found.append((least, most))
        return 0.0

    monkeypatch.setattr(rooms, "uniform", uniform)
    return found


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [record.getMessage() for record in caplog.records]


async def test_it_catches_up_first_and_then_hears(log: Callable[[], list[str]]) -> None:
    store = Script([None, [notice("a"), notice("b")], [notice("c")], [], anyio.Event()])
    Listener(store, store.hear, store.catch_up)
    await until(lambda: len(store.journal) == 4)
    await settled()
    assert store.journal == ["catches up", "a", "b", "c"]
    assert store.open == 1
    assert log() == []


ENDINGS: dict[str, tuple[list[Any], str]] = {
    "it raises": ([None, OSError("gone")], "OSError"),
    "it ends": ([None], "its watch ended"),
}


@pytest.mark.parametrize(("ending", "why"), ENDINGS.values(), ids=ENDINGS)
async def test_where_it_is_cut_off_it_listens_again_and_makes_up_for_what_it_missed(
    ending: list[Any], why: str, pauses: Any, log: Callable[[], list[str]]
) -> None:
    store = Script(ending, [None, [notice("a")], anyio.Event()])
    Listener(store, store.hear, store.catch_up)
    await until(lambda: "a" in store.journal)
    assert store.journal == ["catches up", "catches up", "a"]
    assert log() == [f"cut off from <the store>: {why}", "hears <the store> again"]
    assert store.open == 1


async def test_a_store_that_is_down_is_told_of_once(
    pauses: Any, log: Callable[[], list[str]]
) -> None:
    down = [[OSError("down")]] * 7
    store = Script([None, OSError("gone")], *down, [None, OSError("again")], [None, anyio.Event()])
    Listener(store, store.hear, store.catch_up)
    await until(lambda: store.journal == ["catches up"] * 3)
    await settled()
    assert log() == ["cut off from <the store>: OSError", "hears <the store> again"] * 2
    # Longer and longer, and each of them by chance, so that not all processes come at once.
    longest = [most for _, most in pauses]
    assert longest == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 0.1]
    assert [least for least, _ in pauses] == [most / 2 for most in longest]


@pytest.mark.parametrize("part", ["watch", "catch_up", "hear"])
async def test_whatever_fails_it_is_tried_again(
    part: str, pauses: Any, log: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Script(*[[None, [notice("a")], anyio.Event()]] * 2)
    whole = getattr(store, part)
    failures = iter([LookupError("bug")])

    def fails(*given: Any) -> Any:
        for failure in failures:
            raise failure
        return whole(*given)

    monkeypatch.setattr(store, part, fails)
    Listener(store, lambda n: store.hear(n), lambda: store.catch_up())
    await until(lambda: "a" in store.journal)
    await settled()
    assert log() == ["cut off from <the store>: LookupError", "hears <the store> again"]
    assert store.open == 1  # the other watch was closed, and not left to the garbage collector


def test_it_lasts_as_long_as_the_event_loop_and_no_longer(anyio_backend_name: str) -> None:
    store = Script([None, anyio.Event()], [None, anyio.Event()])

    async def use() -> None:
        Listener(store, store.hear, store.catch_up)
        await until(lambda: store.open == 1)

    for _ in range(2):
        anyio.run(use, backend=anyio_backend_name)
        assert store.open == 0
