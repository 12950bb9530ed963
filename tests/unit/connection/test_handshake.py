"""The messages of a handshake: who hears them while the chain runs, and a credential that comes in
the client's first message."""

from __future__ import annotations

import json
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import CONNECT, App, Clock, Knows, authenticator, bearer, drive, websocket
from insides import slots_of
from sockets import ACCEPT, CLOSE, LEFT, Seat, Wire, running, said, settled, text, until
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    Abandoned,
    Admitted,
    Closed,
    ConnectionLimit,
    Cookie,
    Credential,
    Event,
    FailureThrottle,
    FirstMessage,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Refused,
    Revocations,
    Subprotocol,
    WebSocketAuthMiddleware,
)

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

ALICE = Principal("alice")


def hello(token: Any = "a", **more: Any) -> dict[str, Any]:
    return text(json.dumps({"type": "auth", "token": token, **more}))


class Door:
    """A middleware that takes the credential from the first message, for `a`, who is alice."""

    def __init__(self, app: Any, source: FirstMessage | None = None, **auth: Any) -> None:
        self.events: list[Event] = []
        self.source = source or FirstMessage()
        options = {"sources": [QueryParam("token"), self.source], **auth}
        self.knows = options.pop("verifier", Knows(a=ALICE))
        options["observers"] = [self.events.append]
        self.rejection: Any = options.pop("rejection", "accept_then_close")
        self.middleware = WebSocketAuthMiddleware(
            app, authenticator(self.knows, **options), rejection=self.rejection
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.middleware(scope, receive, send)
        assert self.source.number_waiting == 0

    @property
    def told(self) -> list[type[Event]]:
        return [type(event) for event in self.events]


# Who hears the client while the chain runs


class Waits(MemoryStore):
    """A store that is somewhere else."""

    async def get_revocations(self, subjects: Any, /) -> Any:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        return await super().get_revocations(subjects)


async def test_a_chain_that_waits_twice_is_watched_once() -> None:
    """For the verdict, and then to register: the app's messages are not taken by anybody else."""
    waiting: list[int] = []

    class Counting(Wire):
        async def receive(self) -> dict[str, Any]:
            waiting.append(self.waiting)
            return await super().receive()

    app, wire = Seat(), Counting()
    auth = authenticator(Knows(a=ALICE), revocations=Revocations(Waits()))
    async with anyio.create_task_group() as group:
        group.start_soon(
            WebSocketAuthMiddleware(app, auth), websocket("token=a"), wire.receive, wire.send
        )
        await until(lambda: wire.kinds and wire.waiting)
        wire.put(text("hi"), LEFT)
    assert set(waiting) == {0}
    assert app.got == [CONNECT, text("hi"), LEFT]


@cases("look", [1, 2, 3])
async def test_whenever_the_client_leaves_the_work_is_cancelled(
    look: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hangs(MemoryStore):
        looks = 0

        async def get_revocations(self, subjects: Any, /) -> Any:
            self.looks += 1
            if self.looks == look:
                wire.put(LEFT)
                await anyio.sleep_forever()
            await anyio.lowlevel.checkpoint()
            return await super().get_revocations(subjects)

        async def take_slot(self, slot: Any, /, **more: Any) -> Any:
            await self.get_revocations([])
            return await super().take_slot(slot, **more)

    app, wire, store, seen = App(), Wire(), Hangs(), list[Event]()
    revocations = Revocations(store)
    revocations._here.set(_Deaf())
    auth = authenticator(Knows(a=ALICE), revocations=revocations, observers=[seen.append])
    door = WebSocketAuthMiddleware(app, auth, connection_limit=ConnectionLimit(1, store))
    if look == 3:  # the slot comes from elsewhere, and then the revocations are looked up
        monkeypatch.setattr(ConnectionLimit, "counts_in", lambda *_: False)
    with anyio.fail_after(5):
        await door(websocket("token=a"), wire.receive, wire.send)
    assert not app.calls
    assert [type(event) for event in seen] == [Abandoned]
    assert wire.sent == [{"type": "websocket.close"}]
    assert wire.waiting == 0
    assert slots_of(store) == {}


class _Deaf:
    """What looks after sockets, without a listener that would look things up in between."""

    def __init__(self) -> None:
        self.sockets: dict[Any, None] = {}


async def test_a_client_that_left_before_the_second_wait() -> None:
    """The watch has ended by then, so the wait is told at once."""

    class Hangs(MemoryStore):
        async def take_slot(self, slot: Any, /, **more: Any) -> Any:
            return await anyio.sleep_forever()

    async def leaves_meanwhile(credential: Credential, conn: HTTPConnection) -> Principal:
        wire.put(LEFT)
        with anyio.CancelScope(shield=True):
            await settled()
        return ALICE

    app, wire = App(), Wire()
    door = WebSocketAuthMiddleware(
        app, authenticator(leaves_meanwhile), connection_limit=ConnectionLimit(1, Hangs())
    )
    with anyio.fail_after(5):
        await door(websocket("token=a"), wire.receive, wire.send)
    assert not app.calls
    assert wire.sent == [{"type": "websocket.close"}]


# The credential in the first message


async def test_the_app_sees_an_ordinary_connect() -> None:
    app = Seat()
    door = Door(app)
    async with running(door, "x=1", hello(), text("one"), text("two")) as wire:
        await until(lambda: len(app.got) == 3)
        await app.send(said("back"))
        wire.put(LEFT)
    assert app.got == [CONNECT, text("one"), text("two"), LEFT]
    assert wire.sent == [
        {"type": "websocket.accept", "subprotocol": None, "headers": []},
        said("back"),
    ]
    assert app.scope["user"].identity == "alice"
    assert app.scope["query_string"] == b"x=1"
    assert door.told == [Admitted, Closed]
    assert door.events[0].fingerprint == Credential("a").fingerprint


async def test_the_app_accepts_once_and_a_second_time_is_the_servers_affair() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == CONNECT
        for _ in range(2):
            await send({**ACCEPT, "subprotocol": "other"})
        await send(CLOSE)

    async with running(Door(app), "", hello()) as wire:
        pass
    assert wire.kinds == ["accept", "accept", "close"]


@cases(
    ("offered", "subprotocol", "answered"),
    [
        ([], "chat", None),
        (["voice", "chat"], "chat", "chat"),
        (["voice"], "chat", None),
        (["voice"], None, None),
    ],
)
async def test_the_app_is_told_what_was_accepted(
    offered: list[str], subprotocol: str | None, answered: str | None
) -> None:
    """So that it chooses nothing else, and tries no answer that comes too late."""
    app = Seat()
    door = Door(app, FirstMessage(subprotocol=subprotocol))
    more = {"subprotocols": offered, "extensions": {"websocket.http.response": {}, "other": {}}}
    async with running(door, "", hello(), LEFT, **more) as wire:
        pass
    assert wire.sent[0]["subprotocol"] == answered
    assert app.scope["subprotocols"] == ([answered] if answered else [])
    assert app.scope["extensions"] == {"other": {}}


async def test_where_a_credential_came_along_no_message_is_waited_for() -> None:
    for query, handshake in (("token=a", {}), ("token=b", {}), ("token=a&token=a", {})):
        app = App()
        door = Door(app)
        outcome = await drive(door, websocket(query, **handshake))
        assert bool(app.calls) is (query == "token=a")
        assert outcome.received == 1


async def test_a_cookie_is_a_credential_too() -> None:
    app = App()
    sources = [Cookie("session"), FirstMessage()]
    origin = ("origin", "https://chat.example")
    door = Door(app, sources=sources, allowed_origins=[origin[1]])
    await drive(door, websocket(headers=[("cookie", "session=a"), origin]))
    assert app.scope["user"].identity == "alice"


@cases(
    ("message", "reason"),
    [
        (hello("b"), Reason.INVALID),
        (hello(""), Reason.MALFORMED),
        (hello("ä"), Reason.MALFORMED),
        (hello("x" * 9_000), Reason.MALFORMED),
        (hello("x" * 20_000), Reason.MALFORMED),
        (hello(None), Reason.MALFORMED),
        (text("hello"), Reason.MALFORMED),
        ({"type": "websocket.receive", "bytes": b'{"type":"auth","token":"a"}'}, Reason.MALFORMED),
        ({"type": "websocket.receive", "text": None, "bytes": b""}, Reason.MALFORMED),
    ],
)
@cases("rejection", ["accept_then_close", "http_response", "close"])
async def test_a_message_that_is_refused_closes_the_socket(
    message: Any, reason: Reason, rejection: str
) -> None:
    app = App()
    door = Door(app, rejection=rejection)
    async with running(door, "", message, text("behind it")) as wire:
        pass
    assert wire.kinds == ["accept", "close"]
    assert wire.close == (reason.close_code, reason.phrase)
    assert not app.calls
    (event,) = door.events
    assert isinstance(event, Refused)
    assert event.reason is reason
    assert "xxx" not in repr(event)


async def test_a_client_that_says_nothing_is_missing() -> None:
    app = App()
    async with running(Door(app, FirstMessage(timeout=0.01)), "") as wire:
        pass
    assert wire.kinds == ["accept", "close"]
    assert wire.close == (1008, "token_missing")
    assert not app.calls
    assert wire.journal[0] == "receive ended"  # so Granian sends the close


@cases("when", ["before the connect", "before its message", "while it is accepted"])
async def test_a_client_that_leaves_instead(when: str) -> None:
    class Gone(Wire):
        async def send(self, message: dict[str, Any]) -> None:
            if "accepted" in when and message["type"] == "websocket.accept":
                raise OSError("gone")
            await super().send(message)

    app, wire = App(), Gone(LEFT)
    if when == "before the connect":
        wire._messages.popleft()
    door = Door(app)
    await door(websocket(), wire.receive, wire.send)
    assert not app.calls
    assert door.told == [Abandoned]
    assert wire.kinds == (["accept", "close"] if when == "before its message" else ["close"])


async def test_a_receive_that_raises_is_a_client_that_left() -> None:
    messages = iter([CONNECT])

    async def receive() -> Any:
        for message in messages:
            return message
        raise RuntimeError("no such connection")

    app = App()
    door = Door(app)
    await drive(door, websocket(), receive=receive)
    assert not app.calls
    assert door.told == [Abandoned]


@cases("when", ["says it twice", "leaves"])
async def test_while_its_message_is_verified_the_client_is_heard(when: str) -> None:
    asked = anyio.Event()
    proceed = anyio.Event()

    async def verifier(credential: Credential, conn: HTTPConnection) -> Principal:
        asked.set()
        await proceed.wait()
        return ALICE

    app = Seat()
    door = Door(app, verifier=verifier)
    early = text("early")
    async with running(door, "", hello()) as wire:
        await asked.wait()
        await until(lambda: wire.waiting)
        wire.put(LEFT if when == "leaves" else early)
        await settled()
        proceed.set()
        wire.put(LEFT)
    if when == "leaves":
        assert app.got == []
        assert door.told == [Abandoned]
    else:
        assert app.got == [CONNECT, early, LEFT]


async def test_no_more_than_so_many_wait() -> None:
    """Nor does one that is refused because of it take anybody else's place."""
    source = FirstMessage(max_waiting=2)
    app = App()
    door = Door(app, source)
    wires = [Wire() for _ in range(4)]
    async with anyio.create_task_group() as group:
        for number, wire in enumerate(wires):
            group.start_soon(door.middleware, websocket(), wire.receive, wire.send)
            await until(lambda: wire.sent if number < 2 else wire.close)  # noqa: B023 - at once
        assert [wire.close for wire in wires] == [None, None, *[(1013, "too_many_connections")] * 2]
        assert source.number_waiting == 2
        for wire in wires:
            wire.put(hello())
        await until(lambda: len(app.calls) == 2)
    assert source.number_waiting == 0


@cases(
    ("options", "handshake", "reason", "why"),
    [
        (
            {"allowed_origins": ["https://a.example"]},
            {"headers": [("origin", "null")]},
            Reason.ORIGIN,
            "not among allowed_origins",
        ),
        (
            {"required": False},
            {"client": ("192.0.2.7", 5)},
            Reason.FORBIDDEN,
            "authentication is off, and 192.0.2.7 is outside no_auth_networks",
        ),
        ({"required": lambda: 1 / 0}, {}, Reason.ERROR, "the decision: ZeroDivisionError"),
    ],
)
async def test_who_is_refused_in_any_case_is_not_asked(
    options: dict[str, Any], handshake: dict[str, Any], reason: Reason, why: str
) -> None:
    door = Door(App(), rejection="close", **options)
    outcome = await drive(door, websocket(**handshake))
    assert [message["type"] for message in outcome.sent] == ["websocket.close"]
    assert outcome.close == (reason.close_code, reason.phrase)
    (event,) = door.events
    assert isinstance(event, Refused)
    assert event.detail == why


@cases("headers", [[], [("origin", "https://a.example")]], ids=["a program", "an allowed page"])
async def test_where_origins_are_named_these_are_asked(headers: list[tuple[str, str]]) -> None:
    app = App()
    door = Door(app, allowed_origins=["https://a.example"])
    async with running(door, "", hello(), headers=headers):
        pass
    assert app.scope["user"].identity == "alice"


async def test_who_is_locked_out_is_not_asked() -> None:
    throttle = FailureThrottle("2/minute")
    door = Door(App(), rejection="close", throttle=throttle)
    for message in (hello("b"), text("rubbish")):  # INVALID and MALFORMED
        async with running(door, "", message) as wire:
            pass
        assert wire.kinds == ["accept", "close"]
    async with running(door, "") as wire:
        pass
    assert wire.sent == [{"type": "websocket.close", "code": 1013, "reason": "too_many_failures"}]


async def test_where_authentication_is_off_nobody_is_asked() -> None:
    app = App()
    await drive(Door(app, required=False), websocket())
    assert app.scope["user"].identity == "local"


async def test_inside_another_instance_what_that_one_was_told_counts() -> None:
    app = App()
    inner = Door(app, sources=[FirstMessage()])
    async with running(Door(inner), "", hello()) as wire:
        pass
    assert app.scope["user"].identity == "alice"
    assert wire.kinds == ["accept"]


async def test_a_source_in_the_handshake_that_can_not_be_read_is_judged_first() -> None:
    door = Door(App(), sources=[Subprotocol(), FirstMessage()])
    outcome = await drive(door, websocket(subprotocols=["bearer", "a", "bearer", "b"]))
    assert outcome.close == (1008, "token_malformed")
    assert outcome.received == 1


async def test_it_is_in_no_event_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def chatty(credential: Credential, conn: HTTPConnection) -> Principal | None:
        raise ValueError(f"at {credential.value}")

    door = Door(App(), verifier=chatty)
    async with running(door, "", hello("s3cr3t-value")):
        pass
    assert "s3cr3t" not in repr(door.events)
    assert "[redacted]" in repr(door.events)


async def test_over_http_it_finds_nothing() -> None:
    from asgi_wsauth import HTTPAuthMiddleware

    scope = {**websocket(), "type": "http", "method": "GET"}
    door = HTTPAuthMiddleware(App(), authenticator(Knows(a=ALICE), sources=[FirstMessage()]))
    outcome = await drive(door, scope)
    assert outcome.sent[0]["status"] == 401
    scope = {**websocket(headers=bearer("a")), "type": "http", "method": "GET"}
    assert (await drive(door, scope)).sent[0]["status"] == 401


async def test_the_clock_of_the_message_is_not_that_of_the_credential() -> None:
    """A wall clock that is set makes nobody late."""
    clock, app = Clock(), App()
    door = Door(app, clock=clock)
    async with running(door, "") as wire:
        await until(lambda: wire.sent)
        clock.now += 3600
        await settled()
        wire.put(hello())
    assert app.calls
