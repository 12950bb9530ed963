"""No credential in a server's log, nor in the package's own at DEBUG: not of a client that was
admitted, refused or made something break, wherever in the handshake it put it.

At its default level, uvicorn needs nothing for that but the middleware. At `trace` it logs the
handshake before any app is asked, and needs `RedactCredentials` on its handlers. That credentials
do stand in the log of a server without the one or the other is shown too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

import pytest
from cases import cases
from handshakes import mint, now
from servers import USUAL, UVICORN, Server, each_server, only, pooled, server, usual_but

pytestmark = pytest.mark.live

__all__ = ["server"]  # the fixture

WAYS = ["query", "header", "cookie", "subprotocol"]

# A path, and what is presented there; {} makes it one that no other test presents.
OUTCOMES = {
    "admitted": ("/guarded", "jwt"),
    "admitted, opaque": ("/guarded", "opaque-{}"),
    "expired": ("/daphne", "expired jwt"),
    "unknown": ("/daphne", "stranger-{}"),
    "refused over HTTP": ("/http", "stranger-{}"),
    "refused with a close": ("/close", "stranger-{}"),
    "too long": ("/daphne", "long-{}" + "x" * 3000),
    "verifier raises": ("/daphne", "boom-{}"),
    "app raises": ("/failing", "jwt"),
}

# What the log must show, so that the credential is looked for where it could be. The package's own
# lines begin with "websocket".
LOGGED = {
    "verifier raises": "RuntimeError: verifier broke at [redacted]",
    "app raises": "RuntimeError: app broke with {",
}


def credential_for(outcome: str, way: str, kind: str = "") -> str:
    kind = kind or OUTCOMES[outcome][1]
    unique = re.sub(r"\W+", "-", f"{way}-{outcome}")
    if "jwt" in kind:  # its header is made unique too, so that it can be searched for
        exp = now() + (-300 if "expired" in kind else 300)
        return mint(exp=exp, jti=unique, headers={"kid": unique})
    return kind.format(f"{unique}.4f1d2e0b9cZm9v.YmFyYmF6cXV4")


def carrying(credential: str, way: str, server: Server) -> dict[str, Any]:
    """The part of a handshake that carries a credential this way."""
    match way:
        case "query":
            return {"token": credential, "a": "1"}
        case "header":
            return {"headers": [("Authorization", f"Bearer {credential}")]}
        case "cookie":
            from_page = ("Origin", server.origin)
            return {"headers": [("Cookie", f"a=1; session={credential}"), from_page]}
        case _:
            return {"subprotocols": ["chat", "bearer", credential]}


def pieces_in(log: str, credential: str) -> list[str]:
    """The pieces of a credential, as long as a JWT's segments are, that stand in a log: plain or
    percent-encoded, once or twice, in any case."""
    pieces = [credential, *(piece for piece in credential.split(".") if len(piece) > 10)]
    texts = [text.casefold() for text in (log, unquote(log), unquote(unquote(log)))]
    return [piece for piece in pieces if any(piece.casefold() in text for text in texts)]


def log_of_all_ways(server: Server, outcome: str) -> tuple[str, dict[str, str]]:
    """The log of handshakes that carry credentials in each of the WAYS; and the credentials."""
    if "raises" in outcome:
        server.excuse_trouble()
    credentials = {way: credential_for(outcome, way) for way in WAYS}
    start = len(server.log())
    server.talk_all(
        (OUTCOMES[outcome][0], carrying(credential, way, server))
        for way, credential in credentials.items()
    )
    return server.log_since(start), credentials


def found(log: str, credentials: dict[str, str]) -> dict[str, list[str]]:
    """Of which credentials there are which pieces in a log."""
    pieces = {name: pieces_in(log, credential) for name, credential in credentials.items()}
    return {name: each for name, each in pieces.items() if each}


# At the default level.


def default_log_is_clean(server: Server, outcome: str) -> None:
    log, credentials = log_of_all_ways(server, outcome)
    assert log.count(LOGGED.get(outcome, "websocket")) >= len(WAYS)
    assert found(log, credentials) == {}


@cases("outcome", OUTCOMES)
def test_the_default_log_has_no_credential(server: Server, outcome: str) -> None:
    default_log_is_clean(server, outcome)


@each_server
def test_no_servers_default_log_has_a_credential_that_was_admitted_or_refused(
    server: Server,
) -> None:
    default_log_is_clean(server, "admitted, opaque")
    default_log_is_clean(server, "unknown")


@cases("kind", ["jwt", "expired jwt", "stranger-{}", "boom-{}", "ticket"])
@cases("way", WAYS)
def test_the_default_log_has_no_credential_over_http(server: Server, kind: str, way: str) -> None:
    if kind == "ticket":
        asked = server.ask("POST", "/ticket", headers=[("Authorization", "Bearer opaque-1")])
        credential = asked.json["ticket"]
    else:
        credential = credential_for(kind, way, kind)
    carried = carrying(credential, way, server)
    headers = carried.pop("headers", [])
    if offered := carried.pop("subprotocols", None):
        headers = [("Sec-WebSocket-Protocol", ", ".join(offered))]
    if kind == "boom-{}":
        server.excuse_trouble()
    start = len(server.log())
    server.ask("GET", "/guarded", headers=headers, **carried)
    log = server.log_since(start)
    assert "http " in log
    assert ("GET /guarded" in log) is (server.name in (*UVICORN, "daphne"))
    # Daphne's access log has the request's target as it came; it takes `--access-log /dev/null`.
    assert bool(pieces_in(log, credential)) is (server.name == "daphne" and way == "query")


@usual_but("daphne")
@cases("method", ["GET", "POST", "OPTIONS"])
@cases("path", ["/ticket", "/both/http-first"])
def test_nor_where_no_verifier_was_asked(server: Server, method: str, path: str) -> None:
    """Another method than POST, a foreign page, a preflight."""
    start = len(server.log())
    foreign = [("Origin", "https://chat.example"), ("Access-Control-Request-Method", "PUT")]
    server.ask(method, path, headers=foreign, token=SECRET)
    assert pieces_in(server.log_since(start), SECRET) == []


# Handshakes that arrive as plain HTTP. (Daphne logs the target as it came, whatever an app does.)

CUT = [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]
GUARDED_FOR_HTTP = {
    "/both/sockets-only": False,
    "/both/socket-first": True,
    "/both/http-first": True,
}


def asked_over_http(server: Server, path: str, way: str, headers: list[tuple[str, str]]) -> str:
    """What the log has after a request with a credential, which is answered as it should be."""
    credential = credential_for("admitted", way)
    carried = carrying(credential, way, server)
    given = [*headers, *carried.pop("headers", [])]
    if offered := carried.pop("subprotocols", None):
        given.append(("Sec-WebSocket-Protocol", ", ".join(offered)))
    start = len(server.log())
    seen = server.ask("GET", path, headers=given, **carried)
    assert seen.json["user"] == ("alice" if GUARDED_FOR_HTTP[path] else None)
    if headers or GUARDED_FOR_HTTP[path]:
        assert pieces_in(seen.json["everything"], credential) == []
    return "".join(pieces_in(server.log_since(start), credential))


@usual_but("daphne")
@cases("path", GUARDED_FOR_HTTP)
def test_nor_of_a_handshake_that_arrives_as_http(server: Server, path: str) -> None:
    for way in WAYS:
        for headers in ([], CUT):
            assert asked_over_http(server, path, way, headers) == "", (way, headers)


@pytest.fixture
def without_websockets(request: pytest.FixtureRequest) -> Server:
    return pooled(request.config, "uvicorn-websockets", "--ws", "none")


@cases("path", GUARDED_FOR_HTTP)
def test_nor_where_the_server_knows_no_websockets(without_websockets: Server, path: str) -> None:
    upgrade = [*CUT, ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    for way in WAYS:
        assert asked_over_http(without_websockets, path, way, upgrade) == "", way


@each_server
def test_fact_uvicorn_and_daphne_log_every_request_with_its_query(server: Server) -> None:
    start = len(server.log())
    server.get("/settle", token=SECRET)
    log = server.log_since(start)
    assert ("GET /settle" in log) is (server.name in (*UVICORN, "daphne"))
    assert bool(pieces_in(log, SECRET)) is (server.name in (*UVICORN, "daphne"))


SECRET = "stranger-c4f1d2e0b9.Zm9vYmFyYmF6"
OTHER = "stranger-9977aa55ee.cXV4cXV1eA12"


def escaped(text: str) -> str:
    return "".join(f"%{ord(letter):02x}" for letter in text)


# The target's query, and headers. None of these clients gets in.
ODD_FORMS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "a letter of the name escaped": (f"tok%65n={SECRET}", []),
    "the whole name escaped": (f"{escaped('token')}={SECRET}", []),
    "the whole name escaped in upper case": (f"{escaped('token').upper()}={SECRET}", []),
    "a letter of the value escaped": (f"token=%73{SECRET[1:]}", []),
    "the whole value escaped": (f"token={escaped(SECRET)}", []),
    "the value escaped twice": (f"token={quote(escaped(SECRET))}", []),
    "a lone percent in the value": (f"token=%{SECRET}%", []),
    "a NUL before the value": (f"token=%00{SECRET}", []),
    "a line break in the value": (f"token=x%0d%0a{SECRET}", []),
    "a space before the value": (f"token=+{SECRET}", []),
    "the parameter twice": (f"token={SECRET}&a=1&token={OTHER}", []),
    "two with a semicolon between": (f"token={SECRET};token={OTHER}", []),
    "a parameter and a header": (f"token={SECRET}", [("Authorization", f"Bearer {OTHER}")]),
    "two headers": ("", [("Authorization", f"Bearer {SECRET}"), ("Authorization", f"b {OTHER}")]),
    "a header behind another scheme": ("", [("Authorization", f"Basic x, Bearer {SECRET}")]),
    "two words in the header": ("", [("Authorization", f"Bearer x {SECRET}")]),
    "two cookies": ("", [("Cookie", f"session={SECRET}; session={OTHER}")]),
    "two cookie headers": ("", [("Cookie", f"session={SECRET}"), ("Cookie", f"session={OTHER}")]),
    "a cookie with a comma": ("", [("Cookie", f"session=x,{SECRET}")]),
    "two by subprotocol": ("", [("Sec-WebSocket-Protocol", f"bearer, {SECRET}, bearer, {OTHER}")]),
    "two origins": (f"token={SECRET}", [("Origin", "https://a.ex"), ("Origin", "https://b.ex")]),
    "longer than a server reads": (f"token={SECRET}{'x' * 70_000}", []),
    "a WebSocket version that does not exist": (
        f"token={SECRET}",
        [("Sec-WebSocket-Version", "99")],
    ),
}


def log_of_odd(server: Server, form: str) -> str:
    """The log of a handshake in one of the ODD_FORMS."""
    query, headers = ODD_FORMS[form]
    start = len(server.log())
    with server.handshake(f"/daphne?{query}", headers=headers) as tcp:
        if form == "longer than a server reads":
            tcp.settimeout(0.2)  # some servers never answer that
        with suppress(TimeoutError, ConnectionResetError):
            tcp.recv(1)
    return server.log_since(start)


@cases("form", ODD_FORMS)
def test_the_default_log_has_no_credential_in_an_odd_form(server: Server, form: str) -> None:
    log = log_of_odd(server, form)
    assert pieces_in(log, SECRET) + pieces_in(log, OTHER) == []


@each_server
def test_fact_only_uvicorn_logs_the_query_at_its_default_level(server: Server) -> None:
    start = len(server.log())
    server.talk("/bare/echo", token=SECRET)
    assert bool(pieces_in(server.log_since(start), SECRET)) is (server.name in UVICORN)


@only(*UVICORN)
def test_fact_uvicorn_logs_what_its_own_scope_says_when_it_answers(server: Server) -> None:
    start = len(server.log())
    server.talk("/bare/redacting", token=SECRET)
    log = server.log_since(start)
    assert '"WebSocket /bare/redacting?hidden=yes" [accepted]' in log
    assert pieces_in(log, SECRET) == []


# At uvicorn's level trace.


@pytest.fixture
def filtered(server: Server, request: pytest.FixtureRequest) -> Iterator[Server]:
    """uvicorn at level trace, with RedactCredentials on its handlers."""
    running = pooled(request.config, server.name, "--log-level", "trace", WIRE_FILTER="1")
    with running.must_stay_quiet():
        yield running


@pytest.fixture
def unfiltered(server: Server, request: pytest.FixtureRequest) -> Iterator[Server]:
    """uvicorn at level trace, and nothing else."""
    running = pooled(request.config, server.name, "--log-level", "trace")
    with running.must_stay_quiet():
        yield running


on_usual_uvicorns = only(*(name for name in USUAL if name in UVICORN))


@on_usual_uvicorns
@cases("outcome", OUTCOMES)
def test_with_the_filter_the_trace_log_has_no_credential(filtered: Server, outcome: str) -> None:
    log, credentials = log_of_all_ways(filtered, outcome)
    assert "TRACE:" in log
    assert found(log, credentials) == {}


@only(*UVICORN)
def test_with_the_filter_no_implementations_trace_log_has_a_credential(filtered: Server) -> None:
    for outcome in ("admitted, opaque", "unknown"):
        log, credentials = log_of_all_ways(filtered, outcome)
        assert "TRACE:" in log
        assert found(log, credentials) == {}


@on_usual_uvicorns
def test_without_the_filter_the_trace_log_has_the_credential(unfiltered: Server) -> None:
    for outcome in ("admitted", "unknown"):
        log, credentials = log_of_all_ways(unfiltered, outcome)
        # Through wsproto, uvicorn logs the scope without its headers, and no header otherwise.
        through_wsproto = unfiltered.name == "uvicorn-wsproto"
        logged = ["query", "subprotocol"] if through_wsproto else WAYS
        assert list(found(log, credentials)) == logged


@on_usual_uvicorns
def test_with_the_filter_the_access_log_of_http_has_no_credential(filtered: Server) -> None:
    start = len(filtered.log())
    filtered.get("/settle", token=SECRET, a="1")
    log = filtered.log_since(start)
    assert '"GET /settle?token=[redacted]&a=1 HTTP/1.1" 200' in log
    assert pieces_in(log, SECRET) == []


OPAQUE = "opaque-c4f1d2e0b9.Zm9vYmFyYmF6"

# Forms in which a credential without any shape is found and admitted.
ADMITTED_FORMS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "query": (f"token={OPAQUE}", []),
    "query, escaped value": (f"token=opaque-%2F%2B%3D{OPAQUE}", []),
    "query, punctuation": (f"token=opaque-a;b,c<{OPAQUE}", []),
    "query, quotes": (f"token=opaque-a'b{OPAQUE}", []),
    "header": ("", [("Authorization", f"Bearer {OPAQUE}")]),
    "header, another case": ("", [("AUTHORIZATION", f"BEARER {OPAQUE}")]),
    "header, spaces": ("", [("Authorization", f"Bearer    {OPAQUE}")]),
    "header, punctuation": ("", [("Authorization", f"Bearer opaque-a;b,c<{OPAQUE}")]),
    "header, quotes": ("", [("Authorization", f"Bearer opaque-a'b\"c{OPAQUE}")]),
    "cookie": ("", [("Cookie", f"session={OPAQUE}")]),
    "cookie, quoted": ("", [("Cookie", f'session="{OPAQUE}"')]),
    "cookie, spaces": ("", [("Cookie", f"a=1;session = {OPAQUE}")]),
    "subprotocol": ("", [("Sec-WebSocket-Protocol", f"bearer, {OPAQUE}")]),
    "subprotocol, tight": ("", [("Sec-WebSocket-Protocol", f"chat,bearer,{OPAQUE}")]),
    "subprotocol, space before the comma": (
        "",
        [("Sec-WebSocket-Protocol", f"bearer , {OPAQUE}")],
    ),
    "subprotocol, tab": ("", [("Sec-WebSocket-Protocol", f"bearer,\t{OPAQUE}")]),
    "subprotocol, two headers": (
        "",
        [("Sec-WebSocket-Protocol", "bearer"), ("Sec-WebSocket-Protocol", OPAQUE)],
    ),
}


@on_usual_uvicorns
def test_with_the_filter_the_trace_log_has_no_credential_in_any_form_that_is_admitted(
    filtered: Server,
) -> None:
    start = len(filtered.log())
    for form, (query, headers) in ADMITTED_FORMS.items():
        page = [("Origin", filtered.origin)] if "cookie" in form else []
        with filtered.handshake(f"/guarded?{query}", headers=[*headers, *page]) as tcp:
            received = b""
            while b'"user": "alice"' not in received:
                received += tcp.recv(65536) or pytest.fail(f"{form}: not admitted: {received!r}")
    assert pieces_in(filtered.log_since(start), OPAQUE) == []


@on_usual_uvicorns
@cases("form", ODD_FORMS)
def test_with_the_filter_the_trace_log_has_no_credential_in_an_odd_form(
    filtered: Server, form: str
) -> None:
    filtered.excuse_trouble()  # at this level, the websockets library's own refusals have one
    log = log_of_odd(filtered, form)
    assert pieces_in(log, SECRET) + pieces_in(log, OTHER) == []
