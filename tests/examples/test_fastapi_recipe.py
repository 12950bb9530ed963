"""docs/guides/fastapi.md: its app, on a real server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from frames import Wire, run
from handshakes import SECRET
from servers import Server, serving

from asgi_wsauth.testing import make_jwt

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "docs/guides/fastapi.md").read_text()
APP = re.findall(r"^```python\n(.*?)^```$", RECIPE, re.DOTALL | re.MULTILINE)[0]


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


@pytest.mark.live
def test_the_document_shows_the_login(server: Server) -> None:
    described = server.get("/openapi.json")
    assert described["components"]["securitySchemes"] == {
        "HTTPBearer": {"type": "http", "scheme": "bearer"}
    }
    me = described["paths"]["/me"]["get"]
    assert me["security"] == [{"HTTPBearer": []}]
    assert "parameters" not in me  # the dependencies ask clients for nothing
    assert server.ask("GET", "/docs").status == 200


@pytest.mark.live
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


@pytest.mark.live
def test_a_public_route_that_asks_for_the_user_fails_and_says_why(server: Server) -> None:
    assert server.ask("GET", "/docs/public").status == 500
    server.get("/openapi.json")  # by when the server has logged that
    assert "ConfigurationError: no login was checked for this connection" in server.log()
