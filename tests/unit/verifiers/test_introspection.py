"""TokenIntrospection (RFC 7662): what it asks, what it believes, and what it costs the issuer."""

from __future__ import annotations

import gc
import logging
import socket
import sys
import traceback
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote_plus

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import (
    NOW,
    App,
    Clock,
    authenticator,
    bearer,
    connected,
    drive,
    jwt_verifier,
    mint,
    websocket,
)
from issuer import FAILURES, Issuer, issuing
from servers import DEADLINE
from sockets import Seat, pass_time, running, until
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    Authenticator,
    ConfigurationError,
    Credential,
    Denied,
    Principal,
    Reason,
    Rechecks,
    TokenIntrospection,
    WebSocketAuthMiddleware,
)

pytestmark = pytest.mark.anyio

CONN = HTTPConnection(websocket())
CLIENT_SECRET = "s3cr3t:of%the+client ü"
TOKEN = "0paque-T0ken.of~alice"
SOON = 0.1  # seconds: the timeout of what is meant to time out
INVALID, EXPIRED, UNAVAILABLE, NOT_MINE = (
    Reason.INVALID,
    Reason.EXPIRED,
    Reason.UNAVAILABLE,
    None,
)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """One that knows a token of alice, and 100 others."""
    with issuing() as issuer:
        issuer.tokens[TOKEN] = {"active": True, "sub": "alice"}
        for number in range(100):
            issuer.tokens[f"token-{number}"] = {"active": True, "sub": f"user-{number}"}
        issuer.keep()
        yield issuer


def introspection(issuer: Issuer | str, **options: Any) -> TokenIntrospection:
    url = issuer if isinstance(issuer, str) else f"{issuer.url}/introspect"
    return TokenIntrospection(
        url,
        **{
            "client_id": "chat",
            "client_secret": CLIENT_SECRET,
            "timeout": DEADLINE,
            "clock": lambda: NOW,
            **options,
        },
    )


async def judge(verifier: TokenIntrospection, presented: str = TOKEN) -> Principal | Reason | None:
    """The principal, the reason of the refusal, or None for "not mine"."""
    try:
        return await verifier(Credential(presented), CONN)
    except Denied as denied:
        written = "".join(traceback.format_exception(denied)) + repr(denied)
        for secret in (presented, CLIENT_SECRET, "Basic "):
            assert secret not in written
        assert denied.detail.isprintable()
        return denied.reason


async def admits(verifier: TokenIntrospection, presented: str = TOKEN) -> bool:
    return isinstance(await judge(verifier, presented), Principal)


async def identities(verifier: TokenIntrospection, count: int) -> list[str]:
    """Whom so many tokens are, asked about all at once."""
    found: dict[int, str] = {}

    async def ask(number: int) -> None:
        principal = await judge(verifier, f"token-{number}")
        assert isinstance(principal, Principal)
        found[number] = principal.identity

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(ask, number)
    return [found[number] for number in range(count)]


USERS = [f"user-{number}" for number in range(100)]


# What it asks


async def test_what_the_issuer_is_asked(issuer: Issuer) -> None:
    assert await admits(introspection(issuer))
    (request,) = issuer.requests
    assert (request.method, request.path) == ("POST", "/introspect")
    assert request.form == {"token": TOKEN, "token_type_hint": "access_token"}
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers


async def test_the_token_is_nowhere_but_in_the_form(issuer: Issuer) -> None:
    await judge(introspection(issuer))
    (request,) = issuer.requests
    assert TOKEN not in request.path + repr(request.headers)


async def test_the_address_is_asked_as_it_is(issuer: Issuer) -> None:
    path = "/realms/a%2Fb/introspect?tenant=x&y=%20"
    issuer.pages[path] = {"active": True, "sub": "alice"}
    assert await admits(introspection(issuer.url + path))


@cases("token", ["a+b/c=&token=b", "100%25", "~!*'();:@$,?#[]", "a;b", '\\"<>'])
async def test_a_token_arrives_as_it_was_presented(issuer: Issuer, token: str) -> None:
    issuer.tokens[token] = {"active": True, "sub": "bob"}
    principal = await judge(introspection(issuer), token)
    assert isinstance(principal, Principal)
    assert principal.identity == "bob"


async def test_the_example_of_rfc_6749(issuer: Issuer) -> None:
    await judge(introspection(issuer, client_id="s6BhdRkqt3", client_secret="gX1fBat3bV"))
    (request,) = issuer.requests
    assert request.headers["authorization"] == "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW"


@cases(
    ("client_id", "client_secret"),
    [
        ("chat", CLIENT_SECRET),
        ("a:b", "c:d"),
        ("100%", "%3A"),
        ("a+b", "+"),
        ("a b", "c d"),
        ("Zoë", "пароль-密码-🔑"),
        ("https://chat.example/app", "&=?/#"),
        ("a\nb", "\x00\r."),
    ],
)
async def test_id_and_secret_are_form_encoded(
    issuer: Issuer, client_id: str, client_secret: str
) -> None:
    """So that each can have any character (RFC 6749 section 2.3.1)."""
    await judge(introspection(issuer, client_id=client_id, client_secret=client_secret))
    (request,) = issuer.requests
    scheme, _, encoded = request.headers["authorization"].partition(" ")
    pair = b64decode(encoded, validate=True).decode("ascii")
    assert scheme == "Basic"
    assert [unquote_plus(part, errors="strict") for part in pair.split(":")] == [
        client_id,
        client_secret,
    ]


async def test_cookies_are_not_kept(issuer: Issuer) -> None:
    issuer.behaviour["/introspect"] = "cookie"
    verifier = introspection(issuer, cache_ttl=0)
    for _ in range(3):
        assert await admits(verifier)
    assert not any("cookie" in request.headers for request in issuer.requests)


async def test_a_redirect_is_not_followed(issuer: Issuer) -> None:
    issuer.pages["/elsewhere"] = {"active": True, "sub": "mallory"}
    issuer.behaviour["/introspect"] = "redirect"
    assert await judge(introspection(issuer)) is UNAVAILABLE
    assert issuer.count("/elsewhere") == 0


# What is not its


@cases(
    "token",
    [
        mint(),
        mint(headers={"kid": "1"}),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.",
        "eyJ.e30.x",
        "ewogImFsZyI6ICJIUzI1NiJ9.e30.x",  # with spaces in its header
        "wst_" + "A" * 43,
        "wsi_" + "A" * 43,
        "wsk_" + "A" * 43,
        "wst_",
    ],
)
async def test_what_others_know_is_not_asked_about(issuer: Issuer, token: str) -> None:
    issuer.tokens[token] = {"active": True, "sub": "mallory"}
    assert await judge(introspection(issuer), token) is NOT_MINE
    assert not issuer.requests


@cases("token", [mint(), "eyJ.e30.x"])
async def test_jwts_are_asked_about_if_that_is_wanted(issuer: Issuer, token: str) -> None:
    issuer.tokens[token] = {"active": True, "sub": "alice"}
    assert await admits(introspection(issuer, include_jwts=True), token)
    assert await judge(introspection(issuer, include_jwts=True), "wst_x") is NOT_MINE
    assert len(issuer.requests) == 1


@cases(
    "token",
    ["Zq", "a.b.c", "eyJ", "eyJ.e30", "eyJ.a.b.c.d", "eyJ.e30.x=", "WST_x", "-wst_"],
)
async def test_everything_else_is(issuer: Issuer, token: str) -> None:
    assert await judge(introspection(issuer), token) is INVALID
    assert issuer.requests[0].form["token"] == token


@cases("last", [False, True])
async def test_beside_another_verifier_the_order_does_not_matter(
    issuer: Issuer, last: bool
) -> None:
    verifiers = [jwt_verifier(), introspection(issuer)]
    auth = authenticator(*(reversed(verifiers) if last else verifiers))
    for token, method in ((mint(), "jwt"), (TOKEN, "introspection")):
        conn = HTTPConnection(websocket(headers=bearer(token)))
        assert (await auth.authenticate(conn)).principal.method == method
    assert len(issuer.requests) == 1


# What it believes


@cases(
    "answer",
    [
        {"active": False},
        {"active": False, "sub": "alice", "exp": NOW + 300},
        {"active": False, "exp": NOW - 300},
    ],
)
async def test_what_is_not_active_is_invalid(issuer: Issuer, answer: Any) -> None:
    issuer.tokens[TOKEN] = answer
    assert await judge(introspection(issuer)) is INVALID


DEEP = b'{"active": true, "sub": "alice", "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"


@cases(
    "answer",
    [
        {},
        {"sub": "alice"},
        {"Active": True, "sub": "alice"},
        *[{"active": value, "sub": "alice"} for value in ("true", "", 1, 0, None, [], [True], {})],
        [],
        [{"active": True, "sub": "alice"}],
        "active",
        True,
        5,
        b"null",
        b"",
        b"{",
        b'{"active": true, "sub": "alice"',
        b'{"active": true, "sub": "alice"}{}',
        b"active=true&sub=alice",
        b"\xff\xfe",
        b"[" * 50_000,
        *([DEEP] if sys.version_info < (3, 15) else []),  # whose parser goes as deep as that
        b'{"active": true, "sub": "alice", "x": ' + b"9" * 50_000 + b"}",
        b'{"active": true, "sub": "alice"}'.ljust(65_537),
    ],
    ids=lambda answer: repr(answer)[:40].replace("\\", "/"),
)
async def test_an_answer_that_says_nothing_is_an_outage(issuer: Issuer, answer: Any) -> None:
    issuer.pages["/introspect"] = answer
    assert await judge(introspection(issuer)) is UNAVAILABLE


async def test_no_status_but_200_is_an_answer(issuer: Issuer) -> None:
    verifier = introspection(issuer)
    issuer.behaviour["/introspect"] = "raw"
    for status in (201, 204, 301, 302, 307, 400, 401, 403, 404, 405, 429, 500, 502, 503):
        body = "" if status == 204 else '{"active": true, "sub": "alice"}'
        head = f"HTTP/1.1 {status} Any\r\nContent-Length: {len(body)}\r\n"
        issuer.pages["/introspect"] = f"{head}Location: /elsewhere\r\n\r\n{body}".encode()
        assert await judge(verifier) is UNAVAILABLE
    assert {request.path for request in issuer.requests} == {"/introspect"}


@pytest.mark.slow
@cases("how", FAILURES)
async def test_an_outage_admits_nobody_and_ends(issuer: Issuer, how: str) -> None:
    timeout = SOON if how in ("hang", "drip", "drip_headers") else DEADLINE
    verifier = introspection(issuer, timeout=timeout, max_in_flight=1)
    issuer.behaviour["/introspect"] = how
    for token in (TOKEN, "unknown"):
        assert await judge(verifier, token) is UNAVAILABLE
    patient = introspection(issuer)
    issuer.behaviour.clear()
    assert await admits(patient)
    assert await admits(verifier) or timeout is SOON  # which a slow machine may need for it


ANOTHER = "its aud is 'mail', and audience= asks for 'chat'"


@cases(
    ("answer", "options", "why"),
    [
        ({"active": False}, {}, "it is not active"),
        ({}, {}, "{self}: its answer does not say if it is active"),
        ({"active": True, "sub": "alice", "aud": "mail"}, {"audience": "chat"}, ANOTHER),
    ],
)
async def test_the_log_says_why(issuer: Issuer, answer: Any, options: Any, why: str) -> None:
    issuer.tokens[TOKEN] = answer
    verifier = introspection(issuer, **options)
    with pytest.raises(Denied) as caught:
        await verifier(Credential(TOKEN), CONN)
    assert caught.value.detail == why.format(self=repr(verifier))
    issuer.behaviour["/introspect"] = "fail"
    with pytest.raises(Denied) as caught:
        await verifier(Credential(TOKEN), CONN)
    assert caught.value.detail == f"<TokenIntrospection {issuer.url}/introspect>: HTTP 500"


async def test_nobody_listens() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # so that nobody else is given this port
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/introspect"
        assert await judge(introspection(url)) is UNAVAILABLE


async def test_what_the_principal_says(issuer: Issuer) -> None:
    answer = {
        "active": True,
        "sub": "alice",
        "scope": "chat:read chat:write",
        "client_id": "page",
        "username": "Alice",
        "iat": NOW - 5,
        "nbf": NOW - 5,
        "exp": NOW + 300,
        "jti": "t1",
        "sid": "s1",
        "ü": {"x": [None, True, 1.5]},
    }
    issuer.tokens[TOKEN] = answer
    verifier = introspection(issuer)
    for _ in range(2):  # the second one is remembered
        principal = await judge(verifier)
        assert isinstance(principal, Principal)
        assert principal.identity == principal.display_name == "alice"
        assert principal.method == "introspection"
        assert principal.scopes == ("chat:read", "chat:write")
        assert (principal.token_id, principal.session_id) == ("t1", "s1")
        assert (principal.issued_at, principal.expires_at) == (NOW - 5, NOW + 300)
        assert principal.claims == answer
    assert len(issuer.requests) == 1


async def test_a_token_need_not_end(issuer: Issuer) -> None:
    principal = await judge(introspection(issuer))
    assert isinstance(principal, Principal)
    assert (principal.issued_at, principal.expires_at, principal.scopes) == (None, None, ())


@cases(
    ("claims", "verdict"),
    [
        ({"sub": None}, INVALID),
        ({"sub": ""}, INVALID),
        ({"sub": 5}, True),
        ({"sub": True}, INVALID),
        ({"sub": 5.5}, INVALID),
        ({"sub": ["alice"]}, INVALID),
        ({"sub": None, "username": "alice", "client_id": "alice"}, INVALID),
        ({"exp": NOW + 1}, True),
        ({"exp": NOW + 0.5}, True),
        ({"exp": NOW}, EXPIRED),
        ({"exp": NOW - 1}, EXPIRED),
        ({"exp": 0}, EXPIRED),
        ({"exp": NOW - 1, "nbf": NOW - 60, "jti": "t1", "sid": "s1"}, EXPIRED),
        ({"exp": NOW - 1, "nbf": NOW + 3600}, INVALID),
        ({"exp": NOW - 1, "sub": None}, INVALID),
        ({"exp": NOW - 1, "jti": 5}, INVALID),
        ({"exp": NOW - 1, "scope": 5}, INVALID),
        ({"jti": None, "sid": None}, True),
        ({"nbf": NOW + 3600}, INVALID),
        ({"iat": NOW + 3600}, INVALID),
        ({"nbf": NOW, "iat": NOW}, True),
        # The issuer says that it is active, and its clock may be ahead
        ({"nbf": NOW + 30, "iat": NOW + 30}, True),
        ({"iat": NOW + 31}, INVALID),
        ({"nbf": NOW + 31}, INVALID),
        ({"nbf": NOW - 60, "iat": NOW - 60}, True),
        ({"iss": "https://elsewhere.example", "aud": "elsewhere"}, True),
    ],
    ids=repr,
)
async def test_claims(issuer: Issuer, claims: Any, verdict: Any) -> None:
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", **claims}
    result = await judge(introspection(issuer))
    assert (isinstance(result, Principal) or result) is verdict


async def test_a_null_claim_is_absent(issuer: Issuer) -> None:
    """For answers."""
    names = ("exp", "nbf", "iat", "jti", "sid", "iss", "aud", "scope", "username")
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", **dict.fromkeys(names)}
    verifier = introspection(issuer)
    for _ in range(2):  # the second time from the cache
        principal = await judge(verifier)
        assert isinstance(principal, Principal)
        assert (principal.issued_at, principal.expires_at) == (None, None)
        assert (principal.issuer, principal.token_id, principal.session_id) == (None, None, None)
        assert principal.scopes == ()
    assert issuer.count("/introspect") == 1
    assert await judge(introspection(issuer, audience="chat")) is INVALID
    issuer.tokens[TOKEN] = {"active": True, "sub": None}
    assert await judge(introspection(issuer)) is INVALID


@cases(
    ("told", "known"),
    [("https://id.example", "https://id.example"), ("", ""), (None, None)],
)
async def test_the_issuer_is_the_answers_iss(issuer: Issuer, told: Any, known: Any) -> None:
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", "iss": told}
    verifier = introspection(issuer)
    for _ in range(2):
        principal = await judge(verifier)
        assert isinstance(principal, Principal)
        assert principal.issuer == known


async def test_claims_of_the_wrong_kind(issuer: Issuer) -> None:
    verifier = introspection(issuer)
    times = (str(NOW), "", True, [NOW], {}, float("nan"), 1e400, -1e400, NOW * 1000)
    kinds: dict[str, Iterable[Any]] = dict.fromkeys(("exp", "nbf", "iat"), times)
    kinds |= dict.fromkeys(("iss", "jti", "sid"), (5, True, [], {}))
    for name, values in kinds.items():
        for value in values:
            issuer.tokens[TOKEN] = {"active": True, "sub": "alice", name: value}
            assert await judge(verifier) is INVALID, (name, value)


@cases(
    ("claims", "options", "scopes"),
    [
        ({}, {}, ()),
        ({"scope": None}, {}, ()),
        ({"scope": ""}, {}, ()),
        ({"scope": " a  b "}, {}, ("a", "b")),
        ({"scope": ["a", "b c"]}, {}, ("a", "b c")),
        ({"scope": []}, {}, ()),
        ({"scp": "a", "scope": "b"}, {"scopes_claim": "scp"}, ("a",)),
        ({"scope": "b"}, {"scopes_claim": "scp"}, ()),
        ({"scope": 5}, {}, INVALID),
        ({"scope": True}, {}, INVALID),
        ({"scope": ["a", 5]}, {}, INVALID),
        ({"scope": [["a"]]}, {}, INVALID),
        ({"scope": {"a": 1}}, {}, INVALID),
    ],
)
async def test_scopes_are_a_string_or_a_list(
    issuer: Issuer, claims: Any, options: Any, scopes: Any
) -> None:
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", **claims}
    result = await judge(introspection(issuer, **options))
    assert (result.scopes if isinstance(result, Principal) else result) == scopes


@cases(
    ("named", "audience", "verdict"),
    [
        ("chat", "chat", True),
        (["chat"], "chat", True),
        (["mail", "chat"], "chat", True),
        ("chat", ["mail", "chat"], True),
        (["x", "mail"], ["mail", "chat"], True),
        ("mail", "chat", INVALID),
        ("chat2", "chat", INVALID),
        ("cha", "chat", INVALID),
        ("CHAT", "chat", INVALID),
        ("chat mail", "chat", INVALID),
        (["mail"], "chat", INVALID),
        ([], "chat", INVALID),
        ([["chat"]], "chat", INVALID),
        ({"chat": True}, "chat", INVALID),
        ([{"chat": True}], "chat", INVALID),
        ("", "chat", INVALID),
        (5, "chat", INVALID),
        (True, "chat", INVALID),
        (None, "chat", INVALID),
        ("mail", None, True),
        (None, None, True),
        (5, None, True),
    ],
)
async def test_audience(issuer: Issuer, named: Any, audience: Any, verdict: Any) -> None:
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", "aud": named}
    result = await judge(introspection(issuer, audience=audience))
    assert (isinstance(result, Principal) or result) is verdict


async def test_a_token_without_audience(issuer: Issuer) -> None:
    assert await judge(introspection(issuer, audience="chat")) is INVALID


# What it remembers


def at(verifier: TokenIntrospection, clock: Clock) -> TokenIntrospection:
    """With its cache at this clock, which is another one than that of the tokens."""
    assert verifier._cache is not None
    verifier._cache._clock = clock
    return verifier


@cases(("options", "ttl"), [({"cache_ttl": 100}, 100), ({"cache_ttl": 0.5}, 0.5), ({}, 30)])
async def test_the_issuer_is_asked_once_in_cache_ttl(
    issuer: Issuer, options: Any, ttl: float
) -> None:
    clock = Clock()
    verifier = at(introspection(issuer, **options), clock)
    for times, requests in ((0, 1), (0.5, 1), (0.99, 1), (1, 2), (1.99, 2), (2, 3), (20, 4)):
        clock.now = NOW + times * ttl
        assert await admits(verifier)
        assert len(issuer.requests) == requests, times


async def test_a_token_that_is_revoked_is_good_for_cache_ttl(issuer: Issuer) -> None:
    clock = Clock()
    verifier = at(introspection(issuer, cache_ttl=30), clock)
    assert await admits(verifier)
    del issuer.tokens[TOKEN]
    clock.now += 29.5
    assert await admits(verifier)
    clock.now += 0.5
    assert await judge(verifier) is INVALID


async def test_a_recheck_asks_the_issuer_whatever_is_remembered(issuer: Issuer) -> None:
    verifier = introspection(issuer, cache_ttl=3600)
    assert isinstance(verifier, Rechecks)
    assert await admits(verifier)
    principal = await verifier.recheck(Credential(TOKEN), CONN)
    assert principal.identity == "alice"
    assert len(issuer.requests) == 2
    issuer.tokens[TOKEN] = {"active": False}
    with pytest.raises(Denied) as caught:
        await verifier.recheck(Credential(TOKEN), CONN)
    assert caught.value.reason is INVALID
    issuer.behaviour["*"] = "fail"
    with pytest.raises(Denied) as caught:
        await verifier.recheck(Credential(TOKEN), CONN)
    assert caught.value.reason is UNAVAILABLE


async def test_a_socket_ends_when_its_issuer_calls_the_token_inactive(issuer: Issuer) -> None:
    """And not while the issuer can't be asked."""
    clock = Clock()
    auth = Authenticator([introspection(issuer, cache_ttl=3600, clock=clock)], clock=clock)
    app = Seat()
    async with running(WebSocketAuthMiddleware(app, auth, recheck=60), f"token={TOKEN}") as wire:
        await until(lambda: wire.waiting and wire.kinds)

        async def goes_on(until: Callable[[], Any]) -> None:
            with anyio.fail_after(DEADLINE):
                while not until():
                    pass_time(clock, 67)
                    await anyio.sleep(0.01)

        await goes_on(lambda: len(issuer.requests) >= 3)
        issuer.behaviour["*"] = "fail"
        await goes_on(lambda: len(issuer.requests) >= 6)
        assert wire.close is None
        issuer.behaviour.clear()
        issuer.tokens[TOKEN] = {"active": False}
        await goes_on(lambda: wire.close)
    assert wire.close == (4004, "token_revoked")


async def test_what_is_remembered_serves_in_an_outage_and_no_longer(issuer: Issuer) -> None:
    clock = Clock()
    verifier = at(introspection(issuer, cache_ttl=30), clock)
    assert await admits(verifier)
    issuer.behaviour["*"] = "fail"
    clock.now += 29.5
    assert await admits(verifier)
    clock.now += 0.5
    assert await judge(verifier) is UNAVAILABLE


async def test_a_token_is_never_remembered_beyond_its_end(issuer: Issuer) -> None:
    clock = Clock()
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", "exp": NOW + 10}
    verifier = introspection(issuer, cache_ttl=3600, clock=clock)
    for seconds, verdict in ((0, True), (9.5, True), (10, EXPIRED), (11, EXPIRED)):
        clock.now = NOW + seconds
        result = await judge(verifier)
        assert (isinstance(result, Principal) or result) is verdict
    clock.now = NOW + 9.5
    assert await admits(verifier)


async def test_a_token_whose_end_was_moved_is_asked_about_again(issuer: Issuer) -> None:
    clock = Clock()
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", "exp": NOW + 10}
    verifier = introspection(issuer, cache_ttl=3600, clock=clock)
    assert await admits(verifier)
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", "exp": NOW + 20}
    clock.now = NOW + 9.5
    assert await admits(verifier)
    assert issuer.count("/introspect") == 1
    clock.now = NOW + 10
    assert await admits(verifier)
    assert await admits(verifier)
    assert issuer.count("/introspect") == 2


def test_the_defaults(issuer: Issuer) -> None:
    verifier = TokenIntrospection(issuer.url, client_id="chat", client_secret="s3cret-of-chat")
    assert verifier._cache is not None
    assert (verifier._cache._size, verifier._cache._ttl) == (10_000, 30)
    outbound = verifier._outbound
    assert (outbound._max_in_flight, outbound._timeout, outbound._max_size) == (20, 3, 65_536)


async def test_cache_ttl_0_asks_each_time(issuer: Issuer) -> None:
    verifier = introspection(issuer, cache_ttl=0)
    for requests in range(1, 6):
        assert await admits(verifier)
        assert len(issuer.requests) == requests
    del issuer.tokens[TOKEN]
    assert await judge(verifier) is INVALID


async def test_so_many_tokens_are_remembered_and_no_more(issuer: Issuer) -> None:
    verifier = introspection(issuer, cache_size=3)
    for number in (0, 1, 2, 0, 1, 2):
        assert await admits(verifier, f"token-{number}")
    assert len(issuer.requests) == 3
    for number in (3, 1, 2, 3):  # the oldest went, which is 0
        assert await admits(verifier, f"token-{number}")
    assert len(issuer.requests) == 4
    assert await admits(verifier, "token-0")
    assert len(issuer.requests) == 5


@cases(
    ("answer", "verdict"),
    [
        ({"active": False}, INVALID),
        ({"active": True}, INVALID),
        ({"active": True, "sub": "alice", "exp": NOW - 1}, EXPIRED),
        ({"active": True, "sub": "alice", "nbf": NOW + 3600}, INVALID),
        ({"active": True, "sub": "alice", "aud": "mail"}, INVALID),
        ({"active": "true", "sub": "alice"}, UNAVAILABLE),
        (b"rubbish", UNAVAILABLE),
    ],
)
async def test_only_what_is_good_is_remembered(issuer: Issuer, answer: Any, verdict: Any) -> None:
    verifier = introspection(issuer, audience="chat")
    good = {"active": True, "sub": "alice", "aud": "chat"}
    issuer.pages["/introspect"] = {"aud": "chat", **answer} if isinstance(answer, dict) else answer
    for _ in range(2):
        assert await judge(verifier) is verdict
    issuer.pages["/introspect"] = good
    for _ in range(2):
        assert await admits(verifier)
    assert len(issuer.requests) == 3


async def test_what_an_app_does_to_its_principal_reaches_no_other(issuer: Issuer) -> None:
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", "scope": ["a"], "roles": {"x": ["y"]}}
    verifier = introspection(issuer)
    for _ in range(3):
        principal = await judge(verifier)
        assert isinstance(principal, Principal)
        assert principal.identity == "alice"
        assert principal.scopes == ("a",)
        assert principal.claims == issuer.tokens[TOKEN]
        assert "admin" not in vars(principal)
        principal.claims["roles"]["x"].append("admin")
        principal.claims["scope"].append("admin")
        principal.claims["sub"] = "mallory"
        principal.claims["exp"] = 0
        principal.scopes = ("admin",)
        principal.admin = True  # type: ignore[attr-defined]
    assert len(issuer.requests) == 1


async def test_no_instance_sees_what_another_remembers(issuer: Issuer) -> None:
    first, second = introspection(issuer), introspection(issuer, audience="chat")
    assert await admits(first)
    assert await judge(second) is INVALID
    assert await admits(introspection(issuer))
    assert len(issuer.requests) == 3


async def test_of_a_token_it_remembers_a_hash(issuer: Issuer) -> None:
    verifier = introspection(issuer)
    assert await admits(verifier)
    assert verifier._cache is not None
    assert TOKEN not in repr(vars(verifier._cache)) + repr(vars(verifier))


# What is no login


@cases("typ", ["logout+jwt", "application/secevent+JWT", "DPoP+jwt"])
async def test_what_says_that_it_is_another_thing_than_a_login_is_not_asked_about(
    issuer: Issuer, typ: str
) -> None:
    token = mint(headers={"typ": typ})
    issuer.tokens[token] = {"active": True, "sub": "mallory"}
    assert await judge(introspection(issuer), token) is NOT_MINE
    assert await judge(introspection(issuer, include_jwts=True), token) is INVALID
    assert not issuer.requests


async def test_an_answer_that_tells_of_events_is_no_login(issuer: Issuer) -> None:
    verifier = introspection(issuer)
    for events, verdict in (({"https://schemas.example/logout": {}}, INVALID), ({}, INVALID)):
        issuer.tokens[TOKEN] = {"active": True, "sub": "alice", "events": events}
        assert await judge(verifier) is verdict
    issuer.tokens[TOKEN] = {"active": True, "sub": "alice", "events": None}
    assert await admits(verifier)


# What is on its way


async def test_so_many_requests_are_on_their_way_and_the_others_wait(
    issuer: Issuer,
) -> None:
    issuer.behaviour["/introspect"] = "hold"
    verifier = introspection(issuer, max_in_flight=4)
    answers: list[str] = []

    async def ask() -> None:
        answers.extend(await identities(verifier, 100))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await issuer.asked("/introspect", 4)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert issuer.in_flight == len(issuer.requests) == 4
        issuer.let_go()
    assert answers == USERS
    assert issuer.most_in_flight == 4
    assert len(issuer.requests) == 100


async def test_all_that_it_may_have_in_flight_are(issuer: Issuer) -> None:
    await use_all_slots(introspection(issuer, max_in_flight=7, cache_ttl=0), issuer, 7)


async def use_all_slots(verifier: TokenIntrospection, issuer: Issuer, slots: int) -> None:
    """As many requests as may be on their way at once get there, and all are answered."""
    seen = issuer.count("/introspect")
    issuer.behaviour["/introspect"] = "hold"
    answers: list[str] = []

    async def ask() -> None:
        answers.extend(await identities(verifier, slots))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await issuer.asked("/introspect", seen + slots)
        issuer.let_go()
    assert answers == USERS[:slots]


async def test_handshakes_that_are_cancelled_while_the_issuer_is_silent(issuer: Issuer) -> None:
    """Their places are free again."""
    verifier = introspection(issuer, max_in_flight=3, cache_ttl=0)
    for _ in range(2):
        issuer.behaviour["/introspect"] = "hold"
        seen = issuer.count("/introspect")
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(judge, verifier, f"token-{number}")
            await issuer.asked("/introspect", seen + 3)
            group.cancel_scope.cancel()
        issuer.let_go()
        await use_all_slots(verifier, issuer, 3)


# What httpx2 (on trio) and anyio (before 4.16) leave to the garbage collector.
@pytest.mark.usefixtures("little_to_collect")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
@pytest.mark.filterwarnings("ignore:unclosed <?(socket|transport):ResourceWarning")
@cases("count", [1, 50])
async def test_handshakes_that_are_cancelled_at_any_moment(issuer: Issuer, count: int) -> None:
    """Whatever they waited for: a place, a connection, an answer."""
    verifier = introspection(issuer, max_in_flight=2, cache_ttl=0)
    for steps in range(12):
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(judge, verifier, f"token-{number}")
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        if steps % 4 == 3:
            await use_all_slots(verifier, issuer, 2)
    gc.collect()


async def test_some_that_are_cancelled_take_nothing_from_the_others(issuer: Issuer) -> None:
    verifier = introspection(issuer, max_in_flight=2, cache_ttl=0)
    for _ in range(2):
        issuer.behaviour["/introspect"] = "hold"
        seen = issuer.count("/introspect")
        answers: list[str] = []

        async def ask(answers: list[str] = answers) -> None:
            answers.extend(await identities(verifier, 20))

        async with anyio.create_task_group() as others:
            async with anyio.create_task_group() as group:
                for number in range(1, 40):
                    group.start_soon(judge, verifier, f"token-{number}")
                    if number == 20:
                        others.start_soon(ask)
                await issuer.asked("/introspect", seen + 2)
                group.cancel_scope.cancel()
            issuer.let_go()
        assert answers == USERS[:20]


# On trio, httpx2 may leave what it reads an answer with to the garbage collector.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
@pytest.mark.slow
@cases("how", ["hang", "drip", "drip_headers"])
async def test_timeouts_leave_their_places(issuer: Issuer, how: str) -> None:
    verifier = introspection(issuer, max_in_flight=2, cache_ttl=0, timeout=SOON)
    refusals: list[Any] = []

    async def ask() -> None:
        refusals.append(await judge(verifier))

    for _ in range(2):
        issuer.behaviour["/introspect"] = how
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(ask)
    assert refusals == [UNAVAILABLE] * 20
    verifier._outbound._timeout = DEADLINE  # nothing but the wait for a place could take so long
    await use_all_slots(verifier, issuer, 2)


@pytest.mark.usefixtures("little_to_collect")
@pytest.mark.slow
def test_one_instance_serves_one_event_loop_after_another(
    issuer: Issuer, recwarn: pytest.WarningsRecorder
) -> None:
    verifier = introspection(issuer, cache_ttl=0)

    async def use() -> None:
        assert await identities(verifier, 10) == USERS[:10]
        with anyio.move_on_after(0):
            await judge(verifier)

    for backend in ("asyncio", "trio", "trio", "asyncio"):
        anyio.run(use, backend=backend)
        gc.collect()
    assert not recwarn.list


def test_what_one_event_loop_learnt_the_next_one_knows(issuer: Issuer) -> None:
    verifier = introspection(issuer)
    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(admits, verifier, backend=backend)
    assert len(issuer.requests) == 1


# Who hears of it


async def test_no_log_has_the_token_or_the_secret(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2", "asgi_wsauth"):
        assert logging.getLogger(name).isEnabledFor(logging.DEBUG)
    verifier = introspection(issuer, timeout=SOON, cache_ttl=0)
    app = WebSocketAuthMiddleware(App(), authenticator(verifier))
    hows = ["serve", "fail", "hang", "hang_up", "redirect", "rubbish", "no_http", "cookie"]
    for how in [*hows, "flood_compressed", "drip"]:
        issuer.behaviour["/introspect"] = how
        for token in (TOKEN, "unknown-t0ken"):
            await drive(app, websocket(headers=bearer(token)), receive=connected())
    names = {record.name.partition(".")[0] for record in caplog.records}
    assert names >= {"httpx2", "httpcore2", "asgi_wsauth"}
    (authorization,) = {request.headers["authorization"] for request in issuer.requests}
    for record in caplog.records:
        written = logging.Formatter().format(record) + repr(vars(record))
        for secret in (TOKEN, "unknown-t0ken", CLIENT_SECRET, "s3cr3t", authorization[6:]):
            assert secret not in written


@cases("url", ["https://id.example/introspect", "https://id.example/a?key=s3cr3t"])
def test_its_repr_has_no_secret(url: str) -> None:
    written = repr(introspection(url))
    assert written.startswith("<TokenIntrospection https://id.example/")
    assert "s3cr3t" not in written


@cases(
    ("how", "close"),
    [
        ("serve", None),
        ("fail", (1013, "verifier_unavailable")),
        ("redirect", (1013, "verifier_unavailable")),
        ("hang_up", (1013, "verifier_unavailable")),
    ],
)
async def test_what_a_client_is_told(issuer: Issuer, how: str, close: Any) -> None:
    app = App()
    guarded = WebSocketAuthMiddleware(app, authenticator(introspection(issuer)))
    issuer.behaviour["/introspect"] = how
    outcome = await drive(guarded, websocket(headers=bearer(TOKEN)), receive=connected())
    assert outcome.accepted
    assert outcome.close == close
    assert len(app.calls) == (close is None)
    if close is None:
        assert app.scope["user"].identity == "alice"


@cases(
    ("answer", "close"),
    [
        ({"active": False}, (1008, "token_invalid")),
        ({"active": True, "sub": "alice", "exp": NOW - 1}, (4001, "token_expired")),
        ({"active": "yes"}, (1013, "verifier_unavailable")),
    ],
)
async def test_what_a_client_is_told_of_its_token(issuer: Issuer, answer: Any, close: Any) -> None:
    app = App()
    guarded = WebSocketAuthMiddleware(app, authenticator(introspection(issuer)))
    issuer.tokens[TOKEN] = answer
    outcome = await drive(guarded, websocket(headers=bearer(TOKEN)), receive=connected())
    assert outcome.close == close
    assert not app.calls


async def test_a_client_that_leaves_gives_its_place_back(issuer: Issuer) -> None:
    verifier = introspection(issuer, max_in_flight=1, cache_ttl=0)
    guarded = WebSocketAuthMiddleware(App(), authenticator(verifier))
    for _ in range(3):
        issuer.behaviour["/introspect"] = "hold"
        messages = iter(["websocket.connect", "websocket.disconnect"])
        seen = issuer.count("/introspect")

        async def receive(messages: Iterator[str] = messages, seen: int = seen) -> dict[str, Any]:
            message = next(messages)
            if message == "websocket.disconnect":
                await issuer.asked("/introspect", seen + 1)
            return {"type": message, "code": 1001}

        outcome = await drive(guarded, websocket(headers=bearer(TOKEN)), receive=receive)
        assert not outcome.accepted
        issuer.let_go()
        await use_all_slots(verifier, issuer, 1)


# Options that can't work


@cases(
    "url",
    [
        "http://id.example/introspect",
        "http://127.0.0.1.evil.example/introspect",
        "file:///etc/passwd",
        "ftp://id.example/introspect",
        "id.example/introspect",
        "https://",
        "https:///introspect",
        "https://chat:pa55@id.example/introspect",
        "https://chat@id.example/introspect",
        "",
        None,
    ],
)
def test_addresses_that_can_not_work(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="TokenIntrospection: ") as caught:
        TokenIntrospection(url, client_id="chat", client_secret=CLIENT_SECRET)
    assert "pa55" not in str(caught.value)


@cases(
    ("option", "values"),
    [
        ("client_id", ["", None, 5, b"chat"]),
        ("client_secret", ["", None, 5, b"secret"]),
        ("audience", ["", [], [""], [None], [5], ["chat", ""]]),
        ("cache_ttl", [-1, float("nan"), float("inf"), None, "5", True]),
        ("cache_size", [0, -1, 1.5, None, "5", True]),
        ("max_in_flight", [0, -1, 1.5, None, "5", True]),
        ("timeout", [0, -1, float("nan"), float("inf"), None, "5", True]),
        ("max_size", [0, -1, 1.5, None, "5", True]),
    ],
)
def test_options_that_can_not_work(option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=f"^(TokenIntrospection: )?{option}") as caught:
            introspection("http://127.0.0.1/introspect", **{option: value})
        assert option == "audience" or str(caught.value).startswith("TokenIntrospection: ")
        if option.startswith("client"):
            assert f"{option} must " in str(caught.value)
            is_there = value not in ("", None)
            assert is_there or "is the environment variable behind it set?" in str(caught.value)
        assert CLIENT_SECRET not in str(caught.value)


@cases("option", ["client_id", "client_secret"])
def test_a_setting_with_stray_bytes(option: str) -> None:
    """As `os.environ` has it."""
    named = "^TokenIntrospection: client_id or client_secret is not text$"
    with pytest.raises(ConfigurationError, match=named) as caught:
        introspection("http://127.0.0.1", **{option: "s3cr3t\udcff"})
    assert "s3cr3t" not in str(caught.value)
