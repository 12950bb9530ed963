"""docs/guides/fastapi.md: its app, on a real server, and its other blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from frames import Wire, run
from handshakes import SECRET, authenticator, bearer, mint
from http_calls import call, request
from pages import blocks
from servers import Server, serving

from asgi_wsauth import HTTPAuthMiddleware, Principal
from asgi_wsauth.testing import make_jwt

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
APP, DEPENDENCY, ENDPOINTS = blocks("docs/guides/fastapi.md")


def test_type_checkers_see_the_same_app() -> None:
    assert (ROOT / "tests/typing/fastapi_recipe.py").read_text().endswith(f'"""\n\n{APP}')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("recipe")
    # One more route, of which nobody checks the login.
    public = '\n\n@app.get("/docs/public")\nasync def public(user: User) -> None: ...\n'
    (directory / "app.py").write_text(APP.replace('["/docs", ', '["/docs", "/docs/*", ') + public)
    path = os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])
    env = {"PYTHONPATH": path, "SECRET": SECRET}
    with serving("uvicorn-websockets", "app:app", env=env) as server:
        yield server


def test_the_document_shows_the_login(server: Server) -> None:
    described = server.get("/openapi.json")
    assert described["components"]["securitySchemes"] == {
        "HTTPBearer": {"type": "http", "scheme": "bearer"}
    }
    me = described["paths"]["/me"]["get"]
    assert me["security"] == [{"HTTPBearer": []}]
    assert "parameters" not in me  # the dependencies ask clients for nothing
    assert server.ask("GET", "/docs").status == 200


def test_requests_and_sockets_have_the_same_user(server: Server) -> None:
    token = make_jwt(SECRET, "alice", exp=4_000_000_000)
    seen = server.ask("GET", "/me", token=token)
    assert seen.json == {"name": "alice", "until": 4_000_000_030.0}
    assert server.ask("GET", "/me").json == {"error": "token_missing"}

    async def talk() -> object:
        client = await Wire.open(server, "/chat", token=token)
        client.send("bye")
        return await client.message(), await client.close_frame()

    assert run(talk()) == ("alice: bye", (4004, "token_revoked"))
    assert server.talk("/chat").close == (1008, "token_missing")


def test_a_public_route_that_asks_for_the_user_fails_and_says_why(server: Server) -> None:
    assert server.ask("GET", "/docs/public").status == 500
    server.get("/openapi.json")  # by when the server has logged that
    assert "ConfigurationError: no login was checked for this connection" in server.log()


def defined_by(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(block, names)
    return names


@pytest.mark.anyio
@pytest.mark.slow
async def test_the_dependency_that_needs_no_thread_has_the_user() -> None:
    from fastapi import Depends, FastAPI  # by its one test

    app, user_of = FastAPI(), Depends(defined_by(DEPENDENCY)["user_of"])

    @app.get("/me")
    async def me(user: Principal = user_of) -> str:
        return user.identity

    guarded = HTTPAuthMiddleware(app, authenticator())
    assert (await call(guarded, request(path="/me", headers=bearer(mint())))).json == "alice"


@pytest.mark.anyio
@pytest.mark.slow
async def test_endpoints_are_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    app = defined_by(ENDPOINTS)["app"]
    headers = bearer(make_jwt(SECRET, "alice"))
    ticket = await call(app, request("POST", path="/ticket", headers=headers))
    sessions = await call(app, request(path="/sessions/", headers=headers))
    assert (ticket.status, ticket.json["ticket"][:4]) == (201, "wst_")
    assert (sessions.status, sessions.json) == (
        200,
        {"user": "alice", "issuer": None, "sessions": []},
    )
    assert (await call(app, request("POST", path="/ticket"))).json == {"error": "token_missing"}
    assert (await call(app, request(path="/sessions/"))).json == {"error": "token_missing"}
