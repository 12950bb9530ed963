"""How the benchmarks measure: everything that is compared takes turns in one run, and what is
compared is each round's ratio, so that a busy machine spoils no comparison."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, TypeVar

T = TypeVar("T")

_BATCH = 0.02  # seconds that a batch of calls lasts at least, so that the clock's steps are nothing


@dataclass(frozen=True)
class Row:
    """What the repeated measurements of one thing came to.

    Attributes:
        group: which rows belong together.
        name: what was measured.
        median: of the measurements, in `unit`.
        low: their lower quartile.
        high: their upper quartile.
        unit: "µs", "per s", "B", ...
        ratio: to the row `baseline` of the same group and run: the median of the rounds' ratios.
        baseline: the name of that row.
        target: what the ratio should be, or the median where there is no ratio: "≤ 1.35".
    """

    group: str
    name: str
    median: float
    low: float
    high: float
    unit: str
    ratio: float | None = None
    baseline: str | None = None
    target: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None where there is none."""
        if not self.target:
            return None
        relation, limit = self.target.split()
        value = self.median if self.ratio is None else self.ratio
        return value <= float(limit) if relation == "≤" else value >= float(limit)


def figure(value: float) -> str:
    """Three digits that count, and no more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def row(
    group: str,
    name: str,
    unit: str,
    measured: Sequence[float],
    *,
    against: Sequence[float] | None = None,
    baseline: str | None = None,
    target: str = "",
) -> Row:
    """A row of what was measured, one figure of each round.

    Args:
        against: the baseline's figures, of the same rounds.
    """
    low, _, high = quantiles(measured, method="inclusive") if len(measured) > 1 else measured * 3
    ratio = None
    if against is not None:
        ratio = median(mine / its for mine, its in zip(measured, against, strict=True))
    return Row(group, name, median(measured), low, high, unit, ratio, baseline, target)


def interleaved(
    group: str,
    unit: str,
    candidates: Mapping[str, Callable[[], float]],
    baseline: str | None,
    rounds: int,
    *,
    baselines: Mapping[str, str] = {},
    targets: Mapping[str, str] = {},
    warm_up: int = 1,
) -> list[Row]:
    """The rows of candidates that were measured in turns.

    Args:
        group: the rows' group.
        unit: what the candidates' figures are.
        candidates: name -> what measures once. In the order of the rows.
        baseline: the candidate that the others are compared with; None for no comparison.
        rounds: how often each is measured.
        baselines: candidates that are compared with another one: name -> baseline.
        targets: name -> what its ratio should be.
        warm_up: rounds before those that count.
    """
    figures = in_turns(candidates, rounds, warm_up=warm_up)
    return compared(group, unit, figures, baseline, baselines=baselines, targets=targets)


def in_turns(
    candidates: Mapping[str, Callable[[], T]], rounds: int, *, warm_up: int = 1
) -> dict[str, list[T]]:
    """What each candidate measured in each round. They are called one after the other, in another
    order in every round."""
    figures: dict[str, list[T]] = {name: [] for name in candidates}
    order = random.Random(0)
    with _no_collection():
        for number in range(-warm_up, rounds):
            for name in order.sample(list(candidates), len(candidates)):
                gc.collect()
                figure = candidates[name]()
                if number >= 0:
                    figures[name].append(figure)
    return figures


def compared(
    group: str,
    unit: str,
    figures: Mapping[str, Sequence[float]],
    baseline: str | None,
    *,
    baselines: Mapping[str, str] = {},
    targets: Mapping[str, str] = {},
) -> list[Row]:
    """The rows of what was measured: see `interleaved`."""
    rows = []
    for name, measured in figures.items():
        other = baselines.get(name, baseline)
        other = None if other == name else other
        against = None if other is None else figures[other]
        target = targets.get(name, "")
        rows.append(
            row(group, name, unit, measured, against=against, baseline=other, target=target)
        )
    return rows


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage is collected in anybody's time, and what is there already is not looked at."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


class Turns(selectors.DefaultSelector):
    """What an event loop waits with, that knows how long each of its turns takes: all that it does
    between two waits."""

    _began: float | None = None
    _longest = 0.0

    @contextmanager
    def timed(self) -> Iterator[Callable[[], float]]:
        """A function that tells the longest turn so far, in ms of this thread's own time, because a
        busy machine takes turns away."""
        self._longest, self._began = 0.0, time.thread_time()
        try:
            yield self._so_far
        finally:
            self._began = None

    def _so_far(self) -> float:
        assert self._began is not None
        self._longest = max(self._longest, time.thread_time() - self._began)
        return self._longest * 1e3

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._began is None:
            return super().select(timeout)
        self._so_far()
        ready = super().select(timeout)
        self._began = time.thread_time()
        return ready


class Loop:
    """An event loop that runs what is measured.

    with Loop() as loop:
        candidates = {"ours": loop.per_call(handshake)}

    Args:
        short: whether a batch of calls is as short as can be.
        turns: what measures the turns of the loop; None where nobody asks for them.
    """

    def __init__(self, short: bool = False, turns: Turns | None = None) -> None:
        self._least = 0.0 if short else _BATCH
        self._loop = asyncio.SelectorEventLoop(turns)

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *exc: object) -> None:
        self.run(_end())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it, and return what it returns."""
        return self._loop.run_until_complete(work)

    def per_call(self, call: Callable[[], Awaitable[Any]]) -> Callable[[], float]:
        """What measures how many µs a call takes, in a batch of calls one after the other.

        It is CPU time: nothing here waits, and so what else runs on the machine doesn't count.
        """
        calls = 0

        async def batch() -> float:
            begin = time.process_time()
            for _ in range(calls):
                await call()
            return time.process_time() - begin

        def measure() -> float:
            nonlocal calls
            if not calls:
                calls = 1
                while (lasted := self.run(batch())) < self._least:
                    calls = max(2 * calls, math.ceil(calls * self._least / max(lasted, 1e-6)))
            return self.run(batch()) / calls * 1e6

        return measure


async def _end() -> None:
    """As `asyncio.run` ends: Python 3.10 has no `asyncio.Runner`."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
