"""Timers: calls at a given time, of which any number costs one task."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import NOW, Clock
from sockets import settled, until

from asgi_wsauth.loops import timers as rooms
from asgi_wsauth.loops.tasks import Breakable
from asgi_wsauth.loops.timers import Deadline, Timers, timers

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]


class Calls(list[object]):
    """What was called, in order; each entry is a function to be called."""

    def __call__(self, name: object) -> Callable[[], None]:
        return lambda: self.append(name)


async def test_each_is_called_when_its_time_has_come_and_in_their_order() -> None:
    clock, calls = Clock(), Calls()
    mine = Timers(clock)
    for seconds in (30, 10, 20, 10.5):
        mine.call_in(seconds, calls(seconds))
    for passed, expected in ((9.9, []), (0.1, [10]), (0.4, [10]), (0.1, [10, 10.5]), (19.4, ...)):
        clock.now += passed
        mine.run_due()
        assert calls == ([10, 10.5, 20] if expected is ... else expected)
    clock.now += 100
    mine.run_due()
    assert calls == [10, 10.5, 20, 30]
    assert len(mine) == 0


async def test_of_one_time_the_first_that_was_set_is_the_first() -> None:
    clock, calls = Clock(), Calls()
    mine = Timers(clock)
    for name in range(10):
        mine.call_at(NOW + 5, calls(name))
    clock.now += 5
    while mine.run_due():
        pass
    assert calls == list(range(10))


@cases("when", [NOW, NOW - 1, -1.0, float("-inf")])
async def test_what_is_past_is_called_soon_but_not_at_once(when: float) -> None:
    calls = Calls()
    timers(Clock()).call_at(when, calls("x"))
    assert calls == []
    await until(lambda: calls)
    await settled()
    assert calls == ["x"]


async def test_what_was_cancelled_is_not_called() -> None:
    clock, calls = Clock(), Calls()
    mine = Timers(clock)
    kept, cancelled = (mine.call_in(5, calls(name)) for name in ("kept", "cancelled"))
    cancelled.cancel()
    cancelled.cancel()
    assert len(mine) == 1
    clock.now += 5
    mine.run_due()
    assert calls == ["kept"]
    assert len(mine) == 0
    kept.cancel()  # too late, and no error
    assert len(mine) == 0
    assert not mine.run_due()


async def test_one_call_may_cancel_another_and_set_new_ones() -> None:
    clock, calls = Clock(), Calls()
    mine = Timers(clock)

    def first() -> None:
        calls.append("first")
        second.cancel()
        mine.call_at(NOW, calls("third"))

    mine.call_in(1, first)
    second = mine.call_in(2, calls("second"))
    clock.now += 5
    while mine.run_due():
        pass
    assert calls == ["first", "third"]


async def test_nobody_has_to_run_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "_LONGEST_SLEEP", 60.0)  # an earlier one ends the sleep
    calls = Calls()
    mine = timers(anyio.current_time)
    mine.call_in(60, calls("late"))
    await settled()  # it sleeps by now, until the first of them
    mine.call_in(0.02, calls("second"))
    mine.call_in(0.01, calls("first"))
    await until(lambda: len(calls) == 2)
    assert calls == ["first", "second"]
    assert len(mine) == 1


async def test_a_clock_that_is_set_is_noticed() -> None:
    clock, calls = Clock(), Calls()
    timers(clock).call_in(3600, calls("x"))
    await settled()
    clock.now += 3600
    await until(lambda: calls)


async def test_others_run_between_the_calls() -> None:
    """A million sockets that end at once do not stop the event loop."""
    clock, calls = Clock(), Calls()
    mine = Timers(clock)
    for name in range(100):
        mine.call_in(1, calls(name))
    clock.now += 1
    seen = {0}
    while len(calls) < 100:
        await anyio.lowlevel.checkpoint()
        seen.add(len(calls))
    assert calls == list(range(100))
    assert len(seen) > 3  # trio may let one task run twice before another


async def test_any_number_of_them_has_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    spawned = []
    spawn = rooms.spawn
    monkeypatch.setattr(rooms, "spawn", lambda work: [spawned.append(work), spawn(work)])
    clock, calls = Clock(), Calls()
    mine = Timers(clock)
    for _ in range(2):
        all_of_them = [mine.call_in(seconds, calls(seconds)) for seconds in range(1, 50)]
        await settled()
        clock.now += 100
        await until(lambda: len(mine) == 0 and not mine._runs)
        for timer in all_of_them:
            timer.cancel()
    assert len(spawned) == 2  # it ended in between, because there was nothing to do
    assert len(calls) == 98


async def test_where_all_were_cancelled_nothing_goes_on() -> None:
    mine = Timers(Clock())
    for timer in [mine.call_in(3600, lambda: None) for _ in range(3)]:
        timer.cancel()
    assert mine._heap == []
    await until(lambda: not mine._runs)


async def test_what_was_cancelled_takes_no_room() -> None:
    """A socket that is refreshed often would otherwise leave one behind each time."""
    clock, calls = Clock(), Calls()
    mine = Timers(clock)
    mine.call_in(5, calls("kept"))
    for number in range(10_000):
        mine.call_in(number, calls(number)).cancel()
        assert len(mine) == 1
        assert len(mine._heap) < 300
    clock.now += 20_000
    while mine.run_due():
        pass
    assert calls == ["kept"]
    assert (mine._heap, mine._cancelled) == ([], 0)


async def test_cancelled_ones_before_a_due_one_are_passed_over() -> None:
    clock, calls = Clock(), Calls()
    mine = Timers(clock)
    for timer in [mine.call_in(1, calls("never")) for _ in range(50)]:
        timer.cancel()
    first = mine.call_in(1, calls("never"))
    mine.call_in(2, calls("x"))
    first.cancel()
    clock.now += 2
    assert mine.run_due()
    assert calls == ["x"]
    assert len(mine) == 0


async def test_a_call_that_raises_is_logged_and_the_next_one_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, calls = Clock(), Calls()
    mine = Timers(clock)

    def broken() -> None:
        raise LookupError("bug")

    mine.call_in(1, broken)
    mine.call_in(1, calls("x"))
    clock.now += 1
    await until(lambda: calls)
    assert "LookupError: bug" in caplog.text


async def test_a_clock_that_fails_is_logged_and_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, calls = True, Calls()

    def clock() -> float:
        if broken:
            raise LookupError("no time")
        return NOW

    timers(clock).call_at(NOW, calls("x"))
    await until(lambda: caplog.records)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "clock" in caplog.records[0].getMessage()
    broken = False
    await until(lambda: calls)


async def test_a_deadline_breaks_off_what_is_late_and_once_more_what_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rooms, "_PATIENCE", 0.01)
    calls = Calls()
    with anyio.fail_after(5), Breakable() as stretch:
        Deadline(stretch, 0.01)
        try:
            await anyio.Event().wait()
        except anyio.get_cancelled_exc_class():
            calls.append("once")
            await anyio.Event().wait()
    assert stretch.broken
    assert calls == ["once"]


async def test_a_deadline_that_is_cancelled_breaks_nothing_off() -> None:
    calls = Calls()
    with Breakable() as stretch:
        Deadline(stretch, 0.001).cancel()
        timers(anyio.current_time).call_in(0.002, calls("later"))
        await until(lambda: calls)
    assert not stretch.broken


async def test_an_event_loop_that_stands_still_takes_one_step_of_a_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, stretch, broken = timers(anyio.current_time), Breakable(), []
    deadline = Deadline(stretch, 1.0, steps=4)
    for stood_still in (100, 200, 300, 400):
        now = anyio.current_time() + stood_still
        monkeypatch.setattr(here, "_clock", lambda now=now: now)
        here.run_due()
        broken.append(stretch.broken)
    deadline.cancel()
    assert broken == [False, False, False, True]


def test_each_event_loop_and_each_clock_has_its_own(anyio_backend_name: str) -> None:
    one, other = Clock(), Clock()

    async def use() -> Timers:
        assert timers(one) is timers(one) is not timers(other)
        assert len(timers(one)) == 0
        timers(one).call_in(60, lambda: None)
        return timers(one)

    found = [anyio.run(use, backend=anyio_backend_name) for _ in range(2)]
    assert found[0] is not found[1]
