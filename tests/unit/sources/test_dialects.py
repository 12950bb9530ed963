"""The dialects of a first message: what is read in it, what the app gets of it, and what clients
are told. How long it is waited for, and by how many, is in test_waiting.py and test_handshake.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cases import cases
from handshakes import CONNECT, App, Knows, authenticator, drive, websocket
from sockets import ACCEPT, LEFT, Seat, Wire, running, said, text, until

from asgi_wsauth import (
    GRAPHQL_CLOSE_CODES,
    Abandoned,
    Admitted,
    ConfigurationError,
    ConnectionLimit,
    Denied,
    Event,
    FailureThrottle,
    FirstMessage,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Refused,
    WebSocketAuthMiddleware,
    log_event,
)
from asgi_wsauth.sources.dialects import without_token

MALFORMED, MISSING, ERROR = Reason.MALFORMED, Reason.MISSING, Reason.ERROR
GRAPHQL = "graphql-transport-ws"

_STOPS = ("stop", "refresh", "log in again")


def init(payload: Any = None, **more: Any) -> str:
    return json.dumps({"type": "connection_init", "payload": payload, **more})


def read(source: FirstMessage, message: str | bytes | None) -> str | Reason:
    try:
        return source.read(message)
    except Denied as denied:
        return denied.reason


# What is read


@cases(
    ("message", "found"),
    [
        (init({"Authorization": "Bearer abc"}), "abc"),
        (init({"authorization": "bearer abc", "tenant": 7}, id="1"), "abc"),
        (init({"AUTHORIZATION": "BEARER   abc "}), "abc"),
        (init({"Authorization": " Bearer abc"}), "abc"),
        (init({"Authorization": "abc"}), "abc"),
        (init({"Authorization": "Bearer Xa\t"}), "Xa\t"),  # nothing but spaces goes
        (init({"Authorization": "Bearerabc"}), "Bearerabc"),
        (init({"Authorization": "abcBearer"}), "abcBearer"),
        (init({"Authorization": "Bearer bearer x"}), "bearer x"),
        (init({"Authorization": "Basic abc"}), "Basic abc"),  # which no credential is
        (init({"Authorization": "Bearer"}), MISSING),
        (init({"Authorization": "Bearer "}), MISSING),
        (init({"Authorization": ""}), MISSING),
        (init({"Authorization": None}), MISSING),
        (init({"token": "abc"}), MISSING),
        (init({}), MISSING),
        (init(None), MISSING),
        ('{"type": "connection_init"}', MISSING),
        (init({"Authorization": 5}), MALFORMED),
        (init({"Authorization": ["Bearer abc"]}), MALFORMED),
        (init({"Authorization": "Bearer abc", "authorization": "Bearer abc"}), MALFORMED),
        (init("abc"), MALFORMED),
        (init([]), MALFORMED),
        (init(False), MALFORMED),
        ('{"type": "connection_init", "payload', MALFORMED),
        ('{"type": "subscribe", "payload": {"Authorization": "Bearer abc"}}', MALFORMED),
        ('{"type": "auth", "token": "abc"}', MALFORMED),
        ('["connection_init"]', MALFORMED),
        (init({"Authorization": "Bearer abc"}).encode(), MALFORMED),
        (None, MALFORMED),
    ],
)
def test_what_graphql_says(message: str | bytes | None, found: str | Reason) -> None:
    assert read(FirstMessage(dialect=GRAPHQL), message) == found


@cases(
    ("payload", "detail"),
    [
        ({}, "connection_init has no Authorization"),
        ([], "the payload of connection_init is no object"),
        ({"Authorization": 5}, "Authorization in connection_init is no string"),
        (
            {"Authorization": "a", "authorization": "a"},
            "connection_init has Authorization 2 times",
        ),
    ],
)
def test_the_log_says_what_graphqls_message_lacks(payload: Any, detail: str) -> None:
    with pytest.raises(Denied) as caught:
        FirstMessage(dialect=GRAPHQL).read(init(payload))
    assert caught.value.detail == detail


@cases(
    ("message", "found"),
    [
        ('{"type": "auth", "access_token": "abc"}', "abc"),
        ('{"type": "auth", "token": "abc"}', MALFORMED),
        ('{"type": "auth", "access_token": null}', MALFORMED),
        ('{"type": "auth"}', MALFORMED),
        ('{"access_token": "abc"}', MALFORMED),
        (b'{"type": "auth", "access_token": "abc"}', MALFORMED),
        ("abc", MALFORMED),
    ],
)
def test_what_home_assistant_says(message: str | bytes, found: str | Reason) -> None:
    assert read(FirstMessage(dialect="home-assistant"), message) == found


def test_the_log_says_that_a_message_has_no_token() -> None:
    with pytest.raises(Denied, match=r'^token_malformed: a message "auth" without a token$'):
        FirstMessage(dialect="home-assistant").read('{"type": "auth"}')


def from_a_frame(message: str | bytes) -> str | None:
    """The token in a message of a user's own dialect."""
    if isinstance(message, bytes):
        return message.removeprefix(b"\x01").decode() if message[:1] == b"\x01" else None
    if message == "forbidden":
        raise Denied(Reason.FORBIDDEN)
    found: Any = json.loads(message)["jwt"]
    return found


@cases(
    ("message", "found"),
    [
        ('{"jwt": "abc"}', "abc"),
        (b"\x01abc", "abc"),
        (b"\x02abc", MALFORMED),
        ('{"jwt": null}', MALFORMED),
        ("forbidden", Reason.FORBIDDEN),
        # What breaks is its own affair, and no client's fault.
        ("hello", ERROR),
        (b"\x01\xff", ERROR),
        ('{"jwt": 5}', ERROR),
        (None, MALFORMED),
    ],
)
def test_what_a_function_finds(message: str | bytes | None, found: str | Reason) -> None:
    assert read(FirstMessage(dialect=from_a_frame), message) == found


@cases("message", ["x" * 11, b"x" * 11])
def test_no_function_gets_what_is_too_long(message: str | bytes) -> None:
    assert read(FirstMessage(dialect=lambda _: "abc", max_size=11), message) == "abc"
    assert read(FirstMessage(dialect=lambda _: "abc", max_size=10), message) is MALFORMED


@cases(
    ("dialect", "wrong"),
    [
        ("GraphQL", 'one of "graphql-transport-ws", "home-assistant", or a function'),
        (5, 'one of "graphql-transport-ws", "home-assistant", or a function'),
        (b"home-assistant", 'one of "graphql-transport-ws", "home-assistant", or a function'),
        (
            lambda: None,
            "a function that can be called with one argument, got .*; it is called with the "
            "message, and returns the token in it or None$",
        ),
        ("apollo", ".*, got 'apollo'$"),
        (Knows, "a function, got the class Knows"),
    ],
)
def test_what_is_no_dialect(dialect: Any, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^FirstMessage: dialect must be {wrong}"):
        FirstMessage(dialect=dialect)


def test_a_function_is_no_coroutine_function() -> None:
    async def slow(message: str | bytes) -> str: ...

    dialect: Any = slow
    with pytest.raises(
        ConfigurationError, match=r"^FirstMessage: dialect must be a plain function"
    ):
        FirstMessage(dialect=dialect)


@cases(
    ("options", "offered", "answered"),
    [
        ({"dialect": GRAPHQL}, ["chat", GRAPHQL], [GRAPHQL]),
        ({"dialect": GRAPHQL}, ["graphql-ws", GRAPHQL], [GRAPHQL]),
        ({"dialect": GRAPHQL}, ["graphql-ws"], ["graphql-ws"]),
        ({"dialect": GRAPHQL}, ["chat"], []),
        ({"dialect": GRAPHQL}, [], []),
        (
            {"dialect": GRAPHQL, "subprotocol": "graphql-ws"},
            [GRAPHQL, "graphql-ws"],
            ["graphql-ws"],
        ),
        ({"dialect": "home-assistant"}, ["chat"], []),
        ({"dialect": from_a_frame, "subprotocol": "chat"}, ["voice", "chat"], ["chat"]),
    ],
)
def test_what_it_accepts_with(
    options: dict[str, Any], offered: list[str], answered: list[str]
) -> None:
    assert FirstMessage(**options).protocols(websocket(subprotocols=offered)) == answered


# What the app gets of it


@cases(
    ("message", "rest"),
    [
        (init({"Authorization": "Bearer t0k"}), init({})),
        (init({"x": 1.5, "Authorization": "t0k "}, id="7"), init({"x": 1.5}, id="7")),
        # Wherever else it stands.
        (
            init({"authorization": "Bearer t0k", "headers": {"X": "bearer t0k"}}),
            init({"headers": {}}),
        ),
        (
            '["1", ["phx_join", "t0k"], {"a": [{"token": "t0k"}]}]',
            '["1", ["phx_join", null], {"a": [{}]}]',
        ),
        (
            '{"type": "auth", "token": "t\\u0030k", "ä": "\\ud800"}',
            '{"type": "auth", "\\u00e4": "\\ud800"}',
        ),
        ('["Bearer t0k ", "t0k\\t", "Xt0k"]', '[null, "\\t", "X"]'),
        (
            init({"Authorization": "Bearer t0k", "url": "wss://a/?token=t0k&x=1", "t0k": 1}),
            init({"url": "wss://a/?token=&x=1", "": 1}),
        ),
        # Where it is a part of something else, or what has it is no JSON.
        ('{"login": "token=t0k;"}', '{"login": "token=;"}'),
        ('{"a": 1e999, "token": "t0k"}', '{"a": 1e999, "token": ""}'),
        ('{"a": NaN, "b": "x-t0k"}', '{"a": NaN, "b": "x-"}'),
        ('{"token": "t0k"' + ', "a": {"a"' * 9_000, '{"token": ""' + ', "a": {"a"' * 9_000),
        ("[" * 9_000 + '"t0k"' + "]" * 9_000, "[" * 9_000 + '""' + "]" * 9_000),
        ("CONNECT\npasscode:t0k\n\n\0", "CONNECT\npasscode:\n\n\0"),
        (b"\x01t0k\xff", b"\x01\xff"),
    ],
)
def test_a_message_without_its_token(message: str | bytes, rest: str | bytes) -> None:
    assert without_token(message, "t0k") == rest


@cases("message", ['{"token": "k0t"}', "k0t", b"k0t", "12"])
def test_what_a_function_made_of_a_message_can_not_be_cut_out(message: str | bytes) -> None:
    with pytest.raises(Denied, match=r"^internal_error: replay: "):
        without_token(message, "t0k")


def test_the_bytes_of_a_message_have_no_half_of_a_surrogate_pair() -> None:
    with pytest.raises(Denied, match="replay"):
        without_token(b"abc", "\ud800")


# On a socket


ALICE = Principal("alice", scopes=["chat"])


class Door:
    """A middleware that takes the credential from the first message, for `t0k`, who is alice."""

    def __init__(self, app: Any, *, guard: Any = None, auth: Any = None, **first: Any) -> None:
        self.events: list[Event] = []
        self.source = FirstMessage(**first)
        denied = {f"deny-{reason.name}": Denied(reason) for reason in Reason}
        options = {"sources": [QueryParam("token"), self.source], **(auth or {})}
        self.middleware = WebSocketAuthMiddleware(
            app,
            authenticator(Knows(t0k=ALICE, **denied), observers=[self.events.append], **options),
            **(guard or {}),
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.middleware(scope, receive, send)
        assert self.source.number_waiting == 0


def graphql(token: str = "t0k") -> dict[str, Any]:
    return text(init({"Authorization": f"Bearer {token}", "locale": "de"}))


@pytest.mark.anyio
@cases("guard", [{}, {"refresh_message": "auth.refresh"}], ids=["bare", "guarded"])
async def test_graphqls_server_gets_the_message_that_it_waits_for(guard: Any) -> None:
    app = Seat()
    door = Door(app, guard=guard, dialect=GRAPHQL, replay=True)
    offered = ["chat", GRAPHQL]
    async with running(door, "", graphql(), text("behind it"), subprotocols=offered) as wire:
        await until(lambda: len(app.got) == 3)
        await app.send(said("ack"))
        wire.put(LEFT)
    assert app.got == [CONNECT, text(init({"locale": "de"})), text("behind it"), LEFT]
    assert wire.sent == [{**ACCEPT, "subprotocol": GRAPHQL, "headers": []}, said("ack")]
    assert app.scope["subprotocols"] == [GRAPHQL]
    assert app.scope["user"] is ALICE
    assert "t0k" not in repr((app.scope, app.got))


@pytest.mark.anyio
async def test_what_was_handed_on_is_not_kept() -> None:
    """Ten thousand sockets would keep 160 MB."""
    app = Seat()
    async with running(Door(app, dialect=GRAPHQL, replay=True), "", graphql()) as wire:
        await until(lambda: len(app.got) == 2)
        kept = [cell.cell_contents for cell in app.receive.__closure__]
        assert [] in kept
        assert "locale" not in repr(kept)
        wire.put(LEFT)


@pytest.mark.anyio
@cases("dialect", [GRAPHQL, None])
@cases("replay", [True, False])
async def test_what_the_app_gets(dialect: Any, replay: bool) -> None:
    app = Seat()
    message = graphql() if dialect else text('{"type": "auth", "token": "t0k", "v": 2}')
    rest = text(init({"locale": "de"})) if dialect else text('{"type": "auth", "v": 2}')
    async with running(Door(app, dialect=dialect, replay=replay), "", message, LEFT):
        pass
    assert app.got == [CONNECT, *([rest] if replay else []), LEFT]


@pytest.mark.anyio
async def test_a_binary_message_is_handed_on_as_one() -> None:
    app = Seat()
    message = {"type": "websocket.receive", "bytes": b"\x01t0k", "text": None}
    async with running(Door(app, dialect=from_a_frame, replay=True), "", message, LEFT):
        pass
    assert app.got[1] == {**message, "bytes": b"\x01"}


@pytest.mark.anyio
async def test_where_the_credential_came_before_the_app_gets_all_messages_as_they_are() -> None:
    app = Seat()
    door = Door(app, dialect=GRAPHQL, replay=True)
    async with running(door, "token=t0k", text(init()), LEFT) as wire:
        pass
    assert app.got == [CONNECT, text(init()), LEFT]
    assert wire.sent == [ACCEPT]


@pytest.mark.anyio
async def test_an_instance_inside_hands_it_on() -> None:
    app, first = Seat(), {"dialect": GRAPHQL, "replay": True}
    outer = Door(app, **first)
    outer.middleware.app = WebSocketAuthMiddleware(app, outer.middleware.authenticator)
    async with running(outer, "", graphql(), LEFT):
        pass
    assert app.got == [CONNECT, text(init({"locale": "de"})), LEFT]


@pytest.mark.anyio
@cases(
    ("message", "code", "phrase"),
    [
        (text(init()), 4401, "token_missing"),
        (graphql("unknown"), 4401, "token_invalid"),
        (graphql("deny-EXPIRED"), 4001, "token_expired"),
        (graphql("deny-REVOKED"), 4004, "token_revoked"),
        (graphql("deny-FORBIDDEN"), 4403, "forbidden"),
        (graphql("deny-UNAVAILABLE"), 1013, "verifier_unavailable"),
        (text("hello"), 4400, "token_malformed"),
        (graphql("two words"), 4400, "token_malformed"),
        (None, 4408, "token_missing"),
    ],
)
async def test_graphqls_clients_are_told_with_its_codes(
    message: Any, code: int, phrase: str
) -> None:
    app = App()
    guard = {"close_codes": GRAPHQL_CLOSE_CODES}
    door = Door(app, guard=guard, dialect=GRAPHQL, replay=True, timeout=0.01 if not message else 5)
    async with running(door, "", *([message] if message else []), subprotocols=[GRAPHQL]) as wire:
        pass
    assert wire.kinds == ["accept", "close"]
    assert wire.close == (code, phrase)
    assert wire.sent[0]["subprotocol"] == GRAPHQL
    (event,) = door.events
    assert isinstance(event, Refused)
    assert (event.reason.phrase, event.close_code) == (phrase, code)
    assert not app.calls


@pytest.mark.anyio
async def test_before_the_accept_there_is_nothing_to_read() -> None:
    door = Door(
        App(),
        guard={"close_codes": GRAPHQL_CLOSE_CODES},
        auth={"allowed_origins": ["https://a.example"]},
        dialect="home-assistant",
    )
    outcome = await drive(door, websocket(headers=[("origin", "https://b.example")]))
    assert outcome.close == (4403, "origin_not_allowed")
    assert outcome.received == 1


@pytest.mark.anyio
async def test_a_page_without_a_login_locks_nobody_out() -> None:
    """Every client of GraphQL sends `connection_init`, logged in or not."""
    door = Door(App(), auth={"throttle": FailureThrottle("1/minute")}, dialect=GRAPHQL)
    for _ in range(3):
        async with running(door, "", text(init())) as wire:
            pass
        assert wire.close == (1008, "token_missing")
    for code, phrase in ((1008, "token_invalid"), (1013, "too_many_failures")):
        async with running(door, "", graphql("unknown")) as wire:
            pass
        assert wire.close == (code, phrase)


# Home Assistant's way


def home(token: str = "t0k") -> dict[str, Any]:
    return text(json.dumps({"type": "auth", "access_token": token}))


def told(wire: Wire) -> list[Any]:
    """What the server said, between the accept and the close."""
    return [json.loads(m["text"]) for m in wire.sent if m["type"] == "websocket.send"]


@pytest.mark.anyio
async def test_home_assistants_client_is_asked_and_welcomed() -> None:
    app = Seat()
    limit = {"connection_limit": ConnectionLimit(1, MemoryStore())}
    async with running(Door(app, guard=limit, dialect="home-assistant"), "") as wire:
        await until(lambda: len(wire.sent) == 2)
        assert told(wire) == [{"type": "auth_required"}]
        wire.put(home())
        await until(lambda: app.got)
        await app.send(said('{"type": "result"}'))
        wire.put(LEFT)
    assert wire.kinds == ["accept", "send", "send", "send"]
    assert [message["type"] for message in told(wire)] == ["auth_required", "auth_ok", "result"]
    assert app.got == [CONNECT, LEFT]


@pytest.mark.anyio
@cases(
    ("message", "reason", "is_told"),
    [
        (home("unknown"), Reason.INVALID, True),
        (text("hello"), Reason.MALFORMED, True),
        (None, Reason.MISSING, True),
        *((home(f"deny-{r.name}"), r, r.advice in _STOPS) for r in Reason),
    ],
)
async def test_home_assistants_client_is_told_to_stop_only_where_its_token_is_no_good(
    message: Any, reason: Reason, is_told: bool
) -> None:
    """An outage is none of its faults: it would log out."""
    door = Door(App(), dialect="home-assistant", timeout=0.01 if not message else 5)
    async with running(door, "", *([message] if message else [])) as wire:
        pass
    invalid = {"type": "auth_invalid", "message": reason.phrase}
    assert told(wire) == [{"type": "auth_required"}, *([invalid] if is_told else [])]
    assert wire.kinds[-1] == "close"
    assert wire.close == (reason.close_code, reason.phrase)


@pytest.mark.anyio
async def test_who_is_one_socket_too_many_is_not_welcomed() -> None:
    store = MemoryStore()
    door = Door(
        Seat(), guard={"connection_limit": ConnectionLimit(1, store)}, dialect="home-assistant"
    )
    async with running(door, "", home()) as first:
        await until(lambda: len(first.sent) == 3)
        async with running(door, "", home()) as second:
            pass
        first.put(LEFT)
    assert told(second) == [{"type": "auth_required"}]
    assert second.close == (1013, "too_many_connections")


@pytest.mark.anyio
@cases("word", ["auth_required", "auth_ok", "auth_invalid"])
async def test_a_client_that_is_gone_when_it_is_told(word: str) -> None:
    class Gone(Wire):
        async def send(self, message: dict[str, Any]) -> None:
            if word in message.get("text", ""):
                raise OSError("gone")
            await super().send(message)

    app, wire = App(), Gone(home("unknown" if word == "auth_invalid" else "t0k"))
    door = Door(app, dialect="home-assistant")
    await door(websocket(), wire.receive, wire.send)
    assert not app.calls
    assert [type(event) for event in door.events] == [
        Refused if word == "auth_invalid" else Abandoned
    ]
    assert wire.kinds[-1] == "close"


# A user's own


@pytest.mark.anyio
async def test_a_function_that_breaks_refuses_with_one_line_and_none_of_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def breaks(message: str | bytes) -> str | None:
        raise ValueError(f"not what I know: {message!r}")

    app = App()
    auth = authenticator(Knows(), sources=[FirstMessage(dialect=breaks)], observers=[log_event])
    async with running(WebSocketAuthMiddleware(app, auth), "", text("s3cr3t-value")) as wire:
        pass
    assert wire.close == (1011, "internal_error")
    assert not app.calls
    (record,) = caplog.records
    assert "first message: ValueError" in record.getMessage()
    assert "s3cr3t" not in caplog.text


@pytest.mark.anyio
async def test_what_can_not_be_handed_on_without_its_token_is_refused() -> None:
    app = App()
    door = Door(app, dialect=lambda message: "t0k", replay=True)
    async with running(door, "", text("t-0-k")) as wire:
        pass
    assert wire.close == (1011, "internal_error")
    assert not app.calls


@pytest.mark.anyio
async def test_a_function_logs_in_as_any_dialect_does() -> None:
    app = Seat()
    door = Door(app, dialect=from_a_frame, replay=True)
    async with running(door, "", text('{"jwt": "t0k", "room": 7}'), LEFT):
        pass
    assert app.got == [CONNECT, text('{"room": 7}'), LEFT]
    assert isinstance(door.events[0], Admitted)
