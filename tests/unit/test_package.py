"""The shape of the package: which file may import which, and what a user can import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TypeGuard

import pytest
from cases import cases

import asgi_wsauth

ROOT = Path(asgi_wsauth.__file__).parent

# From the bottom up: a row of rooms, each with what it answers, and where it is a folder its files,
# again from the bottom up. A file imports from rows below its own, and from what comes before it in
# its folder.
ROWS: list[dict[str, tuple[str, str]]] = [
    {
        "options": (
            "ConfigurationError, and every check of an option",
            "error extras functions values claims secrets headers __init__",
        )
    },
    {
        "printable": ("text that can be logged and shown, whoever sent it", ""),
        "denial": ("Reason, Denied: the one table of codes and statuses", ""),
        "credential": ("Credential, Principal", ""),
        "scope": ("what a scope says: who asks, and for which path", "addresses paths"),
    },
    {"events": ("events, observers, the log", "")},
    {"loops": ("event loops: tasks, timers, places", "per_loop tasks places timers")},
    {
        "sources": (
            "where a credential travels, and its removal from the scope",
            "source waiting query_param header cookie subprotocol dialects first_message __init__ "
            "origins findings",
        ),
        "stores": (
            "what is kept: tickets, revocations, slots, sessions; MemoryStore, Lua scripts",
            "protocols batches memory listener leases redis_client redis_notices redis_sessions",
        ),
    },
    {
        "verifiers": (
            "who a credential vouches for: a file for each kind; claims, keys, JWKS",
            "__init__ chain rechecking compact keys static_keys claims verdicts outbound "
            "key_documents internal proxy_header api_key introspection jwks trust event_tokens "
            "jwt tickets",
        ),
        "policies": (
            "what ends or limits logins",
            "subjects live_sockets rechecks revocation local_counts throttle total limits recent "
            "handshake_limit entries sessions anonymous",
        ),
    },
    {"authenticator": ("the decision, once, in order", "")},
    {
        "redaction": ("credentials out of logs and texts", ""),
        "testing": ("for users' own tests: as_principal, make_jwt", ""),
    },
    {
        "connection": (
            "one connection, from its scope to its last message",
            "rejection valve closing budget answers gate handshake refresh_messages terms "
            "report live renewal session refreshing phases endable guard listing holdings draining "
            "stream passthrough admission",
        ),
    },
    {
        "middleware": ("WebSocketAuthMiddleware", ""),
        "http": ("HTTPAuthMiddleware", ""),
        "endpoints": (
            "the ASGI apps to mount: TicketEndpoint, LogoutEndpoint, SessionsEndpoint",
            "bodies admitting tickets sessions deliveries endings logout __init__",
        ),
        "access": ("what an app asks: current_session, current_principal", ""),
    },
    {
        "redis": ("RedisStore", ""),
        "shutdown": ("drain_on_signal", ""),
        "contrib": (
            "observers (Prometheus, OpenTelemetry), and existing logins",
            "__init__ prometheus opentelemetry database_token django_lookup "
            "django_signals django starlette",
        ),
        "cli": (
            "the command line",
            "secrets codes loading check_token target probe watch findings endings report __init__",
        ),
    },
    {"__main__": ("runs the command line", "")},
]
PLACES = {
    (f"{room}.{name}" if files else room).removesuffix(".__init__"): (number, place)
    for number, row in enumerate(ROWS)
    for room, (_, files) in row.items()
    for place, name in enumerate(files.split() or [room])
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if path != ROOT / "__init__.py"
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All of a file."""
    return list(ast.walk(tree(path)))


def imported(path: Path) -> set[str]:
    """The files of the package that a file imports, wherever in it."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where an arrow goes"
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {n.removeprefix("asgi_wsauth.") for n in names if n.startswith("asgi_wsauth")}


def is_empty(path: Path) -> bool:
    """Whether a file holds nothing but its docstring."""
    return len(tree(path).body) == 1


def test_every_file_has_its_place() -> None:
    assert {name for name, path in FILES.items() if not is_empty(path)} == set(PLACES)


@cases("name", sorted(PLACES))
def test_imports_point_only_down(name: str) -> None:
    row, place = PLACES[name]
    for other in imported(FILES[name]):
        same_folder = name.partition(".")[0] == other.partition(".")[0]
        below = PLACES[other] < (row, place) if same_folder else PLACES[other][0] < row
        assert below, f"{name} imports {other}, which is not below it"


def the_map() -> str:
    lines = []
    for number, row in enumerate(ROWS):
        for place, (room, (answers, files)) in enumerate(row.items()):
            label = f"{number:2}" if place == 0 else "  "
            lines.append(f"    {label}  {room + '/' if files else room:<15}{answers}")
    return "\n".join(lines)


def test_the_map_in_the_docstring_is_that_list() -> None:
    assert f"\n\n{the_map()}\n\n" in (asgi_wsauth.__doc__ or ""), f"it must be\n{the_map()}"


def test_who_follows_a_connection_is_told_of_each_of_its_files() -> None:
    docstring = ast.get_docstring(tree(ROOT / "connection" / "__init__.py")) or ""
    named = {name.partition(".")[0] for name in re.findall(r"`([a-z_.]+)`", docstring)}
    files = {path.stem for path in (ROOT / "connection").glob("*.py")} - {"__init__"}
    assert named - {"policies"} == files


# Who may touch what


@cache
def attributes(path: Path) -> set[str]:
    """What the classes of a module call their own: fields, methods, slots, what they set."""
    own: set[str] = set()
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            own.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
        elif is_written(node) and is_own(node.value):
            own.add(node.attr)
    return own


def is_written(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del))


def is_own(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


@cases("name", sorted(PLACES))
def test_no_file_reads_a_private_attribute_of_another_ones_objects(name: str) -> None:
    own = attributes(FILES[name])
    for node in nodes(FILES[name]):
        if isinstance(node, ast.Attribute) and not is_own(node.value):
            private = node.attr.startswith("_") and not node.attr.endswith("__")
            assert not private or node.attr in own, f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asgi_wsauth"):
            assert not any(alias.name.startswith("_") for alias in node.names), ast.unparse(node)


@cases("name", sorted(PLACES))
def test_no_file_writes_an_attribute_of_another_ones_objects(name: str) -> None:
    own = attributes(FILES[name])
    for node in nodes(FILES[name]):
        if is_written(node) and not is_own(node.value) and not node.attr.endswith("__"):
            others = [other for other in PLACES if node.attr in attributes(FILES[other])]
            mine = node.attr in own or not others
            assert mine, f"line {node.lineno}: {ast.unparse(node)}"


@cases("name", sorted(PLACES))
def test_no_file_is_longer_than_350_lines_and_no_function_than_45(name: str) -> None:
    """Without its docstring."""
    assert len(FILES[name].read_text().splitlines()) <= 350
    for node in nodes(FILES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            docstring = 0
            if ast.get_docstring(node) is not None:
                docstring = (first.end_lineno or 0) - first.lineno + 1
            lines = (node.end_lineno or 0) - node.lineno + 1 - docstring
            assert lines <= 45, f"{node.name} has {lines} lines"


@cases("name", sorted(PLACES))
def test_no_group_of_a_regular_expression_is_possessive(name: str) -> None:
    """Up to Python 3.11.4, such a one can miss what it should match (python/cpython#106052). One
    character, or a class of them, may be."""
    assert not re.search(r"(?<!\\)\)[*+?]\+", FILES[name].read_text(encoding="utf-8"))


# What a user can import


def test_the_public_names() -> None:
    assert asgi_wsauth.__all__ == sorted(asgi_wsauth.__all__, key=lambda n: (not n.isupper(), n))
    assert {name: getattr(asgi_wsauth, name) for name in asgi_wsauth.__all__}
    assert set(asgi_wsauth.__all__) == {
        name
        for name, value in vars(asgi_wsauth).items()
        if not name.startswith("_") and not isinstance(value, type(sys))
    }


@pytest.mark.live
def test_importing_it_needs_no_extra_and_does_no_work() -> None:
    """In a fresh interpreter: no framework, no server and no event loop comes along."""
    contrib = sorted(f"asgi_wsauth.contrib.{path.stem}" for path in ROOT.glob("contrib/[a-z]*.py"))
    assert len(contrib) > 3
    code = (
        f"import sys, threading, asgi_wsauth, asgi_wsauth.redis, {', '.join(contrib)};"
        "print(*sorted(sys.modules), threading.active_count(), sep='\\n')"
    )
    *modules, threads = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    extras = "httpx2 redis limits prometheus_client opentelemetry websockets rich uvicorn trio"
    assert not {*extras.split(), "django", "itsdangerous"} & set(modules)
    assert threads == "1"


def test_it_is_typed() -> None:
    assert (ROOT / "py.typed").exists()
