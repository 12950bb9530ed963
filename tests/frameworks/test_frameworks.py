"""The package in Starlette, FastAPI, Litestar and Quart.

First their examples, run as their first lines say; then small apps (framework_apps.py) that have
the middleware in the right places and in wrong ones, for what the README says about that. All of it
on real servers, and seen by a real client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest
from handshakes import A_JWT, SECRET
from run_example import Running, running
from servers import DEADLINE, Client, Seen, Server, accepts, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from asgi_wsauth.testing import make_jwt

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ("starlette", "fastapi", "litestar", "quart")
BAD = {"token_missing": None, "token_invalid": "rubbish-4f1d2e0b9c"}
bad = pytest.mark.parametrize("phrase", BAD)

# The examples.


@pytest.fixture(scope="module", params=FRAMEWORKS)
def example(request: pytest.FixtureRequest) -> Iterator[Running]:
    path = f"examples/{request.param}_app.py"
    (command,) = re.findall(r"^    python (.*)$", (ROOT / path).read_text(), re.MULTILINE)
    assert command == path
    until = "Running on" if request.param == "quart" else "Uvicorn running"
    with running(str(ROOT / command), until=until, SECRET=SECRET) as example:
        assert accepts(example)  # Quart says so before it does
        yield example
    printed, log = re.split("(?<=curl).*", example.written, maxsplit=1)
    assert "token=" in printed
    assert not re.search(rf"token=|{A_JWT}|rubbish", log), log


def chat(example: Client, path: str, token: str | None) -> Any:
    """What a message is answered with, or the close."""
    query = "" if token is None else f"?token={token}"
    with connect(f"ws://127.0.0.1:{example.port}{path}{query}", proxy=None) as websocket:
        try:
            websocket.send("hello")
            return websocket.recv(DEADLINE)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code, closed.rcvd.reason


def test_an_example_prints_what_works(example: Running) -> None:
    path, token = re.findall(r"^ws://127.0.0.1:\d+(/\w+)\?token=(.*)$", example.written, re.M)[0]
    assert chat(example, path, token) == "alice: hello"
    url, header = re.findall(r"^curl -i http://[^/]+(\S+) -H '(.*)'$", example.written, re.M)[0]
    answer = example.ask("GET", url, headers=[tuple(header.split(": "))])
    assert (answer.status, answer.json["name"]) == (200, "alice")


@bad
def test_an_example_tells_whom_it_refuses_why(example: Running, phrase: str) -> None:
    token = BAD[phrase]
    assert chat(example, "/chat", token) == (1008, phrase)
    headers = [] if token is None else [("Authorization", f"Bearer {token}")]
    answer = example.ask("GET", "/me", headers=headers)
    assert (answer.status, answer.json) == (401, {"error": phrase})


@pytest.mark.parametrize("example", ["starlette"], indirect=True)
def test_starlettes_has_a_route_that_takes_a_scope(example: Running) -> None:
    printed = re.findall(r"^ws://[^/]+(/admin)\?token=(.*)$", example.written, re.M)
    assert [chat(example, *one) for one in printed] == ["alice: hello", (1008, "forbidden")]


@pytest.mark.parametrize("example", ["fastapi"], indirect=True)
def test_fastapis_documentation_is_public_and_knows_of_the_login(example: Running) -> None:
    assert example.ask("GET", "/docs").status == 200
    described = example.get("/openapi.json")
    (scheme,) = described["components"]["securitySchemes"].values()
    assert scheme == {"type": "http", "scheme": "bearer"}
    assert described["paths"]["/me"]["get"]["security"] == [{"HTTPBearer": []}]


# The right places, and the wrong ones.


@pytest.fixture(scope="module")
def running_server() -> Iterator[Server]:
    with serving("uvicorn-websockets", "framework_apps:app") as server:
        yield server


@pytest.fixture
def server(running_server: Server) -> Iterator[Server]:
    with running_server.must_stay_quiet():
        yield running_server


_numbers = count(1)


def good() -> str:
    """A token of alice's, and of no other test."""
    return make_jwt(SECRET, "alice", jti=f"{next(_numbers)}")


def got(seen: Seen) -> Any:
    """Whom the app took the client for; or the close, or the status."""
    return seen.close or (seen.report["user"] if seen.status == 101 else seen.status)


def opened(server: Server, app: str, token: str | None = None, path: str = "/") -> Any:
    return got(server.talk(path, app=app, token=token))


def each(*rows: Any) -> Any:
    return pytest.mark.parametrize("app", rows)


in_each = each(*(f"{framework}.plain" for framework in FRAMEWORKS))


@in_each
def test_the_app_has_the_user_and_nobody_has_the_token(server: Server, app: str) -> None:
    token = good()
    for carried in ({"token": token}, {"headers": [("Authorization", f"Bearer {token}")]}):
        seen = server.talk("/", app=app, **carried)
        assert seen.report["user"] == "alice"
        assert seen.report["query"] == {"app": app}
        assert token not in str(seen.messages)
    assert token not in server.log()


@in_each
@bad
def test_who_is_refused_is_told_why(server: Server, app: str, phrase: str) -> None:
    assert opened(server, app, BAD[phrase]) == (1008, phrase)
    assert "rubbish" not in server.log()


@in_each
def test_a_socket_ends_with_its_login_and_no_framework_minds(server: Server, app: str) -> None:
    seen = server.talk("/", app=app, token="short-bob", say=repeat("hello", 100_000))
    assert seen.report["user"] == "bob"
    assert seen.close == (4001, "token_expired")


def test_startup_hooks_run_behind_it(server: Server) -> None:
    seen = server.talk("/", app="quart.plain", token=good())
    assert seen.report["started"] == ["Starlette", "FastAPI", "Litestar", "Quart"]


# A framework's own authentication.


@each("starlette.theirs outside", "fastapi.theirs outside", "litestar.theirs outside")
def test_outside_ours_the_frameworks_own_authentication_leaves_our_user(
    server: Server, app: str
) -> None:
    assert opened(server, app, good()) == "alice"
    assert opened(server, app) == (1008, "token_missing")


@pytest.mark.parametrize(
    ("app", "user"),
    [
        ("starlette.theirs inside", ""),  # an UnauthenticatedUser
        ("fastapi.theirs inside", ""),
        ("litestar.theirs inside", "theirs"),
    ],
)
def test_inside_ours_it_replaces_our_user(server: Server, app: str, user: str) -> None:
    assert opened(server, app, good()) == user
    assert opened(server, app) == (1008, "token_missing")


@pytest.mark.parametrize(
    ("app", "alice", "nobody"),
    [
        ("litestar.JWTAuth", 403, 403),
        ("litestar.JWTAuth for HTTP", "alice", (1008, "token_missing")),
    ],
)
def test_litestars_jwt_auth_refuses_sockets_first_unless_it_is_for_http_alone(
    server: Server, app: str, alice: Any, nobody: Any
) -> None:
    assert (opened(server, app, good()), opened(server, app)) == (alice, nobody)
    assert server.ask("GET", "/", app=app).status == 401


@each("starlette.http middleware", "fastapi.http middleware")
def test_a_middleware_for_http_never_sees_a_socket(server: Server, app: str) -> None:
    assert server.ask("GET", "/", app=app).status == 401
    assert opened(server, app) is None  # it is in


# Checks of the app's own.


@each(
    "starlette.check before accept",
    "fastapi.check before accept",
    "fastapi.HTTP error before accept",
    "litestar.check before accept",
    "quart.check before accept",
)
def test_a_check_before_the_accept_tells_no_close_code(server: Server, app: str) -> None:
    expected = (403, 500) if "HTTP" in app else (403,)  # older Starlettes fail over that
    assert opened(server, app, good()) in expected


@each("fastapi.check accepts first", "litestar.check accepts first", "quart.check accepts first")
def test_a_check_that_accepts_first_tells_its_own(server: Server, app: str) -> None:
    assert opened(server, app, good()) == (1008, "not_admin")


@each("starlette.required scopes", "litestar.required scopes", "quart.required scopes")
def test_required_scopes_tell_theirs(server: Server, app: str) -> None:
    assert opened(server, app, good()) == (1008, "forbidden")
    assert opened(server, app, make_jwt(SECRET, "root", scopes=["admin"])) == "root"


# Where there is no user.


@pytest.mark.parametrize(
    ("app", "status"),
    [("starlette", 500), ("fastapi", 500), ("litestar", 403), ("quart", 500)],
)
def test_on_an_excluded_path_asking_for_the_user_fails_and_looking_for_one_does_not(
    server: Server, app: str, status: int
) -> None:
    assert opened(server, f"{app}.excluded", good()) is None
    assert opened(server, f"{app}.excluded", good(), path="/user") == status
    if status == 500:
        server.wait_for_trouble()


# What is guarded, and what is redacted.


@each("starlette.route", "litestar.route")
def test_around_one_route_it_guards_that_route(server: Server, app: str) -> None:
    guarded = "/guarded" if app == "starlette.route" else "/"
    token = good()
    assert opened(server, app, token, path=guarded) == "alice"
    assert opened(server, app, path=guarded) == (1008, "token_missing")
    assert token not in server.log()
    assert opened(server, app, token, path="/open") is None
    assert opened(server, app, path="/nowhere") == 403
    assert token in server.log()  # it was nobody's business on /open


@pytest.mark.parametrize(
    ("app", "nobody", "logged"),
    [
        ("starlette.plain", (1008, "token_missing"), False),
        ("fastapi.plain", (1008, "token_missing"), False),
        ("litestar.plain", 403, True),
        ("litestar.around", (1008, "token_missing"), False),
        ("quart.plain", (1008, "token_missing"), False),
    ],
)
def test_in_litestars_list_it_never_sees_an_unknown_path(
    server: Server, app: str, nobody: Any, logged: bool
) -> None:
    token = good()
    assert opened(server, app, token, path="/nowhere") == (404 if "quart" in app else 403)
    assert opened(server, app, path="/nowhere") == nobody
    assert (token in server.log()) is logged


@pytest.mark.parametrize(
    ("app", "let_in"),
    [
        ("starlette.mount", True),  # exclude=["/open"]
        ("starlette.mount, whole path", False),  # exclude=["/in/open"]
        ("litestar.excludes open", True),  # exclude=["/open/*"]
        ("litestar.excludes open, around", False),
    ],
)
def test_exclude_means_the_path_by_which_the_app_behind_routes(
    server: Server, app: str, let_in: bool
) -> None:
    nobody = opened(server, app, path="/in/open")
    assert nobody == (None if let_in else (1008, "token_missing"))


def test_litestars_exclude_from_auth_is_not_ours(server: Server) -> None:
    assert opened(server, "litestar.exclude_from_auth", path="/open") == (1008, "token_missing")


@pytest.mark.parametrize(
    ("app", "cached"), [("litestar.theirs outside", True), ("litestar.theirs inside", False)]
)
def test_litestar_remembers_a_query_that_was_read_before_ours(
    server: Server, app: str, cached: bool
) -> None:
    token = good()
    seen = server.talk("/", app=app, token=token)
    assert (seen.report["query"].get("token") == token) is cached
    assert token not in server.log()
    header = [("Authorization", f"Bearer {token}")]
    seen = server.talk("/", app=app, headers=header)
    assert ("authorization" in seen.report["headers"]) is cached


@pytest.mark.parametrize(
    ("app", "cached"), [("litestar.cors", True), ("litestar.cors, around", False)]
)
def test_litestars_cors_config_reads_the_header_before_ours(
    server: Server, app: str, cached: bool
) -> None:
    headers = [("Authorization", f"Bearer {good()}")]
    answer = server.ask("GET", "/", headers=headers, app=app)
    assert answer.json["user"] == "alice"
    assert ("authorization" in answer.json["headers"]) is cached


@pytest.mark.parametrize(
    ("app", "expected"), [("fastapi.bearer", (401, 403)), ("fastapi.bearer, for the docs", (200,))]
)
def test_fastapis_bearer_finds_no_header_behind_ours(
    server: Server, app: str, expected: tuple[int, ...]
) -> None:
    headers = [("Authorization", f"Bearer {good()}")]
    assert server.ask("GET", "/", headers=headers, app=app).status in expected
    assert server.ask("GET", "/", app=app).status == 401


@pytest.mark.parametrize(
    ("app", "readable"), [("fastapi.cors outside", True), ("fastapi.cors inside", False)]
)
def test_a_page_of_another_origin_reads_a_refusal_if_cors_is_outside(
    server: Server, app: str, readable: bool
) -> None:
    answer = server.ask("GET", "/", headers=[("Origin", "https://a.example")], app=app)
    assert (answer.status, answer.json) == (401, {"error": "token_missing"})
    assert ("access-control-allow-origin" in answer.headers) is readable
