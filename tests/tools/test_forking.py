"""Processes that are forked (forking.py) are as they would be had they begun by themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from select import select
from typing import Any

import forking
import pytest
from cases import cases
from servers import DEADLINE

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only"),
]

# What can be seen of a process from within.
TELL = """
import gc, json, os, signal, sys, threading, warnings
import __main__
settled = {
    "arguments": sys.argv,
    "environment": dict(os.environ),
    "files": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "folder": os.getcwd(),
    "main": (__main__.__name__, getattr(__main__, "__file__", None)),
    "path": sys.path,
    "session": os.getsid(0) == os.getpgid(0) == os.getpid(),
    "signals": {name.name: repr(signal.getsignal(name)) for name in signal.valid_signals()
        if isinstance(name, signal.Signals)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "streams": [(stream.encoding, stream.errors, stream.line_buffering, stream.isatty())
        for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "threads": [thread.name for thread in threading.enumerate()],
    "unheard of": [name for name in ("trio", "twisted", "redis") if name in sys.modules],
    "has imported": "fastapi" in sys.modules,
    "warnings": [repr(filter) for filter in warnings.filters],
    "collecting": (gc.isenabled(), gc.get_threshold()),
}
print(json.dumps(settled))
"""


@pytest.fixture(scope="module", autouse=True)
def fresh_origin() -> Iterator[None]:
    """One that has imported nothing for other tests."""
    with pytest.MonkeyPatch.context() as patch:
        origin = forking.Origin()
        patch.setattr(forking, "_origins", [origin])
        yield
        origin.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `tell.py` is, which `-m` takes for a server, too."""
    (tmp_path / "tell.py").write_text(TELL)
    monkeypatch.setattr(forking, "_MODULES", ("tell",))
    return tmp_path


def _told(process: forking.Process) -> dict[str, Any]:
    with process:
        assert process.stdout is not None
        written = process.stdout.read()
        assert process.wait(20) == 0, written
    return json.loads(written)


@pytest.mark.parametrize("arguments", ["tell.py one two", "-m tell --three", "-m tell app:app"])
def test_a_forked_process_is_as_one_that_began_by_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    (folder / "app.py").write_text("from fastapi import FastAPI")  # which is imported ahead
    given = arguments.replace("tell.py", str(folder / "tell.py")).split()
    env = {**os.environ, "PYTHONPATH": f"{folder}:relative", "SETTING": "x"}

    process = forking.start(given, env=env, cwd=folder)
    assert isinstance(process, forking.Forked)
    forked = _told(process)
    monkeypatch.setattr(forking, "_origins", [])
    fresh = _told(forking.start(given, env=env, cwd=folder))

    assert forked.pop("has imported") == ("app:app" in arguments)
    assert not fresh.pop("has imported")
    assert forked == fresh


@cases(
    "ending, status, last",
    [
        ("sys.exit(3)", 3, ""),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT, "KeyboardInterrupt"),
        ("atexit.register(print, 'the end')", 0, "the end"),
    ],
)
def test_how_a_forked_process_ended(tmp_path: Path, ending: str, status: int, last: str) -> None:
    script = tmp_path / "ends.py"
    script.write_text(f"import atexit, os, signal, sys\ninput()\n{ending}\n")
    with forking.start([str(script)], env=os.environ) as process:
        assert isinstance(process, forking.Forked) and process.stdin and process.stdout
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        print("go on", file=process.stdin, flush=True)
        assert process.stdout.read().rpartition("\n")[0].rpartition("\n")[2] == last
        assert process.wait(20) == process.poll() == status
        process.kill()  # nobody


def test_forked_processes_end_with_the_tests_at_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = forking.Origin()
    monkeypatch.setattr(forking, "_origins", [origin])
    (tmp_path / "stays.py").write_text("input()\n")
    process = forking.start([str(tmp_path / "stays.py")], env=os.environ)
    assert process.stdin and process.stdout
    origin.close()
    with process.stdin, process.stdout as written:
        ended, *_ = select([written], [], [], DEADLINE)
        assert ended and written.read() == ""  # nobody has it open any more


@cases(
    "arguments, env",
    [
        (["-c", "pass"], {}),
        (["-m", "granian", "--help"], {}),
        (["-m", "uvicorn", "--workers", "2", "--help"], {}),
        (["-m", "uvicorn", "--help"], {"PYTHONWARNINGS": "error"}),
        (["-m", "uvicorn", "--help"], {"LC_ALL": "C"}),
    ],
)
def test_what_could_see_a_difference_begins_by_itself(
    arguments: list[str], env: dict[str, str]
) -> None:
    with forking.start(arguments, env={**os.environ, **env}) as process:
        assert not isinstance(process, forking.Forked)
        process.kill()
