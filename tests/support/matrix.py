"""Which servers a test runs on: all its cases on one of them, and its first case on each other one.
`WSAUTH_SERVERS=all` runs all cases on all of them, and larger crowds, as CI does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

__all__ = ["EVERYTHING", "left_out"]

EVERYTHING = os.environ.get("WSAUTH_SERVERS") == "all"

FIRST = "uvicorn-websockets"
OTHERS = "uvicorn-sansio uvicorn-wsproto hypercorn hypercorn-trio daphne granian".split()


def left_out(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The tests that are not to run: on another server than the first, what is not a function's
    first case there, and what is marked `one_server`."""
    if EVERYTHING:
        return []
    servers = {item: _server(item) for item in items}
    on_first = {_function(item) for item, server in servers.items() if server == FIRST}
    seen: set[tuple[str, str]] = set()
    out = []
    for item, server in servers.items():
        function = _function(item)
        if server not in OTHERS or function not in on_first:
            continue
        if (function, server) in seen or item.get_closest_marker("one_server") is not None:
            out.append(item)
        seen.add((function, server))
    return out


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _server(item: pytest.Item) -> str | None:
    """The server among a test's parameters, if there is one."""
    callspec = getattr(item, "callspec", None)
    values = [] if callspec is None else callspec.params.values()
    return next((v for v in values if isinstance(v, str) and v in (FIRST, *OTHERS)), None)
