"""Whatever a client puts into a handshake or a request: only a credential that a verifier vouched
for is admitted, nothing is raised, what is sent is ASGI, and no credential is left anywhere."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus

import pytest
from cases import cases
from fuzz import targets
from handshakes import CONNECT, NOW, websocket
from hypothesis import example, given
from hypothesis import strategies as st
from sockets import text
from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from strategies import ANY_JSON, HOSTILE, LATIN, NESTED, SEGMENT, WORDS, base64url, examples
from strict import Accepting, Seen, run, see

from asgi_wsauth import (
    Admitted,
    Authenticator,
    Cookie,
    Credential,
    Denied,
    FirstMessage,
    Header,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Refused,
    Subprotocol,
    TicketEndpoint,
    Tickets,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.scope.paths import GuardedPaths, PathPatterns
from asgi_wsauth.sources.origins import parse_origin

pytestmark = pytest.mark.slow

ORIGIN = "https://chat.example"
GOOD = {"kQ7vXb2Zp9LmAlice": "alice", "tR4~w/J+h=8:Ns9@Fm?Bob&%zz": "bob"}
BAD = ["xW3cVe5RtY7uNobody", "zL8$k!M'(2)*Pq{}|^nobody"]
TOKENS = [*GOOD, *BAD]
SOURCES = (*targets.SOURCES, FirstMessage(timeout=1.0))
REJECTIONS = ("accept_then_close", "http_response", "close")


async def vouch(credential: Credential, conn: HTTPConnection) -> Principal | None:
    assert re.fullmatch(r"[\x21-\x7e]{1,8192}", credential.value)
    identity = GOOD.get(credential.value)
    return None if identity is None else Principal(identity, expires_at=NOW + 300)


class Door:
    """A middleware with all sources, and what its observer was told."""

    def __init__(self, kind: Any = WebSocketAuthMiddleware, **options: Any) -> None:
        self.events: list[Any] = []
        self.auth = Authenticator(
            [vouch],
            sources=SOURCES,
            allowed_origins=[ORIGIN],
            observers=[self.events.append],
            clock=lambda: NOW,
        )
        self.middleware = kind(Accepting(), self.auth, **options)

    def sees(self, scope: dict[str, Any], *messages: dict[str, Any]) -> Seen:
        return run(see(self.middleware, scope, self.events, messages))


DOORS = {how: Door(rejection=how) for how in REJECTIONS}
HTTP_DOOR = Door(HTTPAuthMiddleware)

LEFT = {"type": "websocket.disconnect", "code": 1006}


# What a client means is what is decided, wherever it puts it.


def _as_query(token: str) -> str:
    return f"token={quote_plus(token, safe='~')}"


PLACES = ("query", "header", "key", "cookie", "marker", "prefix")
"""All but the first message, each with a source of its own."""

NOISE = {
    "query": st.lists(
        st.sampled_from(["a=1", "tokens=x", "Token=x", "b", "", "token="]), unique=True
    ),
    "cookie": st.lists(
        st.sampled_from(["a=1", " sessions=x", "Session=x", " b", "", " session="]), unique=True
    ),
    "protocols": st.lists(st.sampled_from(["chat", "v1.json", "Bearer"]), max_size=2, unique=True),
}


class Wish:
    """A handshake as a client means it, and what is to be decided of it."""

    def __init__(
        self,
        placed: dict[str, str],
        message: str | None,
        origin: str | None,
        noise: dict[str, list[str]],
        scheme: str,
        odd: str | None,
    ) -> None:
        self.placed, self.message, self.origin = placed, message, origin
        self.noise, self.scheme, self.odd = noise, scheme, odd
        if odd == "twice":
            self.odd = min(placed, default=None)
        elif odd == "form":
            self.odd = "escaped" if "query" in placed else "base64"

    def scope(self) -> dict[str, Any]:
        placed, noise = self.placed, self.noise
        query, cookies, headers = list(noise["query"]), list(noise["cookie"]), []
        protocols = list(noise["protocols"])
        if "query" in placed:
            query = [part for part in query if part.partition("=")[0] != "token"]
            mine = _as_query(placed["query"])
            if self.odd == "escaped" and mine[6].isalnum():  # though nobody needs it
                mine = mine[:6] + f"%{ord(mine[6]):02x}" + mine[7:]
            query.insert(len(query) // 2, mine)
            query += [mine] * (self.odd == "query")
        if "header" in placed:
            headers.append(("authorization", f"{self.scheme} {placed['header']}"))
            headers += headers * (self.odd == "header")
        if "key" in placed:
            headers += [("x-api-key", placed["key"])] * (1 + (self.odd == "key"))
        if "cookie" in placed:
            cookies = [cookie for cookie in cookies if "session=" not in cookie]
            cookies.insert(len(cookies) // 2, f" session={placed['cookie']}")
            cookies += cookies * (self.odd == "cookie")
        if "marker" in placed:
            protocols += ["bearer", placed["marker"]] * (1 + (self.odd == "marker"))
        if "prefix" in placed:
            mine = f"b64.bearer.{base64url(placed['prefix'])}{'!' * (self.odd == 'base64')}"
            protocols = [mine] * (1 + (self.odd == "prefix")) + protocols
        if cookies:
            headers.append(("cookie", ";".join(cookies)))
        if self.origin is not None:
            headers += [("origin", self.origin)] * (1 + (self.odd == "origin"))
        return websocket("&".join(query), headers=headers, subprotocols=protocols)

    def messages(self) -> list[dict[str, Any]]:
        said = json.dumps({"type": "auth", "token": self.message})
        return [CONNECT, text("hello" if self.message is None else said), LEFT]

    def unreadable(self, place: str) -> bool:
        """Whether the source finds something that it can't read."""
        value = self.placed[place]
        if self.odd == place or (self.odd, place) == ("base64", "prefix"):
            return True
        if place == "prefix":
            offered = len(self.noise["protocols"]) + 1 + 2 * ("marker" in self.placed)
            return offered == 1
        return place == "cookie" and bool(set(value) & {",", ";"})

    def verdict(self) -> str | Reason:
        """The identity, or the reason of the refusal."""
        explicit = [place for place in PLACES if place in self.placed and place != "cookie"]
        if self.origin is None:
            if "cookie" in self.placed and not explicit:
                return Reason.ORIGIN
        elif self.origin != ORIGIN or self.odd == "origin":
            return Reason.ORIGIN
        found = explicit or [place for place in ("cookie",) if place in self.placed]
        values = {self.placed[place] for place in found}
        if not found:
            values = set() if self.message is None else {self.message}
        if any(map(self.unreadable, found)) or len(values) != 1:
            return Reason.MALFORMED
        return GOOD.get(*values, Reason.INVALID)  # type: ignore[call-overload,no-any-return]

    def check_rest(self, scope: dict[str, Any]) -> None:
        """What is no credential is as it was."""
        query, cookies = (set(scope["query_string"].decode().split("&")), set())
        for value in HTTPConnection(scope).headers.getlist("cookie"):
            cookies |= {piece.strip() for piece in value.split(";")}
        assert {part for part in self.noise["query"] if "token=" not in part} - {""} <= query
        noise = {piece.strip() for piece in self.noise["cookie"] if "session=" not in piece}
        assert noise - {""} <= cookies
        assert [word for word in scope["subprotocols"] if word != "bearer"] == self.rest()

    def rest(self) -> list[str]:
        """The subprotocols that are left; none, where the app is told what was accepted."""
        return self.noise["protocols"] if self.placed else []

    def __repr__(self) -> str:
        return f"Wish({vars(self)})"


WISHES = st.builds(
    Wish,
    st.dictionaries(st.sampled_from(PLACES), st.sampled_from(TOKENS), max_size=2)
    | st.sampled_from(TOKENS).flatmap(
        lambda token: st.dictionaries(st.sampled_from(PLACES), st.just(token), min_size=1)
    ),
    st.none() | st.sampled_from(TOKENS),
    st.sampled_from([None, ORIGIN, ORIGIN, "https://evil.example", "null"]),
    st.fixed_dictionaries(NOISE),
    st.sampled_from(["Bearer", "bearer", "BEARER", "Bearer  "]),
    st.sampled_from([None, None, None, "twice", "form", "origin"]),
)


def subprotocol_is_sound(seen: Seen, protocols: list[str]) -> None:
    """An accept names one that was offered, or none, and one wherever the app gets a choice."""
    for message in seen.sent:
        if message["type"] == "websocket.accept" and message.get("subprotocol") is not None:
            assert message["subprotocol"] in protocols


def token_in_no_form(*tokens: str) -> list[str]:
    """How a token could stand somewhere."""
    return [form for t in tokens for form in (t, quote(t), quote_plus(t, safe="~"), base64url(t))]


@examples(200)
@given(WISHES, st.sampled_from(REJECTIONS))
def test_what_a_client_means_is_what_is_decided(wish: Wish, rejection: str) -> None:
    scope = wish.scope()
    offered = list(scope["subprotocols"])
    seen = DOORS[rejection].sees(scope, *wish.messages())
    used = [*wish.placed.values(), *([wish.message] if wish.message else [])]
    seen.check(*token_in_no_form(*used))
    expected = wish.verdict()
    if isinstance(expected, Reason):
        (refused,) = seen.kinds(Refused)
        assert isinstance(refused, Refused)
        assert refused.reason is expected
        how = {"http_response"} if refused.repeated else {rejection, "accept_then_close"}
        assert _told(seen) in {(one, expected) for one in how}
    else:
        assert [event.identity for event in seen.kinds(Admitted)] == [expected]
        assert seen.scopes[0]["user"].identity == expected
        wish.check_rest(seen.scopes[0])
    subprotocol_is_sound(seen, offered)
    for value in token_in_no_form(*used):
        assert value not in scope["query_string"].decode()


def _told(seen: Seen) -> tuple[str, Reason]:
    """How a refusal was told, and what."""
    if seen.sent[0]["type"] == "websocket.http.response.start":
        told = json.loads(seen.sent[1]["body"])["error"]
        assert seen.sent[0]["status"] == Reason(told).http_status
        return "http_response", Reason(told)
    close = seen.sent[-1]
    reason = Reason(close["reason"])
    assert close["code"] == reason.close_code
    return ("accept_then_close" if len(seen.sent) == 2 else "close"), reason


# Whatever bytes come.


def _pieces(name: bytes, separator: bytes) -> st.SearchStrategy[bytes]:
    """Parameters or cookies, of which some are ours, and some look as if they were."""
    escaped = name[:-1] + b"%%%02x" % name[-1]
    ours = st.sampled_from([name, name, name, escaped, name.upper(), name + b"s", b" " + name])
    values = st.sampled_from([token.encode() for token in TOKENS]) | LATIN
    values |= st.sampled_from([quote(token, safe="").encode() for token in TOKENS])
    piece = st.builds(b"".join, st.tuples(ours, st.sampled_from([b"=", b"=", b"", b" = "]), values))
    odd = st.builds(b"".join, st.tuples(LATIN, ours | LATIN, st.sampled_from([b"=", b""]), LATIN))
    return st.lists(piece | piece | odd, max_size=4).map(separator.join)


RAW_QUERIES = _pieces(b"token", b"&") | st.binary(max_size=30)
RAW_COOKIES = _pieces(b"session", b";") | _pieces(b"session", b"; ") | _pieces(b"session", b",")
NAMES = st.sampled_from(
    [b"authorization", b"x-api-key", b"cookie", b"origin", b"sec-websocket-protocol", b"x-other"]
)
RAW_VALUES = (
    RAW_COOKIES
    | LATIN
    | st.binary(max_size=20)
    | st.builds(
        b"".join,
        st.tuples(
            st.sampled_from(
                [b"Bearer ", b"bearer  ", b"Basic x, Bearer ", b",Bearer ", b"bearer\t"]
            ),
            st.sampled_from([token.encode() for token in TOKENS]) | LATIN,
        ),
    )
    | st.just(ORIGIN.encode())
)
RAW_HEADERS = st.lists(st.tuples(NAMES | LATIN.map(bytes.lower), RAW_VALUES), max_size=6)
PROTOCOLS = st.lists(
    st.sampled_from(["bearer", "chat", "b64.bearer.", *TOKENS])
    | st.sampled_from([f"b64.bearer.{base64url(token)}" for token in TOKENS])
    | WORDS,
    max_size=5,
)


@st.composite
def raw_scopes(draw: Any, kind: str = "websocket") -> dict[str, Any]:
    """Any bytes, with a list of subprotocols that fits the header, or none of both."""
    scope = websocket(draw(RAW_QUERIES))
    headers = draw(RAW_HEADERS)
    protocols = [word.strip() for word in draw(PROTOCOLS) if "," not in word]
    if draw(st.booleans()):
        headers = [(name, value) for name, value in headers if b"protocol" not in name]
        header = ", ".join(protocols).encode("latin-1", "replace")
        protocols = [word.strip() for word in header.decode("latin-1").split(",") if word.strip()]
        headers.append((b"sec-websocket-protocol", header))
        scope["subprotocols"] = protocols
    scope["headers"] = draw(st.sampled_from([list, tuple, iter]))(headers)
    scope["path"] = draw(WORDS.map("/".__add__) | WORDS)
    scope["type"] = kind
    if kind == "http":
        scope["method"] = draw(st.sampled_from(["GET", "POST", "OPTIONS", "get", ""]))
        del scope["subprotocols"]
    for name in draw(st.sets(st.sampled_from(sorted(set(scope) - {"type"})), max_size=3)):
        del scope[name]
    return scope


def wire_has(before: dict[str, Any], messages: Any, identity: str) -> bool:
    """Whether a credential of that identity was there at all, in whatever form."""
    good = [token for token, owner in GOOD.items() if owner == identity]
    said = repr(before.get("query_string")) + repr(before.get("headers"))
    said += repr(before.get("subprotocols"))
    for message in messages:
        with suppress(ValueError, TypeError, AttributeError, RecursionError, KeyError):
            told = json.loads(message["text"])
            said += told["token"] if told["type"] == "auth" else ""
    return any(form in said for form in token_in_no_form(*good))


def parameters(query: bytes) -> list[tuple[str, str]]:
    """As the standard library reads them, and with it every framework."""
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


def no_reader_finds_one(scope: dict[str, Any]) -> None:
    """What an app reads with finds no credential: Starlette, the standard library."""
    conn = HTTPConnection(scope)
    assert not any(conn.query_params.getlist("token"))
    assert not any(v for k, v in parameters(scope["query_string"]) if k == "token")
    assert not conn.cookies.get("session")
    assert conn.headers.get("x-api-key") is None
    for value in conn.headers.getlist("authorization"):
        assert not re.search(r"(^|,)\s*bearer\b ", value, re.IGNORECASE)
    for value in conn.headers.getlist("cookie"):
        with suppress(CookieError):
            assert not (morsel := SimpleCookie(value).get("session")) or not morsel.value
    offered = scope.get("subprotocols") or []
    listed = (word.strip() for v in conn.headers.getlist(PROTOCOL) for word in v.split(","))
    words = [word for word in listed if word]  # RFC 9110 section 5.6.1.2
    for found in (offered, words):
        assert "bearer" not in found[:-1]
        assert not any(word.startswith("b64.bearer.") for word in found)


PROTOCOL = "sec-websocket-protocol"


def nothing_broke(seen: Seen) -> None:
    """What a client can do is its own fault, and no error here."""
    for event in seen.kinds(Refused):
        assert isinstance(event, Refused)
        assert event.reason not in (Reason.ERROR, Reason.UNAVAILABLE), event.traceback


FIRST = st.lists(
    st.sampled_from([json.dumps({"type": "auth", "token": token}) for token in TOKENS]).map(text)
    | st.builds(
        lambda kind, token: text(json.dumps({"type": kind, "token": token})),
        st.sampled_from(["auth", "auth.refresh", ["auth"], "AUTH"]) | ANY_JSON,
        st.sampled_from(TOKENS) | ANY_JSON,
    )
    | (WORDS | NESTED).map(text)
    | st.binary(max_size=8).map(lambda data: {"type": "websocket.receive", "bytes": data})
    | st.just(LEFT),
    max_size=2,
).map(lambda messages: [CONNECT, *messages, LEFT])


@examples(200)
@given(raw_scopes(), FIRST, st.sampled_from(REJECTIONS))
def test_of_any_bytes_only_a_credential_is_admitted(
    scope: dict[str, Any], messages: list[dict[str, Any]], rejection: str
) -> None:
    if "headers" in scope:
        scope["headers"] = list(scope["headers"])
    before = copy.deepcopy(scope)
    if "headers" in scope and len(scope["headers"]) % 2:
        scope["headers"] = iter(scope["headers"])
    seen = DOORS[rejection].sees(scope, *messages)
    seen.check()
    nothing_broke(seen)
    for event in seen.kinds(Admitted):
        assert event.identity in GOOD.values()
        assert wire_has(before, messages, event.identity or "")
    no_reader_finds_one(scope)
    for app_scope in seen.scopes:
        no_reader_finds_one(app_scope)
        assert app_scope["user"].identity == seen.events[0].identity


@examples(80)
@given(raw_scopes("http"), st.booleans())
def test_of_any_request_only_a_credential_is_admitted(
    scope: dict[str, Any], asks_first: bool
) -> None:
    if "headers" in scope:
        asking = [(b"origin", b"x"), (b"access-control-request-method", b"POST")]
        scope["headers"] = [*scope["headers"], *asking * asks_first]
    before = copy.deepcopy(scope)
    seen = HTTP_DOOR.sees(scope)
    if not seen.events:  # a preflight
        assert scope.get("method") == "OPTIONS"
        assert [message.get("status", 204) for message in seen.sent] == [204, 204]
        assert not seen.scopes
        no_reader_finds_one(scope)
        return
    seen.check(is_socket=False)
    nothing_broke(seen)
    no_reader_finds_one(scope)
    for event in seen.kinds(Admitted):
        assert wire_has(before, [], event.identity or "")
        no_reader_finds_one(seen.scopes[0])


# Past a guard for sockets.


def sockets_first(app: Any, auth: Authenticator) -> Any:
    return WebSocketAuthMiddleware(HTTPAuthMiddleware(app, auth), auth)


PAST_DOOR, INSIDE_DOOR = Door(), Door(sockets_first)
HANDSHAKE = (b"sec-websocket-key", b"x")


@examples(150)
@given(raw_scopes("http"), st.booleans())
def test_a_guard_for_sockets_outside_changes_no_decision_about_a_request(
    scope: dict[str, Any], handshake: bool
) -> None:
    if "headers" in scope and handshake:
        scope["headers"] = [*scope["headers"], HANDSHAKE]
    alone = HTTP_DOOR.sees(copy.deepcopy(scope))
    told = [(message["type"], message.get("status")) for message in alone.sent]
    reasons = [getattr(event, "reason", None) for event in alone.events]
    inside = INSIDE_DOOR.sees(scope)
    assert [(message["type"], message.get("status")) for message in inside.sent] == told
    assert [getattr(event, "reason", None) for event in inside.events] == reasons
    for app_scope in inside.scopes:
        no_reader_finds_one(app_scope)


@examples(150)
@given(raw_scopes("http"), st.booleans())
def test_a_request_that_passes_a_guard_for_sockets_leaves_nothing_to_log(
    scope: dict[str, Any], handshake: bool
) -> None:
    if "headers" in scope and handshake:
        scope["headers"] = [*scope["headers"], HANDSHAKE]
    query, names = scope.get("query_string"), [name for name, _ in scope.get("headers") or ()]
    seen = PAST_DOOR.sees(scope)
    (app_scope,) = seen.scopes
    assert seen.events == []
    no_reader_finds_one({"query_string": b"", **scope, "headers": []})
    if handshake and "headers" in scope:
        no_reader_finds_one({"query_string": b"", **app_scope})
    elif not any(name.startswith(b"sec-websocket-") for name in names):
        assert app_scope.get("query_string") == query


# Scopes that a server should not build, but might.

JUNK = st.one_of(
    st.none(),
    st.integers(-1, 2),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.lists(st.none() | st.integers(0, 1) | st.text(max_size=1), max_size=2),
    st.lists(st.tuples(st.binary(max_size=2), st.none() | st.text(max_size=2)), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(0, 1), max_size=1),
    st.builds(object),
    st.just({}),
    st.just(iter([1])),
    st.just([{}]),
    st.just([(b"origin", b"x", b"y")]),
    st.just(("\ud800", "\n")),
)
KEYS = (
    *("path", "headers", "query_string", "subprotocols", "client", "extensions", "state"),
    *("user", "auth", "wsauth", "method", "raw_path", "root_path", "server", "http_version", "app"),
)


@examples(300)
@given(
    st.dictionaries(st.sampled_from(KEYS), JUNK, min_size=1, max_size=3),
    st.sampled_from(["websocket", "http"]),
    st.sampled_from(REJECTIONS),
    st.booleans(),
)
def test_a_scope_of_the_wrong_types_is_refused(
    junk: dict[str, Any], kind: str, rejection: str, good: bool
) -> None:
    scope = websocket(f"token={next(iter(GOOD))}" if good else "")
    scope |= {"type": kind, "method": "GET", **junk}
    door = Door(HTTPAuthMiddleware, exclude=["/public/*"])
    if kind == "websocket":
        door = Door(rejection=rejection, exclude=["/public/*"], required_scopes=[])
    seen = door.sees(scope, CONNECT, LEFT)
    seen.check(next(iter(GOOD)), is_socket=kind == "websocket")
    assert not seen.admitted or (good and "query_string" not in junk)


@examples(150)
@given(st.dictionaries(st.sampled_from(KEYS), JUNK, min_size=1, max_size=3), st.booleans())
def test_a_request_of_the_wrong_types_passes_a_guard_for_sockets(
    junk: dict[str, Any], handshake: bool
) -> None:
    scope = websocket("token=x", headers=[("sec-websocket-key", "x")] * handshake)
    del scope["subprotocols"]
    seen = Door(exclude=["/public/*"]).sees(scope | {"type": "http", "method": "GET"} | junk)
    assert len(seen.scopes) == 1
    assert seen.events == []


def test_half_a_surrogate_pair_in_a_first_message_is_malformed() -> None:
    """JSON can name one, no encoding takes it, and a client is refused as for any other rubbish."""
    said = text('{"type": "auth", "token": "\\ud800"}')
    seen = Door().sees(websocket(headers=[("origin", ORIGIN)]), CONNECT, said)
    seen.check()
    assert _told(seen) == ("accept_then_close", Reason.MALFORMED)


# The endpoint for tickets.

BODIES = st.one_of(
    st.binary(max_size=10),
    ANY_JSON.map(lambda body: json.dumps(body).encode()),
    st.builds(lambda path: json.dumps({"path": path}).encode(), ANY_JSON | WORDS.map("/".__add__)),
    NESTED.map(str.encode),
    st.just(b'{"path": "' + b"/" * 5000),
    st.just(b""),
)
TICKETS = Tickets(MemoryStore(clock=lambda: NOW), clock=lambda: NOW)


@examples(100)
@given(
    raw_scopes("http"),
    st.lists(BODIES, max_size=2),
    st.none() | st.sampled_from([*GOOD, *BAD]),
    st.booleans(),
    st.none() | LATIN | st.integers(-5, 10_000).map(lambda length: b"%d" % length),
)
def test_tickets_are_for_those_who_are_vouched_for(
    scope: dict[str, Any], bodies: list[bytes], token: str | None, whole: bool, length: bytes | None
) -> None:
    door = Door()
    headers = list(scope.get("headers") or ())
    if token is not None:
        scope["query_string"] = _as_query(token).encode()
        scope["method"] = "POST" if whole else "PUT"
        headers = [(b"x-other", b"1")]
    if length is not None:
        headers.append((b"content-length", length))
    scope["headers"] = headers
    before = copy.deepcopy(scope)
    endpoint = TicketEndpoint(TICKETS, door.auth)
    request = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    request.append({"type": "http.request", "body": b""} if whole else {"type": "http.disconnect"})
    seen = run(see(endpoint, scope, door.events, request))
    assert len(seen.events) == 1
    seen.check_hidden()
    answer = json.loads(seen.sent[1]["body"])
    if seen.sent[0]["status"] != 201:
        assert answer.keys() == {"error"}
        return
    assert scope["method"] == "POST"
    assert wire_has(before, [], seen.events[0].identity or "")
    assert answer["path"] is None or answer["path"].startswith("/")
    principal = run(TICKETS(Credential(answer["ticket"]), _bound_to(scope, answer["path"])))
    assert principal is not None
    assert principal.identity == seen.events[0].identity
    seen.check_hidden_but_sent(answer["ticket"])


def _bound_to(scope: dict[str, Any], path: str | None) -> HTTPConnection:
    """The handshake that a ticket was asked for."""
    origin = [(k, v) for k, v in scope["headers"] if k == b"origin"]
    return HTTPConnection({**websocket(), "headers": origin, "path": path or "/ws"})


# Redacting, source by source.

BY_PLACE = st.sampled_from(targets.SOURCES)


@examples(200)
@given(raw_scopes(), BY_PLACE)
def test_what_a_source_finds_it_removes_and_nothing_else(
    scope: dict[str, Any], source: Any
) -> None:
    scope["headers"] = list(scope.get("headers", ()))
    scope.setdefault("query_string", b"")
    before = copy.deepcopy(scope)
    try:
        found = source.extract(HTTPConnection(scope))
    except Denied as denied:
        assert denied.reason is Reason.MALFORMED
        found = None
    assert scope == before
    source.redact(scope)
    once = copy.deepcopy(scope)
    assert source.extract(HTTPConnection(scope)) is None
    source.redact(scope)
    assert scope == once
    assert _kept(source, before) == _kept(source, scope)
    untouched = set(scope) - {"headers", "query_string", "subprotocols"}
    assert {k: scope[k] for k in untouched} == {k: before[k] for k in untouched}
    if found is not None and isinstance(source, QueryParam):
        assert "token" not in dict(parameters(scope["query_string"]))


def _kept(source: Any, scope: dict[str, Any]) -> Any:
    """All of a scope that is none of this source's business."""
    query = scope["query_string"]
    parts: Any = [part for part in query.split(b"&") if part]
    headers = scope["headers"]
    protocols = list(scope.get("subprotocols") or ())
    if isinstance(source, QueryParam):
        parts = [part for part in parts if [n for n, _ in parameters(part)] != ["token"]]
    elif isinstance(source, Header):
        name = source.name.encode()
        is_mine: Callable[[bytes], bool] = lambda v: (  # noqa: E731
            source.scheme is None or b"bearer" in v.lower()
        )
        headers = [(k, v) for k, v in headers if k != name or not is_mine(v)]
    elif isinstance(source, Cookie):
        headers = [(k, _other_cookies(v)) if k == b"cookie" else (k, v) for k, v in headers]
        headers = [(k, v) for k, v in headers if k != b"cookie" or v]
    else:
        headers = [(k, v) for k, v in headers if k != PROTOCOL.encode()]
        values = [v.decode("latin-1") for k, v in scope["headers"] if k == PROTOCOL.encode()]
        listed = [word.strip() for v in values for word in v.split(",") if word.strip()]
        protocols = _other_protocols(source, protocols or listed)  # some servers give no list
    return parts, headers, protocols


def _other_cookies(header: bytes) -> list[bytes]:
    pieces = header.split(b";")
    return [piece.strip() for piece in pieces if b"session" not in piece and piece.strip()]


def _other_protocols(source: Subprotocol, offered: list[str]) -> list[str]:
    if source.prefix is not None:
        return [word for word in offered if not word.startswith(source.prefix)]
    pairs = zip(["", *offered], offered, strict=False)
    return [word for before, word in pairs if "bearer" not in (before, word)]


# Origins, and paths that need no credential.

HOSTS = st.sampled_from(["chat.example", "CHAT.example", "chat.example.", "evil.example", "[::1]"])
SCHEMES = st.sampled_from(["https", "HTTPS", "http", "ftp", ""])
ENDS = st.sampled_from(["", ":443", ":80", ":0", ":65536", ":0443", "/", ":", "@x", "%2e"])
ORIGINS = st.one_of(
    st.builds("{}://{}{}".format, SCHEMES, HOSTS | WORDS, ENDS),
    WORDS,
    st.builds("{}{}{}".format, HOSTILE, st.just(ORIGIN), HOSTILE),
)


@examples(300)
@given(ORIGINS)
@example("https://chat.example:443")
def test_an_origin_is_only_what_a_browser_says(origin: str) -> None:
    parsed = parse_origin(origin)
    if parsed is None:
        return
    scheme, host, port = parsed
    plain = {f"{scheme}://{host}", f"{scheme}://{host}:{port}"}
    assert origin.lower() in plain
    assert origin.isascii()
    assert origin.isprintable()
    again = f"{scheme}://{host}" + (f":{port}" if port else "")
    assert parse_origin(again) == parsed
    is_ours = origin.lower() in {ORIGIN, f"{ORIGIN}:443"}
    assert (parsed == parse_origin(ORIGIN)) is is_ours


PATTERNS = ("/public/*", "/health", "/v*/ping", "/a/*/b", "/files/*.txt", "/x/")
PATHS = st.one_of(
    st.lists(
        st.sampled_from(
            ["public", "health", "v1", "ping", "a", "b", "x", "n.txt", "files", "admin"]
        )
        | st.sampled_from(["", ".", "..", "...", "%2e%2e", "..%2f", "\\", ";", "*", "\n", "\x7f"])
        | WORDS
        | SEGMENT,
        max_size=5,
    ).map(lambda segments: "/" + "/".join(segments)),
    WORDS,
)


def lets_through(path: str) -> bool:
    """The same by hand, segment by segment."""
    first, *segments = path.split("/")
    if first or not segments:
        return False
    *inner, last = segments
    if any(s in ("", ".", "..") for s in inner) or last in (".", ".."):
        return False
    if any(c in "\\%;" or ord(c) < 32 or ord(c) == 127 for c in path):
        return False
    match segments:
        case ["public", _, *_] | ["health"] | ["a", _, "b"] | ["x", ""]:
            return True
        case ["files", name]:
            return name.endswith(".txt")
        case [version, "ping"]:
            return version.startswith("v")
    return False


EXCLUDING = {
    "websocket": Door(exclude=PATTERNS),
    "http": Door(HTTPAuthMiddleware, exclude=PATTERNS),
}


@examples(300)
@given(PATHS, st.sampled_from(["websocket", "http"]))
@example("/public/../admin", "websocket")
@example("//public/x", "websocket")
@example("/publicity", "http")
@example("/public/%2e%2e/admin", "http")
def test_nothing_but_what_is_excluded_goes_without(path: str, kind: str) -> None:
    passes = lets_through(path)
    assert PathPatterns("exclude", PATTERNS).match(path) is passes
    door = EXCLUDING[kind]
    scope = websocket(path="/", headers=[("origin", ORIGIN)]) | {"type": kind, "method": "GET"}
    scope["path"] = path
    seen = door.sees(scope, CONNECT, text("hello"))
    assert len(seen.scopes) == passes
    if passes:
        assert seen.events == []
        assert "user" not in seen.scopes[0]
    else:
        seen.check(is_socket=kind == "websocket")


def test_the_model_knows_every_pattern() -> None:
    paths = ["/public/x", "/health", "/v1/ping", "/a/z/b", "/files/n.txt", "/x/"]
    assert [lets_through(path) for path in paths] == [True] * len(PATTERNS)


# As frameworks read a path under a root: what they route by, or None for what they don't route.


def quart_0_20(path: str, root: str) -> str | None:
    return path.split(root, 1)[1] or None if root in path else None


def quart_0_22(path: str, root: str) -> str | None:
    return path.removeprefix(root) if path.startswith(root) and path != root else None


def litestar(path: str, root: str) -> str:
    return "/" + path.split(root, maxsplit=1)[-1].strip("/")


def blacksheep(path: str, root: str) -> str:
    return path.removeprefix(root) or "/"


def channels(path: str, root: str) -> str | None:
    return "/" + path.removeprefix(root).lstrip("/") if path.startswith(root) else None


def starlette(path: str, root: str) -> str:
    return get_route_path({"path": path, "root_path": root})


READERS = (starlette, litestar, quart_0_20, quart_0_22, str.removeprefix, blacksheep, channels)
SEGMENTS = st.lists(
    st.sampled_from(["public", "health", "api", "v1", "apis", "api-x", "a", "..", "", "%2e"]),
    max_size=5,
)
ROOTS = st.sampled_from(["", "/", "/api", "/api/", "/api/v1", "/public", "api", "/a", "//"])


@examples(500)
@given(SEGMENTS.map(lambda names: "/" + "/".join(names)), ROOTS, st.booleans(), st.booleans())
@example("/public/api/secret", "/api", False, False)
@example("/api/health", "/api", False, False)
def test_whoever_reads_a_path_under_a_root_finds_it_excluded(
    path: str, root: str, leads: bool, slash: bool
) -> None:
    path = root * leads + path + "/" * slash
    scope = {"path": path, "root_path": root}
    found = {read(path, root) if root else path for read in READERS} - {None, ""}
    readings = {f"/{reading.removeprefix('/')}" for reading in found if reading is not None}
    if not GuardedPaths(PATTERNS, None).guards(scope):
        for reading in readings:  # Litestar's has lost the slash at the end
            assert lets_through(reading) or lets_through(f"{reading}/"), reading
    if not GuardedPaths([], PATTERNS).guards(scope):
        for reading in {*readings, path}:
            assert not lets_through(reading), reading
    if root:  # behind Litestar's router, which has cut it
        routed = {"path": litestar(path, root), "root_path": root, "path_template": "/"}
        if not GuardedPaths(PATTERNS, None).guards(routed):
            assert lets_through(routed["path"])
        if not GuardedPaths([], PATTERNS).guards(routed):
            assert not lets_through(routed["path"])
    if not root and lets_through(path):
        assert not GuardedPaths(PATTERNS, None).guards(scope)
    if root == "/api" and leads and "/api" not in path[4:] and lets_through(path[4:]):
        assert not GuardedPaths(PATTERNS, None).guards(scope)


@cases("path", [None, b"/health", 5])
def test_a_path_that_is_no_string_is_not_excluded(path: Any) -> None:
    seen = Door(exclude=PATTERNS).sees(websocket() | {"path": path}, CONNECT, LEFT)
    assert not seen.scopes
