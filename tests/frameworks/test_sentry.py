"""What Sentry is told with its defaults, which take local variables from every frame: never a
credential, whatever broke, wherever other middleware stands."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from itertools import count
from typing import Any
from urllib.parse import quote, unquote

import pytest
from cases import cases
from handshakes import mint, now
from servers import Server, serving

pytestmark = pytest.mark.live

_numbers = count(1)
ORIGIN = ("Origin", "https://chat.example")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("uvicorn-websockets", "sentry_apps:app") as server:
        yield server


def credential(kind: str) -> str:
    """One that no other test presents."""
    unique = f"{kind}-{next(_numbers)}.4f1d2e0b9cZm9v"
    if kind == "jwt":  # its header is made unique too, so that it can be searched for
        return mint(exp=now() + 300, jti=unique, headers={"kid": unique})
    return f"{unique}.YmFyYmF6cXV4"


def carrying(token: str, way: str) -> dict[str, Any]:
    """The part of a request that carries a credential this way."""
    match way:
        case "query":
            return {"token": token, "headers": [ORIGIN]}
        case "bearer":
            return {"headers": [ORIGIN, ("Authorization", f"Bearer {token}")]}
        case "key":
            return {"headers": [ORIGIN, ("X-API-Key", token)]}
        case "cookie":
            return {"headers": [ORIGIN, ("Cookie", f"a=1; login={token}")]}
        case _:
            return {"headers": [ORIGIN], "subprotocols": ["chat", "bearer", token]}


def told(server: Server) -> list[str]:
    """The envelopes since the last time."""
    return server.get("/envelopes")


def events(envelopes: list[str]) -> list[dict[str, Any]]:
    """The errors among them."""
    items = [json.loads(line) for envelope in envelopes for line in envelope.splitlines()]
    return [item for item in items if "event_id" in item and "level" in item]


def pieces_in(envelopes: list[str], token: str) -> list[str]:
    """The pieces of a credential that stand in them, in whatever form."""
    pieces = [token, *(piece for piece in token.split(".") if len(piece) > 10)]
    forms = {
        form.casefold()
        for piece in pieces
        for form in (piece, quote(piece, safe=""), b64encode(piece.encode()).decode().rstrip("="))
    }
    texts = [text.casefold() for raw in envelopes for text in (raw, unquote(raw))]
    return [form for form in forms if any(form in text for text in texts)]


def present(server: Server, protocol: str, path: str, token: str, way: str) -> list[str]:
    """The envelopes of one request."""
    told(server)
    if protocol == "http":
        server.ask("GET", path, **carrying(token, way))
    else:
        server.talk(path, **carrying(token, way))
    return told(server)


WAYS = [
    *(("http", way) for way in ("query", "bearer", "key", "cookie")),
    *(("websocket", way) for way in ("query", "bearer", "key", "cookie", "subprotocol")),
]


# What breaks is the app, after an opaque token or a JWT, or the verifier.
PLACES = ["/outside", "/inside", "/around", "/fastapi"]
CASES = [
    *((place, kind) for place in PLACES for kind in ("opaque", "boom")),
    *(("/outside", kind) for kind in ("jwt", "stranger")),
]


@cases(("protocol", "way"), WAYS)
@cases(("place", "kind"), CASES)
def test_no_envelope_has_a_credential(
    server: Server, place: str, protocol: str, way: str, kind: str
) -> None:
    token = credential(kind)
    envelopes = present(server, protocol, place, token, way)
    assert pieces_in(envelopes, token) == []
    if kind in ("jwt", "opaque"):  # the app broke, and every frame up to the server's is told of
        frames = [
            frame
            for event in events(envelopes)
            for exception in event["exception"]["values"]
            for frame in exception["stacktrace"]["frames"]
        ]
        assert {"page", "socket"} & {frame["function"] for frame in frames}
        assert any(frame.get("vars") for frame in frames)
        cors_saw = [f for f in frames if "request_headers" in f.get("vars", {})]
        assert bool(cors_saw) == (protocol == "http")


@pytest.mark.parametrize("protocol", ["http", "websocket"])
def test_what_broke_is_an_event_of_its_own_kind(server: Server, protocol: str) -> None:
    """Sentry makes one issue of the events that have the same message, before its arguments."""
    told: dict[str, set[str]] = {}
    for kind in ("boom", "lookup"):
        for _ in range(2):
            token = credential(kind)
            envelopes = present(server, protocol, "/inside", token, "query")
            assert pieces_in(envelopes, token) == []
            (event,) = events(envelopes)
            assert event["logger"] == "asgi_wsauth"
            assert event["level"] == "error"
            told.setdefault(kind, set()).add(event["logentry"]["message"])
            error_type = {"boom": "RuntimeError", "lookup": "LookupError"}[kind]
            assert event["extra"]["error_type"] == error_type
            assert "sentry_apps.py:" in event["extra"]["error_at"]
            assert f"{error_type} in opaque at " in event["logentry"]["formatted"]
    assert [len(messages) for messages in told.values()] == [1, 1]
    assert told["boom"] != told["lookup"]


def test_of_two_readers_of_headers_outside_the_outer_one_keeps_its_copy(server: Server) -> None:
    """Each of Starlette's readers puts a new list into the scope, so that the first one's is
    nowhere to be found. That is why no more than one goes outside."""
    token = credential("opaque")
    envelopes = present(server, "http", "/two", token, "bearer")
    assert pieces_in(envelopes, token)
    assert pieces_in(present(server, "http", "/two", token, "query"), token) == []
