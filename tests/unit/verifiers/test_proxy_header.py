"""A user's name in a header counts only from a proxy that proves itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from cases import cases
from handshakes import App, Knows, authenticator, drive, websocket
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    ConfigurationError,
    Credential,
    Denied,
    Header,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    ProxyHeader,
    QueryParam,
    Reason,
    RedactCredentials,
    Revocations,
    WebSocketAuthMiddleware,
)

USER, PROOF = "x-forwarded-user", "x-proxy-secret"
SECRET = "Zk4vQ9wT2mX7bN1sR6yD"
NEXT = "h8LpE3cJ5gA0uF7iWt2V"
ORIGINS = ["https://chat.example"]


def proxy(secret: Any = SECRET, **options: Any) -> ProxyHeader:
    return ProxyHeader("X-Forwarded-User", secret=secret, **{"clock": lambda: 5.0, **options})


def auth(part: ProxyHeader, *others: Any, **options: Any) -> Any:
    sources = [part, QueryParam("token")]
    given = {"sources": sources, "allowed_origins": ORIGINS, **options}
    return authenticator(part, *others, **given)


async def decide(
    part: ProxyHeader, *headers: tuple[str, str], query: str = "", others: Any = (), **options: Any
) -> Principal | Reason:
    """Whom an authenticator admits with these headers, or why nobody."""
    conn = HTTPConnection(websocket(query, headers=headers))
    try:
        admitted = await auth(part, *others, **options).authenticate(conn)
    except Denied as denied:
        for secret in (SECRET, NEXT):
            assert secret not in str(denied)
        return denied.reason
    principal: Principal = admitted.principal
    return principal


@pytest.mark.anyio
class TestDecision:
    async def test_a_name_with_the_secret_is_that_user(self) -> None:
        principal = await decide(proxy(), (USER, "alice"), (PROOF, SECRET))
        assert isinstance(principal, Principal)
        assert (principal.identity, principal.method) == ("alice", "proxy")
        assert (principal.issued_at, principal.expires_at) == (5.0, None)
        assert principal.scopes == ()

    @cases(
        ("headers", "reason"),
        [
            ([], Reason.MISSING),
            ([(PROOF, SECRET)], Reason.MISSING),  # the proxy knows nobody
            ([(PROOF, SECRET), (USER, "")], Reason.MISSING),
            ([(PROOF, ""), (USER, " ")], Reason.MISSING),
            ([(USER, "alice")], Reason.INVALID),
            ([(USER, "alice"), (PROOF, "")], Reason.INVALID),
            ([(USER, "alice"), (PROOF, SECRET[:-1])], Reason.INVALID),
            ([(USER, "alice"), (PROOF, SECRET + "x")], Reason.INVALID),
            ([(USER, "alice"), (PROOF, SECRET.lower())], Reason.INVALID),
            ([(USER, "alice"), (PROOF, f'"{SECRET}"')], Reason.INVALID),
            ([(USER, "alice"), (PROOF, "é" * 20)], Reason.INVALID),
            ([(PROOF, NEXT)], Reason.INVALID),
            ([(USER, "alice"), (USER, "alice"), (PROOF, SECRET)], Reason.MALFORMED),
            ([(USER, "alice"), (PROOF, SECRET), (PROOF, SECRET)], Reason.MALFORMED),
            ([(USER, "alice"), (PROOF, NEXT), (PROOF, SECRET)], Reason.MALFORMED),
            ([(USER, "alice"), (USER, "bob")], Reason.MALFORMED),
            ([(USER, "alice,bob"), (PROOF, SECRET)], Reason.MALFORMED),  # joined by a server
            ([(USER, "alice"), (PROOF, f"{SECRET}, {SECRET}")], Reason.MALFORMED),
            ([(USER, ""), (USER, "alice"), (PROOF, SECRET)], Reason.MALFORMED),
            ([(USER, "\xff\xfe"), (PROOF, SECRET)], Reason.MALFORMED),  # no UTF-8
            ([(USER, "ali\x00ce"), (PROOF, SECRET)], Reason.MALFORMED),
            ([(USER, "a" * 9000), (PROOF, SECRET)], Reason.MALFORMED),
        ],
    )
    async def test_all_else_is_refused(
        self, headers: list[tuple[str, str]], reason: Reason
    ) -> None:
        assert await decide(proxy(), *headers) is reason

    @cases(
        ("sent", "identity"),
        [
            ("alice", "alice"),
            (" alice\t", "alice"),
            ("Alice Liddell", "Alice Liddell"),
            ("alice@chat.example", "alice@chat.example"),
            ("a%2Cb", "a%2Cb"),  # as it was sent
            ("José".encode().decode("latin-1"), "José"),
        ],
    )
    async def test_any_text_is_a_name(self, sent: str, identity: str) -> None:
        principal = await decide(proxy(), (USER, sent), (PROOF, SECRET))
        assert isinstance(principal, Principal)
        assert principal.identity == identity

    @cases("sent", [SECRET, NEXT])
    async def test_two_secrets_count_while_one_replaces_the_other(self, sent: str) -> None:
        principal = await decide(proxy([NEXT, SECRET]), (USER, "alice"), (PROOF, sent))
        assert isinstance(principal, Principal)

    async def test_a_name_beside_a_token_is_two_credentials(self) -> None:
        headers = (USER, "alice"), (PROOF, SECRET)
        known = Knows(a=Principal("bob"))
        assert await decide(proxy(), *headers, query="token=a", others=[known]) is Reason.MALFORMED

    async def test_the_proxy_that_knows_nobody_leaves_the_token_of_a_program(self) -> None:
        known = Knows(a=Principal("bob"))
        headers = ((PROOF, SECRET),)
        principal = await decide(proxy(), *headers, query="token=a", others=[known])
        assert isinstance(principal, Principal)
        assert principal.identity == "bob"

    async def test_other_verifiers_never_see_the_secret(self) -> None:
        part, curious = proxy(), Knows()
        options = {"sources": [part], "allowed_origins": ORIGINS}
        conn = HTTPConnection(websocket(headers=[(USER, "alice"), (PROOF, SECRET)]))
        await authenticator(curious, part, **options).authenticate(conn)
        (asked,) = curious.asked
        assert SECRET not in asked
        assert asked.endswith(".alice")

    async def test_what_it_makes_of_a_name_is_no_other_name(self) -> None:
        made = proxy().extract(
            HTTPConnection(websocket(headers=[(USER, "alice"), (PROOF, SECRET)]))
        )
        assert made is not None
        conn, source = HTTPConnection(websocket()), repr(proxy())
        assert await proxy()(Credential(made, source), conn) is not None
        for other in (made.replace("alice", "bob"), made[:-1], "alice", ".alice", ""):
            assert await proxy()(Credential(other, source), conn) is None
        assert await proxy(NEXT)(Credential(made, source), conn) is None
        # It proves nothing where a client sends it, who may have it from a log.
        assert await decide(proxy(), query=f"token={made}") is Reason.INVALID

    async def test_revoking_a_user_leaves_new_connections_to_the_proxy(self) -> None:
        times = iter([5.0, 7.0])
        part, revocations = (
            proxy(clock=lambda: next(times)),
            Revocations(MemoryStore(clock=lambda: 6.0), clock=lambda: 6.0),
        )
        await revocations.revoke_user("alice")
        headers = (USER, "alice"), (PROOF, SECRET)
        assert await decide(part, *headers, revocations=revocations) is Reason.REVOKED
        assert isinstance(await decide(part, *headers, revocations=revocations), Principal)


@pytest.mark.anyio
class TestRedaction:
    HEADERS = ((USER, "alice"), (PROOF, SECRET), ("x-other", "1"))

    async def test_the_app_finds_neither_header(self) -> None:
        for guard, kind in ((WebSocketAuthMiddleware, "websocket"), (HTTPAuthMiddleware, "http")):
            app = App()
            scope = websocket(headers=self.HEADERS, type=kind, method="GET")
            given = scope["headers"]
            await drive(guard(app, auth(proxy())), scope)
            assert app.scope["user"].identity == "alice"
            for headers in (app.scope["headers"], scope["headers"], given):
                assert [name for name, _ in headers] == [b"host", b"x-other"]

    async def test_what_is_refused_leaves_neither_header(self) -> None:
        for sent in (SECRET + "x", f"{SECRET},{SECRET}"):
            headers = [(USER, "alice"), (PROOF, sent), (PROOF.upper(), sent)]
            scope = websocket(headers=headers)
            outcome = await drive(WebSocketAuthMiddleware(App(), auth(proxy())), scope)
            assert outcome.close == (1008, "token_malformed")
            assert [name for name, _ in scope["headers"]] == [b"host"]

    def test_the_log_shows_neither_header(self) -> None:
        redact = RedactCredentials(auth(proxy()))
        text = f"< X-Forwarded-User: alice\n< X-Proxy-Secret: {SECRET}\n< Accept: *"
        record = logging.makeLogRecord({"msg": text})
        redact.filter(record)
        assert record.getMessage() == (
            "< X-Forwarded-User: [redacted]\n< X-Proxy-Secret: [redacted]\n< Accept: *"
        )

    async def test_no_event_and_no_repr_has_the_secret(self) -> None:
        told: list[Any] = []
        part = proxy([SECRET, NEXT])
        for sent in (SECRET, NEXT + "x"):
            scope = websocket(headers=[(USER, "alice"), (PROOF, sent)])
            await drive(WebSocketAuthMiddleware(App(), auth(part, observers=[told.append])), scope)
        assert [event.name for event in told] == ["admitted", "closed", "refused"]
        text = repr([vars(event) for event in told]) + repr(part)
        assert SECRET not in text and NEXT not in text
        assert told[2].detail == "proxy header x-forwarded-user with a wrong x-proxy-secret"


class TestConfiguration:
    @cases("secret", ["", "short", "changeme-changeme", "a" * 40, None, 7, [], [SECRET, "x"]])
    def test_a_secret_that_can_be_guessed_is_refused(self, secret: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^ProxyHeader: secret ") as caught:
            proxy(secret)
        assert SECRET not in str(caught.value)

    def test_a_secret_has_no_comma(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^ProxyHeader: secret must have no comma"):
            proxy(SECRET + "," + NEXT)

    def test_the_headers_are_two(self) -> None:
        with pytest.raises(ConfigurationError, match=r"secret_header must be another"):
            proxy(secret_header="x-forwarded-USER")

    @cases("option", ["header", "secret_header"])
    def test_a_cookie_is_none_of_them(self, option: str) -> None:
        given: dict[str, Any] = {"header": USER, "secret": SECRET, option: "Cookie"}
        with pytest.raises(ConfigurationError, match=rf"^ProxyHeader: {option} must be a header"):
            ProxyHeader(**given)

    def test_it_stands_in_both_lists(self) -> None:
        for lists in (([proxy()], [Header("x")]), ([Knows()], [proxy()]), ([proxy()], [proxy()])):
            verifiers, sources = lists
            with pytest.raises(ConfigurationError, match="it is both"):
                authenticator(*verifiers, sources=sources, allowed_origins=ORIGINS)

    def test_without_allowed_origins_it_warns(self, caplog: pytest.LogCaptureFixture) -> None:
        auth(proxy(), allowed_origins=[])
        assert caplog.text == ""
        auth(proxy(), allowed_origins=None)
        assert "write allowed_origins=[] where only programs connect" in caplog.text
