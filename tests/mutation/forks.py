"""Tests one mutant after the other, each in a fork of a process that has collected the tests:

    python -m tests.mutation.forks MODULE OUTCOMES [PYTEST_ARGUMENT ...]

where mutmut has put the mutants of a module of the library into `mutants`, below the current
folder. Writes into the file OUTCOMES, as JSON, what became of each: killed, timed out, survived;
or words, where nothing but the words of a message would change, which isn't tried.

mutmut itself would start pytest, and collect, for each mutant; that takes ten times as long as the
few tests that pass through a function. And no event loop waits here: where it would do nothing
until a timer is due, its time goes on at once, so that a test that waits for what doesn't come any
more has soon failed, however slow the machine is.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import selectors
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.words import changes_words

_CPU, _WALL = 10, 300  # seconds that the tests of a mutant may take; most take a tenth of one
_AT_ONCE = 4  # mutants
_KILLED, _SURVIVED = 17, 0


class Forks:
    """A plugin of pytest that runs its tests without a mutant, and then with each in turn.

    Args:
        mutants: their names.
        outcomes: the file.
    """

    def __init__(self, mutants: list[str], outcomes: Path) -> None:
        self._mutants = mutants
        self._outcomes = outcomes
        self._tests: dict[str, list[tuple[float, int]]] = defaultdict(list)  # by function
        self._failed = self._is_fork = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[Any]) -> None:
        """What a failure looks like takes longer to say than most tests."""
        raised = call.excinfo
        if self._is_fork and raised is not None and not raised.errisinstance(pytest.skip.Exception):
            os._exit(_KILLED)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._run_once(session)
        told: dict[str, str] = {}
        running: dict[int, str] = {}
        gc.collect()
        gc.freeze()
        for mutant in self._mutants:
            tests = self._tests[mutant.rpartition("__mutmut_")[0]]
            items = [session.items[number] for _, number in sorted(tests)]
            if len(running) == _AT_ONCE:
                self._wait(running, told)
            running[self._fork(mutant, items)] = mutant
        while running:
            self._wait(running, told)
        self._outcomes.write_text(json.dumps({mutant: told[mutant] for mutant in self._mutants}))
        return True

    def _run_once(self, session: pytest.Session) -> None:
        """See which tests pass through which function."""
        from mutmut.state import state

        with _under("stats"):
            for number, item in enumerate(session.items):
                passed: set[str] = state()._stats
                passed.clear()
                began = time.process_time()
                self._run(item, session.items[number + 1 : number + 2])
                for function in passed:
                    self._tests[function].append((time.process_time() - began, number))
                if self._failed:
                    raise pytest.UsageError(f"{item.nodeid} fails without a mutant, too")

    def _run(self, item: pytest.Item, following: list[pytest.Item]) -> None:
        nextitem = following[0] if following else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)

    def _fork(self, mutant: str, items: list[pytest.Item]) -> int:
        child = os.fork()
        if not child:
            self._be(mutant, items)
        return child

    def _wait(self, running: dict[int, str], told: dict[str, str]) -> None:
        child, status = os.wait()
        if os.WIFEXITED(status):
            outcome = "survived" if os.WEXITSTATUS(status) == _SURVIVED else "killed"
        else:
            stopped = os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGXCPU)
            outcome = "timed out" if stopped else "killed"
        told[running.pop(child)] = outcome

    def _be(self, mutant: str, items: list[pytest.Item]) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU, _CPU + 5))
        signal.alarm(_WALL)
        self._is_fork = True
        status = _KILLED
        try:
            with _under(mutant):
                for number, item in enumerate(items):
                    self._run(item, items[number + 1 : number + 2])
                    if self._failed:
                        break
                else:
                    status = _SURVIVED
        finally:
            os._exit(status)


@contextmanager
def _under(mutant: str) -> Iterator[None]:
    os.environ["MUTANT_UNDER_TEST"] = mutant
    try:
        yield
    finally:
        os.environ["MUTANT_UNDER_TEST"] = ""


def let_time_jump() -> None:
    """An event loop of asyncio that would wait for a timer, and nothing else, has waited for it."""
    wait, ahead = selectors.DefaultSelector.select, 0.0

    def select(self: Any, timeout: float | None = None) -> Any:
        nonlocal ahead
        # One file is for what wakes the loop itself, which threads do.
        if not timeout or timeout < 0 or len(self.get_map()) > 1 or threading.active_count() > 1:
            return wait(self, timeout)
        found = wait(self, 0)
        if not found:
            ahead += timeout
        return found

    selectors.DefaultSelector.select = select  # type: ignore[method-assign]
    asyncio.BaseEventLoop.time = lambda self: time.monotonic() + ahead  # type: ignore[method-assign]


def main(module: str, outcomes: str, *arguments: str) -> int:
    from mutmut.__main__ import copy_also_copy_files, copy_src_dir, create_mutants
    from mutmut.utils.file_utils import setup_source_paths

    path = f"asgi_wsauth/{module.replace('.', '/')}.py"
    target = Path(outcomes).absolute()
    with _under("mutant_generation"):
        Path("mutants").mkdir(exist_ok=True)
        copy_src_dir()
        copy_also_copy_files()
        setup_source_paths()
        create_mutants(1)
    names = [*json.loads(Path(f"mutants/{path}.meta").read_text())["exit_code_by_key"]]
    words = changes_words(Path(f"mutants/{path}").read_text())
    tried = [name for name in names if name.rpartition(".")[2] not in words]
    os.chdir("mutants")
    let_time_jump()
    result = int(pytest.main([*arguments], plugins=[Forks(tried, target)]))
    if not result:
        told = json.loads(target.read_text())
        target.write_text(json.dumps({name: told.get(name, "words") for name in names}))
    return result


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
