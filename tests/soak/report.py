"""What came of it, as tables."""

from __future__ import annotations

from statistics import linear_regression, median

from rich.console import Console
from rich.table import Table

from .faults import Weather
from .inspection import Inspection
from .tally import WRONGS, Tally

_TOLD = 20  # wrongs that are told in full
_COLUMNS = "admitted refused closed stayed moved refreshed left excused WRONG".split()


def report(tally: Tally, weather: Weather, inspection: Inspection) -> None:
    """Print it."""
    console = Console(highlight=False, width=120)
    console.print(
        f"\n{tally.handshakes} handshakes in {tally.ended - tally.began:.0f} s, "
        f"{tally.handshakes_a_second:.0f} a second\n"
    )
    for table in (
        _tried(tally),
        _answered(tally),
        _broke(weather),
        _took(tally),
        _memory(inspection),
        _wrong(tally),
    ):
        console.print(table)
    for detail in tally.details[:_TOLD]:
        print(detail)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _tried(tally: Tally) -> Table:
    table = _table("What was tried, and what came of it, as it must", "client", *_COLUMNS)
    for kind, outcomes in sorted(tally.outcomes.items()):
        table.add_row(kind, *(str(outcomes[column] or "") for column in _COLUMNS))
    return table


def _answered(tally: Tally) -> Table:
    table = _table("How handshakes were answered", "answer", "times")
    for answer, times in tally.answers.most_common():
        table.add_row(answer, str(times))
    return table


def _broke(weather: Weather) -> Table:
    table = _table("What broke", "fault", "times")
    for fault, times in sorted(weather.broke.items()):
        table.add_row(fault, str(times))
    return table


def _took(tally: Tally) -> Table:
    table = _table("What took how long, in ms (for information)", "what", "median", "99 %", "most")
    for what, seconds in sorted(tally.seconds.items()):
        ordered = sorted(1000 * each for each in seconds)
        shown = (median(ordered), ordered[int(0.99 * (len(ordered) - 1))], ordered[-1])
        table.add_row(what, *(f"{value:.1f}" for value in shown))
    return table


def _memory(inspection: Inspection) -> Table:
    table = _table("What is in the workers (the bytes for information)", "what", "")
    for worker, grown in inspection.grown.items():
        table.add_row(f"objects more than at first, worker {worker}", str(grown))
    later = inspection.memory[len(inspection.memory) // 2 :]
    if len(later) > 1:
        for name, (_, size) in [("half of the time", later[0]), ("all of it", later[-1])]:
            table.add_row(f"MB in the first worker after {name}", f"{size / 1e6:.1f}")
        slope = linear_regression(*zip(*later, strict=True)).slope
        table.add_row("kB more in a minute, between these", f"{60 * slope / 1e3:.0f}")
    return table


def _wrong(tally: Tally) -> Table:
    table = _table("What went wrong", "what", "times")
    for what, words in WRONGS.items():
        table.add_row(words, str(tally.wrong[what]))
    return table
