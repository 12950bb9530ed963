"""`python -m tests.benchmarks`: see `--help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .measure import Row, figure

# The modules beside this one that have rows, with what they tell.
GROUPS = {
    "handshake": "what an admitted handshake costs, in process",
    "refusal": "what a refused one costs",
    "streams": "what a request over HTTP costs, and a stream",
    "growth": "how an admission grows with the verifiers",
    "storm": "5,000 handshakes at once while the keys are not there yet",
    "deploys": "a deploy under 5,000 open sockets",
    "connections": "connections per second, through uvicorn",
    "messages": "echo messages per second, through uvicorn",
    "memory": "memory and tasks for each of 10,000 live sockets",
    "live": "memory and closes of live sockets of a real uvicorn",
    "revoking": "how long it takes to revoke 10,000 live sockets",
    "rechecking": "for how long rechecks of 10,000 live sockets hold up the loop",
    "sessions": "what it takes to list live sockets and to end them, beside 10,000",
    "logout": "what a logout costs that the identity provider reports",
    "drain": "what it takes to close 10,000 live sockets before a process ends",
    "growth_live": "how costs grow with live sockets and revocations",
}

_PACKAGES = (
    "asgi-wsauth anyio pyjwt starlette fastapi fastapi-users litestar channels uvicorn".split()
)


_HEADINGS = ("median", "quartiles", "ratio", "target")


def main() -> None:
    given = _arguments()
    about = _about(given.short)
    # A table on the terminal, unless JSON goes there.
    console = Console(stderr=given.json == "-")
    console.print(" · ".join(f"{name} {value}" for name, value in about.items()))
    made: list[Row] = []
    for group in given.groups or GROUPS:
        console.print(f"{group}: {GROUPS[group]}", "", style="dim")
        measured = list(import_module(f".{group}", __package__).rows(given.short))
        made += measured
        _show(console, measured)
    if given.json:
        text = json.dumps({"about": about, "rows": [_as_json(row) for row in made]}, indent=1)
        print(text) if given.json == "-" else Path(given.json).write_text(text + "\n")
    if given.plot:
        from .plot import plot

        plot(made, given.plot)


def _arguments() -> argparse.Namespace:
    told = "\n".join(f"  {name:12} {what}" for name, what in GROUPS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures this package beside its alternatives, in turns.",
        epilog=f"groups:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="what to measure (all of it)")
    parser.add_argument("--short", action="store_true", help="everything once: to see that it runs")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - is stdout")
    parser.add_argument("--plot", metavar="FILE", help="draw them there: .svg, .png, ...")
    given = parser.parse_args()
    for group in given.groups:
        if group not in GROUPS:
            parser.error(f"there is no group {group!r}; there are {', '.join(GROUPS)}")
    if given.plot:
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            parser.error('--plot needs matplotlib: pip install "asgi-wsauth[dev]"')
    return given


def _about(short: bool) -> dict[str, str]:
    """What a figure depends on."""
    return {
        "Python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "cores": str(os.cpu_count()),
        **({"short run": "its figures mean nothing"} if short else {}),
    }


def _show(console: Console, rows: Sequence[Row]) -> None:
    for group in dict.fromkeys(row.group for row in rows):
        of_it = [row for row in rows if row.group == group]
        first = next((row.baseline for row in of_it if row.baseline), None)
        others = [row for row in of_it if row.baseline not in (None, first)]
        table = Table(title=group, title_justify="left", title_style="bold", box=None)
        table.add_column("")
        columns = list(zip(*(_cells(row, first, others) for row in of_it), strict=True))
        shown = [number for number, cells in enumerate(columns) if any(cells)]
        for number in shown:
            table.add_column(_HEADINGS[number], justify="right", no_wrap=True)
        for at, row in enumerate(of_it):
            table.add_row(row.name, *(columns[number][at] for number in shown))
        console.print(table)
        for number, row in enumerate(others, 1):
            console.print(f"  ({number}) to {row.baseline}")
        console.print()


def _cells(row: Row, first: str | None, others: Sequence[Row]) -> tuple[str, ...]:
    """What the table has of a row. The ratio has a note where it is not to the group's first
    baseline."""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    if row in others:
        ratio = f"({others.index(row) + 1}) {ratio}"
    if row.name == first:
        ratio = "1"
    target = "" if row.met is None else f"{row.target} {'met' if row.met else 'missed'}"
    spread = f"{figure(row.low)} … {figure(row.high)}"
    return f"{figure(row.median)} {row.unit}", spread, ratio, target


def _as_json(row: Row) -> dict[str, object]:
    return {**asdict(row), "met": row.met}


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
