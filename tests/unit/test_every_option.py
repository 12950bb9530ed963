"""Every option of every constructor, and every argument of a public function: what it takes, and
that all else is a `ConfigurationError` that names it.

A new option needs a line in `ROWS`: values that it takes, and which of the `OTHERS` it takes too.
"""

from __future__ import annotations

import functools
import inspect
import re
import runpy
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from enum import Enum
from math import inf
from typing import Any, NamedTuple

import django_site  # noqa: F401 - sets Django up
import limits.aio.storage
import prometheus_client
import pytest
import redis.asyncio
from cases import cases
from handshakes import SECRET, App
from pages import ROOT
from starlette.datastructures import Secret

import asgi_wsauth
from asgi_wsauth import (
    GRAPHQL_CLOSE_CODES,
    JWKS,
    APIKeyVerifier,
    Authenticator,
    ConfigurationError,
    ConnectionLimit,
    Cookie,
    Credential,
    Denied,
    Event,
    FailureThrottle,
    FirstMessage,
    HandshakeLimit,
    Header,
    HTTPAuthMiddleware,
    InternalCredential,
    JWTVerifier,
    LogoutEndpoint,
    MemoryStore,
    Principal,
    ProxyHeader,
    QueryParam,
    Reason,
    RedactCredentials,
    Revocations,
    Session,
    SessionEntry,
    Sessions,
    SessionsEndpoint,
    SocketClosed,
    StreamClosed,
    Subprotocol,
    TicketEndpoint,
    Tickets,
    TokenIntrospection,
    VerdictCache,
    WebSocketAuthMiddleware,
    drain_on_signal,
)
from asgi_wsauth.contrib.database_token import DatabaseToken
from asgi_wsauth.contrib.django import DjangoSession, revoke_at_logout, session_id
from asgi_wsauth.contrib.opentelemetry import OpenTelemetryObserver
from asgi_wsauth.contrib.prometheus import PrometheusMetrics
from asgi_wsauth.contrib.starlette import StarletteSession
from asgi_wsauth.denial import advice
from asgi_wsauth.redis import RedisStore
from asgi_wsauth.testing import as_principal, make_jwt


class Thing:
    """Nothing that any option takes."""


async def acts() -> None: ...


OTHERS: Mapping[str, Any] = {
    "None": None,
    "True": True,
    "False": False,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "''": "",
    "text": "some text",
    "bytes": b"bytes",
    "[]": [],
    "[1]": [1],
    "[None]": [None],
    "{}": {},
    "{1}": {1: 1},
    "object": Thing(),
    "class": Thing,
    "datetime": datetime(2026, 11, 27, tzinfo=UTC),
    "timedelta": timedelta(seconds=30),
    "function": lambda: None,
    "async function": acts,
}
"""What people may well give for an option of another kind."""


class Row(NamedTuple):
    good: list[Any]
    others: str = ""  # the names of the OTHERS that it takes, with commas


async def nobody(credential: Any, conn: Any) -> None: ...


async def is_shown(session: Any, old: Any, new: Any) -> None: ...


async def find_key(digest: str) -> None: ...


def token_of(message: str | bytes) -> str | None: ...


STORE = MemoryStore()
AUTH = Authenticator([nobody])
ALICE = Principal("alice")

COUNT = Row([1, 10_000])
SECONDS = Row([1, 0.5], "1.5")
SECONDS_OR_NONE = Row([None, 1, 0.5], "None,1.5")
SECONDS_OR_NONE_AT_ALL = Row([0, 0.5], "0,1.5")
BOOL = Row([True, False], "True,False")
TEXT = Row(["a"], "text")
TEXT_OR_NONE = Row(["a", None], "text,None,''")
NAMES = Row(["a", ["a", "b"], None], "text,None")
WORD = Row(["a"])
WORD_OR_NONE = Row(["a", None], "None")
LIST_OF_SCOPES = Row([["chat:write"], ("a", "b")], "[]")
PATHS = Row([["/public/*"]], "[]")
OBSERVERS = Row([[print], (print, print)], "[]")
CLOCK = Row([lambda: 5.0], "function")
TIME_OR_NONE = Row([None, 5, 1.5], "None,0,-1,1.5,inf")
RENEW_WITHIN = Row([None, 0, 0.5], "None,0,1.5")
ADDRESS = Row(["http://127.0.0.1/keys", "https://id.example/keys"])
ISSUER_OR_NONE = Row([None, "https://id.example"], "None,text")

OIDC = {
    "ttl": SECONDS,
    "cooldown": SECONDS_OR_NONE_AT_ALL,
    "stale_for": SECONDS_OR_NONE_AT_ALL,
    "timeout": SECONDS,
    "max_size": COUNT,
    "headers": Row([{}, {"authorization": "Bearer abc", "a": lambda: "b"}], "{}"),
    "allow_http": BOOL,
    "observers": OBSERVERS,
}

CLAIM = Row(["user_id", ("user", "id"), ("sub",)], "text")
CLAIM_VALUES = [{"a": "b"}, {("a", "b"): {True, 7, "c"}}, {"a": ["b"]}, {"a": frozenset("b")}, {}]
CLAIMS = {
    "identity_claim": CLAIM,
    "claims": Row(CLAIM_VALUES, "{}"),
    "scopes_claim": Row([*CLAIM.good, ["scope", ("realm_access", "roles")]], "text"),
}

ROWS: dict[Any, dict[str, Row]] = {
    Authenticator: {
        "verifiers": Row([[nobody], (nobody, nobody)]),
        "sources": Row([[Header(scheme="Bearer")]]),
        "allowed_origins": Row([None, ["https://chat.example"]], "None,[]"),
        "required": Row([True, False, lambda: False], "True,False"),
        "anonymous": Row([ALICE]),
        "no_auth_networks": Row([["10.0.0.0/8", "::1"]], "[]"),
        "load_user": Row([None, nobody], "None"),
        "revocations": Row([None, Revocations(STORE)], "None"),
        "throttle": Row([None, FailureThrottle()], "None"),
        "timeout": SECONDS,
        "max_token_size": COUNT,
        "observers": OBSERVERS,
        "clock": CLOCK,
    },
    WebSocketAuthMiddleware: {
        "app": Row([App()]),
        "authenticator": Row([AUTH]),
        "rejection": Row(["accept_then_close", "http_response", "close", "auto"]),
        "close_codes": Row([{Reason.EXPIRED: 4401}, GRAPHQL_CLOSE_CODES], "{}"),
        "exclude": PATHS,
        "only": Row([None, ["/ws"]], "None"),
        "required_scopes": LIST_OF_SCOPES,
        "enforce_expiry": BOOL,
        "grace": SECONDS_OR_NONE_AT_ALL,
        "connection_limit": Row([None, ConnectionLimit(1, STORE)], "None"),
        "handshake_limit": Row([None, HandshakeLimit()], "None"),
        "refresh_message": Row([None, "auth.refresh"], "None"),
        "max_age": SECONDS_OR_NONE,
        "recheck": SECONDS_OR_NONE,
        "on_refresh": Row([None, is_shown], "None"),
        "sessions": Row([None, Sessions(STORE)], "None"),
        "allow_unguarded_http": BOOL,
    },
    HTTPAuthMiddleware: {
        "app": Row([App()]),
        "authenticator": Row([AUTH]),
        "exclude": PATHS,
        "only": Row([None, ["/api/*"]], "None"),
        "required_scopes": LIST_OF_SCOPES,
        "preflight": Row(["answer", "pass"]),
        "enforce_expiry": BOOL,
        "grace": SECONDS_OR_NONE_AT_ALL,
        "max_age": SECONDS_OR_NONE,
        "allow_unguarded_websockets": BOOL,
    },
    TicketEndpoint: {
        "tickets": Row([Tickets(STORE)]),
        "authenticator": Row([AUTH]),
        "bind_client": BOOL,
    },
    SessionsEndpoint: {
        "sessions": Row([Sessions(STORE)]),
        "authenticator": Row([AUTH]),
        "admin_scope": WORD_OR_NONE,
        "on_end": Row([None, find_key], "None"),
    },
    LogoutEndpoint: {
        "revocations": Row([Revocations(STORE)]),
        "verifier": Row([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")]),
        "identity_of": Row([None, find_key], "None"),
        "ends": Row(["session", "user"]),
        "timeout": SECONDS,
        "observers": OBSERVERS,
    },
    QueryParam: {"name": TEXT},
    Header: {"name": WORD, "scheme": WORD_OR_NONE},
    Cookie: {"name": WORD},
    Subprotocol: {
        "marker": WORD,
        "prefix": WORD_OR_NONE,
        "encoding": Row(["base64url", "plain"]),
    },
    FirstMessage: {
        "timeout": SECONDS,
        "max_size": COUNT,
        "max_waiting": COUNT,
        "max_waiting_per_client": COUNT,
        "subprotocol": WORD_OR_NONE,
        "dialect": Row([None, "graphql-transport-ws", "home-assistant", token_of], "None"),
        "replay": BOOL,
    },
    JWTVerifier: {
        "key": Row([SECRET, SECRET.encode(), [SECRET]]),
        "algorithms": Row([["HS256"], ("HS256",)]),
        "audience": NAMES,
        "issuer": NAMES,
        "leeway": SECONDS_OR_NONE_AT_ALL,
        "required_claims": Row([["exp"], ("exp", "iat"), [("cnf", "jkt")]], "[]"),
        **CLAIMS,
        "typ": Row([None, "at+jwt"], "None,text"),
        "cache": Row([None, VerdictCache()], "None"),
        "clock": CLOCK,
    },
    JWKS: {"url": ADDRESS, **OIDC, "clock": CLOCK},
    TokenIntrospection: {
        "url": ADDRESS,
        "client_id": TEXT,
        "client_secret": TEXT,
        "audience": NAMES,
        **CLAIMS,
        "include_jwts": BOOL,
        "cache_ttl": SECONDS_OR_NONE_AT_ALL,
        "cache_size": COUNT,
        "max_in_flight": COUNT,
        "timeout": SECONDS,
        "max_size": COUNT,
        "clock": CLOCK,
    },
    APIKeyVerifier: {
        "keys": Row([{"billing": SECRET}]),
        "lookup": Row([find_key]),
        "scopes": LIST_OF_SCOPES,
    },
    ProxyHeader: {
        "header": WORD,
        "secret_header": Row(["x-proxy-secret"]),
        "secret": Row([SECRET, [SECRET, SECRET[::-1]]]),
        "clock": CLOCK,
    },
    InternalCredential: {"value": Row([SECRET]), "scopes": LIST_OF_SCOPES},
    Tickets: {
        "store": Row([STORE]),
        "ttl": SECONDS,
        "max_pending_per_user": COUNT,
        "clock": CLOCK,
    },
    MemoryStore: {"max_tickets": COUNT, "clock": CLOCK},
    Revocations: {
        "store": Row([STORE]),
        "max_token_age": SECONDS,
        "renew_within": SECONDS_OR_NONE_AT_ALL,
        "clock": CLOCK,
    },
    ConnectionLimit: {
        "limit": COUNT,
        "store": Row([STORE]),
        "total": Row([None, 1, 10_000], "None"),
        "overflow": Row(["reject", "evict_oldest"]),
        "name": Row(["", "a"], "'',text"),
    },
    HandshakeLimit: {"rate": Row(["60/minute", "1 per 2 hours"]), "clock": CLOCK},
    Sessions: {"store": Row([STORE]), "user_agent": BOOL, "clock": CLOCK},
    FailureThrottle: {
        "rate": Row(["10/minute", "100 per 2 hours"]),
        "storage": Row([None, limits.aio.storage.MemoryStorage()], "None"),
        "name": Row(["", "a"], "'',text"),
    },
    VerdictCache: {"size": COUNT, "ttl": SECONDS, "clock": CLOCK},
    RedactCredentials: {"authenticator": Row([AUTH])},
    Principal: {
        "identity": TEXT,
        "issuer": TEXT_OR_NONE,
        "scopes": Row([["a b", "c"], ("a",)], "[]"),
        "claims": Row([None, {"sub": "alice"}], "None,{},{1}"),
        "issued_at": TIME_OR_NONE,
        "expires_at": TIME_OR_NONE,
        "token_id": TEXT_OR_NONE,
        "session_id": TEXT_OR_NONE,
        "display_name": TEXT_OR_NONE,
        "method": TEXT,
        "login_method": TEXT_OR_NONE,
    },
    Credential: {"value": Row(["a"], "text,''"), "source": Row(["a"], "text,''")},
    Denied: {
        "reason": Row([Reason.INVALID]),
        "detail": Row(["a"], ",".join(OTHERS)),  # it is told as text
        "retry_after": Row([None, 5, 1.5], "None,0,-1,1.5,nan,inf"),
    },
    RedisStore: {
        "client": Row([redis.asyncio.Redis()]),
        "prefix": WORD,
        "lease": Row([1, 15.0], "1.5"),
    },
    PrometheusMetrics: {
        "registry": Row([prometheus_client.CollectorRegistry()], "None"),
        "connection_limit": Row([ConnectionLimit(total=5)], "None"),
    },
    OpenTelemetryObserver: {
        "tracer_provider": Row([None], "None"),
        "meter_provider": Row([None], "None"),
        "identities": BOOL,
        "connection_limit": Row([None, ConnectionLimit(total=5)], "None"),
    },
    DjangoSession: {"scopes": Row([None, lambda user: ["chat"]], "None"), "clock": CLOCK},
    StarletteSession: {
        "secret_key": Row([SECRET, SECRET.encode(), [SECRET], Secret(SECRET)]),
        "identity_key": Row(["user_id", ("user", "sub")], "text"),
        "session_id_key": Row([None, "sid"], "text,None"),
        "scopes_key": Row([None, "scopes"], "text,None"),
        "session_cookie": WORD,
        "max_age": Row([None, 5, 1.5], "None,1.5"),
        "clock": CLOCK,
    },
    DatabaseToken: {
        "lookup": Row([find_key]),
        "digest": Row(["sha256", "sha512", None, lambda token: token], "None"),
        "pattern": Row([None, "[0-9a-f]{40}"], "None,text"),
    },
    # Public functions
    JWTVerifier.from_oidc: {
        "issuer": Row(["http://127.0.0.1", "https://id.example"]),
        "algorithms": Row([["RS256"]]),
        "audience": NAMES,
        "discovery_url": Row([None, "http://127.0.0.1/discovery"], "None"),
        "jwks": Row([None, JWKS("http://127.0.0.1/keys")], "None"),
        **OIDC,
    },
    JWKS.from_oidc: {
        "issuer": Row(["http://127.0.0.1", "https://id.example"]),
        "discovery_url": Row([None, "http://127.0.0.1/discovery"], "None"),
    },
    RedisStore.from_url: {
        "url": Row(["redis://localhost"]),
        "cluster": Row([False], "False,True"),
        "prefix": WORD,
        "lease": Row([1, 15.0], "1.5"),
    },
    APIKeyVerifier.from_env: {"name": Row(["KEY_OF_TESTS"], "text"), "scopes": LIST_OF_SCOPES},
    InternalCredential.from_env: {"name": Row(["KEY_OF_TESTS"], "text"), "scopes": LIST_OF_SCOPES},
    Revocations.revoke_user: {
        "identity": TEXT,
        "issuer": ISSUER_OR_NONE,
        "renew_within": RENEW_WITHIN,
    },
    Revocations.revoke_token: {
        "token_id": TEXT,
        "expires_at": TIME_OR_NONE,
        "issuer": ISSUER_OR_NONE,
        "renew_within": RENEW_WITHIN,
    },
    Revocations.revoke_session: {
        "session_id": TEXT,
        "issuer": ISSUER_OR_NONE,
        "renew_within": RENEW_WITHIN,
    },
    Revocations.revoke_everybody: {"renew_within": RENEW_WITHIN},
    Revocations.block_user: {
        "identity": TEXT,
        "until": Row([4e9, inf, 4_000_000_000], "inf"),
        "issuer": ISSUER_OR_NONE,
    },
    Revocations.unblock_user: {"identity": TEXT, "issuer": ISSUER_OR_NONE},
    Sessions.list: {"identity": TEXT, "issuer": ISSUER_OR_NONE},
    Sessions.end: {"id": TEXT, "reason": Row([Reason.EXPIRED])},
    Sessions.end_these: {
        "ids": Row([["a"], ("a", "b")], "[]"),
        "reason": Row([Reason.EXPIRED]),
    },
    Sessions.end_others: {
        "identity": TEXT,
        "keep": TEXT,
        "issuer": ISSUER_OR_NONE,
        "reason": Row([Reason.EXPIRED]),
    },
    Tickets.mint: {
        "principal": Row([ALICE]),
        "path": Row([None, "/ws"], "None"),
        "origin": Row([None, "https://chat.example"], "None"),
        "client": Row([None, "192.0.2.7"], "None,'',text"),
    },
    WebSocketAuthMiddleware.drain: {"over": SECONDS_OR_NONE_AT_ALL},
    drain_on_signal: {
        "over": SECONDS_OR_NONE_AT_ALL,
        "signum": Row([signal.SIGTERM, signal.SIGUSR1, int(signal.SIGTERM)]),
    },
    session_id: {"session_key": TEXT},
    revoke_at_logout: {"revocations": Row([Revocations(STORE)])},
    advice: {"code": Row([1006, 4001], "0"), "reason": Row(["token_expired"], "text,''")},
    as_principal: {"authenticator": Row([AUTH]), "principal": Row([ALICE])},
    make_jwt: {
        "key": Row([SECRET, SECRET.encode()]),
        "identity": Row([None, "alice"], "None,text"),
        "algorithm": Row(["HS256"]),
        "expires_in": Row([5, -300.0], "0,-1,1.5"),
        "scopes": LIST_OF_SCOPES,
        "issuer": ISSUER_OR_NONE,
        "audience": Row([None, "chat"], "None,text"),
        "key_id": Row([None, "k1"], "None,text"),
        "clock": Row([lambda: 5.0], "function"),
    },
}

USUAL: dict[Any, dict[str, Any]] = {
    JWTVerifier: {"algorithms": ["HS256"]},
    APIKeyVerifier: {},
    ConnectionLimit: {"limit": 3, "store": STORE},
    PrometheusMetrics: {},
    Revocations.revoke_user: {"self": Revocations(STORE)},
    Revocations.revoke_token: {"self": Revocations(STORE)},
    Revocations.revoke_session: {"self": Revocations(STORE)},
    Revocations.revoke_everybody: {"self": Revocations(STORE)},
    Revocations.block_user: {"self": Revocations(STORE)},
    Revocations.unblock_user: {"self": Revocations(STORE)},
    Sessions.list: {"self": Sessions(STORE)},
    Sessions.end: {"self": Sessions(STORE)},
    Sessions.end_these: {"self": Sessions(STORE)},
    Sessions.end_others: {"self": Sessions(STORE)},
    Tickets.mint: {"self": Tickets(STORE)},
    WebSocketAuthMiddleware.drain: {"self": WebSocketAuthMiddleware(App(), AUTH)},
}
"""Other arguments than the first good one of each that has no default."""

OWN_ERRORS = {Denied: TypeError, Tickets.mint: (TypeError, ValueError)}
EXEMPT = {Session, SessionEntry, ConfigurationError, SocketClosed, StreamClosed}


@functools.cache
def arguments_of(built: Any) -> list[inspect.Parameter]:
    found = inspect.signature(built).parameters.values()
    return [p for p in found if p.kind is not p.VAR_KEYWORD and p.name != "self"]


async def build(built: Any, **options: Any) -> Any:
    needed = {
        p.name: ROWS[built][p.name].good[0]
        for p in arguments_of(built)
        if p.default is inspect.Parameter.empty
    }
    if built is APIKeyVerifier and "lookup" not in options:
        needed["keys"] = {"billing": SECRET}
    result = built(**{**needed, **USUAL.get(built, {}), **options})
    if inspect.iscoroutine(result):
        result = await result
    if isinstance(result, AbstractContextManager) and built is not drain_on_signal:
        with result:
            pass
    return result


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_TESTS", SECRET)
    registry = prometheus_client.CollectorRegistry()
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)


GOOD = [(b, n, v) for b, rows in ROWS.items() for n, row in rows.items() for v in row.good]
OPTIONS = [(b, n) for b, rows in ROWS.items() for n in rows if (b, n) != (make_jwt, "key")]


def name_of(value: Any) -> str | None:
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else None


def test_every_public_part_and_every_option_of_it_has_its_row() -> None:
    public = [getattr(asgi_wsauth, name) for name in asgi_wsauth.__all__]
    parts = {
        part
        for part in public
        if isinstance(part, type)
        and part not in EXEMPT
        and not issubclass(part, (Event, tuple, Enum))
        and not getattr(part, "_is_protocol", False)
    }
    assert parts - set(ROWS) == set()
    for built, rows in ROWS.items():
        named = {p.name for p in arguments_of(built)}
        assert named <= set(rows), built
        assert named == set(rows) or built == JWTVerifier.from_oidc  # which takes those of others


@pytest.mark.anyio
@cases(("built", "option", "value"), GOOD, ids=name_of)
async def test_what_an_option_takes(built: Any, option: str, value: Any) -> None:
    await build(built, **{option: value})


@pytest.mark.anyio
@cases(("built", "option"), OPTIONS, ids=name_of)
async def test_all_else_is_an_error_that_names_the_option(built: Any, option: str) -> None:
    taken = ROWS[built][option].others.split(",")
    for other in OTHERS.keys() - set(taken):
        with pytest.raises((ConfigurationError, *_own_errors(built))) as caught:
            await build(built, **{option: OTHERS[other]})
            pytest.fail(f"{other} is taken")
        told = str(caught.value)
        assert any(name in told for name in (option, *ALSO.get(option, ()))), other
        assert "\n" not in told


DOCSTRINGS = runpy.run_path(str(ROOT / "docs/docstrings.py"))
UNITS = r"\b(seconds|bytes|characters|how many|number|code)\b"


# The docstring of a Credential has its arguments among its attributes.
@cases("built", ROWS.keys() - {Credential}, ids=name_of)
def test_the_docstring_says_what_each_argument_is(built: Any) -> None:
    """The reference and the page of all options are made from it."""
    told = DOCSTRINGS["arguments"](built)
    found = [p for p in inspect.signature(built).parameters.values() if p.name != "self"]
    assert list(told) == [parameter.name for parameter in found]
    for parameter in found:
        first = DOCSTRINGS["first_sentence"](told[parameter.name])
        assert 0 < len(first) < 200, first
        counts = re.search(r"\b(int|float)\b", str(parameter.annotation).partition("Callable")[0])
        assert not counts or re.search(UNITS, first), first


ALSO = {"keys": ("key number",), "discovery_url": ("url",), "issuer": ("url",)}
"""Other words by which some options are named."""


def _own_errors(built: Any) -> tuple[type[Exception], ...]:
    errors = OWN_ERRORS.get(built, ())
    return errors if isinstance(errors, tuple) else (errors,)
