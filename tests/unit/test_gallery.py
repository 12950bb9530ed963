"""docs/examples.md: every example is there, with the lines that start it and its pictures."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path

from cases import cases
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pages import PAGES, ROOT

PAGE = PAGES["docs/examples.md"]
EXAMPLES = sorted(
    path for path in ROOT.glob("examples/**/*.py") if "node_modules" not in path.parts
)
PICTURES = re.findall(r'<img src="images/([\w-]+)\.png" alt="[^"]+" width="\d+">', PAGE)

# The tests that start each of them.
STARTED_BY = {
    "browser/app.py": "browsers/test_browser_client.py",
    "channels_app.py": "frameworks/test_framework_stacks.py",
    "demo.py": "browsers/test_demo.py",
    "fastapi_app.py": "frameworks/test_frameworks.py",
    "firebase.py": "examples/test_firebase_example.py",
    "graphql_app.py": "frameworks/test_framework_stacks.py",
    "litestar_app.py": "frameworks/test_frameworks.py",
    "metrics.py": "unit/contrib/test_prometheus.py",
    "model_stream.py": "browsers/test_model_stream_example.py",
    "oidc.py": "examples/test_oidc_example.py",
    "one_policy.py": "examples/test_one_policy.py",
    "quart_app.py": "frameworks/test_frameworks.py",
    "quickstart.py": "examples/test_quickstart.py",
    "rate_limits.py": "frameworks/test_rate_limiters.py",
    "sessions.py": "browsers/test_sessions_example.py",
    "socketio_app.py": "frameworks/test_framework_stacks.py",
    "starlette_app.py": "frameworks/test_frameworks.py",
    "tickets.py": "browsers/test_tickets_example.py",
}


def test_every_file_is_named() -> None:
    named = set(re.findall(r"(?:\]\(\.\./|`)(examples/[\w./-]+)[)`]", PAGE))
    ignored = {"node_modules", "__pycache__"}
    assert named == {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("examples/**/*")
        if path.is_file() and not ignored & set(path.parts)
    }


@cases("example", EXAMPLES)
def test_an_example_is_started_by_the_lines_at_its_top(example: Path) -> None:
    docstring = ast.get_docstring(ast.parse(example.read_text())) or ""
    lines = docstring.split("\n\n")[1]
    assert re.search(rf"^    .*python {example.relative_to(ROOT)}$", lines, re.MULTILINE)
    name = re.escape(str(example.relative_to(ROOT)))
    (entry,) = re.findall(rf"\n### (?:(?!\n### ).)*?\]\(\.\./{name}\).*?\n```\n", PAGE, re.DOTALL)
    assert entry.partition("```sh\n")[2] == re.sub("(?m)^    ", "", lines) + "\n```\n"


@cases("example", EXAMPLES)
def test_what_it_imports_is_what_its_first_line_installs(example: Path) -> None:
    tree = ast.parse(example.read_text())
    (line,) = re.findall(r"^    pip install -e (.*)$", ast.get_docstring(tree) or "", re.MULTILINE)
    installed = installs([name.replace(".", "asgi-wsauth", 1) for name in shlex.split(line)])
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            modules.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
    for module in modules - sys.stdlib_module_names - {"asgi_wsauth"}:
        assert any(module in modules_of(name) for name in installed), module


@functools.cache
def modules_of(distribution: str) -> set[str]:
    """What it has at the top."""
    found = metadata.distribution(distribution)
    named = (found.read_text("top_level.txt") or "").split()
    return set(named) or {file.parts[0].removesuffix(".py") for file in found.files or ()}


@functools.cache
def requirements_of(distribution: str) -> list[Requirement]:
    return [Requirement(text) for text in metadata.requires(distribution) or ()]


def installs(wanted: list[str]) -> set[str]:
    """What pip installs for these requirements, by name."""
    found: set[tuple[str, str]] = set()  # with an extra
    left = [Requirement(text) for text in wanted]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in found if known == name}:
            found.add((name, extra))
            needed = requirements_of(name)
            left += [r for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


@cases("example", EXAMPLES)
def test_a_test_starts_it(example: Path) -> None:
    name = str(example.relative_to(ROOT / "examples"))
    text = (ROOT / "tests" / STARTED_BY[name]).read_text()
    assert example.name in text or f'"{example.name.removesuffix("_app.py")}"' in text
    assert "running(" in text


@cases("picture", [*PICTURES, "demo"])
def test_a_picture_is_light_and_made_by_a_command(picture: str) -> None:
    assert (ROOT / f"docs/images/{picture}.png").stat().st_size < 150_000
    assert f'"{picture}"' in (ROOT / "tests/support/screenshots.py").read_text()


def test_every_page_has_a_picture() -> None:
    with_page = {path.stem for path in ROOT.glob("examples/*.html")} | {"browser"}
    assert with_page <= set(PICTURES)
