"""The files around the package agree: what builds, tests, releases and explains it."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cases import cases

import asgi_wsauth

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, ENVIRONMENTS = PYPROJECT["project"], PYPROJECT["tool"]["hatch"]["envs"]
WORKFLOWS: dict[str, Any] = {
    path.name: yaml.safe_load(path.read_text()) for path in GITHUB.glob("workflows/*.yml")
}
CI, HOOKS = ROOT / ".ci/run", ROOT / ".pre-commit-config.yaml"
CONTRIBUTING, CHANGELOG = ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"
TEXTS = [
    *(CI, HOOKS, ROOT / ".readthedocs.yaml", *ROOT.glob("*.md")),
    *(path for path in GITHUB.rglob("*") if path.is_file()),
    *ROOT.glob("docs/**/*.md"),
]


def jobs() -> Iterator[dict[str, Any]]:
    for workflow in WORKFLOWS.values():
        yield from workflow["jobs"].values()


def steps() -> Iterator[dict[str, Any]]:
    for job in jobs():
        yield from job.get("steps", ())


@cases("text", TEXTS)
def test_what_hatch_is_told_to_run_exists(text: Path) -> None:
    extras = PROJECT["optional-dependencies"]
    tools = {re.match(r"[\w-]+", needed)[0] for needed in [*extras["dev"], *extras["test-base"]]}
    for command in re.findall(r"hatch run ([\w:-]+)", text.read_text()):
        name, _, script = command.rpartition(":")
        scripts = ENVIRONMENTS[name or "default"]["scripts"]
        assert script in scripts or (not name and script in {*tools, "python"}), command


@cases("text", TEXTS)
def test_the_tools_that_are_named_exist(text: Path) -> None:
    for module in re.findall(r"python3? -m (tests\.\w+)", text.read_text()):
        assert (ROOT / module.replace(".", "/") / "__main__.py").is_file(), module


@cases("text", TEXTS)
def test_the_projects_addresses_are_those_of_its_metadata(text: Path) -> None:
    urls = PROJECT["urls"]
    hosts = r"https://(?:github\.com/asgi-wsauth|[\w-]+\.readthedocs\.io)\b[^\s)\"'`<>\\]*"
    for url in re.findall(hosts, text.read_text()):
        if "asgi-wsauth" in url:
            assert url.startswith((urls["Source"], urls["Documentation"])), url


def test_every_file_of_a_kind_is_checked_against_its_schema() -> None:
    checked = {
        path
        for command in ENVIRONMENTS["default"]["scripts"]["schemas"]
        for path in command.split()[3:]
    }
    pull_request, *_ = GITHUB.glob("*.md")
    wanted = {path for path in GITHUB.rglob("*") if path.is_file()} - {pull_request}
    assert checked == {str(path.relative_to(ROOT)) for path in wanted} | {".readthedocs.yaml"}


def test_workflows_run_what_a_contributor_can_run() -> None:
    commands = [step["run"] for step in steps() if "run" in step and "name" not in step]
    known = {"pip install hatch", "bash .ci/run"}
    assert [run for run in commands if run not in known and not run.startswith("hatch run ")] == []
    for entry in re.findall(r"entry: (.+)", HOOKS.read_text()):
        assert entry.startswith("hatch run ")


def test_workflows_may_do_little_and_follow_no_moving_branch() -> None:
    assert all(flow["permissions"] == {"contents": "read"} for flow in WORKFLOWS.values())
    more = [job["permissions"] for job in jobs() if "permissions" in job]
    assert more == [{"id-token": "write"}]
    for step in steps():
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


def test_every_supported_python_is_tested() -> None:
    pattern = r"Programming Language :: Python :: (3\.\d+)"
    supported = re.findall(pattern, "\n".join(PROJECT["classifiers"]))
    matrix = WORKFLOWS["tests.yml"]["jobs"]["quick"]["strategy"]["matrix"]["python"]
    oldest, newest = re.findall(r"(?:oldest|newest)=([\d.]+)", CI.read_text())[:2]
    assert [*matrix, newest] == supported
    assert oldest == supported[0] == PROJECT["requires-python"].removeprefix(">=")


@pytest.mark.live
@cases(
    "tag, heading, is_released",
    [
        ("v0.1.0", "## [0.1.0] - 2026-12-01", True),
        ("v0.1.1", "## [0.1.1] - 2026-12-01", False),  # the package says 0.1.0
        ("v0.1.0", "## [0.1.0]", False),
        ("v0.1.0", "## [Unreleased]", False),
    ],
)
def test_a_release_is_the_version_of_its_tag_and_in_the_changelog(
    tag: str, heading: str, is_released: bool, tmp_path: Path
) -> None:
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    (script,) = (
        step["run"] for step in WORKFLOWS["release.yml"]["jobs"]["build"]["steps"] if "name" in step
    )
    done = subprocess.run(
        ["bash", "-ec", f"hatch() {{ echo 0.1.0; }}\n{script}"],
        cwd=tmp_path,
        env={**os.environ, "TAG": tag},
        capture_output=True,
    )
    assert (done.returncode == 0) is is_released, done


def test_the_changelog_is_in_keep_a_changelogs_form() -> None:
    text = CHANGELOG.read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    versions = []
    for heading in headings[1:]:
        found = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", heading)
        assert found, heading
        versions.append(tuple(map(int, found[1].split("."))))
    assert versions == sorted(versions, reverse=True)
    assert asgi_wsauth.__version__ in text
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    named = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert re.findall(r"^\[(.+?)\]: ", text, re.MULTILINE) == named


def test_read_the_docs_builds_what_is_there() -> None:
    settings = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text())
    assert (ROOT / settings["sphinx"]["configuration"]).is_file()
    assert settings["sphinx"]["fail_on_warning"] is True
    (install,) = settings["python"]["install"]
    assert install["extra_requirements"] == ENVIRONMENTS["docs"]["features"] == ["docs"]


def test_the_names_that_contributors_are_told_are_in_those_files() -> None:
    text = CONTRIBUTING.read_text()
    for name, path in re.findall(r"`(\w+)`\s+(?:of|in)\s+`([\w/]+\.py)`", text):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), (name, path)
    support = "".join(path.read_text() for path in (ROOT / "tests/support").glob("*.py"))
    for variable in re.findall(r"`(?:(WSAUTH_(?!REQUIRE)\w+)|(REDIS_URL))\b", text):
        assert "".join(variable) in support
