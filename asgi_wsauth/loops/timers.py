"""Calls at a given time: one sleeping task for each event loop and clock, whatever their number."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine, Generator
from itertools import count
from math import inf
from types import coroutine
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from asgi_wsauth.events import log_failure
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.loops.tasks import (
    Breakable,
    call_on_first_wait,
    carry_on,
    is_trio,
    running_loop,
    spawn,
)

__all__ = ["Deadline", "Timer", "Timers", "timers", "within"]

T = TypeVar("T")

# Seconds. A wall clock may be set, or go on while the machine sleeps.
_LONGEST_SLEEP = 0.5

_PATIENCE = 1.0  # seconds until what was broken off, and goes on, is broken off again

_AT_ONCE = 5  # calls between two turns of the event loop

_by_clock: PerLoop[dict[Callable[[], float], Timers]] = PerLoop()


class Timer:
    """One call that is to come."""

    __slots__ = ("_owner", "call")

    def __init__(self, owner: Timers, call: Callable[[], None]) -> None:
        self._owner = owner
        self.call: Callable[[], None] | None = call  # until it was called, or cancelled

    def cancel(self) -> None:
        """Forget it. One that was called is no error."""
        if self.call is not None:
            self.call = None
            self._owner._one_was_cancelled()


class Timers:
    """The timers of one event loop.

    Args:
        clock: gives seconds, from any moment on.

    Attributes:
        loop: the event loop, where it is asyncio's; None on trio.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.loop = running_loop()
        if clock is anyio.current_time and self.loop is not None:
            clock = self.loop.time  # the same, without looking for the loop each time
        self._clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._cancelled = 0
        self._runs = False
        self._wakes_at = -inf
        self._earlier = anyio.Event()

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def now(self) -> float:
        """What the clock says."""
        return self._clock()

    def call_in(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` in so many seconds; see `call_at`."""
        return self.call_at(self._clock() + seconds, call)

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        """Call `call`, which must be quick, at `when`, or soon if that has passed."""
        timer = Timer(self, call)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        if not self._runs:
            self._runs = True
            spawn(self._run)
        elif when < self._wakes_at:
            self._earlier.set()
        return timer

    def _one_was_cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled == len(self._heap):
            self._heap.clear()
            self._cancelled = 0
        elif self._cancelled > 100 and self._cancelled > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def run_due(self) -> bool:
        """Call what is due, not all of it at once; whether there was any."""
        now, called = self._clock(), 0
        while self._heap and called < _AT_ONCE and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            call, timer.call = timer.call, None
            if call is None:
                self._cancelled -= 1
            else:
                called += 1
                call()
        return called > 0

    async def _run(self) -> None:
        try:
            while self._heap:
                await self._wait()
        finally:
            self._runs = False

    async def _wait(self) -> None:
        try:
            if self.run_due() or not self._heap:
                await anyio.lowlevel.checkpoint()
                return
            now = self._clock()
            self._wakes_at = min(self._heap[0][0], now + _LONGEST_SLEEP)
            left = self._wakes_at - now
        except Exception as exc:  # the clock's
            log_failure("clock %r failed", self._clock, exc)
            left = _LONGEST_SLEEP
        self._earlier = anyio.Event()
        with anyio.move_on_after(left):
            await self._earlier.wait()


def timers(clock: Callable[[], float]) -> Timers:
    """The timers of the running event loop that go by `clock`."""
    found = _by_clock.get_or_make(dict)
    mine = found.get(clock)
    if mine is None:
        mine = found[clock] = Timers(clock)
    return mine


class Deadline:
    """The time after which a stretch of work is broken off; once more each second, where the work
    holds on to its life.

    Args:
        stretch: the work.
        seconds: from now on, by a clock that nobody sets.
        steps: in how many it is counted. An event loop that stands still, which is not what the
            work is to blame for, takes one of them at most.
    """

    __slots__ = ("_left", "_seconds", "_stretch", "_timer")

    def __init__(self, stretch: Breakable, seconds: float, steps: int = 1) -> None:
        self._stretch = stretch
        self._left = steps
        self._seconds = seconds / steps
        self._set()

    def _set(self) -> None:
        self._timer = timers(anyio.current_time).call_in(self._seconds, self._step)

    def _step(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self._stretch.break_off()
            self._seconds = _PATIENCE
        self._set()

    def cancel(self) -> None:
        """Forget it."""
        self._timer.cancel()


@coroutine
def within(
    seconds: float,
    work: Coroutine[Any, Any, T],
    on_wait: Callable[[Callable[[], None]], None] | None = None,
    *,
    late: Callable[[], Exception],
    steps: int = 1,
) -> Generator[Any, Any, T]:
    """The result of `work`, which has `seconds` from the moment when it first waits.

    Args:
        seconds: its time.
        work: what is to be done.
        on_wait: called once, with a function that cancels the work, when it first has to wait.
        late: makes what is raised where it takes longer, or is cancelled by that function.
        steps: see `Deadline`.
    """
    if not is_trio():  # which wants its scope around those of the work
        try:
            waited_for = work.send(None)
        except StopIteration as done:  # as nearly always
            result: T = done.value
            return result
        work = carry_on(work, waited_for)
    return (yield from _watched(seconds, work, on_wait, late, steps).__await__())


async def _watched(
    seconds: float,
    work: Coroutine[Any, Any, T],
    on_wait: Callable[[Callable[[], None]], None] | None,
    late: Callable[[], Exception],
    steps: int,
) -> T:
    deadline: Deadline | None = None

    def on_first_wait() -> None:
        nonlocal deadline
        deadline = Deadline(stretch, seconds, steps)
        if on_wait is not None:
            on_wait(stretch.break_off)

    try:
        with Breakable() as stretch:
            return await call_on_first_wait(work, on_first_wait)
    finally:
        if deadline is not None:
            deadline.cancel()
    raise late()
