"""What all tests rely on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.live
def test_what_tests_start_heeds_ctrl_c_where_the_shell_ignores_it() -> None:
    """Daphne does only where it isn't ignored when it starts."""
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:cov"]
    subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *tests, __file__, "-k", "child"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=True,
    )


@pytest.mark.live
def test_a_child_of_the_tests_heeds_ctrl_c() -> None:
    ask = "import signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", ask], check=True)
