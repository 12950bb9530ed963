"""What passes a guard because it is of the other protocol: HTTP past a guard for sockets loses what
its server would log, and keeps what its app, or a guard for HTTP inside, needs; and whoever guards
one protocol only is told so once.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
from cases import cases
from handshakes import App, Knows, authenticator, bearer, drive, mint, nobody, websocket
from http_calls import Api, call, request
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    ConfigurationError,
    Cookie,
    Header,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    QueryParam,
    Subprotocol,
    TicketEndpoint,
    Tickets,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.connection.passthrough import Guards

pytestmark = [pytest.mark.anyio, pytest.mark.hurried]

KEY = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
OFFER = ("sec-websocket-protocol", "chat, bearer, opaque")
SOURCES = [
    QueryParam("token"),
    Header("authorization", scheme="Bearer"),
    Cookie("session"),
    Subprotocol(),
]
PAGE = "https://chat.example"


class PathSegment:
    """A source of a user's own."""

    def extract(self, conn: HTTPConnection) -> str | None:
        return conn.scope["path"].partition("/t/")[2] or None

    def redact(self, scope: Any) -> None:
        if "/t/" in scope["path"]:
            scope["path"], scope["raw_path"] = "/t", b"/t"


def everywhere(*verifiers: Any, **options: Any) -> Any:
    return authenticator(
        *(verifiers or [Knows(opaque=Principal("alice"))]),
        **{"sources": [*SOURCES, PathSegment()], "allowed_origins": [PAGE], **options},
    )


WAYS: dict[str, dict[str, Any]] = {
    "query": {"query": "a=1&token=opaque"},
    "header": {"headers": bearer("opaque")},
    "cookie": {"headers": [("cookie", "a=1; session=opaque"), ("origin", PAGE)]},
    "subprotocol": {"headers": [OFFER]},
    "path": {"path": "/t/opaque"},
    "twice": {"query": "token=opaque&token=opaque"},
}


def asks(way: str, *headers: tuple[str, str]) -> dict[str, Any]:
    given = WAYS[way]
    return request(**{**given, "headers": [*given.get("headers", ()), *headers]})


@cases("headers", [[KEY], [("sec-websocket-version", "13")]])
@cases("way", WAYS)
async def test_a_handshake_that_arrives_as_http_loses_its_credential(
    way: str, headers: Any
) -> None:
    app, scope = Api(), asks(way, *headers)
    the_servers_list = scope["headers"]
    await call(WebSocketAuthMiddleware(app, everywhere()), scope)
    for told in (scope, the_servers_list, app.scope):
        assert "opaque" not in repr(told)
    assert scope["headers"] is the_servers_list
    assert app.scope is scope


@cases("way", ["query", "path", "twice", "subprotocol"])
async def test_of_another_request_the_log_loses_what_the_app_still_finds(way: str) -> None:
    """`/reset?token=...` is its own."""
    app, scope = Api(), asks(way)
    sent = {key: scope[key] for key in ("query_string", "path")}
    headers = list(scope["headers"])
    await call(WebSocketAuthMiddleware(app, everywhere()), scope)
    assert "opaque" not in repr(scope)
    if way != "subprotocol":  # which only a handshake has
        assert {key: app.scope[key] for key in sent} == sent
        assert app.scope["headers"] == headers


@cases("way", ["header", "cookie"])
async def test_what_no_server_logs_stays_where_it_is(way: str) -> None:
    app, scope = Api(), asks(way)
    before = {**scope, "headers": list(scope["headers"])}
    await call(WebSocketAuthMiddleware(app, everywhere()), scope)
    assert app.scope is scope
    assert scope == before


async def test_a_request_without_anything_passes_as_it_is() -> None:
    app, scope = Api(), request(query="a=1")
    before = {**scope, "headers": list(scope["headers"])}
    await call(WebSocketAuthMiddleware(app, everywhere()), scope)
    assert app.scope is scope
    assert scope == before


@cases("options", [{"exclude": ["/api"]}, {"only": ["/ws"]}])
@cases("headers", [[], [KEY]])
async def test_on_a_path_that_is_not_guarded_nothing_is_redacted(
    options: Any, headers: Any
) -> None:
    app, scope = Api(), request(query="token=opaque", headers=headers)
    await call(WebSocketAuthMiddleware(app, everywhere(), **options), scope)
    assert app.scope["query_string"] == scope["query_string"] == b"token=opaque"


async def test_it_is_redacted_before_anything_is_sent() -> None:
    """uvicorn logs from its own scope when the request is answered."""
    for headers in ([], [KEY]):
        scope = request(query="token=opaque", headers=headers)
        queries: list[bytes] = []

        async def send(message: Any, scope: Any = scope, queries: Any = queries) -> None:
            queries.append(scope["query_string"])

        async def receive() -> Any: ...

        await WebSocketAuthMiddleware(Api(), everywhere())(scope, receive, send)
        assert queries == [b"", b""]


# A guard for HTTP inside

ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "sockets first": lambda app, auth: WebSocketAuthMiddleware(HTTPAuthMiddleware(app, auth), auth),
    "twice": lambda app, auth: WebSocketAuthMiddleware(
        WebSocketAuthMiddleware(HTTPAuthMiddleware(app, auth), auth), auth
    ),
    "http first": lambda app, auth: HTTPAuthMiddleware(WebSocketAuthMiddleware(app, auth), auth),
    "another one between": lambda app, auth: WebSocketAuthMiddleware(
        WebSocketAuthMiddleware(
            HTTPAuthMiddleware(app, auth), authenticator(nobody, sources=[QueryParam("key")])
        ),
        auth,
    ),
}


@cases("headers", [[], [KEY]], ids=["request", "handshake"])
@cases("order", ORDERS)
@cases("way", [way for way in WAYS if way != "twice"])
async def test_a_guard_for_http_inside_finds_the_credential(
    way: str, order: str, headers: Any
) -> None:
    app, scope = Api(), asks(way, *headers)
    answer = await call(ORDERS[order](app, everywhere()), scope)
    assert (answer.status, answer.json) == (200, "alice")
    scopes = [scope, app.scope] if way in ("query", "path") or headers else [app.scope]
    for told in scopes:
        assert "opaque" not in repr(told)


@cases("headers", [[], [KEY]], ids=["request", "handshake"])
@cases("order", ORDERS)
async def test_what_is_no_single_credential_is_refused_in_any_order(
    order: str, headers: Any
) -> None:
    for query, given in (
        ("token=opaque&token=opaque", []),
        ("token=opaque", bearer("other")),
    ):
        scope = request(query=query, headers=[*given, *headers])
        answer = await call(ORDERS[order](Api(), everywhere()), scope)
        assert (answer.status, answer.json) == (400, {"error": "token_malformed"})


async def test_another_authenticator_inside_verifies_what_was_set_aside() -> None:
    verifier = Knows(opaque=Principal("bob"))
    inner = HTTPAuthMiddleware(Api(), authenticator(verifier, sources=[QueryParam("key")]))
    outer = WebSocketAuthMiddleware(inner, everywhere())
    answer = await call(outer, request(query="token=opaque", headers=[KEY]))
    assert (answer.json, verifier.asked) == ("bob", ["opaque"])
    answer = await call(outer, request(query="token=opaque&key=other", headers=[KEY]))
    assert (answer.status, verifier.asked) == (401, ["opaque", "other"])


EVIL = ("origin", "https://evil.example")
COOKIE = ("cookie", "session=opaque")


def another(**options: Any) -> Any:
    return authenticator(Knows(opaque=Principal("bob")), sources=[Header("x-key")], **options)


@cases("origin", [[EVIL], [("origin", PAGE)], []])
async def test_a_cookie_is_not_for_who_judges_no_origin(origin: Any) -> None:
    app, scope = Api(), request(headers=[COOKIE, *origin, KEY])
    guarded = WebSocketAuthMiddleware(HTTPAuthMiddleware(app, another()), everywhere())
    answer = await call(guarded, scope)
    assert (answer.status, answer.json) == (401, {"error": "token_missing"})


async def test_who_judges_it_may_have_a_cookie() -> None:
    inner = HTTPAuthMiddleware(Api(), another(allowed_origins=[PAGE]))
    guarded = WebSocketAuthMiddleware(inner, everywhere())
    for origin, status in ((EVIL, 403), (("origin", PAGE), 200)):
        answer = await call(guarded, request(headers=[COOKIE, origin, KEY]))
        assert answer.status == status


async def test_a_credential_beside_a_cookie_is_handed_on() -> None:
    guarded = WebSocketAuthMiddleware(HTTPAuthMiddleware(Api(), another()), everywhere())
    headers = [("cookie", "session=unknown"), ("origin", PAGE), KEY]
    answer = await call(guarded, request(query="token=opaque", headers=headers))
    assert (answer.status, answer.json) == (200, "bob")


@cases("origin", [[EVIL], [("origin", PAGE)], []])
async def test_nor_while_login_is_off_further_out(origin: Any) -> None:
    app = App()
    guarded = WebSocketAuthMiddleware(
        WebSocketAuthMiddleware(app, another()), everywhere(required=False)
    )
    outcome = await drive(guarded, websocket(headers=[COOKIE, *origin]))
    assert outcome.close == (1008, "token_missing")
    assert not app.calls
    outcome = await drive(guarded, websocket("token=opaque", headers=[COOKIE, *origin]))
    assert app.scope["user"].identity == "bob"


async def test_a_cookie_whose_origin_was_judged_is_handed_on() -> None:
    app = App()
    guarded = WebSocketAuthMiddleware(WebSocketAuthMiddleware(app, another()), everywhere())
    outcome = await drive(guarded, websocket(headers=[COOKIE, EVIL]))
    assert outcome.close == (1008, "origin_not_allowed")
    assert not app.calls
    await drive(guarded, websocket(headers=[COOKIE, ("origin", PAGE)]))
    assert app.scope["user"].identity == "bob"


async def test_two_guards_set_aside_what_each_of_them_found() -> None:
    first, second = (
        everywhere(),
        authenticator(Knows(k=Principal("bob")), sources=[QueryParam("k")]),
    )
    for auth, expected in ((first, "alice"), (second, "bob")):
        app: Any = HTTPAuthMiddleware(Api(), auth)
        for outer in (second, first):
            app = WebSocketAuthMiddleware(app, outer)
        answer = await call(app, request(query="token=opaque&k=k", headers=[KEY]))
        assert answer.json == expected


async def test_a_ticket_is_asked_for_past_a_guard_for_sockets() -> None:
    auth = authenticator()
    desk = WebSocketAuthMiddleware(TicketEndpoint(Tickets(MemoryStore()), auth), auth)
    for headers in ([], [KEY]):
        scope = request("POST", f"token={mint()}", headers=headers)
        assert (await call(desk, scope)).status == 201
        assert scope["query_string"] == b""


async def test_nobody_forges_what_was_set_aside() -> None:
    app = HTTPAuthMiddleware(Api(), everywhere())
    scope = request() | {"asgi_wsauth.aside": "opaque"}
    assert (await call(app, scope)).json == {"error": "token_missing"}


# Nothing raises


class Raises(QueryParam):
    def redact(self, scope: Any) -> None:
        raise KeyError("opaque")


@cases(
    ("source", "more"),
    [
        (Raises(), {}),
        (QueryParam(), {"headers": 5}),
        (QueryParam(), {"headers": [5]}),
        (QueryParam(), {"headers": [("a", "b")]}),
        (QueryParam(), {"query_string": "token=opaque"}),
    ],
)
async def test_a_request_that_can_not_be_redacted_passes_and_the_log_says_so(
    source: Any, more: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = App()
    auth = authenticator(sources=[source])
    guard = WebSocketAuthMiddleware(app, auth, allow_unguarded_http=True)
    scope = request(query="token=opaque") | more
    await guard(scope, None, None)
    assert app.scope is scope
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "could not be redacted" in record.getMessage()
    assert "opaque" not in caplog.text


async def test_headers_that_can_be_read_only_once_are_kept() -> None:
    app, scope = Api(), request(query="token=opaque", headers=[("x-other", "1")])
    scope["headers"] = iter(scope["headers"])
    await call(WebSocketAuthMiddleware(app, everywhere()), scope)
    assert (b"x-other", b"1") in app.scope["headers"]
    assert (b"x-other", b"1") in scope["headers"]


# The warning


class TestWarning:
    def test_one_in_a_life(self, caplog: pytest.LogCaptureFixture) -> None:
        guards = Guards()
        guard = App()
        guards.add("websocket", guard)
        guards.warn("websocket", "allow_it")
        assert not caplog.records
        for _ in range(2):
            guards.warn("http", "allow_it")
        guards.add("http", guard)
        guards.warn("http", "allow_it")
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage() == (
            "HTTP requests pass unguarded: put HTTPAuthMiddleware around the app too, or set "
            "allow_it=True if that is intended"
        )

    @pytest.mark.usefixtures("little_to_collect")
    def test_a_guard_counts_as_long_as_it_lives(self, caplog: pytest.LogCaptureFixture) -> None:
        guards, guard = Guards(), App()
        guards.add("websocket", guard)
        guards.warn("websocket", "allow_it")
        assert not caplog.records
        del guard
        gc.collect()
        guards.warn("websocket", "allow_it")
        assert "WebSockets pass unguarded: put WebSocketAuthMiddleware" in caplog.text


Socket, Request = WebSocketAuthMiddleware, HTTPAuthMiddleware


async def nothing(scope: Any, receive: Any, send: Any) -> None: ...


@cases(
    ("guarded", "kinds", "option"),
    [
        (lambda auth: Socket(nothing, auth), "http http http", "allow_unguarded_http"),
        (lambda auth: Request(nothing, auth), "websocket websocket", "allow_unguarded_websockets"),
        (lambda auth: Socket(nothing, auth, allow_unguarded_http=True), "http", None),
        (lambda auth: Request(nothing, auth, allow_unguarded_websockets=True), "websocket", None),
        (lambda auth: Socket(nothing, auth), "lifespan other", None),
        (lambda auth: Request(nothing, auth), "lifespan other", None),
        (lambda auth: Socket(nothing, auth, exclude=["/*"]), "http", None),
        (lambda auth: Socket(nothing, auth, only=["/ws"]), "http", None),
        (lambda auth: Request(nothing, auth, exclude=["/*"]), "websocket", None),
        (lambda auth: Request(Socket(nothing, auth), auth), "lifespan", None),
        (lambda auth: Socket(Request(nothing, auth), auth), "http", None),
        (lambda auth: Request(Socket(nothing, auth), auth), "websocket", None),
    ],
)
async def test_a_process_that_leaves_a_protocol_open_is_told_so_once(
    guarded: Callable[[Any], Any],
    kinds: str,
    option: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    guards = Guards()  # of a process that has just begun
    monkeypatch.setattr("asgi_wsauth.http.GUARDS", guards)
    monkeypatch.setattr("asgi_wsauth.middleware.GUARDS", guards)
    app = guarded(everywhere(required=False))
    for kind in kinds.split():
        for path in ("/", "/open"):
            await drive(app, websocket(type=kind, method="GET", path=path))
    warnings = [record for record in caplog.records if "unguarded" in record.getMessage()]
    assert len(warnings) == (option is not None)
    if option is not None:
        assert (warnings[0].name, warnings[0].levelno) == ("asgi_wsauth", logging.WARNING)
        assert f"{option}=True" in warnings[0].getMessage()


@cases("given", [None, 1, "yes"])
def test_the_option_is_checked(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^allow_unguarded_http must be True or False"):
        WebSocketAuthMiddleware(App(), everywhere(), allow_unguarded_http=given)
    with pytest.raises(ConfigurationError, match=r"^allow_unguarded_websockets must be True or F"):
        HTTPAuthMiddleware(App(), everywhere(), allow_unguarded_websockets=given)


async def test_a_socket_passes_a_guard_for_http_untouched() -> None:
    app, scope = App(), websocket("token=opaque")
    await drive(HTTPAuthMiddleware(app, everywhere()), scope)
    assert app.scope is scope
    assert scope["query_string"] == b"token=opaque"
