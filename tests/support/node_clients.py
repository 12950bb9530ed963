"""Real clients that are written in JavaScript, under node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path
from typing import Any

from programs import missing, needed
from servers import DEADLINE

__all__ = ["needs_node", "node_module", "run_node"]

SCRIPTS = Path(__file__).parent / "node"


def run_node(script: str, argument: Any) -> Any:
    """What a script of tests/support/node makes of an argument: both are JSON.

    The test is skipped where there is no node, as `programs.needed` does.
    """
    command = ["node", str(_installed() / script), json.dumps(argument)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=3 * DEADLINE)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return json.loads(ended.stdout)


def node_module(path: str) -> str:
    """The text of a file in node_modules; the test is skipped as by `run_node`."""
    return (_installed() / "node_modules" / path).read_text()


def needs_node() -> None:
    """Skip the test where there is no node or npm, as `programs.needed` does."""
    for program in ("node", "npm"):
        needed(program, "nodejs npm")


@cache
def _installed() -> Path:
    """The scripts, and the packages that they use, in the versions of package-lock.json."""
    needs_node()
    shared = Path(os.environ["TESTS_SHARED"])
    path = shared / "node"
    with (shared / "node.lock").open("w") as lock:
        flock(lock, LOCK_EX)  # the other processes of the tests wait, and use it, too
        if not (path / "node_modules").exists():
            shutil.copytree(SCRIPTS, path, dirs_exist_ok=True)
            install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            ended = subprocess.run(install, cwd=path, capture_output=True, text=True)
            if ended.returncode != 0:
                shutil.rmtree(path)
                missing(f"npm can't install the clients: {ended.stderr[-500:]}")
    return path
