"""HTTPAuthMiddleware, the same decision in front of HTTP, and TicketEndpoint, which hands out
tickets: what a client is answered, what the app gets, and what the log tells.

What a ticket then opens is in test_tickets.py.
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
    NOW,
    SECRET,
    App,
    Clock,
    Knows,
    authenticator,
    bearer,
    drive,
    jwt_verifier,
    mint,
    nobody,
    websocket,
)
from http_calls import Api, call, request, sends
from middleware_cases import exclusions, scope_requirements
from starlette.authentication import AuthCredentials, has_required_scope
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Mount, Route, Router

from asgi_wsauth import (
    Admitted,
    Authenticator,
    ConfigurationError,
    Cookie,
    Credential,
    Denied,
    Event,
    FailureThrottle,
    Header,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Refused,
    Revocations,
    Session,
    TicketEndpoint,
    TicketIssued,
    Tickets,
    WebSocketAuthMiddleware,
)

pytestmark = [pytest.mark.anyio, pytest.mark.hurried]

PAGE = "https://chat.example"
ORIGIN = ("origin", PAGE)
FOREIGN = ("origin", "https://evil.example")


def guard(
    app: Any, *verifiers: Any, auth: dict[str, Any] | None = None, **options: Any
) -> HTTPAuthMiddleware:
    return HTTPAuthMiddleware(app, authenticator(*verifiers, **(auth or {})), **options)


# HTTPAuthMiddleware: what passes untouched


@cases("scope", [{"type": "websocket"}, {"type": "lifespan"}, {"type": "other"}])
async def test_other_scope_types_pass_untouched(scope: dict[str, Any]) -> None:
    calls: list[Any] = []

    async def app(*given: Any) -> None:
        calls.append(given)

    receive, send = object(), object()
    await guard(app)(scope, receive, send)
    assert calls == [(scope, receive, send)]
    assert calls[0][0] is scope
    assert list(scope) == ["type"]


@exclusions
async def test_excluded_paths_pass_untouched(path: str, passes: bool) -> None:
    app = Api()
    scope = request(query="token=theirs", path=path)
    before = dict(scope)
    answer = await call(guard(app, exclude=["/public/*", "/health"]), scope)
    assert answer.status == (200 if passes else 401)
    assert bool(app.calls) is passes
    assert (scope == before) is passes


# What the app gets


async def test_the_app_gets_a_copy_with_the_user() -> None:
    app = Api()
    scope = request(query=f"page=2&token={mint(scope='chat:read')}", headers=[("x-other", "1")])
    answer = await call(guard(app), scope)
    assert (answer.status, answer.json) == (200, "alice")
    assert app.scope is not scope
    assert not {"user", "auth", "wsauth"} & set(scope)
    assert app.scope["query_string"] == b"page=2"
    assert (b"x-other", b"1") in app.scope["headers"]
    assert app.scope["state"] is scope["state"]


async def test_starlette_reads_the_user_and_the_scopes_as_behind_a_socket() -> None:
    app, auth = Api(), authenticator()
    query = f"token={mint(scope='chat:read')}"
    await call(HTTPAuthMiddleware(app, auth), request(query=query))
    await drive(WebSocketAuthMiddleware(app, auth), websocket(query))
    for scope, _, _ in app.calls:
        conn = HTTPConnection(scope)
        assert conn.user.identity == "alice"
        assert isinstance(conn.auth, AuthCredentials)
        assert has_required_scope(conn, ["authenticated", "chat:read"])
        assert not has_required_scope(conn, ["chat:write"])


async def test_the_session() -> None:
    app, token = Api(), mint()
    scope = request(headers=bearer(token), client=("192.0.2.7", 5))
    await call(guard(app), scope)
    session = app.scope["wsauth"]
    assert isinstance(session, Session)
    assert session.principal is app.scope["user"]
    assert session.authenticated_at == NOW
    assert session.client == "192.0.2.7"
    assert session.method == "jwt"
    assert session.fingerprint == Credential(token).fingerprint
    assert session.expires_at == NOW + 330


async def test_a_revoked_login_is_refused() -> None:
    revocations = Revocations(MemoryStore(), clock=lambda: NOW)
    app = Api()
    guarded = guard(app, auth={"revocations": revocations})
    one = bearer(mint(iat=int(NOW) - 60, jti="one", sid="login"))
    assert (await call(guarded, request(headers=one))).status == 200
    await revocations.revoke_session("login")
    answer = await call(guarded, request(headers=one))
    assert (answer.status, answer.json) == (401, {"error": "token_revoked"})
    assert answer.header("www-authenticate") == 'Bearer error="invalid_token"'
    other = bearer(mint(iat=int(NOW) - 60, jti="two", sid="another login"))
    assert (await call(guarded, request(headers=other))).status == 200
    await revocations.revoke_user("alice")
    assert (await call(guarded, request(headers=other))).status == 401
    assert len(app.calls) == 2


async def test_who_is_locked_out_is_told_when_to_come_back() -> None:
    guarded = guard(Api(), auth={"throttle": FailureThrottle("1/hour")})
    assert (await call(guarded, request(headers=bearer("rubbish")))).status == 401
    answer = await call(guarded, request(headers=bearer(mint())))
    assert (answer.status, answer.json) == (429, {"error": "too_many_failures"})
    assert 3500 < int(answer.header("retry-after") or 0) <= 3600


@cases("broken", ["revocations", "throttle"])
async def test_a_store_that_fails_is_unavailable(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Any:
        raise Denied(Reason.UNAVAILABLE)

    auth = {"revocations": Revocations(MemoryStore()), "throttle": FailureThrottle()}
    monkeypatch.setattr(auth[broken], "check", fail)
    app = Api()
    answer = await call(guard(app, auth=auth), request(headers=bearer(mint())))
    assert (answer.status, answer.json) == (503, {"error": "verifier_unavailable"})
    assert not app.calls


async def test_where_nothing_ends_an_app_gets_the_servers_own_receive_and_send() -> None:
    app = App()

    async def receive() -> Any: ...

    async def send(message: Any) -> None: ...

    await guard(app, enforce_expiry=False)(request(headers=bearer(mint())), receive, send)
    assert app.calls[0][1:] == (receive, send)


async def test_load_user_fills_the_user() -> None:
    async def load_user(principal: Principal, conn: HTTPConnection) -> Any:
        return {"id": principal.identity, "method": conn.scope["method"]}

    app = Api()
    answer = await call(guard(app, auth={"load_user": load_user}), request(query=f"token={mint()}"))
    assert answer.json == {"id": "alice", "method": "GET"}
    assert app.scope["wsauth"].principal.identity == "alice"


ALL_SOURCES = [
    QueryParam("token"),
    Header("authorization", scheme="Bearer"),
    Header("x-api-key"),
    Cookie("session"),
]


@cases("admitted", [True, False])
@cases(
    ("query", "headers"),
    [
        ("a=1&token={}&b=2", []),
        ("", [("authorization", "Bearer {}")]),
        ("", [("x-api-key", "{}")]),
        ("", [("cookie", "a=1; session={}; b=2"), ORIGIN]),
        ("token={}", [("authorization", "Bearer {}"), ("cookie", "session={}")]),
        ("token={}&token={}", [("cookie", "session={}; session={}")]),
    ],
    ids=["query", "authorization", "header", "cookie", "everywhere", "twice"],
)
async def test_the_scope_has_no_credential_anywhere(
    query: str, headers: list[tuple[str, str]], admitted: bool
) -> None:
    token = mint() if admitted else mint(SECRET[::-1])
    scope = request(
        query=query.replace("{}", token),
        headers=[(name, value.replace("{}", token)) for name, value in headers],
    )
    the_servers_list = scope["headers"]
    app, seen = Api(), list[Event]()
    auth = {"sources": ALL_SOURCES, "allowed_origins": [PAGE], "observers": [seen.append]}
    answer = await call(guard(app, auth=auth), scope)
    # The server's list too: what has read the scope before may hold on to it.
    for told in (scope, the_servers_list, answer, seen, *(given[0] for given in app.calls)):
        assert token not in repr(told)


@cases("token", ["good", "bad"])
async def test_it_is_redacted_before_anything_is_sent(token: str) -> None:
    """uvicorn logs from its own scope when the request is answered."""
    scope = request(query=f"token={token}")
    queries: list[bytes] = []

    async def send(message: Any) -> None:
        queries.append(scope["query_string"])

    await guard(Api(), Knows(good=Principal("alice")))(scope, sends(), send)
    assert queries == [b"", b""]


# CORS preflights

PREFLIGHT = [ORIGIN, ("access-control-request-method", "POST")]


class Secret:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the app runs without a user")


UNAWARE: dict[str, Any] = {  # of methods
    "a raw app": Secret(),
    "a route": Router([Route("/api", Secret())]),
    "a mounted app": Router([Mount("/api", Secret())]),
    "a guard inside": guard(Secret(), Knows(), preflight="pass"),
}


@cases("app", UNAWARE.values(), ids=UNAWARE)
@cases(
    "headers",
    [
        PREFLIGHT,
        [*PREFLIGHT, ("access-control-request-headers", "authorization")],
        [FOREIGN, ("access-control-request-method", "GET")],
        [*PREFLIGHT, *PREFLIGHT],
        [("origin", ""), ("access-control-request-method", "")],
        [*PREFLIGHT, *bearer("unknown")],
    ],
)
async def test_a_cors_preflight_is_answered_here_and_reaches_no_app(
    app: Any, headers: list[Any]
) -> None:
    verifier, seen = Knows(), list[Event]()
    options = {"observers": [seen.append], "allowed_origins": [PAGE]}
    guarded = guard(app, verifier, auth=options, required_scopes=["admin"])
    answer = await call(guarded, request("OPTIONS", "token=x", headers=headers))
    assert (answer.status, answer.headers, answer.body) == (204, [], b"")
    assert verifier.asked == []
    assert seen == []


async def test_where_login_is_off_a_preflight_is_answered_all_the_same() -> None:
    guarded = guard(Secret(), auth={"required": False})
    assert (await call(guarded, request("OPTIONS", headers=PREFLIGHT))).status == 204


async def test_on_an_excluded_path_a_preflight_is_the_apps() -> None:
    app = Api()
    scope = request("OPTIONS", "token=theirs", headers=PREFLIGHT)
    assert (await call(guard(app, exclude=["/api"]), scope)).json is None
    assert app.scope is scope


async def test_a_preflight_is_handed_on_where_that_is_asked_for() -> None:
    app, verifier, seen = Api(), Knows(), list[Event]()
    scope = request("OPTIONS", headers=PREFLIGHT)
    options = {"observers": [seen.append]}
    guarded = guard(app, verifier, auth=options, required_scopes=["admin"], preflight="pass")
    assert (await call(guarded, scope)).status == 200
    assert not {"user", "auth", "wsauth"} & set(app.scope)
    assert verifier.asked == []
    assert seen == []


async def test_what_is_handed_on_stops_at_a_guard_inside() -> None:
    auth = authenticator()
    inner = HTTPAuthMiddleware(Secret(), auth)
    guarded = HTTPAuthMiddleware(inner, auth, preflight="pass")
    assert (await call(guarded, request("OPTIONS", headers=PREFLIGHT))).status == 204


@cases("inside", [True, False])
@cases("origin", [PAGE, "https://evil.example"])
async def test_a_cors_middleware_answers_inside_or_outside(inside: bool, origin: str) -> None:
    allowed = {"allow_origins": [PAGE], "allow_headers": ["authorization"]}
    app: Any = Api()
    if inside:
        app = guard(CORSMiddleware(app, **allowed), preflight="pass")
    else:
        app = CORSMiddleware(guard(app), **allowed)
    asking = [
        ("origin", origin),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ]
    answer = await call(app, request("OPTIONS", headers=asking))
    assert answer.status == (200 if origin == PAGE else 400)
    assert answer.header("access-control-allow-origin") == (PAGE if origin == PAGE else None)


@cases("preflight", ["ANSWER", "no", True, None, ["pass"]])
async def test_only_two_things_can_become_of_a_preflight(preflight: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'^preflight must be one of "answer", "pass"'):
        guard(Api(), preflight=preflight)


async def test_a_preflight_is_redacted_too() -> None:
    for preflight in ("answer", "pass"):
        app = Api()
        scope = request("OPTIONS", "a=1&token=secret", headers=[*PREFLIGHT, *bearer("secret")])
        await call(guard(app, preflight=preflight), scope)
        assert scope["query_string"] == b"a=1"
        assert "secret" not in repr(scope)
        assert "secret" not in repr(app.calls)
        assert len(app.calls) == (preflight == "pass")


@cases(
    ("method", "headers"),
    [
        ("OPTIONS", []),
        ("OPTIONS", [ORIGIN]),
        ("OPTIONS", [("access-control-request-method", "POST")]),
        ("OPTIONS", [ORIGIN, ("access-control-request-headers", "authorization")]),
        ("OPTIONS", [ORIGIN, ("x-access-control-request-method", "POST")]),
        *(
            (method, PREFLIGHT)
            for method in ("GET", "HEAD", "POST", "TRACE", "CONNECT", "options", "OPTIONS ", "")
        ),
    ],
)
async def test_what_is_no_preflight_is_judged(method: str, headers: list[Any]) -> None:
    app = Api()
    answer = await call(guard(app), request(method, headers=headers))
    assert (answer.status, answer.json) == (401, {"error": "token_missing"})
    assert not app.calls
    scope = request(method, headers=[*headers, *bearer(mint())])
    assert (await call(guard(app), scope)).json == "alice"


# Refusing

BARE, WITH_ERROR = "Bearer", 'Bearer error="invalid_token"'
REFUSALS = {
    Reason.MISSING: (401, "token_missing", BARE),
    Reason.MALFORMED: (400, "token_malformed", None),
    Reason.INVALID: (401, "token_invalid", WITH_ERROR),
    Reason.EXPIRED: (401, "token_expired", WITH_ERROR),
    Reason.KEYS_UNAVAILABLE: (503, "keys_unavailable", None),
    Reason.REVOKED: (401, "token_revoked", WITH_ERROR),
    Reason.FORBIDDEN: (403, "forbidden", None),
    Reason.ORIGIN: (403, "origin_not_allowed", None),
    Reason.THROTTLED: (429, "too_many_failures", None),
    Reason.TOO_MANY_CONNECTIONS: (429, "too_many_connections", None),
    Reason.UNAVAILABLE: (503, "verifier_unavailable", None),
    Reason.RESTARTING: (503, "server_restarting", None),
    Reason.ERROR: (500, "internal_error", None),
}


@cases("what", ["middleware", "endpoint"])
@cases("reason", Reason, ids=lambda reason: reason.name)
async def test_each_reason_has_its_answer(reason: Reason, what: str) -> None:
    app, auth = Api(), authenticator(Knows(x=Denied(reason, "for the log only")))
    guarded: Any = HTTPAuthMiddleware(app, auth)
    if what == "endpoint":
        guarded = TicketEndpoint(Tickets(MemoryStore()), auth)
    answer = await call(guarded, request("POST", "token=x"))
    status, phrase, challenge = REFUSALS[reason]
    body = json.dumps({"error": phrase}).encode()
    assert answer.status == status
    assert answer.body == body
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-length") == str(len(body))
    assert answer.header("cache-control") == "no-store"
    assert answer.header("www-authenticate") == challenge
    assert answer.header("retry-after") is None
    assert answer.header("allow") is None
    assert answer.received == 0
    assert not app.calls


@cases(
    ("seconds", "header"),
    [(1.2, "2"), (60, "60"), (0, "0"), (-5, "0"), (float("inf"), None), (None, None)],
)
async def test_retry_after(seconds: float | None, header: str | None) -> None:
    throttled = Denied(Reason.THROTTLED, retry_after=seconds)
    answer = await call(guard(Api(), Knows(x=throttled)), request(query="token=x"))
    assert answer.header("retry-after") == header


@cases(
    ("query", "headers", "status", "phrase"),
    [
        ("", [], 401, "token_missing"),
        ("token=good", [], 200, None),
        ("", bearer("good"), 200, None),
        ("token=bad", [], 401, "token_invalid"),
        ("token=good&token=good", [], 400, "token_malformed"),
        ("token=good", bearer("bad"), 400, "token_malformed"),
        ("token=go%256Fd", [], 401, "token_invalid"),
        ("", bearer("x" * 8193), 400, "token_malformed"),
        ("token=good", [FOREIGN], 403, "origin_not_allowed"),
        ("token=good", [ORIGIN, ORIGIN], 403, "origin_not_allowed"),
        ("token=good", [ORIGIN], 200, None),
    ],
)
async def test_the_authenticator_decides(
    query: str, headers: list[tuple[str, str]], status: int, phrase: str | None
) -> None:
    verifier = Knows(good=Principal("alice"))
    guarded = guard(Api(), verifier, auth={"allowed_origins": [PAGE]})
    answer = await call(guarded, request(query=query, headers=headers))
    assert answer.status == status
    assert answer.json == ("alice" if phrase is None else {"error": phrase})
    assert "good" not in verifier.asked or phrase is None


@scope_requirements
async def test_required_scopes(required: Iterable[str], held: str, admitted: bool) -> None:
    app = Api()
    guarded = guard(app, required_scopes=required)
    answer = await call(guarded, request(headers=bearer(mint(scope=held))))
    assert answer.status == (200 if admitted else 403)
    assert bool(app.calls) is admitted
    if not admitted:
        needed = " ".join(sorted(required))
        assert answer.json == {"error": "forbidden"}
        assert answer.header("www-authenticate") == (
            f'Bearer error="insufficient_scope", scope="{needed}"'
        )


# A cookie, which a browser sends by itself

LINK = [
    ("sec-fetch-site", "cross-site"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
]
COOKIE: dict[str, Any] = {"sources": [Cookie("session")], "allowed_origins": [PAGE]}


@cases(
    ("method", "headers", "admitted"),
    [
        ("GET", [ORIGIN], True),
        ("POST", [ORIGIN], True),
        ("GET", [FOREIGN], False),
        ("GET", [], False),
        ("POST", [], False),
        ("GET", [("sec-fetch-site", "same-origin")], True),
        ("HEAD", [("sec-fetch-site", "same-origin")], True),
        ("GET", [("sec-fetch-site", "none")], True),
        ("GET", [("sec-fetch-site", "same-site")], False),
        ("GET", [("sec-fetch-site", "cross-site")], False),
        ("GET", LINK, True),
        ("POST", LINK, False),
        ("GET", [*LINK[:2], ("sec-fetch-dest", "iframe")], False),
        ("POST", [("sec-fetch-site", "same-origin")], False),
        ("DELETE", [("sec-fetch-site", "none")], False),
        ("GET", [("sec-fetch-site", "same-origin"), FOREIGN], False),
    ],
)
async def test_a_cookie_counts_only_where_no_other_site_can_have_asked(
    method: str, headers: list[tuple[str, str]], admitted: bool
) -> None:
    """A page's GET to its own origin has no `Origin`, but says so in `Sec-Fetch-Site`; nor has a
    link that somebody follows."""
    app = Api()
    scope = request(method, headers=[("cookie", f"session={mint()}"), *headers])
    answer = await call(guard(app, auth=COOKIE), scope)
    assert (answer.status, answer.json) == (
        (200, "alice") if admitted else (403, {"error": "origin_not_allowed"})
    )
    assert bool(app.calls) is admitted


# One instance inside another


async def test_inside_the_same_authenticator_the_decision_is_reused() -> None:
    verifier, seen, app = Knows(x=Principal("alice", scopes=["chat"])), list[Event](), Api()
    auth = authenticator(verifier, observers=[seen.append])
    inner = HTTPAuthMiddleware(app, auth, required_scopes=["chat"])
    answer = await call(HTTPAuthMiddleware(inner, auth), request(query="token=x"))
    assert answer.json == "alice"
    assert verifier.asked == ["x"]
    assert [type(event) for event in seen] == [Admitted]


async def test_inside_the_same_authenticator_its_own_scopes_count() -> None:
    seen, token, app = list[Event](), mint(), Api()
    auth = authenticator(observers=[seen.append])
    inner = HTTPAuthMiddleware(app, auth, required_scopes=["admin"])
    answer = await call(HTTPAuthMiddleware(inner, auth), request(query=f"token={token}"))
    assert (answer.status, answer.json) == (403, {"error": "forbidden"})
    assert not app.calls
    assert [type(event) for event in seen] == [Admitted, Refused]
    assert {event.identity for event in seen} == {"alice"}
    assert {event.fingerprint for event in seen} == {Credential(token).fingerprint}


async def test_inside_another_authenticator_the_credential_set_aside_is_verified_again() -> None:
    outer, inner = Knows(x=Principal("outer"), y=Principal("outer")), Knows(x=Principal("inner"))
    app = Api()
    guarded = guard(guard(app, inner), outer)
    assert (await call(guarded, request(query="token=x"))).json == "inner"
    answer = await call(guarded, request(query="token=y"))
    assert (answer.status, answer.json) == (401, {"error": "token_invalid"})
    assert outer.asked == inner.asked == ["x", "y"]
    assert app.scope["wsauth"].principal.identity == "inner"


async def test_inside_another_authenticator_its_own_sources_come_first() -> None:
    inner = guard(Api(), Knows(key=Principal("root")), auth={"sources": [Header("x-admin-key")]})
    headers = [("x-admin-key", "key")]
    assert (await call(guard(inner), request(query=f"token={mint()}", headers=headers))).json == (
        "root"
    )
    assert (await call(guard(inner), request(query=f"token={mint()}"))).status == 401


async def test_behind_authentication_that_is_off_the_credential_is_still_there() -> None:
    guarded = guard(guard(Api()), nobody, auth={"required": False})
    assert (await call(guarded, request(query=f"token={mint()}"))).json == "alice"
    assert (await call(guarded, request())).json == {"error": "token_missing"}


async def test_a_wsauth_key_of_somebody_elses_is_no_session() -> None:
    answer = await call(guard(Api()), request(wsauth=object()))
    assert answer.json == {"error": "token_missing"}


# One policy for both protocols


def both(app: Any, auth: Authenticator, outer: str) -> Any:
    """Both middlewares around one app, in either order."""
    if outer == "http":
        return HTTPAuthMiddleware(WebSocketAuthMiddleware(app, auth), auth)
    return WebSocketAuthMiddleware(HTTPAuthMiddleware(app, auth), auth)


either_order = cases("outer", ["http", "websocket"])


@either_order
async def test_both_middlewares_around_one_app_work_in_either_order(outer: str) -> None:
    seen, app = list[Event](), Api()
    guarded = both(app, authenticator(observers=[seen.append]), outer)
    query = f"token={mint()}"
    assert (await call(guarded, request(query=query))).json == "alice"
    assert (await drive(guarded, websocket(query))).accepted
    assert [scope["user"].identity for scope, _, _ in app.calls] == ["alice", "alice"]
    assert (await call(guarded, request(query="token=x"))).status == 401
    assert (await drive(guarded, websocket("token=x"))).close == (1008, "token_invalid")
    assert len(app.calls) == 2
    assert [(event.protocol, event.name) for event in seen] == [
        ("http", "admitted"),
        ("websocket", "admitted"),
        ("websocket", "closed"),
        ("http", "refused"),
        ("websocket", "refused"),
    ]


@either_order
async def test_one_switch_turns_login_off_for_both_and_on_again(outer: str) -> None:
    switch = {"on": True}
    app = Api()
    guarded = both(app, authenticator(required=lambda: switch["on"]), outer)
    for switch["on"] in (True, False, True):
        app.calls.clear()
        answer = await call(guarded, request())
        outcome = await drive(guarded, websocket())
        if switch["on"]:
            assert (answer.status, answer.json) == (401, {"error": "token_missing"})
            assert outcome.close == (1008, "token_missing")
            assert not app.calls
        else:
            assert outcome.accepted
            assert [scope["user"].identity for scope, _, _ in app.calls] == ["local", "local"]
            assert [scope["wsauth"].method for scope, _, _ in app.calls] == ["none", "none"]


@either_order
async def test_a_disabled_user_is_refused_by_both(outer: str) -> None:
    disabled: set[str] = set()

    async def load_user(principal: Principal, conn: HTTPConnection) -> Principal | None:
        return None if principal.identity in disabled else principal

    guarded = both(Api(), authenticator(load_user=load_user), outer)
    query = f"token={mint()}"
    assert (await call(guarded, request(query=query))).json == "alice"
    assert (await drive(guarded, websocket(query))).accepted
    disabled.add("alice")
    answer = await call(guarded, request(query=query))
    assert (answer.status, answer.json) == (401, {"error": "token_revoked"})
    assert (await drive(guarded, websocket(query))).close == (4004, "token_revoked")


# Events, and what the log tells


async def test_an_admitted_request_has_one_event() -> None:
    seen, token = list[Event](), mint()
    scope = request(headers=[*bearer(token), ORIGIN], client=("192.0.2.7", 5))
    await call(guard(Api(), auth={"observers": [seen.append]}), scope)
    (event,) = seen
    assert type(event) is Admitted
    assert event.protocol == "http"
    assert event.client == "192.0.2.7"
    assert event.path == "/api"
    assert event.origin == PAGE
    assert (event.identity, event.method) == ("alice", "jwt")
    assert event.fingerprint == Credential(token).fingerprint
    assert event.duration >= 0


async def test_a_refused_request_has_one_event_without_a_close_code() -> None:
    seen, token = list[Event](), mint(exp=1)
    await call(guard(Api(), auth={"observers": [seen.append]}), request(query=f"token={token}"))
    (event,) = seen
    assert isinstance(event, Refused)
    assert (event.protocol, event.reason, event.close_code) == ("http", Reason.EXPIRED, None)
    assert event.fingerprint == Credential(token).fingerprint
    assert (event.identity, event.traceback) == (None, None)
    assert event.detail


async def test_the_app_is_called_after_the_event() -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        order.append("app")

    guarded = guard(app, auth={"observers": [lambda event: order.append(event.name)]})
    await guarded(request(headers=bearer(mint())), None, None)
    assert order == ["admitted", "app"]


async def test_a_refusal_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scope = request(query="token=s3cr3t", path="/a\nb\x1b[31m\u202e", headers=[("origin", "\r\nx")])
    await call(guard(Api()), scope)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("asgi_wsauth", "WARNING")
    line = logging.Formatter().format(record)
    assert line.startswith("http refused: reason=token_invalid")
    assert line.isprintable()
    assert "s3cr3t" not in repr(vars(record))


@cases("token", [mint(), "x"], ids=["admitted", "refused"])
async def test_an_observer_that_raises_harms_nothing(
    token: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("observer")

    seen: list[Event] = []
    guarded = guard(Api(), auth={"observers": [broken, seen.append]})
    answer = await call(guarded, request(headers=bearer(token)))
    assert answer.status == (401 if token == "x" else 200)
    assert len(seen) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


# It raises nothing of its own


async def test_an_app_that_raises_is_the_servers_affair() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise Denied(Reason.FORBIDDEN) if "user" in scope else LookupError("preflight")

    seen: list[Event] = []
    guarded = guard(app, auth={"observers": [seen.append]})
    with pytest.raises(Denied):
        await call(guarded, request(headers=bearer(mint())))
    assert [type(event) for event in seen] == [Admitted]
    guarded = guard(app, preflight="pass")
    with pytest.raises(LookupError, match="preflight"):
        await call(guarded, request("OPTIONS", headers=PREFLIGHT))


@cases("error", [OSError("gone"), RuntimeError("already closed")])
@cases("what", ["middleware", "endpoint"])
async def test_an_answer_that_can_not_be_sent_raises_nothing(error: Exception, what: str) -> None:
    tickets, auth = Tickets(MemoryStore(), clock=lambda: NOW), authenticator()
    guarded: Any = TicketEndpoint(tickets, auth)
    if what == "middleware":
        guarded = HTTPAuthMiddleware(Api(), auth)
    tried: list[str] = []

    async def send(message: Any) -> None:
        tried.append(message["type"])
        raise error

    await guarded(request("POST"), sends(), send)
    if what == "endpoint":
        await guarded(request("POST", headers=bearer(mint())), sends(), send)
        await guarded(websocket(), None, send)
    assert set(tried) <= {"http.response.start", "websocket.close"}  # nothing after a failure


class Half(QueryParam):
    """A source that finds, but can't remove."""

    def redact(self, scope: Any, /) -> None:
        raise KeyError("scope")


async def broken_verifier(credential: Credential, conn: HTTPConnection) -> Principal | None:
    raise ValueError(f"the password is hunter2, the token {credential.value}")


async def no_principal(credential: Credential, conn: HTTPConnection) -> Any:
    return {"sub": "alice"}


async def alice(credential: Credential, conn: HTTPConnection) -> Principal | None:
    return Principal("alice")


BROKEN: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "a verifier that raises": (broken_verifier, {}, {}),
    "a verifier that returns no principal": (no_principal, {}, {}),
    "a source that can't redact": (alice, {"sources": [Half("token")]}, {}),
    "a clock that fails": (alice, {"clock": lambda: 1 / 0}, {}),
    "a switch that fails": (alice, {"required": lambda: 1 / 0}, {}),
    "a user that can't be loaded": (alice, {"load_user": lambda *_: 1 / 0}, {}),
    "a query that is no bytes": (alice, {}, {"query_string": "token=s3cr3t"}),
}


@cases("what", ["middleware", "endpoint"])
@cases(("verifier", "options", "more"), BROKEN.values(), ids=BROKEN)
async def test_whatever_breaks_admits_nobody_and_tells_nothing(
    verifier: Any, options: dict[str, Any], more: dict[str, Any], what: str
) -> None:
    app, seen = Api(), list[Event]()
    auth = authenticator(verifier, observers=[seen.append], **options)
    guarded: Any = TicketEndpoint(Tickets(MemoryStore()), auth)
    if what == "middleware":
        guarded = HTTPAuthMiddleware(app, auth)
    answer = await call(guarded, request("POST", "token=s3cr3t", **more))
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})
    assert "hunter2" not in repr(answer)
    assert not app.calls
    (event,) = seen
    assert isinstance(event, Refused)
    assert event.reason is Reason.ERROR
    assert "Traceback (most recent call last)" in str(event.traceback)
    assert "s3cr3t" not in repr(event)


async def test_a_preflight_that_can_not_be_redacted_is_refused() -> None:
    app = Api()
    guarded = guard(app, auth={"sources": [Half("token")]})
    answer = await call(guarded, request("OPTIONS", "token=x", headers=PREFLIGHT))
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})
    assert not app.calls


async def test_a_hanging_verifier_is_unavailable_at_the_deadline() -> None:
    async def hang(credential: Credential, conn: HTTPConnection) -> Principal | None:
        await anyio.sleep_forever()
        return None

    app = Api()
    answer = await call(guard(app, hang, auth={"timeout": 0.01}), request(query="token=x"))
    assert (answer.status, answer.json) == (503, {"error": "verifier_unavailable"})
    assert not app.calls


async def test_a_verifier_that_waits_takes_nothing_of_the_body() -> None:
    async def waits(credential: Credential, conn: HTTPConnection) -> Principal | None:
        await anyio.lowlevel.checkpoint()
        return Principal("alice")

    answer = await call(guard(Api(), waits), request("POST", "token=x"), b"body")
    assert (answer.json, answer.received) == ("alice", 0)


@cases("method", ["GET", "OPTIONS"])
async def test_headers_that_can_be_read_only_once_are_read_once(method: str) -> None:
    """ASGI calls them an iterable."""
    for headers, expected in (([ORIGIN], "alice"), (PREFLIGHT, None)):
        app, seen = Api(), list[Event]()
        scope = request(method, headers=[*headers, *bearer(mint())])
        scope["headers"] = iter(scope["headers"])
        guarded = guard(app, auth={"observers": [seen.append]}, preflight="pass")
        preflight = method == "OPTIONS" and expected is None
        assert (await call(guarded, scope)).json == (None if preflight else "alice")
        assert (b"origin", PAGE.encode()) in app.scope["headers"]
        assert b"authorization" not in dict(app.scope["headers"])
        assert [event.origin for event in seen] == ([] if preflight else [PAGE])


@cases("headers", [None, ()])
async def test_a_scope_without_headers_is_judged(headers: Any) -> None:
    answer = await call(guard(Api()), request("OPTIONS", headers=[]) | {"headers": headers})
    assert answer.json == {"error": "token_missing"}


@cases("headers", [5, [5], [()], [(b"origin",)], [(b"origin", 5)]], ids=repr)
@cases("method", ["GET", "POST", "OPTIONS"])
async def test_headers_that_no_server_should_build_raise_nothing(method: str, headers: Any) -> None:
    for app in (guard(Api()), desk()):
        scope = {**request(method, "token=s3cr3t"), "headers": headers}
        answer = await call(app, scope)
        assert answer.status in (400, 401, 405, 500)


async def test_the_least_scope_that_a_server_may_give() -> None:
    for app in (guard(Api()), TicketEndpoint(Tickets(MemoryStore()), authenticator())):
        answer = await call(app, {"type": "http", "method": "POST", "headers": []})
        assert answer.json == {"error": "token_missing"}


@cases(
    ("options", "named"),
    [
        ({"authenticator": "auth"}, "authenticator"),
        ({"authenticator": None}, "authenticator"),
        ({"authenticator": jwt_verifier()}, "authenticator"),
        ({"exclude": "/public/*"}, "exclude"),
        ({"exclude": ["public"]}, "exclude"),
        ({"exclude": None}, "exclude"),
        ({"required_scopes": "admin"}, "required_scopes"),
        ({"required_scopes": None}, "required_scopes"),
        ({"required_scopes": ["a b"]}, "required_scopes"),
        ({"required_scopes": [""]}, "required_scopes"),
    ],
)
def test_bad_configuration_of_the_middleware_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{named}"):
        HTTPAuthMiddleware(Api(), **{"authenticator": authenticator(), **options})


# TicketEndpoint: whom it gives a ticket


def desk(
    *verifiers: Any,
    store: Any = None,
    tickets: dict[str, Any] | None = None,
    bind_client: bool = False,
    **auth: Any,
) -> TicketEndpoint:
    """An endpoint at NOW, whose authenticator takes its tickets too."""
    issuer = Tickets(
        MemoryStore(clock=lambda: NOW) if store is None else store,
        **{"clock": lambda: NOW, **(tickets or {})},
    )
    verifiers = verifiers or (jwt_verifier(),)
    return TicketEndpoint(
        issuer, authenticator(*verifiers, issuer, **auth), bind_client=bind_client
    )


def ask(
    query: str = "",
    *,
    path: str = "/ticket",
    headers: Iterable[tuple[str, str]] = (),
    token: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A request for a ticket, by somebody who is logged in."""
    login = [] if query else bearer(mint() if token is None else token)
    return request("POST", query, path=path, headers=[*login, *headers], **more)


async def redeem(endpoint: TicketEndpoint, ticket: str, **handshake: Any) -> Principal | Reason:
    """What becomes of a handshake with a ticket."""
    conn = HTTPConnection(websocket(f"token={ticket}", **handshake))
    try:
        return (await endpoint.authenticator.authenticate(conn)).principal
    except Denied as denied:
        return denied.reason


async def test_who_is_logged_in_gets_a_ticket() -> None:
    answer = await call(desk(), ask())
    ticket = answer.json["ticket"]
    assert answer.status == 201
    assert answer.body == json.dumps({"ticket": ticket, "expires_in": 30, "path": None}).encode()
    assert answer.headers == [
        ("content-type", "application/json"),
        ("content-length", str(len(answer.body))),
        ("cache-control", "no-store"),
    ]


async def test_the_ticket_opens_one_socket_of_the_same_user() -> None:
    endpoint, app = desk(), App()
    login = mint(scope="chat:read", jti="j1", sid="s1", name="Alice")
    ticket = (await call(endpoint, ask(token=login))).json["ticket"]
    guarded = WebSocketAuthMiddleware(app, endpoint.authenticator, required_scopes=["chat:read"])
    assert (await drive(guarded, websocket(f"token={ticket}"))).accepted
    assert (await drive(guarded, websocket(f"token={ticket}"))).close == (4001, "token_expired")
    user = app.scope["user"]
    assert (user.identity, user.scopes, user.method) == ("alice", ("chat:read",), "ticket")
    assert (user.token_id, user.session_id, user.claims["name"]) == ("j1", "s1", "Alice")
    assert app.scope["wsauth"].expires_at == NOW + 330  # that of the login


async def test_who_is_not_logged_in_gets_none() -> None:
    store = MemoryStore()
    for token, phrase in (("", "token_missing"), ("x", "token_invalid")):
        answer = await call(desk(store=store), ask(token=token), b'{"path": "/ws"}')
        assert (answer.status, answer.json) == (401, {"error": phrase})
        assert answer.received == 0
    assert repr(store) == "<MemoryStore with 0 tickets>"


@cases(
    ("ttl", "ends_in", "expires_in"),
    [(30, None, 30), (30.9, None, 30), (0.5, None, 0), (30, 12.7, 12), (30, 31, 30), (30, 0.2, 0)],
)
async def test_expires_in_is_what_remains_in_whole_seconds(
    ttl: float, ends_in: float | None, expires_in: int
) -> None:
    login = Principal("alice", expires_at=None if ends_in is None else NOW + ends_in)
    answer = await call(desk(Knows(x=login), tickets={"ttl": ttl}), ask(token="x"))
    assert answer.json["expires_in"] == expires_in
    assert type(answer.json["expires_in"]) is int


@cases("where", ["directly", "inside a middleware", "inside another's"])
async def test_a_ticket_buys_no_ticket(where: str) -> None:
    endpoint = desk()
    ticket = (await call(endpoint, ask())).json["ticket"]
    guarded: Any = endpoint
    if where == "inside a middleware":
        guarded = HTTPAuthMiddleware(endpoint, endpoint.authenticator)
    elif where == "inside another's":
        elsewhere = TicketEndpoint(endpoint.tickets, authenticator())
        guarded = HTTPAuthMiddleware(elsewhere, endpoint.authenticator)
    answer = await call(guarded, ask(f"token={ticket}"), b"[")
    assert answer.status == (401 if "another" in where else 403)
    assert answer.json == {"error": "token_invalid" if "another" in where else "forbidden"}
    assert answer.header("www-authenticate") == (WITH_ERROR if "another" in where else None)
    assert answer.received == 0
    assert await redeem(endpoint, ticket) is Reason.EXPIRED  # it was used up


async def test_past_max_pending_the_oldest_go() -> None:
    endpoint = desk(tickets={"max_pending_per_user": 2})
    minted = [(await call(endpoint, ask())).json["ticket"] for _ in range(3)]
    results = [await redeem(endpoint, ticket) for ticket in minted]
    assert results[0] is Reason.EXPIRED
    assert all(isinstance(result, Principal) for result in results[1:])


@cases(
    ("headers", "status"),
    [
        ([], 403),
        ([FOREIGN], 403),
        ([("origin", "null")], 403),
        ([ORIGIN, ORIGIN], 403),
        ([("sec-fetch-site", "same-origin")], 403),
        ([ORIGIN], 201),
    ],
)
async def test_a_login_by_cookie_needs_an_origin_that_is_allowed(
    headers: list[tuple[str, str]], status: int
) -> None:
    store = MemoryStore()
    scope = ask(token="", headers=[("cookie", f"session={mint()}"), *headers])
    answer = await call(desk(store=store, **COOKIE), scope)
    assert answer.status == status
    assert status == 201 or answer.json == {"error": "origin_not_allowed"}
    assert repr(store) == f"<MemoryStore with {int(status == 201)} tickets>"


# What is asked for


@cases(
    ("body", "path"),
    [
        ([b""], None),
        ([b"", b"", b""], None),
        ([b"{}"], None),
        ([b'{"path": null}'], None),
        ([b'{"path": "/ws/chat"}'], "/ws/chat"),
        ([b'{"pa', b'th": "/ws', b'/chat"}'], "/ws/chat"),
        ([b' \n{ "path" : "\\/ws\\/chat" }\n'], "/ws/chat"),
        (['{"path": "/ws/ä b"}'.encode()], "/ws/ä b"),
        ([b'{"path": "/"}'], "/"),
    ],
)
async def test_a_body_may_name_the_one_path_that_the_ticket_opens(
    body: list[bytes], path: str | None
) -> None:
    endpoint = desk()
    for wanted, admitted in ((path or "/ws", True), ("/ws/terminal", path is None)):
        answer = await call(endpoint, ask(), *body)
        assert answer.status == 201
        assert answer.json["path"] == path
        result = await redeem(endpoint, answer.json["ticket"], path=wanted, raw_path=b"")
        assert isinstance(result, Principal) is admitted


UNREADABLE = {
    "no JSON": b"path=/ws",
    "half of it": b'{"path": "/ws"',
    "two of them": b"{}{}",
    "a space": b" ",
    "null": b"null",
    "a string": b'"/ws"',
    "a list": b'["path"]',
    "a number": b"1",
    "another key": b'{"paths": "/ws"}',
    "a key more": b'{"path": "/ws", "origin": "https://evil.example"}',
    "a path that is a number": b'{"path": 1}',
    "a path that is false": b'{"path": false}',
    "a path that is a list": b'{"path": ["/ws"]}',
    "an empty path": b'{"path": ""}',
    "a path without a slash": b'{"path": "ws"}',
    "a path with a query": b'{"path": "/ws?token=x"}',
    "a path with a fragment": b'{"path": "/ws#x"}',
    "an address": b'{"path": "https://chat.example/ws"}',
    "lists too deep": b"[" * 4000,
    "objects too deep": b'{"path":' * 500,
    "bytes that are no text": b'{"path": "/\xff"}',
    "overlong UTF-8": b'{"path": "/\xc0\xaf"}',
}


@cases("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_body_that_can_not_be_read_is_refused(body: bytes) -> None:
    store, seen = MemoryStore(), list[Event]()
    answer = await call(desk(store=store, observers=[seen.append]), ask(), body)
    assert (answer.status, answer.json) == (400, {"error": "token_malformed"})
    assert repr(store) == "<MemoryStore with 0 tickets>"
    (event,) = seen
    assert isinstance(event, Refused)
    assert (event.reason, event.identity, event.traceback) == (Reason.MALFORMED, "alice", None)
    assert event.detail


@cases("length", ["4097", "100000000", "9" * 4000])
async def test_a_body_over_4_kb_is_refused_unread(length: str) -> None:
    answer = await call(desk(), ask(headers=[("content-length", length)]), b"{}")
    assert (answer.status, answer.json) == (413, {"error": "token_malformed"})
    assert answer.received == 0


@cases("headers", [[], [("content-length", "2")]], ids=["chunked", "a lie"])
async def test_of_a_body_over_4_kb_no_more_is_read_than_it_takes(headers: list[Any]) -> None:
    body = [b" " * 1000] * 4 + [b" " * 97] + [b" " * 1000] * 5
    answer = await call(desk(), ask(headers=headers), *body)
    assert (answer.status, answer.json) == (413, {"error": "token_malformed"})
    assert answer.received == 5


@cases("with_length", [True, False])
async def test_a_body_of_4_kb_is_read(with_length: bool) -> None:
    body = b'{"path": "/ws"'.ljust(4095) + b"}"
    headers = [("content-length", "4096")] if with_length else []
    answer = await call(desk(), ask(headers=headers), body[:4000], body[4000:])
    assert (answer.status, answer.json["path"]) == (201, "/ws")


@cases("length", ["", "abc", "1e3", "0x10", "1.0", "9" * 5000])
async def test_a_length_that_is_no_number_is_refused_unread(length: str) -> None:
    answer = await call(desk(), ask(headers=[("content-length", length)]), b"{}")
    assert (answer.status, answer.json) == (400, {"error": "token_malformed"})
    assert answer.received == 0


async def test_a_client_that_leaves_within_its_body_gets_no_ticket() -> None:
    messages = iter(
        [{"type": "http.request", "body": b"{}", "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> Any:
        return next(messages)

    store, seen = MemoryStore(), list[Event]()
    endpoint = desk(store=store, observers=[seen.append])
    answer = await call(endpoint, ask(), receive=receive)
    assert answer.status == 400
    assert repr(store) == "<MemoryStore with 0 tickets>"
    assert [event.name for event in seen] == ["refused"]


async def test_a_receive_that_raises_is_told_and_raises_nothing() -> None:
    async def receive() -> Any:
        raise OSError("gone")

    answer = await call(desk(), ask(), receive=receive)
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})


@cases("drop", [b"", b" "])
async def test_a_body_that_drips_for_ever_ends_at_the_authenticators_timeout(drop: bytes) -> None:
    async def drip() -> Any:
        await anyio.lowlevel.checkpoint()
        nonlocal drops
        drops += 1
        return {"type": "http.request", "body": drop if drops < 4096 else b"", "more_body": True}

    drops = 0
    with anyio.fail_after(4):  # not the default of 5 seconds
        answer = await call(desk(timeout=0.05), ask(), receive=drip)
    assert (answer.status, answer.json) == (503, {"error": "verifier_unavailable"})
    assert drops


async def test_a_body_that_never_comes_ends_at_the_authenticators_timeout() -> None:
    with anyio.fail_after(4):
        answer = await call(desk(timeout=0.01), ask(), receive=anyio.sleep_forever)
    assert (answer.status, answer.json) == (503, {"error": "verifier_unavailable"})


@cases("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "post"])
async def test_another_method_is_refused_but_the_credential_taken_away(method: str) -> None:
    verifier, seen = Knows(s3cr3t=Principal("alice")), list[Event]()
    scope = request(method, "a=1&token=s3cr3t", headers=bearer("s3cr3t"))
    answer = await call(desk(verifier, observers=[seen.append]), scope)
    assert (answer.status, answer.json) == (405, {"error": "token_malformed"})
    assert answer.header("allow") == "POST"
    assert answer.received == 0
    assert verifier.asked == []
    assert scope["query_string"] == b"a=1"
    assert "s3cr3t" not in repr((scope, seen, answer))
    assert [event.name for event in seen] == ["refused"]


async def test_only_another_method_is_told_which_one_is_allowed() -> None:
    for scope, body in ((ask(), b"["), (ask(token="x"), b""), (ask(), b"{}")):
        assert (await call(desk(), scope, body)).header("allow") is None


# Where the ticket works


async def test_a_ticket_is_bound_to_the_origin_of_the_page_that_asks() -> None:
    endpoint = desk()
    others: list[list[tuple[str, str]]] = [[FOREIGN], [("origin", "null")], [], [ORIGIN, ORIGIN]]
    for headers in others:
        ticket = (await call(endpoint, ask(headers=[ORIGIN]))).json["ticket"]
        assert await redeem(endpoint, ticket, headers=headers) is Reason.INVALID
        assert await redeem(endpoint, ticket, headers=[ORIGIN]) is Reason.EXPIRED  # it is gone
    ticket = (await call(endpoint, ask(headers=[ORIGIN]))).json["ticket"]
    assert isinstance(await redeem(endpoint, ticket, headers=[ORIGIN]), Principal)


@cases("headers", [[], [ORIGIN], [FOREIGN]])
async def test_without_an_origin_it_is_bound_to_none(headers: list[tuple[str, str]]) -> None:
    endpoint = desk()
    ticket = (await call(endpoint, ask())).json["ticket"]
    assert isinstance(await redeem(endpoint, ticket, headers=headers), Principal)


async def test_a_page_without_an_origin_of_its_own_is_bound_to_that() -> None:
    endpoint = desk()
    null = [("origin", "null")]
    ticket = (await call(endpoint, ask(headers=null))).json["ticket"]
    assert await redeem(endpoint, ticket) is Reason.INVALID
    ticket = (await call(endpoint, ask(headers=null))).json["ticket"]
    assert isinstance(await redeem(endpoint, ticket, headers=null), Principal)


@cases(
    ("origins", "status", "phrase"),
    [
        ([PAGE, PAGE], 403, "origin_not_allowed"),
        ([PAGE, "https://evil.example"], 403, "origin_not_allowed"),
        (["no origin"], 400, "token_malformed"),
        ([""], 400, "token_malformed"),
    ],
)
async def test_an_origin_that_can_not_be_told_is_refused(
    origins: list[str], status: int, phrase: str
) -> None:
    answer = await call(desk(), ask(headers=[("origin", origin) for origin in origins]))
    assert (answer.status, answer.json) == (status, {"error": phrase})


@cases("bind_client", [True, False])
async def test_a_ticket_may_be_bound_to_the_client_address(bind_client: bool) -> None:
    endpoint = desk(bind_client=bind_client)
    for client, admitted in (("192.0.2.7", True), ("192.0.2.8", not bind_client)):
        answer = await call(endpoint, ask(client=("192.0.2.7", 1)))
        result = await redeem(endpoint, answer.json["ticket"], client=(client, 2))
        assert isinstance(result, Principal) if admitted else result is Reason.INVALID


async def test_a_ticket_for_a_client_without_an_address_is_for_such_a_client() -> None:
    """As behind a Unix socket."""
    endpoint = desk(bind_client=True)
    for client, admitted in ((None, True), (("192.0.2.7", 1), False)):
        answer = await call(endpoint, ask(client=None))
        result = await redeem(endpoint, answer.json["ticket"], client=client)
        assert isinstance(result, Principal) if admitted else result is Reason.INVALID


# The endpoint inside a middleware


async def test_inside_a_middleware_with_the_same_authenticator_the_decision_is_reused() -> None:
    verifier, seen = Knows(x=Principal("alice")), list[Event]()
    endpoint = desk(verifier, observers=[seen.append])
    guarded = HTTPAuthMiddleware(endpoint, endpoint.authenticator)
    answer = await call(guarded, ask(token="x"), b'{"path": "/ws"}')
    assert answer.status == 201
    assert verifier.asked == ["x"]
    assert [event.name for event in seen] == ["admitted", "ticket_issued"]
    result = await redeem(endpoint, answer.json["ticket"])
    assert isinstance(result, Principal)
    assert result.identity == "alice"


async def test_inside_a_middleware_with_another_authenticator_it_decides_again() -> None:
    outer, inner = Knows(x=Principal("outer"), y=Principal("outer")), Knows(x=Principal("inner"))
    endpoint = desk(inner)
    guarded = guard(endpoint, outer)
    answer = await call(guarded, ask(token="x"))
    assert answer.status == 201
    result = await redeem(endpoint, answer.json["ticket"])
    assert isinstance(result, Principal)
    assert result.identity == "inner"
    answer = await call(guarded, ask(token="y"))
    assert (answer.status, answer.json) == (401, {"error": "token_invalid"})


@cases(
    ("route", "path"),
    [
        (lambda endpoint: Route("/ticket", endpoint, methods=["POST"]), "/ticket"),
        (lambda endpoint: Mount("/ticket", endpoint), "/ticket/"),
    ],
    ids=["route", "mount"],
)
async def test_it_can_be_routed_to_by_starlette(route: Callable[[Any], Any], path: str) -> None:
    answer = await call(Router([route(desk())]), ask(path=path))
    assert answer.status == 201


# While authentication is off, and on again


async def test_while_authentication_is_off_a_page_gets_a_ticket_that_opens_nothing_later() -> None:
    switch, seen, store = {"on": False}, list[Event](), MemoryStore()
    endpoint = desk(store=store, required=lambda: switch["on"], observers=[seen.append])
    for scope in (ask(token=""), ask(), ask(headers=[ORIGIN, ORIGIN])):
        answer = await call(endpoint, scope, b'{"path": "/ws"}')
        ticket = answer.json["ticket"]
        assert answer.status == 201
        assert answer.json == {"ticket": ticket, "expires_in": 30, "path": "/ws"}
        assert (len(ticket), ticket[:4]) == (47, "wst_")
        result = await redeem(endpoint, ticket)
        assert isinstance(result, Principal)
        assert result.identity == "local"
        switch["on"] = True
        assert await redeem(endpoint, ticket) is Reason.INVALID
        assert (await call(endpoint, ask(token=""))).status == 401
        switch["on"] = False
    assert repr(store) == "<MemoryStore with 0 tickets>"
    assert [event.identity for event in seen if isinstance(event, TicketIssued)] == ["local"] * 3


async def test_whoever_everybody_is_then_a_ticket_has_its_usual_time() -> None:
    ended = Principal("local", method="none", expires_at=NOW - 1)
    answer = await call(desk(required=False, anonymous=ended), ask())
    assert (answer.status, answer.json["expires_in"]) == (201, 30)


# When something breaks


class Down:
    """A store that can't be reached, or never answers."""

    def __init__(self, hangs: bool = False) -> None:
        self.hangs = hangs

    async def put_ticket(self, *args: Any, **kwargs: Any) -> None:
        if self.hangs:
            await anyio.sleep_forever()
        raise OSError("redis://:hunter2@store is down")

    take_ticket = put_ticket


@cases("hangs", [True, False])
async def test_a_store_that_is_down_is_unavailable(hangs: bool) -> None:
    seen: list[Event] = []
    endpoint = desk(store=Down(hangs), observers=[seen.append], timeout=0.01 if hangs else 5)
    answer = await call(endpoint, ask())
    assert (answer.status, answer.json) == (503, {"error": "verifier_unavailable"})
    assert "hunter2" not in repr(answer)
    (event,) = seen
    assert isinstance(event, Refused)
    assert (event.reason, event.identity) == (Reason.UNAVAILABLE, "alice")
    assert ("OSError: redis" in str(event.traceback)) is not hangs


async def test_claims_that_no_json_can_hold_are_an_error_of_the_servers() -> None:
    async def odd(credential: Credential, conn: HTTPConnection) -> Principal | None:
        thing = type(credential.value, (), {})()  # its name will be in the error's text
        return Principal("alice", claims={"x": thing})

    seen: list[Event] = []
    answer = await call(desk(odd, observers=[seen.append]), ask(token="s3cr3t"))
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})
    (event,) = seen
    assert isinstance(event, Refused)
    assert event.reason is Reason.ERROR
    assert "TypeError: Object of type [redacted] is not JSON serializable" in str(event.traceback)
    assert "s3cr3t" not in repr(event)


async def test_a_clock_that_fails_issues_no_ticket() -> None:
    store = MemoryStore()
    answer = await call(desk(store=store, tickets={"clock": lambda: 1 / 0}), ask())
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})
    assert repr(store) == "<MemoryStore with 0 tickets>"


async def test_a_login_that_ends_meanwhile_gets_no_ticket() -> None:
    """The store's clock, or the body's sender, was slower than the login."""
    login = Principal("alice", expires_at=NOW + 1)
    answer = await call(desk(Knows(x=login), tickets={"clock": lambda: NOW + 1}), ask(token="x"))
    assert (answer.status, answer.json) == (401, {"error": "token_expired"})
    assert answer.header("www-authenticate") == WITH_ERROR


async def test_a_login_that_ends_while_its_ticket_is_stored_gets_none() -> None:
    clock = Clock()

    class Slow(MemoryStore):
        async def put_ticket(self, *args: Any, **kwargs: Any) -> None:
            await super().put_ticket(*args, **kwargs)
            clock.now += 2

    login = Knows(x=Principal("alice", expires_at=NOW + 2))
    answer = await call(desk(login, store=Slow(), tickets={"clock": clock}), ask(token="x"))
    assert (answer.status, answer.json) == (401, {"error": "token_expired"})


async def test_claims_in_a_circle_are_an_error_of_the_servers() -> None:
    claims: dict[str, Any] = {}
    claims["x"] = claims
    answer = await call(desk(Knows(x=Principal("alice", claims=claims))), ask(token="x"))
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})


# Other scope types


@cases(
    ("sources", "reason"),
    [
        ([QueryParam("token")], Reason.MALFORMED),
        ([Half("token"), QueryParam("token")], Reason.ERROR),
    ],
    ids=["a good source", "a broken source"],
)
async def test_a_socket_at_the_endpoint_is_closed_and_redacted(
    sources: Any, reason: Reason
) -> None:
    seen: list[Event] = []
    scope = websocket("token=s3cr3t&a=1")
    outcome = await drive(desk(sources=sources, observers=[seen.append]), scope)
    assert outcome.sent == [{"type": "websocket.close", "code": reason.close_code}]
    assert outcome.received == 0
    assert scope["query_string"] == b"a=1"
    (event,) = seen
    assert isinstance(event, Refused)
    assert (event.protocol, event.reason) == ("websocket", reason)
    assert "s3cr3t" not in repr(event)


@cases("kind", ["lifespan", "other"])
async def test_other_scope_types_end_at_the_endpoint(kind: str) -> None:
    outcome = await drive(desk(), {"type": kind})
    assert (outcome.sent, outcome.received) == ([], 0)


# Events


async def test_a_ticket_that_was_issued_has_one_event_without_the_ticket(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from asgi_wsauth import log_event

    caplog.set_level(logging.DEBUG)
    seen, token = list[Event](), mint()
    endpoint = desk(observers=[seen.append, log_event])
    scope = ask(token=token, headers=[ORIGIN], client=("192.0.2.7", 5))
    answer = await call(endpoint, scope, b'{"path": "/ws"}')
    ticket = answer.json["ticket"]
    (event,) = seen
    assert type(event) is TicketIssued
    assert (event.protocol, event.client, event.path) == ("http", "192.0.2.7", "/ticket")
    assert (event.origin, event.identity, event.method) == (PAGE, "alice", "jwt")
    assert event.fingerprint == Credential(token).fingerprint
    assert event.duration >= 0
    await redeem(endpoint, ticket, headers=[ORIGIN])
    await drive(
        WebSocketAuthMiddleware(App(), endpoint.authenticator), websocket(f"token={ticket}")
    )
    assert [event.name for event in seen] == ["ticket_issued", "refused"]
    told = repr(seen) + "".join(repr(vars(record)) for record in caplog.records)
    assert len(caplog.records) == 2
    for secret in (ticket, ticket[4:], ticket[10:30], token):
        assert secret not in told


async def test_an_observer_that_raises_costs_no_ticket(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("observer")

    assert (await call(desk(observers=[broken]), ask())).status == 201
    assert (await call(desk(observers=[broken]), ask(token="x"))).status == 401
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


# Configuration

TICKETS = Tickets(MemoryStore())


@cases(
    ("tickets", "auth", "named"),
    [
        (MemoryStore(), authenticator(), "tickets must be a Tickets, got "),
        (None, authenticator(), "tickets must be a Tickets, got "),
        (Tickets, authenticator(), "tickets must be a Tickets, got "),
        (TICKETS, None, "authenticator must be an Authenticator, got "),
        (TICKETS, jwt_verifier(), "authenticator must be an Authenticator, got "),
        (TICKETS, authenticator(TICKETS), "authenticator must have the verifier of your login"),
        (
            TICKETS,
            authenticator(TICKETS, Tickets(MemoryStore())),
            "authenticator must have the",
        ),
    ],
)
def test_bad_configuration_of_the_endpoint_is_named(tickets: Any, auth: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{named}"):
        TicketEndpoint(tickets, auth)


async def test_an_endpoint_needs_no_verifier_where_authentication_is_off_for_good() -> None:
    endpoint = TicketEndpoint(Tickets(MemoryStore()), Authenticator([], required=False))
    assert (await call(endpoint, request("POST"))).status == 201
