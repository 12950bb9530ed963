"""Connections per second through uvicorn, with and without a guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .echo import compared, echo_server, token, visits
from .measure import Row

GROUP = "connections"

_AT_ONCE = 16
_GUARDS = {
    "no guard": "/none",
    "Starlette's AuthenticationMiddleware": "/starlette",
    "ours, as it comes": "/ours",
    "ours, with the verdict cache": "/cached",
    "the floor": "/floor",
}


def rows(short: bool) -> Iterator[Row]:
    """What admitting costs, beside all that a server does for a connection."""
    count, rounds = (30, 3) if short else (200, 25)
    with echo_server() as server:
        presented = token()

        def visiting(path: str) -> Callable[[], int]:
            def visit() -> int:
                visits(server, path, presented, count, _AT_ONCE)
                return count

            return visit

        work = {name: visiting(path) for name, path in _GUARDS.items()}
        yield from compared(
            GROUP,
            "connections",
            server,
            work,
            rounds,
            rates={"ours, as it comes": "≥ 1.0", "ours, with the verdict cache": "≥ 0.9"},
            baselines={"ours, as it comes": "Starlette's AuthenticationMiddleware"},
        )
