"""Mutation testing: is each change that would break a promise noticed by a test?

    python -m tests.mutation [--work FOLDER] [MODULE ...]

Needs mutmut (https://mutmut.readthedocs.io), which changes one place of the library at a time;
`forks.py` then runs the tests that pass through it. A module is, for example, `denial` or
`verifiers.jwt`; without one, all of them are mutated. Prints a line for each, then every survivor
that `survivors.txt` doesn't list, as a patch, and every entry of it that matches no survivor. Exits
with 1 if there are any.

When a function is renamed, moved or rewritten, its entries no longer match: run its module, and
renew them. Entries of modules that no longer exist are ignored.

mutmut changes bodies of functions, and nothing at the level of a module or a class, nor functions
under a decorator such as `@property`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.mutation.survivors import Mutant, explained, read_entries

PROJECT = Path(__file__).parents[2]

_JWT = "verifiers/jwt verifiers/verdicts verifiers/jwks"
_LOGOUT = "endpoints/logout endpoints/security_events"
_SOCKET = "connection/session connection/session_states"
_LIVE = f"{_SOCKET} connection/on_refresh connection/max_age connection/recheck policies/blocking"
TESTS = {
    "denial": "denial",
    "credential": "credential verifiers/api_key verifiers/internal",
    "options.claims": "verifiers/claims",
    "options.secrets": "options",
    "sources.origins": "sources/origins",
    "sources.query_param": "sources/sources",
    "sources.header": "sources/sources",
    "sources.cookie": "sources/sources",
    "sources.subprotocol": "sources/sources",
    "sources.dialects": "sources/dialects",
    "sources.first_message": "sources/sources sources/waiting sources/dialects",
    "verifiers.api_key": "verifiers/api_key",
    "verifiers.internal": "verifiers/internal",
    "verifiers.tickets": "verifiers/tickets",
    "verifiers.introspection": "verifiers/introspection",
    "verifiers.jwks": "verifiers/jwks verifiers/verdicts",
    "verifiers.jwt": f"{_JWT} verifiers/event_tokens",
    "verifiers.event_tokens": "verifiers/event_tokens",
    "verifiers.trust": f"{_JWT} verifiers/event_tokens verifiers/key_rotation",
    "verifiers.claims": f"{_JWT} verifiers/claims verifiers/event_tokens "
    "verifiers/introspection cli/check_token",
    "verifiers.keys": f"{_JWT} verifiers/key_forms",
    "verifiers.compact": f"{_JWT} verifiers/compact",
    "authenticator": "authenticator connection/handshake sources/origins sources/sources",
    "endpoints.deliveries": _LOGOUT,
    "endpoints.endings": _LOGOUT,
    "endpoints.logout": _LOGOUT,
    "endpoints.bodies": _LOGOUT,
    "endpoints.admitting": "http endpoints/sessions_endpoint",
    "endpoints.sessions": "endpoints/sessions_endpoint",
    "policies.handshake_limit": "policies/handshake_limit",
    "policies.recent": "policies/handshake_limit connection/rejection",
    "policies.total": "policies/total",
    "policies.limits": "policies/limits policies/total identity",
    "policies.rechecks": "policies/rechecks connection/recheck",
    "policies.revocation": "policies/revocation policies/blocking identity",
    "policies.live_sockets": "policies/revocation policies/blocking identity",
    "policies.subjects": "policies/revocation policies/blocking identity",
    "verifiers.rechecking": "connection/recheck",
    "connection.session": _SOCKET,
    "connection.closing": "connection/closing connection/session connection/stream",
    "connection.endable": f"{_LIVE} connection/stream",
    "connection.gate": "policies/total policies/handshake_limit",
    "connection.guard": _SOCKET,
    "connection.holdings": f"{_LIVE} policies/limits policies/sessions middleware",
    "connection.refresh_messages": "connection/refresh_messages connection/session middleware",
    "connection.refreshing": f"{_LIVE} connection/refresh_messages identity",
    "connection.renewal": f"{_LIVE} connection/refresh_messages identity",
    "connection.terms": f"{_LIVE} connection/stream middleware http",
    "connection.stream": "connection/stream http",
    "cli.endings": "cli/endings cli/probe",
    "cli.watch": "cli/endings cli/probe",
    "middleware": "middleware connection/session connection/handshake policies/limits",
}
"""The modules, and the test files that each of them must satisfy."""

SETTINGS = """\
[mutmut]
source_paths = asgi_wsauth
only_mutate = asgi_wsauth/{path}.py
use_git_change_detection = false
"""

PYTEST = ["-p", "no:cacheprovider", "-p", "anyio.pytest_plugin"]
ENVIRONMENT = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # for speed
QUICK = "not trio and not thousand and not 100_000 and not without_a_refusal"
"""At first, each mutant is tested on one event loop, and without what takes seconds or starts a
server."""


def copy_tree(folder: Path) -> None:
    for name in ("asgi_wsauth", "tests", "examples"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored, dirs_exist_ok=True)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(PROJECT / name, folder)


def called(folder: Path, *arguments: str) -> str:
    """What a Python process prints that must not fail."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{arguments} failed:\n{done.stdout[-5000:]}{done.stderr[-5000:]}")
    return done.stdout


def outcome(module: str, folder: Path, *arguments: str) -> tuple[Counter[str], list[Mutant]]:
    """The number of mutants of each outcome, and those that live."""
    listed = folder / "outcomes.json"
    called(folder, "-m", "tests.mutation.forks", module, listed.name, *arguments)
    outcomes: dict[str, str] = json.loads(listed.read_text())
    alive = [name for name, outcome in outcomes.items() if outcome == "survived"]
    show = "from mutmut.__main__ import cli\nfor n in {}: cli(['show', n], standalone_mode=False)"
    shown = called(folder, "-c", show.format(alive))
    patches = re.split(r"^# .*__mutmut_.*\n", shown, flags=re.MULTILINE)[1:]
    mutants = [Mutant.parse(module, *pair) for pair in zip(alive, patches, strict=True)]
    return Counter(outcomes.values()), mutants


def passes(tests: list[str], folder: Path, mutant: str = "") -> bool:
    """Whether all tests pass, the slow ones too, in a process that has the mutant from the start.
    The forks run those that pass through the function, which what is built when tests are imported
    does not."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", *PYTEST, *tests]
    environment = {**ENVIRONMENT, "MUTANT_UNDER_TEST": mutant}
    try:
        done = subprocess.run(
            command, cwd=folder / "mutants", env=environment, capture_output=True, timeout=600
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def test_file(name: str) -> str:
    """The path of a test file: `verifiers/jwt` is `tests/unit/verifiers/test_jwt.py`."""
    folder, _, stem = f"tests/unit/{name}".rpartition("/")
    return f"{folder}/test_{stem}.py"


def run(module: str, folder: Path) -> bool:
    """Mutate one module of the copy in `folder`, test each mutant, and print what came out. Whether
    the list says the same."""
    tests = [test_file(name) for name in TESTS[module].split()]
    path = module.replace(".", "/")
    (folder / "setup.cfg").write_text(SETTINGS.format(path=path))
    shutil.rmtree(folder / "mutants", ignore_errors=True)
    counts, alive = outcome(module, folder, "-q", *PYTEST, "-m", "not live", "-k", QUICK, *tests)
    entries = [entry for entry in read_entries() if entry.module == module]
    unlisted, stale = explained(alive, entries)
    if unlisted and not passes(tests, folder):
        sys.exit(f"{module}: its tests fail without a mutant, too")
    unlisted = [mutant for mutant in unlisted if passes(tests, folder, mutant.name)]
    told = (
        f"{counts['killed']} killed, {counts['timed out']} timed out, "
        f"{counts['words']} of words, {counts['survived']} left by quick tests"
    )
    print(f"{module}: {sum(counts.values())} mutants: {told}, {len(unlisted)} unexplained")
    for mutant in unlisted:
        print(f"\nnot listed:\n{mutant}")
    for entry in stale:
        print(f"\nlisted, but it did not survive:\n{entry}")
    sys.stdout.flush()
    return not unlisted and not stale


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="one of " + ", ".join(TESTS))
    parser.add_argument("--work", type=Path, help="a folder for the copy, which is kept then")
    options = parser.parse_args()
    unknown = set(options.modules) - set(TESTS)
    if unknown:
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="mutation-") as temporary:
        folder = options.work or Path(temporary)
        copy_tree(folder)
        fine = [run(module, folder) for module in options.modules or TESTS]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
