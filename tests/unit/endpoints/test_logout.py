"""LogoutEndpoint: what a logout token ends (OpenID Connect Back-Channel Logout 1.0), how its sender
is answered, and what the log tells.

Other Security Event Tokens are in test_security_events.py; what a token must have besides, whatever
it tells, in verifiers/test_event_tokens.py; and sockets of other processes in wire/test_workers.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from cases import cases
from handshakes import CONNECT, NOW, App, Clock, authenticator, drive, jwt_verifier, mint, websocket
from http_calls import call, request, sends
from issuer import issuing
from keys import RSA_KEY
from logouts import FORM, ISSUER, LOGOUT, Site, event_token, logout_token, post
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from asgi_wsauth import (
    JWKS,
    Authenticator,
    ConfigurationError,
    Event,
    JWTVerifier,
    LoggedOut,
    LogoutEndpoint,
    MemoryStore,
    Notice,
    Reason,
    Refused,
    Revocations,
    WebSocketAuthMiddleware,
)

pytestmark = pytest.mark.anyio

BAD = {
    "error": "invalid_request",
    "error_description": "the token is not valid, or says nothing that is understood here",
}


# What it ends


async def test_a_sub_ends_all_logins_of_that_user() -> None:
    site = Site()
    answer = await post(site.endpoint, logout_token())
    assert (answer.status, answer.body) == (200, b"")
    assert answer.header("cache-control") == "no-store"
    assert answer.header("content-length") == "0"
    assert await site.ended("alice")
    assert await site.ended("alice", "another session")
    assert not await site.ended("alice", issued_at=NOW + 1)
    assert not await site.ended("bob")


async def test_a_sid_ends_that_session_only() -> None:
    site = Site()
    assert (await post(site.endpoint, logout_token(sid="s1"))).status == 200
    assert await site.ended("alice", "s1")
    assert not await site.ended("alice", "s2")
    assert not await site.ended("alice")


async def test_a_sid_needs_no_sub() -> None:
    site = Site()
    assert (await post(site.endpoint, logout_token(sid="s1", sub=None))).status == 200
    assert await site.ended("whoever", "s1")


@cases("sid", [None, "s1"])
async def test_it_ends_at_the_issuer_that_says_so(sid: str | None) -> None:
    site = Site()
    assert (await post(site.endpoint, logout_token(sid=sid))).status == 200
    assert not await site.ended("alice", "s1", issuer="https://other.example")
    assert not await site.ended("alice", "s1", issuer=None)
    assert await site.ended("alice", "s1")


async def test_where_logins_have_no_sid_it_may_end_all_of_the_user() -> None:
    site = Site(ends="user")
    assert (await post(site.endpoint, logout_token(sid="s1"))).status == 200
    assert await site.ended("alice")
    assert (await post(site.endpoint, logout_token(sid="s2", sub=None, jti="b"))).status == 200
    assert await site.ended("bob", "s2")


@cases("sid", [None, "s1"])
async def test_who_has_logged_out_is_not_asked_for_another_credential(sid: str | None) -> None:
    class Keeps(MemoryStore):
        async def put_revocation(self, notice: Notice, /, *, ttl: float) -> None:
            notices.append(notice)

    notices: list[Notice] = []
    revocations = Revocations(Keeps(), renew_within=30, clock=lambda: NOW)
    endpoint = LogoutEndpoint(revocations, jwt_verifier(issuer=ISSUER, audience="chat"))
    assert (await post(endpoint, logout_token(sid=sid))).status == 200
    assert [notice.renew_by for notice in notices] == [None, None]


async def test_an_open_socket_ends_with_4004() -> None:
    store = MemoryStore()
    revocations = Revocations(store, clock=lambda: NOW)
    verifier = jwt_verifier(issuer=ISSUER, audience="chat")
    endpoint = LogoutEndpoint(revocations, verifier)
    login = mint(iss=ISSUER, aud="chat", iat=NOW - 60)
    auth = Authenticator([verifier], revocations=revocations, clock=lambda: NOW)
    opened = anyio.Event()
    connects = iter([CONNECT])
    sent: list[Any] = []

    async def receive() -> Any:
        for message in connects:
            return message
        if any(message["type"] == "websocket.close" for message in sent):
            return {"type": "websocket.disconnect", "code": 1005}
        return await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        opened.set()
        await receive()

    async with anyio.create_task_group() as group:
        guard: Any = WebSocketAuthMiddleware(app, auth)
        group.start_soon(guard, websocket(f"token={login}"), receive, send)
        await opened.wait()
        assert (await post(endpoint, logout_token())).status == 200
    assert (sent[-1]["code"], sent[-1]["reason"]) == (4004, "token_revoked")


# Tokens as providers issue them, signed by keys that they publish


SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "keycloak": (
        {"typ": "JWT"},
        {
            "jti": "5e7c0f7a-8e9a-4c53-9f0e-6d1d9a6e2b11",
            "sub": "f:3c1d9e2a:alice",
            "sid": "2d1a6f0e-1b7c-4c1e-8f2b-7f0d5c3e9a44",
            "typ": "Logout",
            "events": {LOGOUT: {}, "revoke_offline_access": True},
        },
    ),
    "auth0": (
        {"typ": "logout+jwt"},
        {
            "jti": "a2a3c8f4-1fd4-4d1f-b5a4-4d6b4d8f0c55",
            "sub": "auth0|6553da60a54af58e29493993",
            "sid": "Xr1n4w5Yt0dT8o2mK6uW7sFqZ3bLcEaV",
            "events": {LOGOUT: {}},
            "trace_id": "8f1f9c0f4c1de0a3",
        },
    ),
    "okta": (
        {},
        {
            "jti": "f3c5a2b8-6f7b-4f0f-9f7e-2a1d0c9b8e66",
            "sub": "00u1ab2cd3ef4gh5i6j7",
            "sid": "102LN9Bnuc4S_ewfc9BYwageA",
            "events": {LOGOUT: {}},
        },
    ),
}


@cases("shape", sorted(SHAPES))
@cases("ends", ["session", "user"])
async def test_logout_tokens_as_providers_have_them(shape: str, ends: str) -> None:
    header, claims = SHAPES[shape]
    with issuing() as issuer:
        issuer.add_key("k1", RSA_KEY)
        keys = JWKS(f"{issuer.url}/jwks", observers=[])
        url = f"{issuer.url}/" if shape == "auth0" else issuer.url
        options: dict[str, Any] = {"algorithms": ["RS256"], "jwks": keys, "clock": lambda: NOW}
        verifier = JWTVerifier.from_oidc(url, audience="0oa5client", **options)
        site = Site(verifier=verifier, ends=ends)
        common = {"iss": url, "aud": "0oa5client", "iat": int(NOW), "exp": int(NOW) + 120}
        headers = {"typ": None, "kid": "k1", **header}
        token = mint(RSA_KEY, algorithm="RS256", headers=headers, **{**common, **claims})
        assert (await post(site.endpoint, token)).status == 200
        assert await site.ended(claims["sub"], claims["sid"], issuer=url)
        assert await site.ended(claims["sub"], issuer=url) is (ends == "user")
        assert (await post(site.endpoint, token)).json == BAD
        for other in (RSA_KEY, issuer.add_key("k2")):  # of another client; by another key
            forged = {**common, **claims, "jti": "c"}
            if other is RSA_KEY:
                forged["aud"] = "0oa6client"
            algorithm = "RS256" if other is RSA_KEY else "ES256"
            signed = mint(other, algorithm=algorithm, headers=headers, **forged)
            assert (await post(site.endpoint, signed)).status == 400


# Who is meant


async def test_the_user_is_named_by_the_claim_that_logins_are_named_by() -> None:
    verifier = jwt_verifier(issuer=ISSUER, audience="chat", identity_claim="uid")
    site = Site(verifier=verifier)
    assert (await post(site.endpoint, logout_token(uid=7))).status == 200
    assert await site.ended("7")
    assert not await site.ended("alice")


async def test_a_user_without_that_claim_is_not_thought_to_be_logged_out() -> None:
    seen: list[Event] = []
    verifier = jwt_verifier(issuer=ISSUER, audience="chat", identity_claim="oid")
    site = Site(verifier=verifier, observers=[seen.append])
    assert (await post(site.endpoint, logout_token())).json == BAD
    (event,) = seen
    assert isinstance(event, Refused)
    assert event.detail == "it has no oid; identity_of= can say who is meant"
    assert (await post(site.endpoint, logout_token(sid="s1"))).status == 200


async def test_a_hook_says_who_is_meant() -> None:
    async def identity_of(subject: Any) -> str | None:
        asked.append(subject)
        return {"alice": "42"}.get(subject["sub"])

    asked: list[Any] = []
    site = Site(identity_of=identity_of)
    assert (await post(site.endpoint, logout_token())).status == 200
    assert asked == [{"format": "iss_sub", "iss": ISSUER, "sub": "alice"}]
    assert await site.ended("42")
    assert not await site.ended("alice")
    assert (await post(site.endpoint, logout_token(sub="bob", jti="b"))).status == 200
    assert not await site.ended("bob")


# What it refuses


@cases(
    "claims",
    [
        {"events": {}},
        {"events": {"urn:other": {}}},
        {"events": {LOGOUT: None}},
        {"events": {LOGOUT: True}},
        {"events": [LOGOUT]},
        {"nonce": "n"},
        {"nonce": ""},
        {"exp": None},
        {"iat": None},
        {"jti": None},
        {"iss": None},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": ["alice"]},
        {"sid": ""},
        {"sid": 7},
        {"iat": NOW + 31},
        {"iat": NOW - 31 * 86400},
        {"exp": NOW - 31},
        {"aud": "mail"},
        {"iss": "https://other.example"},
    ],
)
async def test_a_bad_token_ends_nothing(claims: dict[str, Any]) -> None:
    seen: list[Event] = []
    site = Site(observers=[seen.append])
    token = logout_token(**claims)
    answer = await post(site.endpoint, token)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert not await site.ended("alice", "s1")
    (event,) = seen
    assert isinstance(event, Refused)
    assert event.reason in (Reason.INVALID, Reason.EXPIRED)
    assert event.detail
    assert token not in repr((event, answer))


@cases(
    ("claims", "detail"),
    [
        ({"events": {"urn:other": {}}}, "its events have no back-channel logout"),
        ({"nonce": "n"}, "it has a nonce, as ID tokens have"),
        ({"exp": None}, "it has no exp"),
        ({"sub": None}, "it has neither a sid nor a sub"),
        ({"sid": ""}, "its sid is not a string, or empty"),
    ],
)
async def test_the_log_is_told_why(claims: dict[str, Any], detail: str) -> None:
    seen: list[Event] = []
    await post(Site(observers=[seen.append]).endpoint, logout_token(**claims))
    (event,) = seen
    assert isinstance(event, Refused)
    assert event.detail == detail


@cases(
    "headers",
    [{"typ": "at+jwt"}, {"typ": "secevent+jwt"}, {"typ": "dpop+jwt"}, {"typ": "JOSE"}],
)
async def test_what_says_that_it_is_another_thing_is_none(headers: Any) -> None:
    assert (await post(Site().endpoint, logout_token(headers))).json == BAD


@cases(
    "token",
    [
        "",
        "rubbish",
        "a.b.c",
        mint(iss=ISSUER, aud="chat", iat=NOW - 5, jti="a", sid="s1"),
        mint(iss=ISSUER, aud="chat", iat=NOW - 5, jti="a", sid="s1", nonce="n"),
        logout_token(None, 64 * "k"),
        f"{logout_token()}\n",
        event_token({"format": "iss_sub", "iss": ISSUER, "sub": "alice"}),
    ],
)
async def test_a_login_and_other_tokens_log_nobody_out(token: str) -> None:
    site = Site()
    answer = await post(site.endpoint, token)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert not await site.ended("alice", "s1")


async def test_a_logout_token_opens_no_socket_before_and_after() -> None:
    verifier = jwt_verifier(issuer=ISSUER, audience="chat")
    site = Site(verifier=verifier)
    guard = WebSocketAuthMiddleware(App(), authenticator(verifier))
    for headers in ({"typ": "logout+jwt"}, {"typ": "JWT"}):
        token = logout_token(headers, jti=headers["typ"])
        for _ in range(2):
            outcome = await drive(guard, websocket(f"token={token}"))
            assert outcome.close == (1008, "token_invalid")
            await post(site.endpoint, token)


# Once


async def test_a_jti_counts_once() -> None:
    site = Site()
    token = logout_token()
    assert (await post(site.endpoint, token)).status == 200
    seen: list[Event] = []
    site.endpoint.observers = (seen.append,)
    assert (await post(site.endpoint, token)).json == BAD
    (event,) = seen
    assert isinstance(event, Refused)
    assert event.detail == "it was received before"


async def test_a_jti_counts_once_for_all_who_share_the_store() -> None:
    site = Site()
    assert (await post(site.endpoint, logout_token())).status == 200
    other = Site(store=site.store)
    assert (await post(other.endpoint, logout_token())).status == 400
    assert (await post(other.endpoint, logout_token(jti="another"))).status == 200


async def test_a_jti_is_its_issuers_and_no_logins() -> None:
    verifier = jwt_verifier(issuer=[ISSUER, "https://other.example"], audience="chat")
    site = Site(verifier=verifier)
    assert (await post(site.endpoint, logout_token(sub="bob"))).status == 200
    assert (await post(site.endpoint, logout_token(iss="https://other.example"))).status == 200
    assert not await site.ended("alice", token_id="7f3a91")


@cases(
    ("issued", "lives", "counts"),
    [(NOW - 5, 120, 120), (NOW, 1e9, 30 * 86400), (NOW - 86400.5, 86401, 86401)],
)
async def test_a_jti_is_remembered_for_as_long_as_its_token_counts(
    issued: float, lives: float, counts: float
) -> None:
    clock, seen = Clock(), list[Event]()
    verifier = jwt_verifier(issuer=ISSUER, audience="chat", leeway=3600, clock=clock)
    site = Site(store=MemoryStore(clock=clock), verifier=verifier, observers=[seen.append])
    token = logout_token(iat=issued, exp=issued + lives)
    memory = ("token", f"[{len(ISSUER)}]{ISSUER} logout+jwt 7f3a91")
    assert (await post(site.endpoint, token)).status == 200
    details = []
    for later in (3599, 3600):
        clock.now = issued + counts + later
        assert (await post(site.endpoint, token)).status == 400
        details.append(getattr(seen[-1], "detail", ""))
    assert details == ["it was received before", "since 0 s"]
    assert (await site.store.get_revocations([memory])) == [issued]
    clock.now = NOW + counts + 7200
    assert (await site.store.get_revocations([memory])) == [None]


class Breaks(MemoryStore):
    """A store that fails at some of its calls, or hangs."""

    def __init__(self, *fails: str) -> None:
        super().__init__()
        self.fails = list(fails)
        self.hangs = False

    async def _may_fail(self, name: str) -> None:
        if self.fails and self.fails[0] == name:
            self.fails.pop(0)
            if self.hangs:
                await anyio.sleep_forever()
            raise OSError("redis://:hunter2@store is down")

    async def put_revocation(self, *args: Any, **kwargs: Any) -> None:
        await self._may_fail("put")
        await super().put_revocation(*args, **kwargs)

    async def get_revocations(self, subjects: Any, /) -> Sequence[float | None]:
        await self._may_fail("get")
        return await super().get_revocations(subjects)


@cases("fails", [["get"], ["put"]])
@cases("hangs", [False, True])
async def test_where_the_store_fails_the_provider_may_try_again(
    fails: list[str], hangs: bool
) -> None:
    seen: list[Event] = []
    store = Breaks(*fails)
    store.hangs = hangs
    site = Site(store=store, observers=[seen.append], timeout=0.05 if hangs else 5)
    answer = await post(site.endpoint, logout_token())
    assert (answer.status, answer.json) == (503, {"error": "verifier_unavailable"})
    assert answer.header("retry-after") == "5"
    assert "hunter2" not in repr(answer)
    assert not await site.ended("alice")
    assert (await post(site.endpoint, logout_token())).status == 200
    assert await site.ended("alice")
    first, _ = seen
    assert isinstance(first, Refused)
    assert first.reason is Reason.UNAVAILABLE
    how = "no logout within 0.05 s" if hangs else "<MemoryStore with 0 tickets>: OSError"
    assert first.detail == how


async def test_a_logout_that_was_stored_but_not_that_it_was_may_come_again() -> None:
    class Forgets(Breaks):
        async def put_revocation(self, *args: Any, **kwargs: Any) -> None:
            await super().put_revocation(*args, **kwargs)
            self.fails = ["put"] * (not self.done)
            self.done = True

        done = False

    seen: list[Event] = []
    site = Site(store=Forgets(), observers=[seen.append])
    statuses = [(await post(site.endpoint, logout_token())).status for _ in range(3)]
    assert statuses == [503, 200, 400]
    assert getattr(seen[0], "detail", "") == "<MemoryStore with 0 tickets>: OSError"
    assert await site.ended("alice")


async def test_where_the_keys_cant_be_had_the_provider_may_try_again() -> None:
    with issuing() as issuer:
        issuer.add_key("1")
        issuer.behaviour["*"] = "fail"
        keys = JWKS(f"{issuer.url}/jwks", observers=[], cooldown=0)
        site = Site(
            verifier=JWTVerifier(keys, algorithms=["ES256"], audience="chat", clock=lambda: NOW)
        )
        claims = {"iss": issuer.url, "aud": "chat", "jti": "a", "iat": NOW, "events": {LOGOUT: {}}}
        token = issuer.token("1", **claims)
        answer = await post(site.endpoint, token)
        assert (answer.status, answer.json) == (503, {"error": "keys_unavailable"})
        assert answer.header("retry-after") == "0"
        issuer.behaviour.clear()
        assert (await post(site.endpoint, token)).status == 200
        assert await site.ended("alice", issuer=issuer.url)


@cases(
    ("hook", "status", "error"),
    [
        (OSError("the database is down"), 503, "verifier_unavailable"),
        (7, 500, "internal_error"),
        ("", 500, "internal_error"),
    ],
)
async def test_a_hook_that_fails_acknowledges_nothing(hook: Any, status: int, error: str) -> None:
    async def identity_of(subject: Any) -> Any:
        if isinstance(hook, Exception):
            raise hook
        return hook

    seen: list[Event] = []
    site = Site(identity_of=identity_of, observers=[seen.append])
    answer = await post(site.endpoint, logout_token())
    assert (answer.status, answer.json) == (status, {"error": error})
    (event,) = seen
    assert isinstance(event, Refused)
    if status == 503:
        assert "identity_of" in event.detail
    else:
        told = f"identity_of must return an identity, a Principal or None, got {hook!r}"
        assert told in str(event.traceback)


async def test_a_hook_that_turns_out_not_to_be_async_is_named_in_the_log() -> None:
    seen: list[Event] = []
    plain: Any = lambda subject: "alice"  # noqa: E731 - which of a def would be known before
    site = Site(identity_of=plain, observers=[seen.append])
    assert (await post(site.endpoint, logout_token())).status == 503
    (event,) = seen
    assert isinstance(event, Refused)
    assert "identity_of must be an async function, got one that returns" in str(event.traceback)


# Requests


@cases("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post"])
async def test_another_method_is_refused_unread(method: str) -> None:
    token = logout_token()
    scope = request(method, f"a=1&logout_token={token}", headers=[FORM])
    answer = await call(Site().endpoint, scope)
    assert (answer.status, answer.header("allow"), answer.received) == (405, "POST", 0)
    told = {"error": "invalid_request", "error_description": "only POST logs anybody out"}
    assert answer.json == told
    assert scope["query_string"] == b"a=1"


async def test_a_token_in_the_address_is_not_looked_at() -> None:
    scope = request("POST", f"logout_token={logout_token()}", headers=[FORM])
    answer = await call(Site().endpoint, scope, b"")
    assert (answer.status, answer.json["error_description"]) == (
        400,
        "the form has no logout_token",
    )
    assert scope["query_string"] == b""


@cases(
    "headers",
    [
        [],
        [("content-type", "")],
        [("content-type", "application/json")],
        [("content-type", "multipart/form-data; boundary=x")],
        [("content-type", "text/plain")],
        [FORM, FORM],
        [("content-type", "application/x-www-form-urlencoded; charset=utf-16")],
        [("content-type", "application/x-www-form-urlencoded; charset=a=utf-8")],
        [FORM, ("content-encoding", "gzip")],
    ],
)
async def test_another_type_is_refused_unread(headers: list[Any]) -> None:
    scope = request("POST", headers=headers)
    answer = await call(Site().endpoint, scope, b"logout_token=x")
    assert (answer.status, answer.json["error"], answer.received) == (415, "invalid_request", 0)
    assert answer.json["error_description"] in (
        "the body is neither application/x-www-form-urlencoded nor application/secevent+jwt",
        "the body's charset is not UTF-8",
        "the body is compressed",
    )


@cases(
    "value",
    [
        "application/x-www-form-urlencoded; charset=UTF-8",
        'Application/X-WWW-Form-Urlencoded;charset="utf-8"',
        "application/x-www-form-urlencoded ; charset=us-ascii; a=b",
    ],
)
async def test_the_type_as_clients_write_it(value: str) -> None:
    answer = await post(Site().endpoint, logout_token(), [("content-type", value)])
    assert answer.status == 200


@cases(
    ("body", "description"),
    [
        (b"", "the form has no logout_token"),
        (b"token=x", "the form has no logout_token"),
        (b"logout_token=", BAD["error_description"]),
        (b"logout_token=a&logout_token=a", "the form has two logout_token"),
        ("logout_token=ä".encode(), "the body is not ASCII"),
        (b"&".join([b"a=b"] * 101), "the form has too many parameters"),
    ],
)
async def test_a_form_without_a_token(body: bytes, description: str) -> None:
    answer = await call(Site().endpoint, request("POST", headers=[FORM]), body)
    assert (answer.status, answer.json["error_description"]) == (400, description)


async def test_other_parameters_are_ignored() -> None:
    body = f"a=b&logout_token={logout_token()}&c".encode()
    assert (await call(Site().endpoint, request("POST", headers=[FORM]), body)).status == 200


async def test_a_body_may_come_in_pieces() -> None:
    body = f"logout_token={logout_token()}".encode()
    pieces = [body[n : n + 7] for n in range(0, len(body), 7)]
    assert (await call(Site().endpoint, request("POST", headers=[FORM]), *pieces)).status == 200


@cases(
    ("length", "status", "received"),
    [(None, 413, 9), ("70000", 413, 0), ("9" * 4000, 413, 0), ("x", 400, 0)],
)
async def test_a_body_over_64_kb_is_refused(length: str | None, status: int, received: int) -> None:
    headers = [FORM, *([("content-length", length)] if length else [])]
    pieces = [b"a" * 8000] * 12
    answer = await call(Site().endpoint, request("POST", headers=headers), *pieces)
    assert (answer.status, answer.received) == (status, received)
    assert answer.json["error"] == "invalid_request"


@cases("told", [True, False])
async def test_a_body_of_64_kb_is_read(told: bool) -> None:
    body = f"logout_token={logout_token()}&x=".encode().ljust(65_536, b"x")
    headers = [FORM, *([("content-length", "65536")] if told else [])]
    assert (await call(Site().endpoint, request("POST", headers=headers), body)).status == 200


async def test_a_body_that_never_ends_is_given_up() -> None:
    seen: list[Event] = []
    site = Site(timeout=0.01, observers=[seen.append])
    scope = request("POST", headers=[FORM])
    answer = await call(site.endpoint, scope, receive=anyio.sleep_forever)
    assert (answer.status, answer.json["error"]) == (408, "invalid_request")
    assert answer.json["error_description"] == "no whole body within 0.01 s"
    assert [event.name for event in seen] == ["refused"]


async def test_a_client_that_leaves_logs_nobody_out() -> None:
    body = {"type": "http.request", "body": b"logout_token=a", "more_body": True}
    messages = iter([body, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    seen: list[Event] = []
    endpoint = Site(observers=[seen.append]).endpoint
    answer = await call(endpoint, request("POST", headers=[FORM]), receive=receive)
    assert answer.status == 400
    assert [event.name for event in seen] == ["refused"]


async def test_a_client_that_left_raises_nothing() -> None:
    async def send(message: Any) -> None:
        raise OSError("gone")

    site = Site()
    body = f"logout_token={logout_token()}".encode()
    await site.endpoint(request("POST", headers=[FORM]), sends(body), send)
    assert await site.ended("alice")


async def test_a_receive_that_raises_is_told_and_raises_nothing() -> None:
    async def receive() -> Any:
        raise OSError("gone")

    scope = request("POST", headers=[FORM])
    answer = await call(Site().endpoint, scope, receive=receive)
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})


async def test_a_scope_that_no_server_should_build_raises_nothing() -> None:
    scope = request("POST", headers=[FORM])
    del scope["method"]
    seen: list[Event] = []
    answer = await call(Site(observers=[seen.append]).endpoint, scope, b"")
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})
    (event,) = seen
    assert isinstance(event, Refused)
    assert event.detail == "the logout: KeyError"


async def test_a_socket_is_closed() -> None:
    seen: list[Event] = []
    outcome = await drive(Site(observers=[seen.append]).endpoint, websocket(), [])
    assert outcome.close == (1008, "token_malformed")
    (event,) = seen
    assert isinstance(event, Refused)
    assert (event.close_code, event.protocol) == (1008, "websocket")
    assert event.detail == "a socket can't log anybody out"


async def test_a_lifespan_is_none_of_its_business() -> None:
    outcome = await drive(Site().endpoint, {"type": "lifespan"}, [])
    assert not outcome.sent


@cases(
    "route",
    [
        lambda endpoint: Route("/logout", endpoint, methods=["POST"]),
        lambda endpoint: Mount("/logout", endpoint),
    ],
)
async def test_it_stands_in_any_router(route: Any) -> None:
    site = Site()
    app = Starlette(routes=[route(site.endpoint)])
    path = "/logout" if isinstance(app.routes[0], Route) else "/logout/"
    body = f"logout_token={logout_token()}".encode()
    assert (await call(app, request("POST", path=path, headers=[FORM]), body)).status == 200


# What is told


@cases(
    ("claims", "subject", "identity"),
    [({}, "user", "alice"), ({"sid": "s1"}, "session", None)],
)
async def test_observers_are_told_what_has_ended(
    claims: dict[str, Any], subject: str, identity: str | None
) -> None:
    seen: list[Event] = []
    token = logout_token(**claims)
    await post(Site(observers=[seen.append]).endpoint, token)
    (event,) = seen
    assert isinstance(event, LoggedOut)
    assert (event.subject, event.identity, event.issuer) == (subject, identity, ISSUER)
    assert (event.told_by, event.protocol, event.path) == ("logout_token", "http", "/logout")
    assert (event.client, event.method, len(event.fingerprint or "")) == ("127.0.0.1", None, 16)
    assert token not in repr(event)


async def test_each_request_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asgi_wsauth")
    site, token = Site(), logout_token()
    for _ in range(2):
        await post(site.endpoint, token)
    good, bad = (record.getMessage() for record in caplog.records)
    assert good.startswith("http logged_out: client=127.0.0.1 path=/logout identity=alice")
    assert good.endswith("subject=user told_by=logout_token")
    assert "reason=token_invalid" in bad
    assert 'detail="it was received before"' in bad
    assert token not in caplog.text
    assert token.split(".")[1] not in caplog.text


async def test_a_store_that_repeats_what_it_was_given_leaks_no_token() -> None:
    class Repeats(MemoryStore):
        async def get_revocations(self, subjects: Any, /) -> Any:
            raise OSError(token)

    token = logout_token()
    seen: list[Event] = []
    await post(Site(store=Repeats(), observers=[seen.append]).endpoint, token)
    assert token not in repr(seen)


# How it is built


def test_a_verifier_without_an_audience_could_take_no_token() -> None:
    with pytest.raises(ConfigurationError, match=r"^verifier must have an audience, got .*id$"):
        Site(verifier=jwt_verifier(issuer=ISSUER))


async def knows_nobody() -> None: ...


@cases(
    ("options", "message"),
    [
        (
            {"revocations": MemoryStore()},
            "revocations must be a Revocations, got .*; write for example Revocations(store)",
        ),
        (
            {"verifier": None},
            "verifier must be a JWTVerifier, got None; write for example "
            'JWTVerifier(JWKS("https://id.example/keys"), ...)',
        ),
        ({"identity_of": "alice"}, "identity_of must be "),
        ({"identity_of": knows_nobody}, "identity_of must be "),
        ({"ends": "all"}, 'ends must be one of "session", "user", got '),
        ({"timeout": 0}, "timeout must be "),
    ],
)
def test_bad_configuration_is_named(options: dict[str, Any], message: str) -> None:
    site = Site()
    good = {"revocations": site.revocations, "verifier": site.endpoint.verifier}
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(ConfigurationError, match=f"^{pattern}"):
        LogoutEndpoint(**{**good, **options})


def test_its_repr_names_its_verifier() -> None:
    assert repr(Site().endpoint) == "<LogoutEndpoint of <JWTVerifier HS256>>"
