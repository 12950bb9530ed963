"""How an app gets at its login, with types; in FastAPI: tests/examples/test_fastapi_recipe.py."""

from __future__ import annotations

from typing import Any

import pytest
from cases import cases
from handshakes import App, authenticator, bearer, drive, mint, websocket
from starlette.requests import HTTPConnection, Request
from starlette.websockets import WebSocket

from asgi_wsauth import (
    ConfigurationError,
    HTTPAuthMiddleware,
    Principal,
    WebSocketAuthMiddleware,
    current_principal,
    current_session,
)
from asgi_wsauth.testing import as_principal

pytestmark = pytest.mark.anyio

GUARDS = {"http": HTTPAuthMiddleware, "websocket": WebSocketAuthMiddleware}
EITHER = cases("protocol", GUARDS)


def scope_of(protocol: str, **more: Any) -> dict[str, Any]:
    return websocket(**{"type": protocol, "method": "GET", "headers": bearer(mint()), **more})


async def seen(protocol: str, auth: Any = None, **options: Any) -> HTTPConnection:
    """The connection as an app behind the middleware has it."""
    app = App()
    await drive(GUARDS[protocol](app, auth or authenticator(), **options), scope_of(protocol))
    return HTTPConnection(app.scope)


@EITHER
async def test_an_app_gets_its_session_and_its_principal(protocol: str) -> None:
    conn = await seen(protocol)
    session = current_session(conn)
    assert session is conn.scope["wsauth"]
    assert current_principal(conn) is session.principal is conn.user
    assert current_principal(conn).identity == "alice"


async def test_any_kind_of_connection_will_do() -> None:
    conn = await seen("http")
    assert current_principal(Request(conn.scope)).identity == "alice"
    conn = await seen("websocket")
    channel: Any = None
    assert current_principal(WebSocket(conn.scope, channel, channel)).identity == "alice"


@EITHER
async def test_it_is_the_principal_also_where_the_app_has_users_of_its_own(protocol: str) -> None:
    async def load_user(principal: Principal, conn: HTTPConnection) -> str:
        return "a row of a table"

    conn = await seen(protocol, authenticator(load_user=load_user))
    assert conn.scope["user"] == "a row of a table"
    assert current_principal(conn).identity == "alice"


@EITHER
async def test_while_login_is_off_everybody_is_the_anonymous_one(protocol: str) -> None:
    conn = await seen(protocol, authenticator(required=False))
    assert (current_principal(conn).identity, current_session(conn).method) == ("local", "none")


async def test_after_a_refresh_it_is_the_new_principal() -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        conn = HTTPConnection(scope)
        await receive()
        await send({"type": "websocket.accept"})
        await current_session(conn).refresh(mint(name="the second"))
        told.extend([current_principal(conn).claims.get("name"), conn.user.claims.get("name")])

    await drive(WebSocketAuthMiddleware(app, authenticator()), scope_of("websocket"))
    assert told == ["the second", None]


@EITHER
async def test_in_a_test_it_is_the_principal_that_the_test_wants(protocol: str) -> None:
    auth = authenticator()
    with as_principal(auth, Principal("bob")):
        assert current_principal(await seen(protocol, auth)).identity == "bob"


@cases("function", [current_session, current_principal])
@cases("options", [{"exclude": ["/ws"]}, {"only": ["/admin/*"]}])
@EITHER
async def test_where_nobody_checks_the_login_that_is_an_error(
    function: Any, protocol: str, options: Any
) -> None:
    unguarded = [HTTPConnection(scope_of(protocol)), await seen(protocol, **options)]
    for conn in unguarded:
        with pytest.raises(ConfigurationError) as caught:
            function(conn)
        assert str(caught.value) == (
            f"no login was checked for this connection: put {GUARDS[protocol].__name__}(app, "
            "authenticator) around the app; if it is there, take the path out of exclude, or add "
            "it to only"
        )


async def test_what_somebody_else_puts_there_is_no_login() -> None:
    with pytest.raises(ConfigurationError, match="no login was checked"):
        current_principal(HTTPConnection(scope_of("http", wsauth={"principal": "mallory"})))
