"""What reads what a client sends: one function for each, from any bytes to nothing.

A target raises where something is wrong. Hypothesis runs each of them briefly among the tests, and
`python -m tests.fuzz TARGET` for as long as is wanted, with atheris.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import logging
import math
import posixpath
from base64 import urlsafe_b64encode
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from starlette.requests import HTTPConnection

from asgi_wsauth import (
    Authenticator,
    Cookie,
    Credential,
    Denied,
    FirstMessage,
    Header,
    JWTVerifier,
    Principal,
    QueryParam,
    Reason,
    RedactCredentials,
    Subprotocol,
)
from asgi_wsauth.endpoints.tickets import _path
from asgi_wsauth.printable import escaped
from asgi_wsauth.scope.paths import PathPatterns
from asgi_wsauth.sources.dialects import without_token
from asgi_wsauth.sources.first_message import token_in
from asgi_wsauth.sources.origins import parse_origin

SECRET = "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz"
NOW = 1_800_000_000.0
SOURCES = (
    QueryParam("token"),
    Header("authorization", scheme="Bearer"),
    Header("x-api-key"),
    Cookie("session"),
    Subprotocol("bearer"),
    Subprotocol(prefix="b64.bearer."),
)
HEADERS = [b"authorization", b"x-api-key", b"cookie", b"sec-websocket-protocol"]


def sources(data: bytes) -> None:
    """A query string and headers, one a line: what a source finds it removes, and stays quiet
    afterwards."""
    query, *values = data.split(b"\n")
    headers = [(HEADERS[n % len(HEADERS)], value) for n, value in enumerate(values)]
    before: dict[str, Any] = {"type": "websocket", "query_string": query, "headers": headers}
    for source in SOURCES:
        scope = copy.deepcopy(before)
        found = only_denied(lambda s=source, c=scope: s.extract(HTTPConnection(c)))  # type: ignore[misc]
        assert isinstance(found, (str, type(None)))
        assert found != ""
        assert scope == before
        source.redact(scope)
        once = copy.deepcopy(scope)
        assert source.extract(HTTPConnection(scope)) is None
        source.redact(scope)
        assert scope == once


RUBBISH = (Reason.MALFORMED, Reason.INVALID, Reason.EXPIRED)


def only_denied(call: Callable[[], Any], *reasons: Reason) -> Any:
    """What it returns; None where it is `Denied`, which is to be for rubbish, or these reasons."""
    try:
        return call()
    except Denied as denied:
        assert denied.reason in (*RUBBISH, *reasons)
        assert escaped(denied.detail) == denied.detail
        return None


def origins(data: bytes) -> None:
    """An origin says the same when it is written down again."""
    value = data.decode("latin-1")
    parsed = parse_origin(value)
    if parsed is None:
        return
    scheme, host, port = parsed
    again = f"{scheme}://{host}" + (f":{port}" if port else "")
    assert parse_origin(again) == parsed
    assert value.lower() in (again, f"{scheme}://{host}")
    assert value.isascii()
    assert not set(value) & set("/?#@\\% \t\r\n") - {"/"}
    assert value.count("/") == 2


PATTERNS = PathPatterns("exclude", ["/public/*", "/health", "/v*/ping", "/a/*/b"])
BEGINNINGS = ("/public/", "/health", "/v", "/a/")


def paths(data: bytes) -> None:
    """A path that matches means the same to whoever resolves or decodes it."""
    path = data.decode(errors="surrogateescape")
    if not PATTERNS.match(path):
        return
    assert path.startswith(BEGINNINGS)
    assert posixpath.normpath(path) == path.removesuffix("/")
    assert not set(path) & set("%\\;\x00\r\n")


VERIFIER = JWTVerifier(SECRET, algorithms=["HS256"], clock=lambda: NOW)


def jwt(data: bytes) -> None:
    """A header and a payload, one a line: with a good signature, only good claims; and whatever
    stands behind the second line is no signature."""
    header, _, rest = data.partition(b"\n")
    payload, _, other = rest.partition(b"\n")
    said = b".".join(map(_base64url, (header, payload)))
    signature = hmac.digest(SECRET.encode(), said, hashlib.sha256)
    judged = judge((said + b"." + _base64url(signature)).decode())
    if judged is not None:
        claims = json.loads(payload)
        exp = claims["exp"]
        assert type(exp) in (int, float)
        assert math.isfinite(exp)
        assert exp > NOW - 31
        assert judged.identity == str(claims["sub"])
        assert json.loads(header)["alg"] == "HS256"
    if other != signature:
        assert judge((said + b"." + _base64url(other)).decode()) is None
    judge(data.decode("latin-1"))


def _base64url(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def judge(token: str) -> Principal | None:
    """A static key is at hand, so the verifier never waits."""
    work: Coroutine[Any, Any, Principal | None] = VERIFIER(Credential(token), None)  # type: ignore[arg-type]
    try:
        work.send(None)
    except StopIteration as done:
        found: Principal | None = done.value
        return found
    except Denied as denied:
        assert denied.reason in (Reason.INVALID, Reason.EXPIRED)
        assert token not in denied.detail
        return None
    raise AssertionError("it waits")


FIRST = FirstMessage(max_size=5000)


def first_message(data: bytes) -> None:
    """A text is a credential, or malformed."""
    text = data.decode(errors="surrogateescape")
    found = only_denied(lambda: FIRST.read(text))
    if found is not None:
        message = json.loads(text)
        assert (message["type"], message["token"]) == ("auth", found)
        assert len(text) <= 5000
        assert isinstance(repr(Credential(found)), str)


DIALECTS = [
    FirstMessage(),
    FirstMessage(dialect="graphql-transport-ws"),
    FirstMessage(dialect="home-assistant"),
]


def dialects(data: bytes) -> None:
    """A text is a credential in one of them at most, and what is handed on of it has none."""
    text = data.decode(errors="surrogateescape")
    read = [only_denied(partial(source.read, text), Reason.MISSING) for source in DIALECTS]
    found = [token for token in read if token]
    assert len(found) <= 2  # "auth" may have both a token and an access token
    for token in found:
        rest = only_denied(partial(without_token, text, token), Reason.ERROR)
        if rest not in (None, text.replace(token, "")):
            assert token not in strings_in(json.loads(rest))


def strings_in(value: Any) -> set[str]:
    """All strings in a JSON value that aren't keys."""
    if isinstance(value, dict):
        return set().union(*map(strings_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(strings_in, value))
    return {value} if isinstance(value, str) else set()


def refresh_message(data: bytes) -> None:
    """A text is a refresh, or the app's."""
    text = data.decode(errors="surrogateescape")
    found = only_denied(lambda: token_in(text, "auth.refresh"))
    if found is not None:
        assert json.loads(text)["type"] == "auth.refresh"


def ticket_body(data: bytes) -> None:
    """A request's body asks for a path, or for none, or is unreadable."""
    found = only_denied(lambda: _path(data))
    assert isinstance(found, (str, type(None)))


TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"
FILTER = RedactCredentials(Authenticator([VERIFIER], sources=SOURCES[:3]))


def log_record(data: bytes) -> None:
    """A line of another's log: a token is not in it any more, and it is one line if it was."""
    before, _, after = data.decode("latin-1").partition("|")
    for message in (f"{before}{TOKEN} {after}", f"{before}?token={TOKEN}&{after}"):
        record = logging.makeLogRecord({"msg": "%s", "args": (message,)})
        assert FILTER.filter(record)
        once = record.getMessage()
        assert TOKEN not in once
        assert once.count("\n") <= message.count("\n")
    assert escaped(before).isprintable()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(sources, origins, paths, jwt, first_message, dialects, refresh_message),
        *(ticket_body, log_record),
    )
}

SEEDS: dict[str, list[bytes]] = {
    "sources": [
        b"a=1&token=abc%2B&b\nBearer abc\nkey\na=1; session=abc; b\nchat, bearer, abc",
        b"tok%65n=abc\nBasic a, Bearer b\n\nsession=a,session=b\nb64.bearer.YWJj, chat",
    ],
    "origins": [b"https://chat.example:443", b"http://[::1]:3000", b"null"],
    "paths": [b"/public/a/b", b"/public/../admin", b"/v1/ping", b"/a/x/b"],
    "jwt": [
        b'{"alg":"HS256","typ":"JWT"}\n{"sub":"alice","exp":1800000300}\n',
        b'{"alg":"none"}\n{"sub":"alice","exp":"1800000300","nbf":true}\nx',
    ],
    "first_message": [b'{"type":"auth","token":"abc"}'],
    "dialects": [
        b'{"type":"connection_init","payload":{"Authorization":"Bearer abc","a":[["abc"]]}}',
        b'{"type":"auth","access_token":"abc","token":"abc","a":1e999}',
    ],
    "refresh_message": [b'{"type":"auth.refresh","token":"\\ud800"}'],
    "ticket_body": [b'{"path":"/ws/chat"}', b""],
    "log_record": [b"GET /ws|HTTP/1.1", b"('127.0.0.1', 5) - \"|\" [accepted]"],
}
"""What a fuzzer begins with."""
