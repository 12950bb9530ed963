"""WebSocketAuthMiddleware: what the server gets to see, what the app gets, and what the log tells.

What a client sees of it all is in test_wire.py: only real servers show that.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import (
    CONNECT,
    NOW,
    SECRET,
    App,
    Outcome,
    authenticator,
    connected,
    drive,
    jwt_verifier,
    mint,
    nobody,
    websocket,
)
from middleware_cases import exclusions, scope_requirements
from starlette.authentication import AuthCredentials, has_required_scope
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    Abandoned,
    Admitted,
    Closed,
    ConfigurationError,
    ConnectionLimit,
    Cookie,
    Credential,
    Denied,
    Event,
    Header,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Refused,
    Session,
    Subprotocol,
    WebSocketAuthMiddleware,
    log_event,
)

pytestmark = [pytest.mark.anyio, pytest.mark.hurried]

DISCONNECT = {"type": "websocket.disconnect", "code": 1006}
ALL_SOURCES = [
    QueryParam("token"),
    Header("authorization", scheme="Bearer"),
    Header("x-api-key"),
    Cookie("session"),
    Subprotocol(),
    Subprotocol(prefix="base64url.bearer."),
]
ORIGIN = ("origin", "https://chat.example")


def guard(
    app: Any, *verifiers: Any, auth: dict[str, Any] | None = None, **options: Any
) -> WebSocketAuthMiddleware:
    return WebSocketAuthMiddleware(app, authenticator(*verifiers, **(auth or {})), **options)


def denies(reason: Reason, **more: Any) -> Callable[..., Any]:
    async def verifier(credential: Credential, conn: HTTPConnection) -> Principal | None:
        raise Denied(reason, **more)

    return verifier


# What passes untouched


@cases("scope", [{"type": "http"}, {"type": "lifespan"}, {"type": "other"}])
async def test_other_scope_types_pass_untouched(scope: dict[str, Any]) -> None:
    app = App()
    receive, send = object(), object()
    await guard(app)(scope, receive, send)
    assert app.calls == [(scope, receive, send)]
    assert app.scope is scope
    assert list(scope) == ["type"]


@exclusions
async def test_excluded_paths_pass_untouched(path: str, passes: bool) -> None:
    app = App()
    scope = websocket("token=theirs", path=path)
    before = dict(scope)
    await drive(guard(app, exclude=["/public/*", "/health"]), scope)
    assert bool(app.calls) is passes
    assert (scope == before) is passes


# What the app gets


async def test_the_app_gets_a_copy_with_the_user() -> None:
    app = App()
    scope = websocket(f"room=1&token={mint(scope='chat:read')}", headers=[("x-other", "1")])
    outcome = await drive(guard(app), scope)
    assert outcome.sent == [{"type": "websocket.accept"}]
    assert app.scope is not scope
    assert not {"user", "auth", "wsauth"} & set(scope)
    assert app.scope["user"].identity == "alice"
    assert app.scope["query_string"] == b"room=1"
    assert (b"x-other", b"1") in app.scope["headers"]
    assert app.scope["state"] is scope["state"]


async def test_starlette_reads_the_user_and_the_scopes() -> None:
    app = App()
    await drive(guard(app), websocket(f"token={mint(scope='chat:read')}"))
    conn = HTTPConnection(app.scope)
    assert conn.user.is_authenticated
    assert isinstance(conn.auth, AuthCredentials)
    assert has_required_scope(conn, ["authenticated", "chat:read"])
    assert not has_required_scope(conn, ["chat:write"])


async def test_the_session() -> None:
    app = App()
    token = mint()
    await drive(guard(app), websocket(f"token={token}", client=("192.0.2.7", 5)))
    session = app.scope["wsauth"]
    assert isinstance(session, Session)
    assert session.principal is app.scope["user"]
    assert session.authenticated_at == NOW
    assert session.client == "192.0.2.7"
    assert session.method == "jwt"
    assert session.fingerprint == Credential(token).fingerprint
    assert session.expires_at == NOW + 330


async def test_the_session_while_authentication_is_off() -> None:
    app = App()
    await drive(guard(app, nobody, auth={"required": False}), websocket(client=None))
    session = app.scope["wsauth"]
    assert app.scope["user"].identity == "local"
    assert (session.client, session.method, session.fingerprint) == (None, "none", None)


async def test_load_user_fills_the_user() -> None:
    async def load_user(principal: Principal, conn: HTTPConnection) -> Any:
        return {"id": principal.identity}

    app = App()
    await drive(guard(app, auth={"load_user": load_user}), websocket(f"token={mint()}"))
    assert app.scope["user"] == {"id": "alice"}
    assert app.scope["wsauth"].principal.identity == "alice"


@cases("admitted", [True, False])
@cases(
    ("query", "headers", "subprotocols"),
    [
        ("a=1&token={}&b=2", [], []),
        ("", [("authorization", "Bearer {}")], []),
        ("", [("x-api-key", "{}")], []),
        ("", [("cookie", "a=1; session={}; b=2"), ORIGIN], []),
        ("", [], ["chat", "bearer", "{}"]),
        ("token={}", [("authorization", "Bearer {}"), ("cookie", "session={}")], ["bearer", "{}"]),
        ("token={}&token={}", [("cookie", "session={}; session={}")], []),
    ],
)
async def test_the_scope_has_no_credential_anywhere(
    query: str, headers: list[tuple[str, str]], subprotocols: list[str], admitted: bool
) -> None:
    token = mint() if admitted else mint(SECRET[::-1])
    scope = websocket(
        query.replace("{}", token),
        headers=[(name, value.replace("{}", token)) for name, value in headers],
        subprotocols=[word.replace("{}", token) for word in subprotocols],
    )
    lists = scope["headers"], scope["subprotocols"]
    app = App()
    seen: list[Event] = []
    outcome = await drive(
        guard(
            app,
            auth={
                "sources": ALL_SOURCES,
                "allowed_origins": ["https://chat.example"],
                "observers": [seen.append],
            },
        ),
        scope,
    )
    # The server's own lists too: what has read the scope before may hold on to them.
    for told in (scope, lists, outcome.sent, seen, *(call[0] for call in app.calls)):
        assert token not in repr(told)


async def test_it_is_redacted_before_anything_is_sent() -> None:
    """uvicorn logs from its own scope when the handshake is answered."""
    scope = websocket("token=rubbish")
    queries = []

    async def send(message: Any) -> None:
        queries.append(scope["query_string"])

    await guard(App())(scope, connected(), send)
    assert queries == [b"", b""]


@cases("rejection", ["accept_then_close", "http_response", "close"])
@cases(
    "more", [{"client": 5}, {"client": {}}, {"subprotocols": 5}, {"extensions": 5}, {"headers": 5}]
)
async def test_a_scope_that_no_server_should_build_is_refused(rejection: Any, more: Any) -> None:
    app = App()
    outcome = await drive(guard(app, rejection=rejection), {**websocket("token=x"), **more})
    assert not app.calls
    assert outcome.sent


async def test_the_least_scope_that_a_server_may_give() -> None:
    app = App()
    assert (await drive(guard(app), {"type": "websocket"})).close == (1008, "token_missing")
    await drive(guard(app, nobody, auth={"required": False}), {"type": "websocket"})
    assert app.scope["user"].identity == "local"
    # What is missing is filled in with what that means, for whoever reads it behind.
    assert (app.scope["query_string"], app.scope["headers"]) == (b"", [])


@cases("nested", [False, True])
async def test_an_unguarded_app_gets_the_servers_own_objects(nested: bool) -> None:
    app = App()

    async def receive() -> Any:
        return CONNECT

    async def send(message: Any) -> None: ...

    # One that never expires; what guards a socket is in test_session.py.
    async def forever(credential: Credential, conn: HTTPConnection) -> Principal | None:
        return Principal("alice")

    auth = authenticator(forever)
    guarded = WebSocketAuthMiddleware(app, auth)
    if nested:
        guarded = WebSocketAuthMiddleware(guarded, auth)
    await guarded(websocket("token=x"), receive, send)
    assert app.calls[0][1:] == (receive, send)


async def waits(credential: Credential, conn: HTTPConnection) -> Principal | None:
    """A verifier that lets others run before it answers."""
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    return Principal("alice") if credential.value == "good" else None


class Client:
    """A client that connects, and then sends whatever it is told to."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.send, self._receive = anyio.create_memory_object_stream[dict[str, Any]](9)
        for message in (CONNECT, *messages):
            self.send.send_nowait(message)
        self.waiting = 0

    async def receive(self) -> dict[str, Any]:
        self.waiting += 1
        try:
            return await self._receive.receive()
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self.send.close()
        self._receive.close()


async def test_after_a_chain_that_waited_the_connect_is_replayed() -> None:
    client = Client()
    got = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert client.waiting == 0  # nobody else waits for the app's messages
        got.append(await receive())
        client.send.send_nowait({"type": "websocket.receive", "text": "hi"})
        got.append(await receive())

    await drive(guard(app, waits), websocket("token=good"), receive=client.receive)
    assert got == [CONNECT, {"type": "websocket.receive", "text": "hi"}]
    client.close()


async def test_what_a_client_sends_too_early_is_replayed_too() -> None:
    early = {"type": "websocket.receive", "text": "too early"}
    client = Client(early)
    got = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.extend([await receive(), await receive()])

    await drive(guard(app, waits), websocket("token=good"), receive=client.receive)
    assert got == [CONNECT, early]
    client.close()


async def test_a_receive_that_returns_no_coroutine() -> None:
    """As Granian's."""
    client = Client()

    class Awaitable:
        def __await__(self) -> Any:
            return client.receive().__await__()

    app = App()
    await drive(guard(app, waits), websocket("token=good"), receive=Awaitable)
    assert app.scope["user"].identity == "alice"
    client.close()


# Subprotocols


@cases(
    ("offered", "chosen", "answered"),
    [
        (["bearer", "good"], None, "bearer"),
        (["bearer", "good"], "", "bearer"),
        (["chat", "bearer", "good"], None, "bearer"),
        (["chat", "bearer", "good"], "chat", "chat"),
        (["base64url.bearer.Z29vZA", "chat", "voice"], None, "chat"),
        (["base64url.bearer.Z29vZA", "chat", "voice"], "voice", "voice"),
    ],
)
async def test_the_accept_gets_the_marker_where_the_app_chose_nothing(
    offered: list[str], chosen: str | None, answered: str
) -> None:
    app = App({"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"a", b"b")]})
    guarded = guard(app, waits, auth={"sources": ALL_SOURCES, "allowed_origins": []})
    client = Client()
    outcome = await drive(guarded, websocket(subprotocols=offered), receive=client.receive)
    assert [message["subprotocol"] for message in outcome.sent] == [answered]
    assert outcome.sent[0]["headers"] == [(b"a", b"b")]
    client.close()


async def test_an_offer_without_a_credential_is_the_apps_own_affair() -> None:
    app = App()
    guarded = guard(app, auth={"sources": [QueryParam("token"), Subprotocol()]})
    outcome = await drive(guarded, websocket(f"token={mint()}", subprotocols=["chat"]))
    assert outcome.sent == [{"type": "websocket.accept"}]
    assert app.scope["subprotocols"] == ["chat"]


@cases(
    ("offered", "answered"),
    [
        ([], None),
        (["chat", "voice"], "chat"),
        (["bearer", "rubbish"], "bearer"),
        (["chat", "bearer", "rubbish"], "bearer"),
        (["base64url.bearer.Z29vZA", "chat"], "chat"),
        (["base64url.bearer.Z29vZA"], None),
    ],
)
async def test_a_refusal_echoes_what_was_offered_but_no_credential(
    offered: list[str], answered: str | None
) -> None:
    guarded = guard(App(), nobody, auth={"sources": ALL_SOURCES, "allowed_origins": []})
    outcome = await drive(guarded, websocket(subprotocols=offered))
    assert outcome.sent[0] == {
        "type": "websocket.accept",
        "subprotocol": answered,
        "headers": [],
    }


# Refusing


@cases("reason", Reason, ids=lambda reason: reason.name)
async def test_by_default_accept_then_close(reason: Reason) -> None:
    app = App()
    outcome = await drive(guard(app, denies(reason)), websocket("token=x"))
    assert outcome.accepted
    assert len(outcome.sent) == 2
    assert outcome.close == (reason.close_code, reason.phrase)
    assert outcome.received == 1  # the connect is taken first
    assert not app.calls


@cases("reason", Reason, ids=lambda reason: reason.name)
async def test_as_an_http_response(reason: Reason) -> None:
    guarded = guard(App(), denies(reason, retry_after=1.2), rejection="http_response")
    outcome = await drive(guarded, websocket("token=x"))
    start, body = outcome.sent
    assert start["type"] == "websocket.http.response.start"
    assert start["status"] == reason.http_status
    assert (b"retry-after", b"2") in start["headers"]
    assert body["type"] == "websocket.http.response.body"
    assert json.loads(body["body"]) == {"error": reason.phrase}


@cases("extensions", [{}, None, {"websocket.other": {}}, ...])
async def test_http_response_falls_back_to_close(extensions: Any) -> None:
    scope = websocket(extensions=extensions)
    if extensions is ...:
        del scope["extensions"]
    outcome = await drive(guard(App(), rejection="http_response"), scope)
    assert outcome.sent == [{"type": "websocket.close", "code": 1008, "reason": "token_missing"}]


async def test_close_before_accept() -> None:
    outcome = await drive(guard(App(), rejection="close"), websocket("token=x"))
    assert outcome.sent == [{"type": "websocket.close", "code": 1008, "reason": "token_invalid"}]


@cases("reason", Reason, ids=lambda reason: reason.name)
async def test_codes_of_ones_own(reason: Reason) -> None:
    guarded = guard(App(), denies(reason), close_codes=DAPHNE_CLOSE_CODES)
    expected = DAPHNE_CLOSE_CODES.get(reason, reason.close_code), reason.phrase
    assert (await drive(guarded, websocket("token=x"))).close == expected


async def test_a_client_that_left_before_its_refusal_gets_none() -> None:
    for rejection in ("accept_then_close", "http_response", "close"):
        outcome = await drive(guard(App(), rejection=rejection), websocket(), [DISCONNECT])
        assert outcome.sent == [{"type": "websocket.close"}]  # so that the server is done with it


@cases(("reason", "sent"), [(Reason.INVALID, [1008, 3000]), (Reason.EXPIRED, [4001])])
async def test_a_code_that_the_server_can_not_send_has_a_substitute(
    reason: Reason, sent: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """As on Daphne, which would otherwise keep the refused client's socket open."""
    tried = []

    async def send(message: Any) -> None:
        if message["type"] == "websocket.close":
            tried.append(message["code"])
            if not 3000 <= message["code"] <= 4999:
                raise Exception("invalid close code")

    await guard(App(), denies(reason))(websocket("token=x"), connected(), send)
    assert tried == sent
    assert ("see close_codes" in caplog.text) is (len(sent) > 1)


@cases("error", [OSError("gone"), RuntimeError("no")])
async def test_a_close_that_fails_is_not_tried_for_ever(error: Exception) -> None:
    tried = []

    async def send(message: Any) -> None:
        tried.append(message["type"])
        if message["type"] == "websocket.close":
            raise error

    async def receive() -> Any:
        return CONNECT

    await guard(App())(websocket("token=x"), receive, send)
    assert tried.count("websocket.close") == (1 if isinstance(error, OSError) else 2)


@cases("error", [OSError("gone"), RuntimeError("already closed")])
@cases("rejection", ["accept_then_close", "http_response", "close"])
async def test_a_refusal_that_can_not_be_told_raises_nothing(error: Any, rejection: Any) -> None:
    async def send(message: Any) -> None:
        raise error

    async def receive() -> Any:
        return CONNECT

    await guard(App(), rejection=rejection)(websocket(), receive, send)

    async def fail() -> Any:
        raise error

    await guard(App(), rejection=rejection)(websocket(), fail, send)


@scope_requirements
async def test_required_scopes(required: Iterable[str], held: str, admitted: bool) -> None:
    app = App()
    guarded = guard(app, required_scopes=required, rejection="http_response")
    outcome = await drive(guarded, websocket(f"token={mint(scope=held)}"))
    assert outcome.accepted is admitted
    assert bool(app.calls) is admitted
    if not admitted:
        challenge = dict(outcome.sent[0]["headers"])[b"www-authenticate"].decode()
        assert (
            challenge == f'Bearer error="insufficient_scope", scope="{" ".join(sorted(required))}"'
        )


# The client leaves


async def test_the_work_is_cancelled_and_the_app_never_called() -> None:
    client, asked, cancelled = Client(), anyio.Event(), anyio.Event()

    async def verifier(credential: Credential, conn: HTTPConnection) -> Principal | None:
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        return None

    app, seen = App(), []
    guarded = guard(app, verifier, auth={"observers": [seen.append], "timeout": 60})
    outcome = Outcome()

    async def run() -> None:
        outcome.sent = (await drive(guarded, websocket("token=x"), receive=client.receive)).sent

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await asked.wait()
        client.send.send_nowait(DISCONNECT)
    assert cancelled.is_set()
    assert not app.calls
    assert [type(event) for event in seen] == [Abandoned]
    assert outcome.sent == [{"type": "websocket.close"}]  # or uvicorn logs an unanswered handshake
    client.close()


async def test_it_left_before_the_connect() -> None:
    async def receive() -> Any:
        return DISCONNECT

    app, seen = App(), []
    guarded = guard(app, waits, auth={"observers": [seen.append]})
    await drive(guarded, websocket("token=good"), receive=receive)
    assert not app.calls
    assert [type(event) for event in seen] == [Abandoned]


async def test_a_receive_that_raises_is_a_client_that_left() -> None:
    async def receive() -> Any:
        raise RuntimeError("no such connection")

    app = App()
    outcome = await drive(guard(app, waits), websocket("token=good"), receive=receive)
    assert not app.calls
    assert outcome.sent == [{"type": "websocket.close"}]


@cases("attempt", range(20))  # trio runs tasks in random order
async def test_a_cancelled_handshake_leaves_no_watch_behind(attempt: int) -> None:
    client, asked = Client(), anyio.Event()

    async def verifier(credential: Credential, conn: HTTPConnection) -> Principal | None:
        asked.set()
        await anyio.sleep_forever()
        return None

    async with anyio.create_task_group() as group:
        group.start_soon(
            lambda: drive(guard(App(), verifier), websocket("token=x"), receive=client.receive)
        )
        await asked.wait()
        while not client.waiting:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    try:
        assert client.waiting == 0
    finally:
        client.close()


async def test_a_hanging_verifier_is_unavailable() -> None:
    async def hang(credential: Credential, conn: HTTPConnection) -> Principal | None:
        await anyio.sleep_forever()
        return None

    client, app = Client(), App()
    guarded = guard(app, hang, auth={"timeout": 0.01})
    outcome = await drive(guarded, websocket("token=x"), receive=client.receive)
    assert outcome.close == (1013, "verifier_unavailable")
    assert not app.calls
    client.close()


# One instance inside another


async def test_inside_the_same_authenticator_the_decision_is_reused() -> None:
    asked: list[str] = []

    async def once(credential: Credential, conn: HTTPConnection) -> Principal | None:
        asked.append(credential.value)
        return Principal("alice", scopes=["chat"])

    seen: list[Event] = []
    auth, app = authenticator(once, observers=[seen.append]), App()
    inner = WebSocketAuthMiddleware(app, auth, required_scopes=["chat"])
    outcome = await drive(WebSocketAuthMiddleware(inner, auth), websocket("token=x"))
    assert outcome.accepted
    assert asked == ["x"]
    assert app.scope["user"].identity == "alice"
    assert [type(event) for event in seen] == [Admitted, Closed]


async def test_inside_the_same_authenticator_its_own_scopes_and_codes_count() -> None:
    seen: list[Event] = []
    auth, app = authenticator(observers=[seen.append]), App()
    inner = WebSocketAuthMiddleware(
        app, auth, required_scopes=["admin"], close_codes={Reason.FORBIDDEN: 4403}
    )
    token = mint()
    outcome = await drive(WebSocketAuthMiddleware(inner, auth), websocket(f"token={token}"))
    assert outcome.close == (4403, "forbidden")
    assert not app.calls
    assert [type(event) for event in seen] == [Admitted, Refused, Closed]
    assert {event.identity for event in seen} == {"alice"}
    assert {event.fingerprint for event in seen} == {Credential(token).fingerprint}


async def test_inside_another_authenticator_the_same_credential_is_verified_again() -> None:
    app = App()
    outer = authenticator(jwt_verifier(), waits)
    inner = authenticator(jwt_verifier(audience="admin"))
    guarded = WebSocketAuthMiddleware(WebSocketAuthMiddleware(app, inner), outer)
    assert (await drive(guarded, websocket(f"token={mint()}"))).close == (1008, "token_invalid")
    assert not app.calls
    outer_only = WebSocketAuthMiddleware(
        WebSocketAuthMiddleware(app, authenticator(jwt_verifier(scopes_claim="scp"))), outer
    )
    await drive(outer_only, websocket(f"token={mint(scope='a', scp='b')}"))
    assert app.scope["user"].scopes == ("b",)


async def test_inside_another_authenticator_its_own_sources_come_first() -> None:
    async def admin_key(credential: Credential, conn: HTTPConnection) -> Principal | None:
        return Principal("root") if credential.value == "admin-key" else None

    inner = authenticator(admin_key, sources=[Header("x-admin-key")])
    for headers, identity in (([("x-admin-key", "admin-key")], "root"), ([], None)):
        app = App()
        guarded = WebSocketAuthMiddleware(WebSocketAuthMiddleware(app, inner), authenticator())
        outcome = await drive(guarded, websocket(f"token={mint()}", headers=headers))
        assert outcome.accepted
        assert [call[0]["user"].identity for call in app.calls] == ([identity] if identity else [])


async def test_behind_authentication_that_is_off_the_credential_is_still_there() -> None:
    app = App()
    off = authenticator(nobody, required=False)
    guarded = WebSocketAuthMiddleware(WebSocketAuthMiddleware(app, authenticator()), off)
    await drive(guarded, websocket(f"token={mint()}"))
    assert app.scope["user"].identity == "alice"


async def test_a_wsauth_key_of_somebody_elses_is_no_session() -> None:
    outcome = await drive(guard(App()), websocket(wsauth=object()))
    assert outcome.close == (1008, "token_missing")


# Events, and what the log tells


async def test_an_admitted_socket_has_two_events() -> None:
    seen: list[Event] = []
    token = mint()
    scope = websocket(f"token={token}", headers=[ORIGIN], client=("192.0.2.7", 5))
    await drive(guard(App(), auth={"observers": [seen.append]}), scope)
    assert [type(event) for event in seen] == [Admitted, Closed]
    for event in seen:
        assert event.client == "192.0.2.7"
        assert event.path == "/ws"
        assert event.origin == "https://chat.example"
        assert (event.identity, event.method) == ("alice", "jwt")
        assert event.fingerprint == Credential(token).fingerprint
        assert event.duration >= 0
    assert seen[0].duration <= seen[1].duration


async def test_a_refusal_has_one_event() -> None:
    seen: list[Event] = []
    guarded = guard(App(), auth={"observers": [seen.append]}, close_codes={Reason.EXPIRED: 4401})
    token = mint(exp=1)
    await drive(guarded, websocket(f"token={token}"))
    (event,) = seen
    assert isinstance(event, Refused)
    assert (event.reason, event.close_code) == (Reason.EXPIRED, 4401)
    assert event.fingerprint == Credential(token).fingerprint
    assert (event.identity, event.traceback) == (None, None)


async def test_while_authentication_is_off_everybody_has_a_name() -> None:
    seen: list[Event] = []
    await drive(
        guard(App(), nobody, auth={"required": False, "observers": [seen.append]}), websocket()
    )
    assert [(event.identity, event.method) for event in seen] == [("local", "none")] * 2


async def test_a_short_credential_is_cut_out_once(caplog: pytest.LogCaptureFixture) -> None:
    async def chatty(credential: Credential, conn: HTTPConnection) -> Principal | None:
        raise Denied(Reason.INVALID, "see")

    await drive(guard(App(), chatty), websocket("token=e"))
    assert vars(caplog.records[0])["detail"] == "s[redacted][redacted]"


async def test_a_refused_principal_is_named() -> None:
    async def no_user(principal: Principal, conn: HTTPConnection) -> None:
        return None

    seen: list[Event] = []
    guarded = guard(App(), auth={"observers": [seen.append], "load_user": no_user})
    await drive(guarded, websocket(f"token={mint()}"))
    assert [(e.reason, e.identity) for e in seen if isinstance(e, Refused)] == [
        (Reason.REVOKED, "alice")
    ]


async def test_an_app_that_raises_is_the_servers_affair() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("app")

    seen: list[Event] = []
    with pytest.raises(LookupError, match="app"):
        await drive(guard(app, auth={"observers": [seen.append]}), websocket(f"token={mint()}"))
    assert [type(event) for event in seen] == [Admitted, Closed]


async def test_an_observer_that_raises_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("observer")

    seen: list[Event] = []
    app = App()
    await drive(guard(app, auth={"observers": [broken, seen.append]}), websocket(f"token={mint()}"))
    assert app.calls
    assert len(seen) == 2
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


@cases("token", ["se cret", "s3cr3t-value", "s3c/r+t=", 's"ecret\\'])
async def test_no_credential_in_the_log_or_a_traceback(
    token: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Even where a verifier puts it into what it raises."""
    from urllib.parse import quote, quote_plus

    async def broken(credential: Credential, conn: HTTPConnection) -> Principal | None:
        raise ValueError(f"{credential.value} {credential.value!r} {quote(credential.value)}")

    async def chatty(credential: Credential, conn: HTTPConnection) -> Principal | None:
        raise Denied(Reason.INVALID, f"I don't know {credential.value}")

    caplog.set_level(logging.DEBUG)
    for verifier in (broken, chatty):
        await drive(guard(App(), verifier), websocket(f"token={quote_plus(token)}"))
    formatted = [logging.Formatter().format(record) for record in caplog.records]
    assert len(formatted) == 2
    for form in (token, quote(token), quote_plus(token), repr(token)[1:-1]):
        assert form not in "".join(formatted)
        assert form not in "".join(repr(vars(record)) for record in caplog.records)
    assert all(record.exc_info is None for record in caplog.records)
    if " " not in token:
        assert "Traceback (most recent call last)" in formatted[0]
        assert "raise ValueError" in formatted[0]
        assert caplog.records[0].levelname == "ERROR"


async def test_an_error_tracker_that_reads_local_variables_finds_none() -> None:
    """The app's own exception passes through these frames, and trackers send along their locals."""
    import traceback

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("app")

    token = mint()
    guarded = guard(app)
    try:
        await drive(guarded, websocket(f"token={token}"))
    except LookupError as exc:
        frames = [
            frame
            for frame, _ in traceback.walk_tb(exc.__traceback__)
            if "asgi_wsauth" in frame.f_code.co_filename
        ]
        assert frames
        for frame in frames:
            for value in frame.f_locals.values():
                assert token not in repr(value)
                assert token not in repr(getattr(value, "__dict__", None))


async def test_nothing_of_an_error_is_sent() -> None:
    async def broken(credential: Credential, conn: HTTPConnection) -> Principal | None:
        raise ValueError("the database password is hunter2")

    for rejection in ("accept_then_close", "http_response", "close"):
        outcome = await drive(guard(App(), broken, rejection=rejection), websocket("token=x"))
        assert "hunter2" not in repr(outcome.sent)
        assert "internal_error" in repr(outcome.sent)


async def test_a_source_that_can_not_redact_refuses() -> None:
    class Half(QueryParam):
        def redact(self, scope: Any, /) -> None:
            raise KeyError("scope")

    app, seen = App(), []
    auth = {"sources": [Half("token"), Header("x-api-key")], "observers": [seen.append]}
    scope = websocket(f"token={mint()}", headers=[("x-api-key", "also")])
    outcome = await drive(guard(app, auth=auth), scope)
    assert outcome.close == (1011, "internal_error")
    assert not app.calls
    assert b"also" not in [value for _, value in scope["headers"]]  # the others had their turn
    assert seen[0].detail == "query parameter token: KeyError"
    assert "KeyError" in str(seen[0].traceback)


@cases("breaks", ["extract", "redact", "repr", "cause"])
async def test_what_a_source_raises_is_told_without_its_words(
    breaks: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They may quote what the source has made no credential of yet."""
    secret = "not-a-number-yet"

    class Broken:
        def _break(self, scope: Any, where: str) -> None:
            if breaks == where:
                raise ValueError(f"invalid literal: {dict(scope['headers'])[b'x-ours']!r}")

        def extract(self, conn: HTTPConnection, /) -> str | None:
            self._break(conn.scope, "extract")
            try:
                self._break(conn.scope, "cause")
            except ValueError as exc:
                raise LookupError(secret) from exc
            return mint()

        def redact(self, scope: Any, /) -> None:
            self._break(scope, "redact")

        def __repr__(self) -> str:
            if breaks == "repr":
                raise ValueError(secret)
            return "a source"

    seen: list[Any] = []
    auth = {"sources": [Broken()], "observers": [seen.append, log_event]}
    scope = websocket(headers=[("x-ours", secret)])
    outcome = await drive(guard(App(), auth=auth), scope)
    assert outcome.close == (1011, "internal_error")
    (event,) = seen
    kind = "LookupError" if breaks == "cause" else "ValueError"
    assert (event.error_type, event.traceback.splitlines()[-1]) == (kind, kind)
    assert event.error_at is not None
    assert "test_middleware.py" in event.error_at
    assert event.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert kind in caplog.text
    (record,) = caplog.records
    logged = f"{vars(record)} {logging.Formatter().format(record)} {seen}"
    assert secret not in logged


async def test_a_refusal_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await drive(guard(App()), websocket("token=x"))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("asgi_wsauth", "WARNING")


# Configuration

REJECTIONS = 'rejection must be one of "accept_then_close", "http_response", "close", "auto"'
NO_MESSAGE_TYPE = 'refresh_message must be a name, for example "auth.refresh", got .*'


@cases(
    ("options", "named"),
    [
        ({"rejection": "reject"}, REJECTIONS + ", got 'reject'"),
        ({"rejection": None}, REJECTIONS + ", got None"),
        ({"close_codes": {Reason.EXPIRED: 1005}}, "close_codes must .*"),
        ({"close_codes": {"token_expired": 4001}}, "close_codes must .*"),
        ({"exclude": "/public/*"}, "exclude.*"),
        ({"exclude": ["public"]}, "exclude.*"),
        ({"required_scopes": "admin"}, "required_scopes must be a list.*"),
        ({"required_scopes": 5}, "required_scopes must be a list.*"),
        ({"required_scopes": ["a b"]}, "required_scopes must be a list.*"),
        ({"required_scopes": ['a"b']}, "required_scopes must be a list.*"),
        ({"required_scopes": [""]}, "required_scopes must be a list.*"),
        ({"enforce_expiry": None}, "enforce_expiry must be True or False, got None"),
        ({"enforce_expiry": 1}, "enforce_expiry must be True or False, got 1"),
        ({"grace": -1}, "grace must be .*, got -1"),
        ({"grace": float("inf")}, "grace must be .*, got inf"),
        ({"grace": float("nan")}, "grace must be .*, got nan"),
        ({"grace": None}, "grace must be .*, got None"),
        ({"grace": "10 s"}, "grace must be .*, got '10 s'"),
        ({"connection_limit": 3}, "connection_limit must be a ConnectionLimit, got 3; .*"),
        ({"connection_limit": MemoryStore()}, "connection_limit must be a ConnectionLimit, .*"),
        ({"refresh_message": ""}, NO_MESSAGE_TYPE),
        ({"refresh_message": True}, NO_MESSAGE_TYPE[:-2] + "True"),
        ({"refresh_message": 'auth"refresh'}, NO_MESSAGE_TYPE),
        ({"refresh_message": "auth refresh"}, NO_MESSAGE_TYPE),
        ({"refresh_message": "auth.refresh\n"}, NO_MESSAGE_TYPE),
        ({"refresh_message": "aktualisieré"}, NO_MESSAGE_TYPE),
        ({"authenticator": "auth"}, "authenticator must be an Authenticator, .*"),
        ({"authenticator": None}, "authenticator must be an Authenticator, .*"),
    ],
)
def test_bad_configuration_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{named}$"):
        WebSocketAuthMiddleware(App(), **{"authenticator": authenticator(), **options})


@cases(
    "options",
    [
        {"grace": 0},
        {"grace": 1.5},
        {"refresh_message": "auth.refresh"},
        {"refresh_message": "https://chat.example/refresh-1_a:b"},
        {"connection_limit": ConnectionLimit(1, MemoryStore())},
        {"enforce_expiry": False},
    ],
)
def test_good_configuration_is_not(options: dict[str, Any]) -> None:
    WebSocketAuthMiddleware(App(), authenticator(), **options)


def test_an_app_has_ten_seconds_to_end() -> None:
    assert WebSocketAuthMiddleware(App(), authenticator())._terms.grace == 10


@cases(
    ("scope", "reason"),
    [
        (websocket(headers=[], subprotocols=[]) | {"headers": None}, Reason.MISSING),
        (websocket() | {"subprotocols": None, "extensions": None}, Reason.MISSING),
        (websocket() | {"query_string": "a string"}, Reason.ERROR),
        (websocket() | {"query_string": None, "raw_path": None}, Reason.MISSING),
    ],
)
async def test_a_scope_that_no_server_should_build_raises_nothing(
    scope: dict[str, Any], reason: Reason
) -> None:
    app = App()
    outcome = await drive(guard(app), scope)
    assert outcome.close == (reason.close_code, reason.phrase)
    assert not app.calls


async def test_a_clock_that_fails_admits_nobody() -> None:
    async def alice(credential: Credential, conn: HTTPConnection) -> Principal | None:
        return Principal("alice")

    app = App()
    outcome = await drive(guard(app, alice, auth={"clock": lambda: 1 / 0}), websocket("token=x"))
    assert outcome.close == (1011, "internal_error")
    assert not app.calls
