"""The output of a probe: a table for people, JSON for programs, a progress bar meanwhile. Needs
the extra `cli`.

What a server sent is printed with its control characters escaped, and never read as markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any

import anyio
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from asgi_wsauth.cli.endings import TITLES, endings, when
from asgi_wsauth.cli.findings import (
    Finding,
    Result,
    close_text,
    exit_code,
    findings,
    worst_first,
)
from asgi_wsauth.cli.probe import Seen, Unreachable, connect_as
from asgi_wsauth.cli.target import Case, Target, cases
from asgi_wsauth.cli.watch import End, Watch, watch_ends
from asgi_wsauth.denial import advice
from asgi_wsauth.printable import escaped

__all__ = ["run"]

_STYLES = {"admitted": "bold red", "problem": "yellow", "note": "cyan"}


def run(target: Target, watch: Watch, *, as_json: bool, **given: Any) -> int:
    """Probe, and print the findings to stdout.

    Args:
        target: what is probed.
        watch: which sockets' ends are watched.
        as_json: print JSON.
        given: see `target.cases`.

    Returns:
        The exit code: 0 nothing found, 1 a client was admitted that must be refused, 2 no endpoint,
        3 only other problems.

    Raises:
        ConfigurationError: the carrier can't transport a token.
    """
    ways = cases(target, **given)
    try:
        results, ends = anyio.run(partial(_probe_all, target, ways, watch))
        found = worst_first([*findings(target, results), *endings(ends, results)])
    except Unreachable as exc:
        print(f"asgi-wsauth: no WebSocket at {target.url}: {escaped(str(exc))}", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(_as_data(target, results, ends, found), indent=2))
    else:
        _print(target, results, ends, found)
    return exit_code(found)


async def _probe_all(
    target: Target, ways: Sequence[Case], watch: Watch
) -> tuple[list[Result], list[End]]:
    """The ends come last: a revocation may end more than one token."""
    console = Console(stderr=True)
    results: list[Result] = []
    ends: list[End] = []
    progress = Progress(console=console, transient=True)
    bar = progress.add_task("Probing", total=len(ways) + watch.ends)
    with progress if console.is_terminal else nullcontext():
        for case in ways:
            results.append((case, await connect_as(target, case)))
            progress.advance(bar)
        async for end in watch_ends(target, watch):
            ends.append(end)
            progress.advance(bar)
    return results, ends


def _as_data(
    target: Target, results: Sequence[Result], ends: Sequence[End], found: Sequence[Finding]
) -> dict[str, Any]:
    return {
        "url": target.url,
        "carrier": str(target.carrier),
        "exit_code": exit_code(found),
        "findings": [asdict(one) for one in found],
        "cases": [_case_as_data(case, seen) for case, seen in results],
        "ends": [_end_as_data(end) for end in ends],
    }


def _case_as_data(case: Case, seen: Seen) -> dict[str, Any]:
    """Contains no token."""
    return {
        "name": case.name,
        "title": case.title,
        "expected": case.expected.phrase if case.expected else None,
        "outcome": seen.outcome,
        "browser": _close_as_data(seen.browser),
        "program": _close_as_data(seen.close),
        "http_status": seen.status,
        "phrase": seen.phrase,
        "subprotocol": "the token" if seen.subprotocol in case.tokens else seen.subprotocol,
        "spoke": seen.spoke,
        "fault": seen.fault,
    }


def _end_as_data(end: End) -> dict[str, Any]:
    seen, ran = end.seen, end.command
    return {
        "cause": end.cause,
        "closed": seen.close is not None,
        "seconds_after": None if end.after is None else round(end.after, 3),
        "leeway": end.leeway,
        "browser": _close_as_data(seen.browser),
        "program": _close_as_data(seen.close),
        "advice": advice(*seen.browser) if seen.browser else None,
        "http_status": seen.status,
        "fault": seen.fault,
        "command": ran and {"exit_status": ran.status, "seconds": round(ran.seconds, 3)},
    }


def _close_as_data(close: tuple[int, str] | None) -> dict[str, Any] | None:
    return None if close is None else {"code": close[0], "reason": close[1]}


def _print(
    target: Target, results: Sequence[Result], ends: Sequence[End], found: Sequence[Finding]
) -> None:
    console = Console(highlight=False)
    console.print(Text(f"{target.url}, token in {target.carrier}"))
    console.print(_table(results))
    if ends:
        console.print(_table_of_ends(ends))
    lines = Table.grid(padding=(0, 2))
    for one in found:
        told = [one.what, f"({', '.join(one.cases)})" if one.cases else "", f"Fix: {one.fix}"]
        text = "\n".join(escaped(line) for line in told if line)
        lines.add_row(Text(one.level, _STYLES[one.level]), Text(text))
    if found:
        console.print(lines)
    if exit_code(found) == 0:
        console.print(Text("Found nothing wrong.", "green"))


def _columns(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _sights(seen: Seen) -> tuple[str, str]:
    """What a browser sees, and a program."""
    browser = close_text(seen.browser) if seen.browser else "open"
    program = close_text(seen.close) if seen.close else "open"
    if seen.fault:
        program = "invalid response"
    elif seen.status != 101:
        program = f"HTTP {seen.status} {seen.phrase}".rstrip()
    elif program == browser:
        program = "the same"
    return browser, program


def _table_of_ends(ends: Sequence[End]) -> Table:
    table = _columns("a socket whose", "a browser sees", "a program sees", "when", "it would")
    for end in ends:
        would = advice(*end.seen.browser) if end.seen.browser else ""
        cells = (TITLES[end.cause], *_sights(end.seen), when(end), would)
        table.add_row(*(Text(escaped(cell)) for cell in cells))
    return table


def _table(results: Sequence[Result]) -> Table:
    table = _columns("client sends", "a browser sees", "a program sees", "outcome")
    for case, seen in results:
        as_it_should = (seen.outcome == "refused") == (case.expected is not None)
        table.add_row(
            *(Text(escaped(cell)) for cell in (case.title, *_sights(seen))),
            Text(seen.outcome, "" if as_it_should else "bold red"),
        )
    return table
