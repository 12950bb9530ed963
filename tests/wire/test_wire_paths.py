"""`exclude`, `only` and a ticket's path under a root, in the frameworks, on real servers: they are
the app's own paths, and nobody finds another way to read one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from cases import cases
from handshakes import mint, now
from servers import EVERYTHING, USUAL, Seen, Server, serving

pytestmark = pytest.mark.live

SERVERS = {
    "uvicorn-websockets": ["--root-path", "/api"],
    "uvicorn-sansio": ["--root-path", "/api"],
    "uvicorn-wsproto": ["--root-path", "/api"],
    "hypercorn": ["--root-path", "/api"],
    "daphne": ["--root-path", "/api"],
    "granian": ["--url-path-prefix", "/api"],
}
# Inside a `Mount`, paths are its own; elsewhere they are the whole app's.
HTTP_APPS = [
    "starlette",
    "starlette, around",
    "starlette, only",
    "starlette, a route",
    "fastapi",
    "litestar",
    "litestar, around",
    "litestar, only",
    "quart",
    "quart, only",
    "django",
    "django, only",
]
APPS = [app for app in HTTP_APPS if not app.startswith("django")]
MOUNTED = ["starlette, mounted", "starlette, in a mount"]


@pytest.fixture(scope="module", params=[name for name in USUAL if name in SERVERS])
def rooted(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that was told that it is at /api."""
    with serving(request.param, "path_apps:app", *SERVERS[request.param]) as server:
        assert server.get("/")["root"] == "/api"
        yield server


@pytest.fixture(scope="module")
def uvicorn() -> Iterator[Server]:
    """Without a root."""
    with serving("uvicorn-websockets", "path_apps:app") as server:
        yield server


def under_root(server: Server, path: str) -> str:
    """A path as a client sends it. uvicorn is behind a proxy that cuts the root, and adds it; the
    others are behind one that doesn't."""
    return path if server.name.startswith("uvicorn") else f"/api{path}"


def ask(server: Server, app: str, path: str, *, token: str | None = None) -> Seen:
    return server.ask("GET", path, headers=[("x-app", app)], token=token)


def talk(server: Server, app: str, path: str, *, token: str | None = None) -> Any:
    """Which route was taken, or None for a refusal."""
    seen = server.talk(path, headers=[("x-app", app)], token=token)
    return seen.report["took"] if seen.messages else None


def token() -> str:
    return mint(exp=now() + 300)


def takes_root_from_clients(server: Server, app: str) -> bool:
    """Whether the root that the server was told is as good as one from a header, so that nothing is
    excluded by it."""
    cut_before = app == "litestar"  # by its router, before its list of middleware
    return server.name == "daphne" and not cut_before and not app.endswith("only")


def needed(server: Server, app: str) -> str | None:
    """What opens an excluded path."""
    return token() if takes_root_from_clients(server, app) else None


@cases("app", [*HTTP_APPS, *MOUNTED])
def test_over_http_paths_are_the_apps(rooted: Server, app: str) -> None:
    over_http(rooted, app)


def over_http(rooted: Server, app: str) -> None:
    inner = "/inner" if app in MOUNTED else ""
    health = under_root(rooted, f"{inner}/health")
    if takes_root_from_clients(rooted, app):
        assert ask(rooted, app, health).status == 401
    assert ask(rooted, app, health, token=needed(rooted, app)).json == {"took": "health"}
    secret = under_root(rooted, f"{inner}/secret")
    assert ask(rooted, app, secret).status == 401
    assert ask(rooted, app, secret, token=token()).json == {"took": "secret"}


@cases("app", [*APPS, *MOUNTED])
def test_over_websocket_paths_are_the_apps(rooted: Server, app: str) -> None:
    over_websocket(rooted, app)


def over_websocket(rooted: Server, app: str) -> None:
    if rooted.name == "daphne" and app.startswith("quart"):
        return  # Quart opens no socket on Daphne, which names no scheme
    inner = "/inner" if app in MOUNTED else ""
    health = under_root(rooted, f"{inner}/health")
    assert talk(rooted, app, health, token=needed(rooted, app)) == "health"
    secret = under_root(rooted, f"{inner}/secret")
    assert talk(rooted, app, secret) is None
    assert talk(rooted, app, secret, token=token()) == "secret"


REACHING_FOR_IT = ["/public/api/secret", "/public/x/api/secret", "/api/api/secret"]


@cases("path", REACHING_FOR_IT)
@cases("app", HTTP_APPS)
def test_nobody_reads_the_secret_where_another_path_is_excluded(
    rooted: Server, app: str, path: str
) -> None:
    nobody_reads_the_secret(rooted, app, path)


def nobody_reads_the_secret(rooted: Server, app: str, path: str) -> None:
    for target in (path, under_root(rooted, path)):
        seen = ask(rooted, app, target)
        assert b"secret" not in seen.body
        assert seen.status in (401, 404)
        if app in APPS:
            assert talk(rooted, app, target) is None


LEAVE_IT = ["hypercorn", "daphne", *(["granian"] if EVERYTHING else [])]


@pytest.mark.parametrize("rooted", LEAVE_IT, indirect=True)
def test_paths_are_the_apps_too_on_servers_that_leave_the_root_in_the_path(rooted: Server) -> None:
    for app in ("starlette", "starlette, in a mount", "litestar, around", "quart, only"):
        over_http(rooted, app)
        over_websocket(rooted, app)
    for app in ("starlette", "litestar, around", "django, only"):
        for path in REACHING_FOR_IT:
            nobody_reads_the_secret(rooted, app, path)
    tickets_path_is_the_apps(rooted, "litestar, around")


@pytest.mark.parametrize("rooted", ["hypercorn"], indirect=True)
def test_fact_litestar_cuts_the_root_wherever_it_is(rooted: Server) -> None:
    path = "/public/api/secret"
    assert ask(rooted, "litestar, around", path, token=token()).json == {"took": "secret"}
    assert ask(rooted, "starlette, around", path, token=token()).json == {"took": "public"}


@cases("app", ["starlette, around", "starlette", "litestar, around"])
def test_a_tickets_path_is_the_apps(rooted: Server, app: str) -> None:
    tickets_path_is_the_apps(rooted, app)


def tickets_path_is_the_apps(rooted: Server, app: str) -> None:
    for path, opens in (("/secret", True), ("/api/secret", False)):
        given = rooted.ask(
            "POST",
            under_root(rooted, "/ticket"),
            headers=[("x-app", "starlette, around"), ("authorization", f"Bearer {token()}")],
            body=f'{{"path": "{path}"}}'.encode(),
        )
        ticket = given.json["ticket"]
        took = talk(rooted, app, under_root(rooted, "/secret"), token=ticket)
        opens = opens and not takes_root_from_clients(rooted, app)
        assert took == ("secret" if opens else None)


@cases("prefix", ["", "/api"])
def test_fastapis_own_root_is_cut_where_it_is_there(uvicorn: Server, prefix: str) -> None:
    assert ask(uvicorn, "fastapi", f"{prefix}/health").json == {"took": "health"}
    assert ask(uvicorn, "fastapi", f"{prefix}/secret").status == 401
    assert ask(uvicorn, "fastapi", f"{prefix}/secret", token=token()).json == {"took": "secret"}
    assert ask(uvicorn, "fastapi", f"{prefix}/public/api/secret").status == 401
    assert talk(uvicorn, "fastapi", f"{prefix}/health") == "health"


@cases("app", [*HTTP_APPS, *MOUNTED])
def test_without_a_root_paths_are_the_apps_too(uvicorn: Server, app: str) -> None:
    inner = "/inner" if app in MOUNTED else ""
    assert ask(uvicorn, app, f"{inner}/health").json == {"took": "health"}
    assert ask(uvicorn, app, f"{inner}/secret").status == 401
    if app not in ("starlette, a route", "fastapi"):
        assert ask(uvicorn, app, f"{inner}/public/api/secret").json == {"took": "public"}


@cases("path", ["/%73ecret", "/secret/", "/x/../secret", "//secret", "/./secret"])
@cases("app", ["starlette, only", "litestar, only", "quart, only", "django, only"])
def test_only_guards_whatever_might_be_one_of_its_paths(
    uvicorn: Server, app: str, path: str
) -> None:
    assert ask(uvicorn, app, path).status == 401
    if app in APPS:
        assert talk(uvicorn, app, path) is None


@cases("path", ["/SECRET", "/Secret/", "/ſecret", "/ſECRET"])
def test_only_guards_its_paths_in_any_case(uvicorn: Server, path: str) -> None:
    """BlackSheep's routes ignore it."""
    target = quote(path)
    for app in ("blacksheep, only", "starlette, only", "quart, only"):
        assert ask(uvicorn, app, target).status == 401
        assert talk(uvicorn, app, target) is None
    if path.isascii():
        told = ask(uvicorn, "blacksheep, only", target, token=token())
        assert told.json == {"took": "secret"}
    assert ask(uvicorn, "blacksheep, only", "/HEALTH").json == {"took": "health"}


@pytest.fixture(scope="module")
def daphne() -> Iterator[Server]:
    """Without a root but what clients send."""
    with serving("daphne", "path_apps:app") as server:
        yield server


@cases("root", ["/secret", "/sec", "/"])
def test_on_daphne_a_client_that_chooses_the_root_opens_nothing_that_only_guards(
    daphne: Server, root: str
) -> None:
    chosen = [("Daphne-Root-Path", root)]
    assert daphne.ask("GET", "/", headers=chosen).json["root"] == root
    for app in ("django, only", "starlette, only", "litestar, only", "quart, only"):
        seen = daphne.ask("GET", "/secret", headers=[("x-app", app), *chosen])
        assert seen.status == 401


@cases("root", ["/admin", "/admin/", "admin", "/adm", "//admin", "%2Fadmin"])
@cases(
    ("app", "path"),
    [
        ("raw", "/admin/public/x"),
        ("raw", "/admin/health"),
        ("raw, mounted", "/admin/inner/public/x"),
        ("raw, mounted", "/inner/admin/public/x"),
    ],
)
def test_on_daphne_a_client_that_chooses_the_root_makes_no_path_an_excluded_one(
    daphne: Server, app: str, path: str, root: str
) -> None:
    headers = [("x-app", app), ("Daphne-Root-Path", root)]
    seen = daphne.ask("GET", path, headers=headers)
    assert seen.status in (401, 404)
    with suppress(ConnectionError):
        socket = daphne.talk(path, headers=headers)
        assert not socket.messages
        assert socket.close is not None or socket.status >= 400


def test_on_daphne_what_is_excluded_is_so_whatever_the_root(daphne: Server) -> None:
    for root in ([], [("Daphne-Root-Path", "/admin")], [("Daphne-Root-Path", "")]):
        headers = [("x-app", "raw"), *root]
        told = {"took": "/public/x", "user": False}
        assert daphne.ask("GET", "/public/x", headers=headers).json == told
        assert daphne.talk("/public/x", headers=headers).report == told
    mounted = daphne.ask("GET", "/inner/public/x", headers=[("x-app", "raw, mounted")])
    assert mounted.json == {"took": "/inner/public/x", "user": False}


def test_on_daphne_a_ticket_opens_no_path_below_a_root_that_its_client_chose(
    daphne: Server,
) -> None:
    def opens(path: str, root: str | None) -> bool:
        login = [("x-app", "starlette, around"), ("authorization", f"Bearer {token()}")]
        given = daphne.ask("POST", "/ticket", headers=login, body=b'{"path": "/secret"}')
        headers = [("x-app", "raw")] + ([("Daphne-Root-Path", root)] if root else [])
        return bool(daphne.talk(path, headers=headers, token=given.json["ticket"]).messages)

    assert opens("/secret", None)
    assert not opens("/admin/secret", "/admin")
    assert not opens("/admin/secret", "/admin/")
