"""The README: what it shows runs, and what it says is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import asgi_wsauth
from asgi_wsauth import Reason

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PYTHON = [code for language, code in BLOCKS if language == "python"]


SECRET = "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz"
SETTINGS = dict.fromkeys(("SECRET", "API_KEY", "TOKEN"), SECRET)


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.split("(")[0][-30:].strip())
def test_every_python_block_runs_in_an_empty_file(code: str, tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(code)
    runner = ["-m", "pytest", "-q"] if "def test_" in code else []
    run = subprocess.run(
        [sys.executable, *runner, file.name],
        cwd=tmp_path,
        env={**os.environ, **SETTINGS},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, ""), run.stdout


def test_the_first_screen_has_the_two_commands() -> None:
    shell = [code for language, code in BLOCKS if language == "sh"]
    assert [command.strip().split()[-1] for command in shell] == ["examples/demo.py", "--cov"]
    assert all(command.count("\n") == 1 for command in shell)
    assert README[: README.index("## ")].count("```sh") == 2
    assert README[: README.index("## ")].count("\n") < 30


@pytest.mark.parametrize("name", ["async def legacy_session", "class PathSegment"])
def test_the_readmes_own_verifier_and_source_are_type_checked(name: str) -> None:
    """mypy and pyright read tests/typing/usage.py, which has the same lines."""
    (block,) = [code for code in PYTHON if name in code]
    definition = block[block.index(name) :]
    assert definition in (ROOT / "tests/typing/usage.py").read_text()
    assert len([line for line in definition.splitlines() if line]) < 10


def test_the_table_of_reasons_is_the_table() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \| (\d+) \| `(\w+)` \| (.*?) \|$", README, re.M)
    assert rows == [
        (r.name, str(r.close_code), str(r.http_status), r.phrase, r.advice) for r in Reason
    ]


def test_it_names_everything_that_can_be_imported() -> None:
    unnamed = {"Authentication", "Event", "Observer", "Rejection", "Source", "Verifier"}  # types
    unnamed |= {"Abandoned", "Admitted", "Closed", "Refused", "TicketIssued", "ConfigurationError"}
    unnamed |= {"KeysFetched", "Refreshed", "Overflow", "Notice", "Slot", "Subject", "TakenSlot"}
    assert {n for n in asgi_wsauth.__all__ if n not in README} <= unnamed
