"""The shape of the package: which file may import which, and what a user can import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import asgi_wsauth

ROOT = Path(asgi_wsauth.__file__).parent
ROWS = [
    {"options", "addresses", "tasks", "places", "valve"},
    {"denial", "credential"},
    {"waiting", "telling"},
    {
        "sources",
        "origins",
        "paths",
        "scrub",
        "events",
        "stores",
        "keys",
        "claims",
        "verdicts",
        "outbound",
    },
    {"verifiers", "verifiers.jwks", "listener", "timers", "refreshing", "throttle"},
    {"closing"},
    {
        "verifiers.jwt",
        "verifiers.introspection",
        "verifiers.api_key",
        "verifiers.internal",
        "verifiers.tickets",
        "revocation",
        "refusals",
        "handshake",
    },
    {"limits", "answers"},
    {"authenticator"},
    {"session", "redaction", "testing", "passing"},
    {"admission"},
    {"middleware", "http"},
    {"contrib"},
    {"redis", "contrib.prometheus", "contrib.opentelemetry", "cli.target"},
    {"cli.probe"},
    {"cli.findings"},
    {"cli.report"},
    {"cli"},
    {"__main__"},
]
ROW = {name: number for number, row in enumerate(ROWS) for name in row}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if path != ROOT / "__init__.py"
}


def imported(path: Path) -> set[str]:
    """The rooms that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where an arrow goes"
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {n.removeprefix("asgi_wsauth.") for n in names if n.startswith("asgi_wsauth")}


def test_every_file_has_its_row() -> None:
    assert set(FILES) == set(ROW)


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_point_only_down(name: str) -> None:
    for other in imported(FILES[name]):
        assert ROW[other] < ROW[name], f"{name} imports {other}, which is not below it"


def test_the_map_in_the_docstring_names_every_room() -> None:
    rooms = {name.partition(".")[0] for name in ROW}
    assert all(f" {room}" in (asgi_wsauth.__doc__ or "") for room in rooms)


def test_the_public_names() -> None:
    assert asgi_wsauth.__all__ == sorted(asgi_wsauth.__all__, key=lambda n: (not n.isupper(), n))
    assert {name: getattr(asgi_wsauth, name) for name in asgi_wsauth.__all__}
    assert set(asgi_wsauth.__all__) == {
        name
        for name, value in vars(asgi_wsauth).items()
        if not name.startswith("_") and not isinstance(value, type(sys))
    }


def test_importing_it_needs_no_extra_and_does_no_work() -> None:
    """In a fresh interpreter: no framework, no server and no event loop comes along."""
    code = (
        "import sys, threading, asgi_wsauth;"
        "print(*sorted(sys.modules), threading.active_count(), sep='\\n')"
    )
    *modules, threads = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    extras = "httpx redis limits prometheus_client opentelemetry websockets rich uvicorn trio"
    assert not set(extras.split()) & set(modules)
    assert threads == "1"


def test_it_is_typed() -> None:
    assert (ROOT / "py.typed").exists()
