"""The README and the docs: what they show runs, and what they say is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forking
import pytest
from frames import Wire, run
from pages import PAGES, ROOT, RUN_AS_A_WHOLE, RUN_BY, blocks
from servers import Server, serving

import asgi_wsauth
from asgi_wsauth import Reason
from asgi_wsauth.testing import make_jwt

pytestmark = pytest.mark.live

README = PAGES["README.md"]
PYTHON = [
    code
    for page in PAGES
    if page not in RUN_AS_A_WHOLE and (page, "python") not in RUN_BY
    for code in blocks(page)
]

SECRET = "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz"
QUERY, JSON = b'{"query": "{me}"}', [("Content-Type", "application/json")]
SETTINGS = dict.fromkeys(("SECRET", "API_KEY", "TOKEN"), SECRET)


FRAMEWORKS = dict(
    re.findall(
        r"^## ([\w. ]+)\n\n```python\n(.*?)^```$",
        PAGES["docs/guides/frameworks.md"],
        re.DOTALL | re.MULTILINE,
    ),
    README=blocks("README.md")[0],
)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Server]:
    """The docs' app for a framework, on uvicorn."""
    directory = tmp_path_factory.mktemp("readme")
    (directory / "app.py").write_text(FRAMEWORKS[request.param])
    env = {"PYTHONPATH": str(directory), **SETTINGS}
    with serving("uvicorn-websockets", "app:app", env=env) as server:
        server.name = request.param
        yield server


def test_a_frameworks_block_serves_who_has_a_token_and_nobody_else(framework: Server) -> None:
    name = framework.name
    token = make_jwt(SECRET, "alice", aud="chat" if name == "README" else None)
    if name == "Strawberry GraphQL":
        refused = framework.ask("POST", "/graphql", body=QUERY, headers=JSON)
        answered = framework.ask("POST", "/graphql", body=QUERY, headers=JSON, token=token)
        assert (refused.status, refused.json) == (401, {"error": "token_missing"})
        assert answered.json == {"data": {"me": "alice"}}
        assert framework.talk("/graphql").close == (1008, "token_missing")
    elif name == "Socket.IO":
        path = "/socket.io/?EIO=4&transport=websocket"
        assert framework.talk(path).json == {"error": "token_missing"}
        seen = framework.talk(f"{path}&token={token}", say=["40"])
        assert seen.messages[1] == '42["hello","alice"]'
    else:
        code = 3000 if name == "Django Channels" else 1008
        assert framework.talk("/chat").close == (code, "token_missing")

        async def talk() -> object:
            client = await Wire.open(framework, "/chat", token=token)
            client.send("hello")
            return await client.message()

        assert run(talk()) == "alice: hello"
    assert token not in framework.log()


@pytest.mark.parametrize("framework", ["README"], indirect=True)
def test_the_readmes_ten_lines_are_tried_as_it_says(framework: Server) -> None:
    """Its last two commands; the first ones install and start what runs here already."""
    console = blocks("README.md", "console")[0].replace(":8000", f":{framework.port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    seen = []
    for talk in re.split(r"^\$ (?=python -m websockets)", console, flags=re.M)[1:]:
        command, *lines = talk.splitlines()
        with subprocess.Popen(
            ["bash", "-c", command],
            env={**os.environ, **SETTINGS, "PATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as client:
            assert client.stdin and client.stdout
            for line in lines:
                if line.startswith("> "):
                    client.stdin.write(line.removeprefix("> ") + "\n")
                    client.stdin.flush()
                else:
                    seen.append(any(line in said for said in client.stdout))
            client.stdin.close()
    assert seen == [True, True]


def test_every_python_block_runs_in_an_empty_file(tmp_path: Path) -> None:
    """Each in a module of its own, many in one process. The tests come first: Litestar's block sets
    up a thread that writes what is logged, whenever it comes to it."""
    tests = [code for code in PYTHON if "def test_" in code]
    for number, code in enumerate(PYTHON):
        name = "test_block" if code in tests else "block"
        (tmp_path / f"{name}_{number}.py").write_text(code)
    (tmp_path / "all.py").write_text(
        "import glob, runpy, warnings\n"
        "import pytest\n"
        "code = pytest.main(['-q', '-W', 'error', '-p', 'anyio.pytest_plugin'])\n"
        "warnings.simplefilter('error')\n"
        "for name in sorted(glob.glob('block_*.py')):\n"
        "    try: runpy.run_path(name)\n"
        "    except BaseException as exc: raise SystemExit(f'{name}: {exc!r}')\n"
        "raise SystemExit(code)\n"
    )
    env = {**os.environ, **SETTINGS, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with forking.start([str(tmp_path / "all.py")], env=env, cwd=tmp_path) as process:
        assert process.stdout
        written = process.stdout.read()
    assert re.fullmatch(r"\.+ .*\n\d+ passed in .*\n", written), written
    assert process.returncode == 0


def test_the_docs_have_a_block_for_every_framework() -> None:
    known = "README,Starlette,FastAPI,Litestar,Quart,Django Channels,Socket.IO,Strawberry GraphQL"
    assert set(FRAMEWORKS) == set(known.split(","))


def test_the_first_screen_has_the_two_commands() -> None:
    shell = blocks("README.md", "sh")
    assert [command.strip().split()[-1] for command in shell] == [
        "examples/demo.py",
        "loadfile",
    ]
    assert all(command.count("\n") == 1 for command in shell)
    assert README[: README.index("## ")].count("```sh") == 2
    assert README[: README.index("## ")].count("\n") < 30


@pytest.mark.parametrize("name", ["async def legacy_session", "class PathSegment"])
def test_the_docs_own_verifier_and_source_are_type_checked(name: str) -> None:
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


def test_the_guides_list_of_reasons_is_the_table() -> None:
    """Below the advice that each reason comes with."""
    page = PAGES["docs/guides/refusals.md"].partition("## The reasons")[2].partition("\n## ")[0]
    rows = []
    for advice, below in re.findall(r"^\*\*(.*?)\*\*[:,](.*?)(?=^\*\*|\Z)", page, re.M | re.S):
        found = re.findall(r"^- `([A-Z_]+)`: (\d+) `(\w+)`, HTTP (\d+)\.", below, re.M)
        rows += [
            (name, int(code), phrase, int(status), advice) for name, code, phrase, status in found
        ]
    told = [(r.name, r.close_code, r.phrase, r.http_status, r.advice.capitalize()) for r in Reason]
    assert sorted(rows) == sorted(told)


def test_the_readme_has_every_extra_and_at_most_200_lines() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    table = README.partition("| extra |")[2].partition("\n\n")[0]
    named = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])
    }
    for_developers = {"demo", "dev", "docs", "test", "test-base"}
    assert named == project["optional-dependencies"].keys() - for_developers
    assert README.count("\n") <= 200


def test_they_name_everything_that_can_be_imported() -> None:
    unnamed = {"Authentication", "Event", "Observer", "Rejection", "Source", "Verifier"}  # types
    unnamed |= {"Overflow", "Notice", "RenewalNotice", "Slot", "Subject", "TakenSlot"}
    unnamed |= {"RenewedSessions", "SessionKey"}
    text = "".join(PAGES.values())
    assert {n for n in asgi_wsauth.__all__ if n not in text} <= unnamed
