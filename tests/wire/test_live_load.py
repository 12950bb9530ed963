"""Many sockets at once: what a guard costs each of them, and how they end together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import EVERYTHING

pytestmark = pytest.mark.live

SIZES = [("asyncio", 2_500), ("trio", 500)] if EVERYTHING else [("asyncio", 200), ("trio", 100)]


@pytest.fixture(scope="module", params=SIZES, ids=lambda p: p[0])
def crowd(request: pytest.FixtureRequest) -> Any:
    """What live_crowd.py tells of so many sockets, and the event loop that they were on."""
    loop, size = request.param
    script = Path(__file__).parents[1] / "support/live_crowd.py"
    told = subprocess.run(
        [sys.executable, "-W", "error", script, loop, str(size)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert told.returncode == 0, told.stderr
    return {"loop": loop, **json.loads(told.stdout)}


def test_a_guarded_socket_takes_1500_bytes_more_at_most_and_no_task(crowd: Any) -> None:
    most = 1500 if crowd["loop"] == "asyncio" else 3000  # half of it is two of trio's cancel scopes
    assert crowd["cost"]["bytes"] < most
    # One for all timers, one for each store that is listened to.
    assert crowd["cost"]["tasks"] <= 5


def test_an_entry_in_sessions_takes_half_a_kilobyte_at_most(crowd: Any) -> None:
    most = 500 if crowd["loop"] == "asyncio" else 700  # what trio keeps differs from run to run
    assert crowd["entry"] < most


@pytest.mark.parametrize(("why", "code"), [("revoked", 4004), ("expired", 4001)])
def test_when_all_end_at_once_the_loop_turns_again_after_a_few(
    crowd: Any, why: str, code: int
) -> None:
    assert crowd[why]["codes"] == [code]
    assert crowd[why]["most"] < 30
