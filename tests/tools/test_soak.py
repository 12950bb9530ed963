"""The soak in its short form: all that it looks at is right, and an interrupt ends it early."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from redis_servers import needed_binary
from servers import DEADLINE, EVERYTHING
from soak.tally import WRONGS, Tally

pytestmark = pytest.mark.live

_ROOT = Path(__file__).parents[2]
_FAULTS = ["redis_killed"]
if EVERYTHING:
    _FAULTS += ["redis_drops_connections", "worker_killed", "worker_drained"]
_OPTIONS = ["--minutes", "0.5", "--rate", "30", "--stay", "12", "--faults", *_FAULTS]


@pytest.mark.measures
def test_nothing_goes_wrong_and_an_interrupt_ends_it_with_the_table(tmp_path: Path) -> None:
    needed_binary()
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tests.soak", *_OPTIONS, "--log", str(log)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as soak:
        try:
            while soak.poll() is None and not all(f"{f} is over" in _text(log) for f in _FAULTS):
                time.sleep(0.05)
            soak.send_signal(signal.SIGINT)
            told, _ = soak.communicate(timeout=30 * DEADLINE)
        finally:
            soak.terminate()
            with suppress(subprocess.TimeoutExpired):
                soak.wait(DEADLINE)
            soak.kill()
    assert soak.returncode == 0, told
    for words in WRONGS.values():
        assert re.findall(rf"{re.escape(words)}\W+(\d+)\W*$", told, re.MULTILINE) == ["0"], told
    (handshakes,) = re.findall(r"^(\d+) handshakes", told, re.MULTILINE)
    assert int(handshakes) > 50


def test_one_wrong_is_enough() -> None:
    tally = Tally()
    tally.saw("good", "admitted")
    assert tally.is_clean
    tally.went_wrong("lost", "revoked", "never closed")
    assert not tally.is_clean
    assert tally.outcomes["revoked"]["WRONG"] == tally.wrong["lost"] == 1
    assert "never closed" in tally.details[0]


def _text(log: Path) -> str:
    return log.read_text() if log.exists() else ""
