"""A close that reaches its client: who closes reads on until the client is gone, or a second."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import ANSWER, CONNECT, NOW, authenticator, websocket
from sockets import ACCEPT, text, until

from asgi_wsauth import (
    Admitted,
    Closed,
    Denied,
    Event,
    FirstMessage,
    MemoryStore,
    Principal,
    Reason,
    Refreshed,
    Revocations,
    SocketClosed,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.connection import closing
from asgi_wsauth.connection.closing import close, read_on
from asgi_wsauth.loops.tasks import is_trio

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

DENIED = Denied(Reason.EXPIRED)
TOLD = {"type": "websocket.close", "code": 4001, "reason": "token_expired"}


class Peer:
    """A server and its client.

    Attributes:
        said: what the client still says after the close; then it answers, if it does at all.
        journal: what happened to it, in order.
    """

    def __init__(self, *said: dict[str, Any], answers: bool = True) -> None:
        self.said = [*said, *([ANSWER] if answers else [])]
        self.journal: list[str] = []
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if not self.said:
            self.journal.append("waits")
            try:
                await anyio.sleep_forever()
            finally:
                self.journal.append("waits no more")
        self.journal.append(self.said[0]["type"].removeprefix("websocket."))
        return self.said.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self.journal.append(message["type"].removeprefix("websocket."))

    async def close(self, *first: dict[str, Any]) -> bool:
        return await close(self.receive, self.send, DENIED, 4001, *first)


async def seconds_of(work: Callable[[], Any]) -> float:
    begun = anyio.current_time()
    await work()
    return anyio.current_time() - begun


async def test_what_the_client_still_says_is_read_until_it_answers() -> None:
    peer = Peer(text("a"), text("b"))
    assert await peer.close(ACCEPT)
    assert peer.sent == [ACCEPT, TOLD]
    assert peer.journal == ["accept", "close", "receive", "receive", "disconnect"]


async def test_a_client_that_never_answers_costs_a_second() -> None:
    peer = Peer(text("a"), answers=False)
    assert 0.9 < await seconds_of(peer.close) < 3
    assert peer.journal == ["close", "receive", "waits", "waits no more"]


@pytest.mark.hurried(False)
async def test_a_client_that_talks_and_talks_costs_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing, "PATIENCE", 0.05)  # the second

    async def receive() -> dict[str, Any]:
        return text("more")  # and never lets anybody else run

    assert not await close(receive, Peer().send, DENIED, 4001)


async def test_a_server_that_says_its_own_close_is_read_from_until_the_client_answers() -> None:
    """As uvicorn, with websockets-sansio and wsproto."""
    echo = {"type": "websocket.disconnect", "code": 4001, "reason": "token_expired"}
    peer = Peer(echo, text("a"), {**echo, "code": 1005})
    assert await peer.close()
    assert peer.journal == ["close", "disconnect", "receive", "disconnect"]


async def test_a_client_that_says_too_much_is_let_go() -> None:
    peer = Peer(*[text("a" * 1024 * 1024)] * 6)
    assert not await peer.close()
    assert peer.journal == ["close", *["receive"] * 5]


@cases("error", [OSError(), RuntimeError()], ids=repr)
async def test_who_can_not_be_heard_is_gone(error: Exception) -> None:
    async def receive() -> dict[str, Any]:
        raise error

    assert await close(receive, Peer().send, DENIED, 4001)


@cases("fails", ["accept", "close"])
async def test_who_can_not_be_told_is_not_listened_to(fails: str) -> None:
    class Gone(Peer):
        async def send(self, message: dict[str, Any]) -> None:
            if message["type"].endswith(fails):
                raise OSError
            await super().send(message)

    peer = Gone(text("a"))
    assert await peer.close(ACCEPT)
    assert "receive" not in peer.journal


class Waits(Peer):
    """A server that is done with a close only when the client has answered, as uvicorn; it keeps
    one message, so that the answer is seen only by who reads."""

    def __init__(self, *said: dict[str, Any], answers: bool = True) -> None:
        super().__init__(*said, answers=answers)
        self.answered = anyio.Event()

    async def receive(self) -> dict[str, Any]:
        message = await super().receive()
        if message is ANSWER:
            self.answered.set()
        return message

    async def send(self, message: dict[str, Any]) -> None:
        await super().send(message)
        if message["type"] == "websocket.close":
            await self.answered.wait()


async def test_a_server_that_waits_for_the_answer_is_read_from_meanwhile() -> None:
    peer = Waits(text("a"), text("b"))
    assert await peer.close(ACCEPT)
    assert peer.journal == ["accept", "close", "receive", "receive", "disconnect"]


async def test_a_server_that_waits_in_vain_costs_a_second() -> None:
    peer = Waits(answers=False)
    assert 0.9 < await seconds_of(peer.close) < 3
    assert peer.journal == ["close", "waits", "waits no more"]


async def test_a_server_that_waits_for_the_answer_is_read_from_in_the_requests_context() -> None:
    """What wraps its `receive` may look there, for a log line or a span."""
    request, seen = ContextVar("request", default=0), []

    class Wrapped(Waits):
        async def receive(self) -> dict[str, Any]:
            seen.append(request.get())
            return await super().receive()

    async with anyio.create_task_group() as tasks:
        for number in (1, 2):
            request.set(number)
            tasks.start_soon(Wrapped().close)
    assert sorted(seen) == ([0, 0] if is_trio() else [1, 2])  # a task of trio's system has none


async def test_a_server_that_takes_a_moment_to_close_is_not_read_from_before() -> None:
    """As Granian, which would not send it then."""

    class Granian(Peer):
        async def send(self, message: dict[str, Any]) -> None:
            await anyio.lowlevel.checkpoint()
            await super().send(message)

    peer = Granian(text("a"))
    assert await peer.close(ACCEPT)
    assert peer.journal == ["accept", "close", "receive", "disconnect"]


class Valve:
    """Of a client that answers, or does not."""

    def __init__(self, answers: bool) -> None:
        self._answers = answers

    def shut(self) -> None: ...

    async def until_gone(self) -> None:
        await (anyio.lowlevel.checkpoint() if self._answers else anyio.sleep_forever())


@cases("server", [Peer, Waits])
@cases("answers", [True, False])
async def test_where_there_is_a_valve_it_knows_when_the_client_is_gone(
    server: type[Peer], answers: bool
) -> None:
    peer = server(text("a"))
    valve: Any = Valve(answers)
    assert await close(peer.receive, peer.send, DENIED, 4001, valve=valve) == answers
    assert peer.journal == ["close"]  # nothing is asked of the server


@cases("server", [Peer, Waits])
async def test_a_server_that_cancels_it_leaves_nobody_waiting(server: type[Peer]) -> None:
    peer = server(answers=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer.close)
        await until(lambda: "waits" in peer.journal)
        tasks.cancel_scope.cancel()
    assert peer.journal[-1] == "waits no more"


@pytest.mark.hurried
async def test_reading_on_ends_in_time() -> None:
    peer = Peer(text("a"), answers=False)
    await read_on(peer.receive, anyio.current_time() + 0.01)
    assert peer.journal == ["receive", "waits", "waits no more"]


# By whom it is closed.


async def knows_a(credential: Any, conn: Any) -> Principal | None:
    return Principal("alice") if credential.value == "a" else None


def door(app: Any, **options: Any) -> WebSocketAuthMiddleware:
    return WebSocketAuthMiddleware(app, authenticator(knows_a, **options))


async def closes_itself(scope: Any, receive: Any, send: Any) -> None:
    assert await receive() == CONNECT
    await send(ACCEPT)
    await scope["wsauth"].close(Reason.EXPIRED)


async def test_a_socket_that_nothing_guards_is_read_from_when_its_app_is_done() -> None:
    peer = Peer(CONNECT, text("a"))
    await door(closes_itself)(websocket("token=a"), peer.receive, peer.send)
    assert peer.sent == [
        ACCEPT,
        {"type": "websocket.close", "code": 4001, "reason": "token_expired"},
    ]
    assert peer.journal == ["connect", "accept", "close", "receive", "disconnect"]


async def test_a_socket_that_nothing_guards_is_left_to_an_app_that_reads_on() -> None:
    async def reads_on(scope: Any, receive: Any, send: Any) -> None:
        await closes_itself(scope, receive, send)
        while (await receive())["type"] != "websocket.disconnect":
            peer.journal.append("the app reads")
        peer.said.append(ANSWER)

    peer = Peer(CONNECT, text("a"))
    await door(reads_on)(websocket("token=a"), peer.receive, peer.send)
    assert peer.journal[2:] == ["close", "receive", "the app reads", "disconnect", "disconnect"]


async def test_a_client_that_never_answers_an_app_costs_a_second() -> None:
    peer = Waits(CONNECT, answers=False)

    async def run() -> None:
        await door(closes_itself)(websocket("token=a"), peer.receive, peer.send)

    assert 0.9 < await seconds_of(run) < 3


@cases("query", ["", "token=b"])
async def test_who_is_refused_after_a_first_message_is_read_from(query: str) -> None:
    first = text('{"type": "auth", "token": "b"}')
    peer = Peer(CONNECT, *([] if query else [first]), text("b"))
    app = door(closes_itself, sources=[*authenticator().sources, FirstMessage()])
    await app(websocket(query), peer.receive, peer.send)
    assert peer.journal[-3:] == ["close", "receive", "disconnect"]


async def test_a_connect_that_the_app_never_took_is_taken_before_the_close() -> None:
    """Behind it, it would bring down Granian's worker."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await scope["wsauth"].close(Reason.EXPIRED)
        app_got.extend([await receive(), await receive()])

    app_got: list[dict[str, Any]] = []
    peer = Peer(CONNECT, text("a"))
    guarded = door(app, revocations=Revocations(MemoryStore(), max_token_age=60))
    await guarded(websocket("token=a"), peer.receive, peer.send)
    assert peer.journal == ["accept", "connect", "close", "receive", "disconnect"]
    assert [message["type"] for message in app_got] == ["websocket.connect", ANSWER["type"]]


async def test_a_server_without_coroutines_is_not_read_from_when_the_app_has_closed() -> None:
    """As Granian, which has let go of the client by then."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        await scope["wsauth"].close(Reason.EXPIRED)

    peer = Peer(CONNECT)
    await door(app)(websocket("token=a"), lambda: peer.receive(), peer.send)
    assert peer.journal == ["accept", "close"]


# A close that the server would not send: Daphne raises for 1008, and for 1011 and 1013.


class Daphne(Peer):
    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close" and 1000 < message["code"] < 3000:
            raise ValueError(f"invalid close code {message['code']}")
        await super().send(message)


GUARDED = {"revocations": Revocations(MemoryStore(), max_token_age=60)}


async def test_an_instance_inside_a_guard_refuses_with_a_code_that_the_server_sends() -> None:
    auth = authenticator(knows_a, **GUARDED)
    inner = WebSocketAuthMiddleware(closes_itself, auth, required_scopes=["chat"])
    peer = Daphne(CONNECT, text("a"))
    await WebSocketAuthMiddleware(inner, auth)(websocket("token=a"), peer.receive, peer.send)
    assert peer.sent[1:] == [{"type": "websocket.close", "code": 3003, "reason": "forbidden"}]
    assert peer.journal[-2:] == ["receive", "disconnect"]


@cases("accepts", [True, False])
async def test_an_app_whose_close_the_server_would_not_send_is_closed_later(accepts: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if accepts:
            await send(ACCEPT)
        with pytest.raises(ValueError, match="1008"):
            await send({"type": "websocket.close", "code": 1008})
        if accepts:
            await send({"type": "websocket.send", "text": "still here"})
        await scope["wsauth"].close(Reason.EXPIRED)

    peer = Daphne(CONNECT)
    await door(app, **GUARDED)(websocket("token=a"), peer.receive, peer.send)
    assert [m["type"].removeprefix("websocket.") for m in peer.sent] == (
        ["accept", "send", "close"] if accepts else ["accept", "close"]
    )
    assert peer.sent[-1] == TOLD


async def test_an_app_whose_accept_the_server_would_not_send_is_refused_later() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(ValueError, match="subprotocol"):
            await send({**ACCEPT, "subprotocol": "never offered"})
        await scope["wsauth"].close(Reason.EXPIRED)

    class Hypercorn(Peer):
        async def send(self, message: dict[str, Any]) -> None:
            if message.get("subprotocol"):
                raise ValueError("invalid subprotocol")
            await super().send(message)

    peer = Hypercorn(CONNECT)
    await door(app, **GUARDED)(websocket("token=a"), peer.receive, peer.send)
    assert peer.sent == [{**ACCEPT, "subprotocol": None, "headers": []}, TOLD]


async def test_an_end_that_comes_while_the_apps_own_close_fails_is_told() -> None:
    class Slow(Daphne):
        async def send(self, message: dict[str, Any]) -> None:
            if message.get("code") == 1008:
                await scopes[0]["wsauth"].close(Reason.EXPIRED)
            await super().send(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await receive()
        await send(ACCEPT)
        with pytest.raises(ValueError, match="1008"):
            await send({"type": "websocket.close", "code": 1008})
        assert (await receive())["type"] == ANSWER["type"]

    scopes: list[Any] = []
    peer = Slow(CONNECT)
    await door(app, **GUARDED)(websocket("token=a"), peer.receive, peer.send)
    assert peer.sent == [ACCEPT, TOLD]


async def test_what_a_send_raises_after_the_end_has_a_name() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await scope["wsauth"].close(Reason.EXPIRED)
        with pytest.raises(SocketClosed, match="token_expired") as caught:
            await send({"type": "websocket.send", "text": "too late"})
        told.append(traceback.format_exception_only(caught.value))
        await send({"type": "websocket.close", "code": 1000})  # as Quart does in the end: no error

    told: list[list[str]] = []
    peer = Peer(CONNECT)
    await door(app, **GUARDED)(websocket("token=a"), peer.receive, peer.send)
    assert peer.sent[1:] == [TOLD]
    assert told == [["asgi_wsauth.SocketClosed: the socket was closed: token_expired\n"]]
    assert issubclass(SocketClosed, OSError)


async def test_after_a_refresh_the_end_is_told_of_the_credential_that_was_in_force() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await scope["wsauth"].refresh("b")
        fingerprints.append(scope["wsauth"].fingerprint)

    async def knows(credential: Any, conn: Any) -> Principal | None:
        return Principal("alice", expires_at=NOW + (60 if credential.value == "a" else 600))

    fingerprints: list[str] = []
    events: list[Event] = []
    auth = authenticator(knows, observers=[events.append])
    peer = Peer(CONNECT)
    await WebSocketAuthMiddleware(app, auth)(websocket("token=a"), peer.receive, peer.send)
    assert [type(event) for event in events] == [Admitted, Refreshed, Closed]
    told = [event.fingerprint for event in events]
    assert told[1:] == fingerprints * 2
    assert told[0] != told[1]
