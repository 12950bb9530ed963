"""The decision, in its order: a test's number is that of a step of `Authenticator.authenticate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import NOW, Knows, authenticator, bearer, jwt_verifier, mint, nobody, websocket
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    APIKeyVerifier,
    Authentication,
    Authenticator,
    ConfigurationError,
    Cookie,
    Credential,
    Denied,
    FailureThrottle,
    FirstMessage,
    Header,
    InternalCredential,
    JWTVerifier,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Revocations,
    Subprotocol,
    Tickets,
)

pytestmark = [pytest.mark.anyio, pytest.mark.hurried]


async def decide(auth: Authenticator, scope: dict[str, Any]) -> Authentication | Reason:
    try:
        return await auth.authenticate(HTTPConnection(scope))
    except Denied as denied:
        return denied.reason


async def test_a_good_token_is_admitted() -> None:
    token = mint(scope="a b")
    result = await decide(authenticator(), websocket(f"token={token}"))
    assert isinstance(result, Authentication)
    principal, user, credential = result
    assert principal is user
    assert (principal.identity, principal.scopes) == ("alice", ("a", "b"))
    assert credential is not None
    assert credential.value == token
    assert token not in repr(result)


# 1. required


@cases(
    ("client", "networks", "admitted"),
    [
        (("127.0.0.1", 1), None, True),
        (("127.9.9.9", 1), None, True),
        (("::1", 1), None, True),
        (("::ffff:127.0.0.1", 1), None, True),
        (("10.0.0.5", 1), None, False),
        (("::ffff:10.0.0.5", 1), None, False),
        (("192.168.1.1", 1), ["192.168.0.0/16"], True),
        (("127.0.0.1", 1), ["192.168.0.0/16"], False),
        (("127.0.0.1", 1), [], False),
        (("fe80::1%eth0", 1), None, False),
        (None, None, True),  # a Unix socket
        (("testclient", 50000), None, False),  # on a server
        (("127.0.0.1:41234", 1), None, True),
        (("[::1]:443", 1), None, True),
        (("198.51.100.8:41234", 1), None, False),
        (("[2001:db8::1]:443", 1), None, False),
        (("unknown", 1), None, False),
        (("unknown", 1), ["0.0.0.0/0", "::/0"], False),
        (("_hidden", 1), None, False),
        (("/run/app.sock", 1), None, False),
        ((7, 1), None, False),
        (("", 0), None, True),
    ],
)
async def test_1_without_authentication_the_peers_network_decides(
    client: Any, networks: list[str] | None, admitted: bool
) -> None:
    options = {} if networks is None else {"no_auth_networks": networks}
    auth = Authenticator([], required=False, **options)
    result = await decide(auth, websocket("token=rubbish", client=client))
    if admitted:
        assert isinstance(result, Authentication)
        assert result.principal.identity == "local"
        assert result.principal.method == "none"
        assert result.credential is None
    else:
        assert result is Reason.FORBIDDEN


LOCAL = ("127.0.0.1", 1)


@cases(
    ("client", "header", "admitted"),
    [
        (None, ("x-forwarded-for", "127.0.0.1"), False),
        (None, ("forwarded", "for=127.0.0.1"), False),
        (None, ("x-real-ip", "127.0.0.1"), False),
        (None, ("x-forwarded-for", ""), False),
        (None, ("x-forwarded-proto", "https"), True),
        (LOCAL, ("x-forwarded-for", "127.0.0.1"), True),
        (LOCAL, ("x-forwarded-for", "::1, 127.0.0.1:1234"), True),
        (LOCAL, ("x-forwarded-for", "203.0.113.9"), False),
        (LOCAL, ("x-forwarded-for", "203.0.113.9, 127.0.0.1"), False),
        (LOCAL, ("x-forwarded-for", "127.0.0.1, unknown"), False),
        (LOCAL, ("x-forwarded-for", ""), False),
        (LOCAL, ("x-real-ip", "127.0.0.1"), True),
        (LOCAL, ("x-real-ip", "203.0.113.9"), False),
        (LOCAL, ("forwarded", "for=127.0.0.1;proto=http"), True),
        (LOCAL, ("forwarded", 'proto=http; For="[::1]:4711", for=127.0.0.1'), True),
        (LOCAL, ("forwarded", 'for="[2001:db8::1]:4711"'), False),
        (LOCAL, ("forwarded", "for=127.0.0.1, for=203.0.113.9"), False),
        (LOCAL, ("forwarded", "for=127.0.0.1, proto=https"), False),
        (LOCAL, ("forwarded", "for=_hidden"), False),
        (LOCAL, ("forwarded", "before=127.0.0.1"), False),
    ],
)
@cases("protocol", ["websocket", "http"])
async def test_1_what_was_forwarded_is_local_only_if_all_of_its_way_is(
    client: Any, header: tuple[str, str], admitted: bool, protocol: str
) -> None:
    scope = websocket(headers=[header], client=client, type=protocol)
    result = await decide(Authenticator([], required=False), scope)
    assert isinstance(result, Authentication) if admitted else result is Reason.FORBIDDEN


async def test_1_a_peer_without_an_address_that_is_let_in_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    auth = Authenticator([], required=False)
    for client in (LOCAL, None, None, LOCAL):
        assert isinstance(await decide(auth, websocket(client=client)), Authentication)
    assert [m for m in caplog.messages if "without an address" in m] == [
        "authentication is off: every client without an address is 'local', for example over a "
        "Unix socket"
    ]


async def test_1_a_scope_without_a_client() -> None:
    scope = websocket()
    del scope["client"]
    assert isinstance(await decide(Authenticator([], required=False), scope), Authentication)


async def test_1_the_log_says_which_option_opens_it() -> None:
    auth = Authenticator([], required=False)
    with pytest.raises(Denied) as caught:
        await auth.authenticate(HTTPConnection(websocket(client=("10.0.0.5", 1))))
    why = "authentication is off, and 10.0.0.5 is outside no_auth_networks"
    assert caught.value.detail == why


async def test_1_required_is_asked_at_every_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    auth = authenticator(required=lambda: os.environ.get("APP_AUTH_REQUIRED") != "false")
    for value, expected in (("true", Reason.MISSING), ("false", "local"), ("true", Reason.MISSING)):
        monkeypatch.setenv("APP_AUTH_REQUIRED", value)
        result = await decide(auth, websocket())
        assert expected == (result.user.identity if isinstance(result, Authentication) else result)


async def test_1_somebody_else_can_be_everybody() -> None:
    developer = Principal("dev", scopes=["admin"], method="none")
    auth = Authenticator([], required=False, anonymous=developer)
    for _ in range(2):
        result = await decide(auth, websocket())
        assert isinstance(result, Authentication)
        assert (result.user.identity, result.user.scopes) == ("dev", ("admin",))
        assert not hasattr(result.user, "room")  # nobody is handed somebody else's object
        result.user.room = 1


async def test_1_one_warning_each_time_it_is_turned_off(caplog: pytest.LogCaptureFixture) -> None:
    required = False
    auth = authenticator(required=lambda: required)
    for required in (False, False, True, False):  # noqa: B007 - read by the lambda
        await decide(auth, websocket())
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    whom = "everybody from 127.0.0.0/8, ::1/128 is 'local'"
    assert {record.getMessage() for record in caplog.records} == {f"authentication is off: {whom}"}


async def test_1_the_warning_where_only_local_sockets_are_let_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    auth = authenticator(required=False, no_auth_networks=[])
    await decide(auth, websocket(client=None))
    assert caplog.messages == ["authentication is off: everybody from a local socket is 'local'"]


@cases("answer", [None, 0, "", "false", 1, "yes"])
async def test_1_an_answer_that_is_no_bool_admits_nobody(answer: Any) -> None:
    answers = iter([True, answer])  # the first one is looked at when it is built
    auth = authenticator(required=lambda: next(answers))
    with pytest.raises(Denied, match="the decision: TypeError") as caught:
        await auth.authenticate(HTTPConnection(websocket()))
    assert caught.value.reason is Reason.ERROR
    assert str(caught.value.__cause__) == f"required() returned {answer!r}; it must return a bool"


async def test_1_a_failing_required_admits_nobody() -> None:
    assert await decide(authenticator(required=lambda: 1 / 0), websocket()) is Reason.ERROR


# 2. Origin: the forms are in test_origins.py


async def test_2_origin_comes_before_the_credential() -> None:
    verifier = Knows(x=Principal("alice"))
    auth = authenticator(verifier, allowed_origins=["https://chat.example"])
    foreign = [("origin", "https://evil.example")]
    for query in ("token=x", "token=x&token=y", ""):
        assert await decide(auth, websocket(query, headers=foreign)) is Reason.ORIGIN
    assert not verifier.asked


def http(method: str, *headers: tuple[str, str]) -> dict[str, Any]:
    """The scope of a request with a cookie."""
    return websocket(headers=[("cookie", "session=good"), *headers], type="http", method=method)


SITE, MODE, DEST = "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"
LINK = [(SITE, "cross-site"), (MODE, "navigate"), (DEST, "document")]


@cases(
    ("scope", "admitted"),
    [
        # A browser sends no Origin with a GET to the page's own, but says what page it was
        (http("GET", (SITE, "same-origin")), True),
        (http("HEAD", (SITE, "same-origin")), True),
        (http("GET", (SITE, "none")), True),  # somebody typed the address
        (http("HEAD", (SITE, "none")), True),
        (http("GET"), False),
        (http("HEAD"), False),
        (http("GET", (SITE, "")), False),
        (http("GET", (SITE, "same-site")), False),
        (http("GET", (SITE, "cross-site")), False),
        (http("GET", (SITE, "Same-Origin")), False),
        (http("GET", (SITE, "same-origin, same-origin")), False),
        (http("GET", (SITE, "same-origin"), (SITE, "same-origin")), False),
        (http("GET", (SITE, "same-origin"), (SITE, "cross-site")), False),
        (http("GET", (SITE, "cross-site"), (SITE, "same-origin")), False),
        (http("GET", ("sec-fetch-mode", "same-origin")), False),
        *((http(m, (SITE, "same-origin")), False) for m in ("POST", "PUT", "DELETE", "OPTIONS")),
        *((http(m, (SITE, "none")), False) for m in ("POST", "PATCH", "get", "")),
        # An Origin is judged by itself, whatever else a browser says
        (http("GET", (SITE, "same-origin"), ("origin", "https://evil.example")), False),
        (http("GET", (SITE, "none"), ("origin", "null")), False),
        (http("GET", (SITE, "cross-site"), ("origin", "https://chat.example")), True),
        # Somebody followed a link, in a mail for example
        (http("GET", *LINK), True),
        (http("HEAD", *LINK), True),
        (http("GET", (SITE, "same-site"), *LINK[1:]), True),
        (http("GET", *LINK, ("sec-fetch-user", "?1")), True),
        # A form, a frame, a picture, a fetch, a download in case of a click
        *((http(m, *LINK), False) for m in ("POST", "PUT", "DELETE", "OPTIONS", "get", "")),
        (http("GET", *LINK[:2], (DEST, "iframe")), False),
        (http("GET", *LINK[:2], (DEST, "frame")), False),
        (http("GET", *LINK[:2], (DEST, "object")), False),
        (http("GET", *LINK[:2], (DEST, "embed")), False),
        (http("GET", LINK[0], (MODE, "no-cors"), (DEST, "image")), False),
        (http("GET", LINK[0], (MODE, "cors"), (DEST, "empty")), False),
        (http("GET", LINK[0], (MODE, "no-cors"), (DEST, "document")), False),
        (http("GET", *LINK, ("sec-purpose", "prefetch")), False),
        (http("GET", *LINK, ("sec-purpose", "prefetch;prerender")), False),
        # Each of the three, once
        *((http("GET", *LINK[:gone], *LINK[gone + 1 :]), False) for gone in range(3)),
        *((http("GET", *LINK, again), False) for again in LINK),
        *((http("GET", *LINK, (name, "none")), False) for name, _ in LINK),
        (http("GET", LINK[0], (MODE, "navigate, navigate"), LINK[2]), False),
        (http("GET", LINK[0], LINK[1], (DEST, "Document")), False),
        (http("GET", *LINK, ("origin", "https://evil.example")), False),
        (http("GET", *LINK, ("origin", "null")), False),
        # A handshake always has an Origin where a browser sends it
        (websocket(headers=[("cookie", "session=good"), (SITE, "same-origin")]), False),
        (websocket(headers=[("cookie", "session=good"), (SITE, "none")]), False),
        (websocket(method="GET", headers=[("cookie", "session=good"), *LINK]), False),
    ],
)
async def test_2_a_cookie_without_an_origin_counts_only_where_its_owner_reads(
    scope: dict[str, Any], admitted: bool
) -> None:
    verifier = Knows(good=Principal("alice"))
    auth = authenticator(
        verifier, sources=[Cookie("session")], allowed_origins=["https://chat.example"]
    )
    result = await decide(auth, scope)
    assert isinstance(result, Authentication) if admitted else result is Reason.ORIGIN
    assert verifier.asked == (["good"] if admitted else [])


@cases(
    ("scope", "expected"),
    [
        (http("GET", (SITE, "cross-site")), Reason.ORIGIN),
        (http("GET", (SITE, "cross-site"), (SITE, "same-origin")), Reason.ORIGIN),
        (http("GET", (SITE, "same-origin,cross-site")), Reason.ORIGIN),
        (http("POST", *LINK), Reason.ORIGIN),
        (http("GET", *LINK, ("sec-purpose", "prefetch")), Reason.ORIGIN),
        (websocket(headers=[(SITE, "cross-site")]), Reason.ORIGIN),
        (http("GET", *LINK), "alice"),
        (http("GET", (SITE, "same-site")), "alice"),
        (http("GET", (SITE, "same-origin")), "alice"),
        (http("GET", (SITE, "none")), "alice"),
        (http("GET"), "alice"),
        (http("GET", (SITE, "cross-site"), ("origin", "https://chat.example")), "alice"),
    ],
)
@cases("origins", [None, ["https://chat.example"]])
async def test_2_what_a_browser_says_another_site_asks_is_as_a_foreign_origin(
    scope: dict[str, Any], expected: Any, origins: Any
) -> None:
    """Also with a credential that the page knows, and without any."""
    verifier = Knows(good=Principal("alice"))
    auth = authenticator(verifier, allowed_origins=origins)
    result = await decide(auth, {**scope, "query_string": b"token=good"})
    if origins is None or expected == "alice":
        assert isinstance(result, Authentication)
    else:
        assert result is expected
        assert verifier.asked == []
    missing = Reason.MISSING if origins is None or expected == "alice" else expected
    assert await decide(auth, scope) is missing


@cases(
    "headers",
    [
        [],
        [("cookie", "other=1")],
        [("cookie", "session=")],
        [(SITE, "same-site")],
        [*LINK],
        [("origin", "https://chat.example")],
    ],
)
@cases("kind", ["http", "websocket"])
@cases("method", ["GET", "POST"])
async def test_2_nothing_at_all_is_missing_also_where_a_cookie_would_need_an_origin(
    headers: list[tuple[str, str]], kind: str, method: str
) -> None:
    auth = authenticator(
        Knows(),
        sources=[Cookie("session"), QueryParam()],
        allowed_origins=["https://chat.example"],
    )
    scope = websocket("token=", headers=headers, type=kind, method=method)
    is_link = headers == LINK and (kind, method) == ("http", "GET")
    says_elsewhere = headers == LINK and not is_link
    assert await decide(auth, scope) is (Reason.ORIGIN if says_elsewhere else Reason.MISSING)


async def test_2_reading_for_its_own_page_makes_no_cookie_good() -> None:
    auth = authenticator(
        Knows(), sources=[Cookie("session")], allowed_origins=["https://chat.example"]
    )
    assert await decide(auth, http("GET", (SITE, "same-origin"))) is Reason.INVALID


# 3. Throttle: how it counts is in test_limits.py


def throttled(*verifiers: Any, rate: str = "1/hour", **options: Any) -> Authenticator:
    return authenticator(*verifiers, throttle=FailureThrottle(rate), **options)


@cases("reason", Reason, ids=lambda reason: reason.name)
async def test_3_only_what_is_invalid_or_malformed_counts(reason: Reason) -> None:
    auth = throttled(Knows(x=Denied(reason), good=Principal("alice")))
    for _ in range(3):
        result = await decide(auth, websocket("token=x"))
        assert result in (reason, Reason.THROTTLED)
    counts = reason in (Reason.INVALID, Reason.MALFORMED)
    after = await decide(auth, websocket("token=good"))
    assert after is Reason.THROTTLED if counts else isinstance(after, Authentication)


@cases(
    ("query", "counts"),
    [
        ("token=rubbish", True),
        ("token=a&token=a", True),
        ("token=" + "x" * 9_000, True),
        ("token=%00", True),
        ("", False),
        ("token=", False),
        ("token=expired", False),
        ("token=broken", False),
    ],
)
async def test_3_what_counts(query: str, counts: bool) -> None:
    known = {"expired": Principal("alice", expires_at=NOW), "broken": ZeroDivisionError()}
    auth = throttled(Knows(good=Principal("alice"), **known))
    await decide(auth, websocket(query))
    after = await decide(auth, websocket("token=good"))
    assert after is Reason.THROTTLED if counts else isinstance(after, Authentication)


async def test_3_nor_do_other_refusals_count() -> None:
    async def no_user(principal: Principal, conn: HTTPConnection) -> None: ...

    revocations = Revocations(MemoryStore(), clock=lambda: NOW)
    await revocations.revoke_user("bob")
    throttle = FailureThrottle("1/hour")
    knows = Knows(bob=Principal("bob"), carol=Principal("carol"))
    parts: dict[str, Any] = {"throttle": throttle, "revocations": revocations}
    refusals = [
        (authenticator(knows, **parts), websocket("token=bob"), Reason.REVOKED),
        (authenticator(knows, load_user=no_user, **parts), websocket("token=carol"), ...),
        (
            authenticator(knows, allowed_origins=["https://a.example"], **parts),
            websocket("token=rubbish", headers=[("origin", "null")]),
            Reason.ORIGIN,
        ),
        (
            authenticator(knows, required=False, no_auth_networks=[], **parts),
            websocket(),
            Reason.FORBIDDEN,
        ),
    ]
    for auth, scope, reason in refusals:
        assert await decide(auth, scope) is (Reason.REVOKED if reason is ... else reason)
    result = await decide(authenticator(knows, **parts), websocket("token=carol"))
    assert isinstance(result, Authentication)


async def test_3_who_is_locked_out_is_told_so_whatever_he_presents() -> None:
    knows = Knows(good=Principal("alice"), bad=Denied(Reason.INVALID))
    auth = throttled(knows)
    assert await decide(auth, websocket("token=bad")) is Reason.INVALID
    for query in ("token=good", "token=bad", "", "token=a&token=b"):
        with pytest.raises(Denied) as caught:
            await auth.authenticate(HTTPConnection(websocket(query)))
        assert caught.value.reason is Reason.THROTTLED
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 3000
    assert knows.asked == ["bad"]
    other = await decide(auth, websocket("token=good", client=("192.0.2.7", 5)))
    assert isinstance(other, Authentication)


async def test_3_origin_comes_before_it_and_no_client_is_never_locked_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    auth = throttled(Knows(good=Principal("alice")), allowed_origins=["https://a.example"])
    foreign = [("origin", "https://evil.example")]
    assert await decide(auth, websocket("token=bad")) is Reason.INVALID
    assert await decide(auth, websocket("token=bad", headers=foreign)) is Reason.ORIGIN
    for _ in range(2):
        assert await decide(auth, websocket("token=bad", client=None)) is Reason.INVALID
    (warning,) = caplog.messages  # once
    assert "counts nothing for peers without an address" in warning


@cases("where", ["check", "count"])
@cases("how", ["fails", "hangs"])
async def test_3_a_throttle_that_does_not_work_admits_nobody(
    where: str, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: Any, client: Any) -> None:
        if how == "hangs":
            await anyio.sleep_forever()
        raise ZeroDivisionError

    auth = throttled(Knows(good=Principal("alice")), timeout=0.01)
    monkeypatch.setattr(FailureThrottle, where, broken)
    if where == "check":
        result = await decide(auth, websocket("token=good"))
        assert result is (Reason.ERROR if how == "fails" else Reason.UNAVAILABLE)
    else:
        assert await decide(auth, websocket("token=bad")) is Reason.INVALID
        told = [f"{auth.throttle!r} could not count"] if how == "fails" else []
        assert [message[message.index("<Fail") :] for message in caplog.messages] == told
        assert ("ZeroDivisionError" in caplog.text) is (how == "fails")
        assert isinstance(await decide(auth, websocket("token=good")), Authentication)


async def test_3_who_leaves_at_once_is_counted_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = FailureThrottle.count

    async def count_elsewhere(self: FailureThrottle, client: str | None) -> None:
        await anyio.lowlevel.checkpoint()
        await count(self, client)

    monkeypatch.setattr(FailureThrottle, "count", count_elsewhere)
    auth = throttled(Knows(good=Principal("alice")))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await decide(auth, websocket("token=bad"))
    assert await decide(auth, websocket("token=good")) is Reason.THROTTLED


# 4. Exactly one credential

FOUR = [
    QueryParam("token"),
    Header("authorization", scheme="Bearer"),
    Subprotocol(),
    Cookie("session"),
]
ORIGIN = ("origin", "https://chat.example")


@cases(
    ("scope", "expected"),
    [
        (websocket(), Reason.MISSING),
        (websocket("token="), Reason.MISSING),
        (websocket("token=good"), "alice"),
        (websocket(headers=bearer("good")), "alice"),
        (websocket(subprotocols=["bearer", "good"]), "alice"),
        (websocket(headers=[("cookie", "session=good"), ORIGIN]), "alice"),
        (websocket("token=bad"), Reason.INVALID),
        # Given twice
        (websocket("token=good&token=good"), Reason.MALFORMED),
        (websocket("token=good", headers=bearer("bad")), Reason.MALFORMED),
        (websocket("token=good", subprotocols=["bearer", "bad"]), Reason.MALFORMED),
        (websocket("token=good", headers=bearer("good")), "alice"),
        (websocket("token=good&token=bad", headers=bearer("good")), Reason.MALFORMED),
        # A cookie is ambient: it counts only where nothing explicit is present
        (websocket("token=good", headers=[("cookie", "session=bad"), ORIGIN]), "alice"),
        (websocket("token=bad", headers=[("cookie", "session=good"), ORIGIN]), Reason.INVALID),
        (websocket("token=good", headers=[("cookie", "session=a; session=b"), ORIGIN]), "alice"),
        (websocket(headers=[("cookie", "session=a; session=b"), ORIGIN]), Reason.MALFORMED),
        (websocket(headers=[("cookie", "session=good")]), Reason.ORIGIN),
        (websocket("token=good", headers=[("cookie", "session=good")]), "alice"),
        # Too long
        (websocket("token=" + "x" * 8192), Reason.INVALID),
        (websocket("token=" + "x" * 8193), Reason.MALFORMED),
        # Nothing is normalised into validity
        (websocket("token=go%6Fd"), "alice"),
        (websocket("token=go%256Fd"), Reason.INVALID),
        (websocket("token=good%00"), Reason.MALFORMED),
        (websocket("token=%EF%BD%87ood"), Reason.MALFORMED),
        (websocket("token=%C1%A7ood"), Reason.MALFORMED),
        (websocket("token=good+"), Reason.MALFORMED),
        (websocket(headers=bearer("good extra")), Reason.MALFORMED),
    ],
)
async def test_4_exactly_one_credential(scope: dict[str, Any], expected: Any) -> None:
    verifier = Knows(good=Principal("alice"))
    auth = authenticator(verifier, sources=FOUR, allowed_origins=["https://chat.example"])
    result = await decide(auth, scope)
    assert expected == (result.user.identity if isinstance(result, Authentication) else result)
    assert bool(verifier.asked) is (expected in ("alice", Reason.INVALID))


async def test_4_a_users_own_source() -> None:
    class LastSegment:
        def extract(self, conn: HTTPConnection) -> str | None:
            return conn.url.path.rpartition("/")[2]

        def redact(self, scope: Any) -> None:
            scope["path"] = "/ws"

    auth = authenticator(Knows(good=Principal("alice")), sources=[LastSegment()])
    assert isinstance(await decide(auth, websocket(path="/ws/good")), Authentication)
    assert await decide(auth, websocket(path="/ws/")) is Reason.MISSING


@cases(
    ("find", "why"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: b"good", "TypeError: a source found a bytes; it must be a str"),
        (lambda: ["good"], "TypeError: a source found a list; it must be a str"),
    ],
)
async def test_4_a_source_that_breaks_admits_nobody(find: Callable[[], Any], why: str) -> None:
    class Broken:
        def extract(self, conn: HTTPConnection) -> Any:
            return find()

        def redact(self, scope: Any) -> None: ...

        def __repr__(self) -> str:
            return "a source"

    verifier = Knows(good=Principal("alice"))
    auth = authenticator(verifier, sources=[QueryParam("token"), Broken()])
    with pytest.raises(Denied) as caught:
        await auth.authenticate(HTTPConnection(websocket("token=good")))
    kind, _, text = why.partition(": ")
    assert (caught.value.reason, caught.value.detail) == (Reason.ERROR, f"a source: {kind}")
    assert str(caught.value.__cause__) == text
    assert not verifier.asked


# 5. The chain


async def test_5_the_first_that_claims_it_decides() -> None:
    first, second = Knows(a=Principal("first")), Knows(a=Principal("second"), b=Principal("b"))
    auth = authenticator(first, second)
    for query, identity in (("token=a", "first"), ("token=b", "b")):
        result = await decide(auth, websocket(query))
        assert isinstance(result, Authentication)
        assert result.user.identity == identity
    assert second.asked == ["b"]


async def test_5_a_verifier_may_look_at_the_connection() -> None:
    async def verifier(credential: Credential, conn: HTTPConnection) -> Principal | None:
        return Principal("alice") if conn.url.path == "/ws/alice" else None

    auth = authenticator(verifier)
    assert isinstance(await decide(auth, websocket("token=x", path="/ws/alice")), Authentication)
    assert await decide(auth, websocket("token=x", path="/ws/bob")) is Reason.INVALID


@cases(
    ("came", "wanted", "hints"),
    [
        (
            "https://id.example",
            ["https://id.example/"],
            "its iss is 'https://id.example', expected 'https://id.example/'",
        ),
        (
            "https://c.example",
            ["https://a.example", ["https://b.example", "b.example"], "https://a.example"],
            "its iss is 'https://c.example', expected 'https://a.example'; "
            "its iss is 'https://c.example', expected 'https://b.example', 'b.example'",
        ),
        ("\x1b[31m\r\n\u202e", ["a"], r"its iss is '\x1b[31m\r\n\u202e', expected 'a'"),
        ("x" * 3000, ["a"], f"its iss is '{'x' * 96}..., expected 'a'"),
        (None, ["a"], "it has no iss, expected 'a'"),
        ("any", [None, "a"], ""),
    ],
)
async def test_5_the_log_is_told_which_issuer_came_and_which_are_wanted(
    came: Any, wanted: list[Any], hints: str
) -> None:
    """A slash makes another issuer."""
    token = mint(iss=came)
    verifiers = [jwt_verifier(issuer=issuer) for issuer in wanted]
    conn = HTTPConnection(websocket(headers=bearer(token)))
    if not hints:  # who takes it needs no hint of others
        assert (await authenticator(*verifiers).authenticate(conn)).principal.identity == "alice"
        return
    with pytest.raises(Denied) as caught:
        await authenticator(*verifiers).authenticate(conn)
    assert caught.value.reason is Reason.INVALID
    assert caught.value.detail == f"no verifier recognised the credential: {hints}"
    assert caught.value.detail.isprintable()


async def test_5_a_payload_that_cant_be_read_has_no_issuer() -> None:
    head, _, signature = mint().split(".")
    conn = HTTPConnection(websocket(headers=bearer(f"{head}.e.{signature}")))
    with pytest.raises(Denied, match="it has no iss, expected 'a'"):
        await authenticator(jwt_verifier(issuer="a")).authenticate(conn)


async def test_5_a_refusal_stops_the_chain() -> None:
    weaker = Knows(x=Principal("anybody"))
    auth = authenticator(Knows(x=Denied(Reason.EXPIRED)), weaker)
    assert await decide(auth, websocket("token=x")) is Reason.EXPIRED
    assert not weaker.asked


async def test_5_claimed_by_nobody_is_invalid() -> None:
    assert await decide(authenticator(nobody, Knows()), websocket("token=x")) is Reason.INVALID


@cases(
    "answer",
    [True, False, 0, "alice", {"sub": "alice"}, ("alice",), object(), Principal, ValueError("x")],
)
async def test_5_an_answer_that_is_no_principal(answer: Any) -> None:
    after = Knows(x=Principal("alice"))
    auth = authenticator(Knows(x=answer), after)
    assert await decide(auth, websocket("token=x")) is Reason.ERROR
    assert not after.asked


async def test_5_the_log_says_what_an_answer_was() -> None:
    verifier = Knows(x=True)
    with pytest.raises(Denied) as caught:
        await authenticator(verifier).authenticate(HTTPConnection(websocket("token=x")))
    assert caught.value.reason is Reason.ERROR
    assert caught.value.detail == f"{verifier!r} must return a Principal or None, got a bool"


async def test_5_a_verifier_that_is_not_async() -> None:
    """Where it can't be told when it is built: a lambda may well return what an async one does."""
    auth = authenticator(lambda credential, conn: Principal("alice"))
    with pytest.raises(Denied) as caught:
        await auth.authenticate(HTTPConnection(websocket("token=x")))
    assert caught.value.reason is Reason.ERROR
    assert caught.value.detail.endswith(
        "must be an async function, got one that returns a Principal"
    )


@cases(("expires_at", "admitted"), [(None, True), (NOW + 1, True), (NOW, False), (NOW - 1, False)])
async def test_5_what_has_expired_is_not_vouched_for(expires_at: Any, admitted: bool) -> None:
    auth = authenticator(Knows(x=Principal("alice", expires_at=expires_at)))
    result = await decide(auth, websocket("token=x"))
    assert isinstance(result, Authentication) if admitted else result is Reason.EXPIRED


@cases("where", ["verifier", "load_user"])
async def test_5_a_hanging_call_is_cancelled_at_the_deadline(where: str) -> None:
    ended = anyio.Event()

    async def hang(*_: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    options: dict[str, Any] = {"timeout": 0.01}
    if where == "verifier":
        auth = authenticator(hang, Knows(x=Principal("alice")), **options)
    else:
        auth = authenticator(Knows(x=Principal("alice")), load_user=hang, **options)
    assert await decide(auth, websocket("token=x")) is Reason.UNAVAILABLE
    assert ended.is_set()


async def test_5_a_verifier_may_wait_inside_scopes_of_its_own() -> None:
    async def verifier(credential: Credential, conn: HTTPConnection) -> Principal:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.lowlevel.checkpoint)
            await anyio.lowlevel.checkpoint()
        return Principal("alice")

    assert isinstance(await decide(authenticator(verifier), websocket("token=x")), Authentication)


async def test_5_a_verifiers_own_time_limit_is_its_own() -> None:
    async def verifier(credential: Credential, conn: HTTPConnection) -> Principal | None:
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        return Principal("alice")

    assert isinstance(await decide(authenticator(verifier), websocket("token=x")), Authentication)


# 6. Not revoked: who is meant is in test_revocation.py


@cases("kind", ["user", "token", "session"])
async def test_6_what_was_revoked_is_refused_before_its_user_is_loaded(kind: str) -> None:
    loaded = []

    async def load(principal: Principal, conn: HTTPConnection) -> Any:
        loaded.append(principal)
        return principal

    revocations = Revocations(MemoryStore(), clock=lambda: NOW)
    principal = Principal("alice", token_id="t", session_id="s", issued_at=NOW - 60)
    auth = authenticator(Knows(x=principal), revocations=revocations, load_user=load)
    assert isinstance(await decide(auth, websocket("token=x")), Authentication)
    await getattr(revocations, f"revoke_{kind}")({"user": "alice", "token": "t"}.get(kind, "s"))
    assert await decide(auth, websocket("token=x")) is Reason.REVOKED
    assert await decide(auth, websocket("token=y")) is Reason.INVALID
    assert loaded == [principal]


async def test_6_a_jwt_that_was_issued_since_is_good() -> None:
    revocations = Revocations(MemoryStore(), clock=lambda: NOW)
    auth = authenticator(revocations=revocations)
    await revocations.revoke_user("alice")
    await revocations.revoke_token("stolen")
    for claims, good in (
        ({}, False),
        ({"iat": int(NOW)}, False),
        ({"iat": int(NOW) + 1}, True),
        ({"iat": int(NOW) + 1, "jti": "stolen"}, False),
    ):
        result = await decide(auth, websocket(f"token={mint(**claims)}"))
        assert isinstance(result, Authentication) if good else result is Reason.REVOKED


async def test_7_load_user_is_asked_about_machine_users_too() -> None:
    """And knows them by their method."""
    asked: list[str] = []

    async def load(principal: Principal, conn: Any) -> Any:
        asked.append(principal.method)
        return principal

    internal, tickets = InternalCredential(), Tickets(MemoryStore(), clock=lambda: NOW)
    keys = APIKeyVerifier({"ci": "Kq8rT2vX5yB1nM4cZ7wL0sD3"})
    auth = authenticator(internal, keys, tickets, jwt_verifier(), load_user=load)
    ticket = await tickets.mint(Principal("alice"))
    for presented in (internal.value, "Kq8rT2vX5yB1nM4cZ7wL0sD3", ticket, mint()):
        assert isinstance(await decide(auth, websocket(f"token={presented}")), Authentication)
    assert asked == ["internal", "api_key", "ticket", "jwt"]


@cases("how", ["fails", "hangs"])
async def test_6_a_store_that_does_not_answer_admits_nobody(how: str) -> None:
    class Down(MemoryStore):
        async def get_revocations(self, subjects: Any, /) -> Any:
            if how == "hangs":
                await anyio.sleep_forever()
            raise OSError("down")

    auth = authenticator(revocations=Revocations(Down()), timeout=0.01)
    assert await decide(auth, websocket(f"token={mint()}")) is Reason.UNAVAILABLE


async def test_6_while_authentication_is_off_nobody_is_revoked() -> None:
    revocations = Revocations(MemoryStore())
    await revocations.revoke_user("local")
    auth = authenticator(required=False, revocations=revocations)
    assert isinstance(await decide(auth, websocket()), Authentication)


# 7. load_user


async def no_user(principal: Principal, conn: HTTPConnection) -> None: ...


PAGE: dict[str, Any] = {
    "sources": [QueryParam("token"), Cookie("session")],
    "allowed_origins": ["https://chat.example"],
}


@cases(
    ("scope", "options", "why"),
    [
        (http("GET"), PAGE, "a cookie without an Origin"),
        (websocket(headers=[("origin", "null")]), PAGE, "not among allowed_origins"),
        (websocket("token=" + "x" * 9_000), {}, "too long: 9000 characters"),
        (websocket("token=a%00"), {}, "it has characters that no credential has"),
        (
            websocket("token=a", headers=bearer("b")),
            {},
            "different credentials in query parameter token and header authorization",
        ),
        (websocket("token=unknown"), {}, "no verifier recognised the credential"),
        (websocket("token=old"), {}, "<the verifier> vouched for what has expired"),
        (websocket("token=good"), {"load_user": no_user}, "load_user returned None"),
        (websocket("token=slow"), {"timeout": 0.01}, "no verdict within 0.01 s"),
    ],
)
async def test_the_log_says_why(scope: dict[str, Any], options: Any, why: str) -> None:
    class Verifier:
        async def __call__(self, credential: Credential, conn: HTTPConnection) -> Any:
            if credential.value == "slow":
                await anyio.sleep_forever()
            known = {"good": Principal("alice"), "old": Principal("alice", expires_at=NOW)}
            return known.get(credential.value)

        def __repr__(self) -> str:
            return "<the verifier>"

    with pytest.raises(Denied) as caught:
        await authenticator(Verifier(), **options).authenticate(HTTPConnection(scope))
    assert caught.value.detail == why


@cases(
    ("user", "expected"),
    [
        ({"name": "Alice"}, {"name": "Alice"}),
        (None, Reason.REVOKED),
        (Denied(Reason.FORBIDDEN), Reason.FORBIDDEN),
        (Denied(Reason.UNAVAILABLE), Reason.UNAVAILABLE),
        (OSError("no database"), Reason.ERROR),
    ],
)
async def test_7_load_user(user: Any, expected: Any) -> None:
    async def load(principal: Principal, conn: HTTPConnection) -> Any:
        assert principal.identity == "alice"
        assert conn.url.path == "/ws"
        if isinstance(user, Exception):
            raise user
        return user

    auth = authenticator(load_user=load)
    token = mint()
    result = await decide(auth, websocket(f"token={token}"))
    assert expected == (result.user if isinstance(result, Authentication) else result)
    if isinstance(result, Authentication):
        assert result.principal.identity == "alice"
        assert result.credential is not None and result.credential.value == token
    assert await decide(auth, websocket("token=rubbish")) is Reason.INVALID


async def test_7_it_is_not_asked_while_authentication_is_off() -> None:
    auth = authenticator(required=False, load_user=lambda *_: 1 / 0)
    assert isinstance(await decide(auth, websocket()), Authentication)


# Configuration


class NoSource:
    def extract(self, conn: HTTPConnection) -> str | None: ...


async def async_required() -> bool:
    return True


async def async_observer(event: Any) -> None: ...


NO_VERIFIER = r"verifiers must name at least one, .*, got \[\]; or set required=False .*"
COOKIE_ALONE = "allowed_origins must name your pages' origins where there is a Cookie source, .*"
NOT_REQUIRED = "required must be .*, got .*; it is called at every handshake and must return .*"
NO_NETWORK = r'no_auth_networks must be a list of networks, for example \["10.0.0.0/8"\], .*'


@cases(
    ("verifiers", "options", "named"),
    [
        ([], {}, NO_VERIFIER),
        ([], {"required": lambda: False}, NO_VERIFIER),
        (nobody, {}, "verifiers must be a list, got <function nobody .*"),
        ([nobody, "secret"], {}, "verifiers must be a function, got 'secret'; .*"),
        (
            [nobody],
            {"sources": [NoSource()]},
            "sources must be a source, .* redact.*",
        ),
        (
            [nobody],
            {"sources": ["token"]},
            r'sources must be a list of sources, such as QueryParam\("token"\), got .token. in it',
        ),
        (
            [nobody],
            {"sources": "token"},
            r"sources must be a list, got one string; write \['token'\]",
        ),
        (
            [nobody],
            {"sources": [FirstMessage(), FirstMessage(subprotocol="chat")]},
            "sources must name one FirstMessage at most, because a socket has one first message",
        ),
        ([nobody], {"sources": []}, r"sources must name at least one, .*, got \[\]"),
        (
            [nobody],
            {"sources": QueryParam("token")},
            r"sources must be a list, got query parameter token; put it into brackets: \[\.\.\.\]",
        ),
        ([nobody], {"sources": [Cookie("session")]}, COOKIE_ALONE),
        ([nobody], {"required": async_required}, NOT_REQUIRED),
        ([nobody], {"required": "false"}, NOT_REQUIRED),
        ([nobody], {"required": None}, NOT_REQUIRED),
        ([nobody], {"anonymous": "local"}, "anonymous must be a Principal, got 'local'; .*"),
        (
            [nobody],
            {"no_auth_networks": "127.0.0.0/8"},
            "no_auth_networks must be a list, got one string; .*",
        ),
        ([nobody], {"no_auth_networks": ["127.0.0.1/8"]}, NO_NETWORK),
        ([nobody], {"no_auth_networks": ["localhost"]}, NO_NETWORK),
        ([nobody], {"load_user": "users"}, "load_user must be a function, got 'users'; .*"),
        ([nobody], {"revocations": MemoryStore()}, "revocations must be a Revocations, got .*"),
        ([nobody], {"revocations": Revocations}, "revocations must be a Revocations, got .*"),
        ([nobody], {"throttle": "10/minute"}, "throttle must be a FailureThrottle, .*"),
        ([nobody], {"timeout": 0}, "timeout must be a positive number of seconds, got 0"),
        (
            [nobody],
            {"timeout": float("nan")},
            "timeout must be a positive .* got nan",
        ),
        ([nobody], {"timeout": None}, "timeout must be a positive number of seconds, got None"),
        ([nobody], {"max_token_size": 0}, "max_token_size must be a positive integer, got 0"),
        ([nobody], {"observers": print}, "observers.*"),
        ([nobody], {"observers": ["log"]}, "observers.*"),
        ([nobody], {"observers": [async_observer]}, "observers.*"),
    ],
)
def test_bad_configuration_is_named_with_its_mend(verifiers: Any, options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{named}$"):
        Authenticator(verifiers, **options)


def test_its_defaults() -> None:
    auth = Authenticator([nobody])
    assert (auth.timeout, auth.max_token_size) == (5, 8192)
    assert list(map(str, auth.sources)) == ["query parameter token", "header authorization"]


def plain_user(principal: Principal, conn: HTTPConnection) -> Principal:
    return principal


def plain_verifier(credential: Credential, conn: HTTPConnection) -> Principal | None:
    return None


@cases(
    ("verifiers", "options", "named"),
    [
        ([plain_verifier], {}, "verifiers must be an async function, got "),
        ([JWTVerifier], {}, r"verifiers must be a function, got the class .*\(\.\.\.\)"),
        ([nobody], {"load_user": plain_user}, "load_user must be an async function, got "),
        ([nobody], {"sources": [Header]}, "sources must be a source, got the class Header; "),
        (
            [nobody],
            {"sources": [Cookie("a")], "allowed_origins": []},
            r"allowed_origins must name your pages' origins .*, got \[\]",
        ),
        ([nobody], {"required": lambda: "false"}, "required must be .* one that returns 'false'"),
    ],
)
def test_what_would_refuse_everybody_is_not_built(
    verifiers: Any, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{named}"):
        Authenticator(verifiers, **options)


def test_a_required_that_fails_may_work_later() -> None:
    assert Authenticator([nobody], required=lambda: bool(1 / 0)).verifiers == (nobody,)


async def test_a_load_user_that_turns_out_plain_is_an_error_in_one_line() -> None:
    auth = authenticator(Knows(x=Principal("alice")), load_user=lambda principal, conn: principal)
    with pytest.raises(Denied) as caught:
        await auth.authenticate(HTTPConnection(websocket("token=x")))
    assert caught.value.reason is Reason.ERROR
    why = "load_user must be an async function, got one that returns a Principal"
    assert caught.value.detail == why


async def test_a_refusal_of_nothing_says_where_it_looked() -> None:
    with pytest.raises(Denied) as caught:
        await authenticator(nobody).authenticate(HTTPConnection(websocket()))
    assert caught.value.reason is Reason.MISSING
    assert caught.value.detail == "looked in query parameter token, header authorization"


async def test_a_whole_authorization_header_is_told_of_its_scheme() -> None:
    auth = authenticator(nobody, sources=[Header("authorization")])
    with pytest.raises(Denied) as caught:
        await auth.authenticate(HTTPConnection(websocket(headers=bearer("abc"))))
    assert caught.value.reason is Reason.MALFORMED
    assert caught.value.detail.endswith("write Header('authorization', scheme=\"Bearer\")")
    assert "abc" not in caught.value.detail
