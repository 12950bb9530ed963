"""Mutation testing: is each change that would break a promise noticed by a test?

    python -m tests.mutation [--work FOLDER] [MODULE ...]

Needs mutmut (https://mutmut.readthedocs.io), which changes one place of the library at a time and
runs the tests that pass through it. A module is, for example, `origins` or `verifiers.jwt`; none
stands for all of them. Prints a line for each, then every survivor that `survivors.txt` doesn't
list, as a patch, and every entry of it that no survivor needs. Exits with 1 if there are any.

mutmut changes bodies of functions, and nothing at the level of a module or a class, nor functions
under a decorator such as `@property`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.survivors import Mutant, explained, read_entries

PROJECT = Path(__file__).parents[2]

TESTS = {
    "denial": "denial",
    "origins": "origins",
    "credential": "credential api_key internal",
    "sources": "sources",
    "verifiers.api_key": "api_key",
    "verifiers.internal": "internal",
    "verifiers.tickets": "tickets",
    "verifiers.introspection": "introspection",
    "verifiers.jwks": "jwks",
    "verifiers.jwt": "jwt",
    "authenticator": "authenticator",
    "session": "session session_states",
    "middleware": "middleware session",
}
"""The modules, and the tests that each of them must satisfy."""

SETTINGS = """\
[mutmut]
source_paths = asgi_wsauth
only_mutate = asgi_wsauth/{path}.py
pytest_add_cli_args =
    -p
    no:cacheprovider
    -p
    anyio.pytest_plugin
    -k
    {keywords}
pytest_add_cli_args_test_selection =
    {tests}
timeout_multiplier = 5
use_git_change_detection = false
"""


QUICK = "not trio and not thousand and not 100_000 and not without_a_refusal and not Row24"
"""Each mutant is tested on one event loop, and without what takes seconds."""


@dataclass
class Outcome:
    """What became of a module's mutants: the number of each status, and the survivors."""

    statuses: Counter[str]
    survivors: list[Mutant]


def copy_tree(folder: Path) -> None:
    for name in ("asgi_wsauth", "tests", "examples"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored, dirs_exist_ok=True)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(PROJECT / name, folder)


def mutmut(folder: Path, *commands: list[str]) -> str:
    """What mutmut prints; one process for all commands, since it takes long to start."""
    code = (
        f"from mutmut.__main__ import cli\nfor c in {list(commands)}: cli(c, standalone_mode=False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # for speed
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"mutmut failed:\n{done.stdout[-5000:]}{done.stderr[-5000:]}")
    return done.stdout


def run(module: str, folder: Path, keywords: str) -> Outcome:
    """Mutate one module of the copy in `folder`, and test each mutant."""
    tests = "\n    ".join(f"tests/test_{name}.py" for name in TESTS[module].split())
    settings = SETTINGS.format(path=module.replace(".", "/"), tests=tests, keywords=keywords)
    (folder / "setup.cfg").write_text(settings)
    shutil.rmtree(folder / "mutants", ignore_errors=True)
    mutmut(folder, ["run", "--max-children", "1"])
    statuses = {}
    for line in mutmut(folder, ["results", "--all", "true"]).splitlines():
        name, _, status = line.strip().rpartition(": ")
        statuses[name] = status
    alive = [name for name, status in statuses.items() if status not in ("killed", "timeout")]
    shown = mutmut(folder, *(["show", name] for name in alive))
    patches = re.split(r"^# .*__mutmut_.*\n", shown, flags=re.MULTILINE)[1:]
    survivors = [Mutant.parse(module, *pair) for pair in zip(alive, patches, strict=True)]
    return Outcome(Counter(statuses.values()), survivors)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="one of " + ", ".join(TESTS))
    parser.add_argument("--work", type=Path, help="a folder for the copy, which is kept then")
    parser.add_argument("-k", default=QUICK, help="which tests, as for pytest; else the quick ones")
    options = parser.parse_args()
    unknown = set(options.modules) - set(TESTS)
    if unknown:
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="mutation-") as temporary:
        folder = options.work or Path(temporary)
        copy_tree(folder)
        fine = [report(module, folder, options.k) for module in options.modules or TESTS]
    return 0 if all(fine) else 1


def report(module: str, folder: Path, keywords: str) -> bool:
    """Run one module and print what came out; whether the list says the same."""
    outcome = run(module, folder, keywords)
    entries = [entry for entry in read_entries() if entry.module == module]
    new, stale = explained(outcome.survivors, entries)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcome.statuses.items()))
    print(f"{module}: {sum(outcome.statuses.values())} mutants: {counts}", flush=True)
    for mutant in new:
        print(f"  not listed:\n\n{mutant}\n")
    for entry in stale:
        print(f"  listed, but none survived: {entry}\n")
    return not new and not stale


if __name__ == "__main__":
    sys.exit(main())
