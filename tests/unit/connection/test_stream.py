"""A stream over HTTP: which response is one, what ends it, what the client and the app are told of
that, and in which order.

What real servers and frameworks make of it is in test_wire_streams.py.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import NOW, Clock, Knows, authenticator
from http_calls import request
from insides import sockets_of
from sockets import pass_time, settled, until
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, StreamingResponse

from asgi_wsauth import (
    Admitted,
    Closed,
    Denied,
    Event,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    Reason,
    Revocations,
    StreamClosed,
)
from asgi_wsauth.connection import endable
from asgi_wsauth.loops.timers import timers

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

START = {"type": "http.response.start", "status": 200, "headers": []}
EVENTS = {**START, "headers": [(b"x-a", b"b"), (b"content-type", b"text/event-stream")]}
LAST = {"type": "http.response.body", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}


def body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


class Line:
    """The server's `receive` and `send`, and the client behind them, which stays until it leaves.

    Attributes:
        sent: all messages that were sent to the client.
        waiting: how many receives are pending.
        sending: how many sends are.
    """

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.waiting = self.sending = 0
        self.hold = anyio.Event()  # what a send waits for
        self.hold.set()
        self._messages: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]
        self._some = anyio.Event()

    def leave(self) -> None:
        self._messages.append(GONE)
        self._some.set()

    async def receive(self) -> dict[str, Any]:
        self.waiting += 1
        try:
            while not self._messages:
                await self._some.wait()
        finally:
            self.waiting -= 1
        return self._messages.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        if not self.hold.is_set():
            self.sending += 1
            try:
                await self.hold.wait()
            finally:
                self.sending -= 1
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        """What the client got."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def is_complete(self) -> bool:
        """Whether it knows that this is all. Nothing may come behind that."""
        ends = [m["type"].endswith("body") and not m.get("more_body") for m in self.sent]
        assert True not in ends[:-1], self.sent
        return ends[-1:] == [True]


class Door:
    """A middleware with all of its parts, for principals by their credentials."""

    def __init__(self, app: Any, auth: dict[str, Any] | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.store = MemoryStore(clock=self.clock)
        self.revocations = Revocations(self.store, clock=self.clock)
        knows = Knows(a=Principal("alice", expires_at=NOW + 100), key=Principal("key"))
        parts = {"revocations": self.revocations, "observers": [self.events.append]}
        self.auth = authenticator(knows, clock=self.clock, **{**parts, **(auth or {})})
        self.middleware = HTTPAuthMiddleware(app, self.auth, **options)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.middleware(scope, receive, send)

    def pass_time(self, seconds: float) -> None:
        pass_time(self.clock, seconds)

    @property
    def ended(self) -> list[Reason | None]:
        """For what reasons streams were ended."""
        return [event.reason for event in self.events if isinstance(event, Closed)]

    @property
    def left_over(self) -> list[Any]:
        """What still waits for the end of a stream."""
        return [
            *sockets_of(self.revocations),
            *(["timer"] if len(timers(self.clock)) or len(timers(anyio.current_time)) else []),
        ]


@asynccontextmanager
async def running(door: Any, query: str = "token=a", **more: Any) -> AsyncIterator[Line]:
    """A request. Its app has an hour to end after the test, which passes at once."""
    line = Line()
    async with anyio.create_task_group() as group:
        group.start_soon(door, request(query=query, **more), line.receive, line.send)
        yield line
        group.cancel_scope.deadline = anyio.current_time() + 3600
    assert not group.cancel_scope.cancelled_caught, "the app did not end"
    assert line.waiting == 0


async def expires(door: Door) -> None:
    door.pass_time(101)


async def is_revoked(door: Door) -> None:
    await door.revocations.revoke_user("alice")


ENDS = [(expires, Reason.EXPIRED), (is_revoked, Reason.REVOKED)]


# Apps that stream


async def sends(scope: Any, receive: Any, send: Any) -> None:
    await send(dict(START))
    await send(body(b"one "))
    while True:
        await anyio.sleep(0.1)
        await send(body(b"more "))


async def sends_nothing_yet(scope: Any, receive: Any, send: Any) -> None:
    await send(dict(EVENTS))
    with suppress(TimeoutError), anyio.fail_after(1000):
        await anyio.sleep_forever()
    raise AssertionError("it was not cancelled")


async def listens(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()) == GONE:
        raise AssertionError("too early")
    await send(dict(START))
    await send(body(b"one "))
    assert await receive() == GONE
    assert await receive() == GONE
    with pytest.raises(OSError, match="the stream was ended: token_"):
        await send(body(b"two "))


async def listened_before(scope: Any, receive: Any, send: Any) -> None:
    """As Starlette does for servers that are older than ASGI 2.4, and Django for all."""
    async with anyio.create_task_group() as group:

        async def until_gone() -> None:
            while await receive() != GONE:
                pass
            group.cancel_scope.cancel()

        group.start_soon(until_gone)
        await settled()
        await sends(scope, receive, send)


async def looks(scope: Any, receive: Any, send: Any) -> None:
    """Looks whether its client is there, without waiting."""
    asker = Request(scope, receive)
    await send(dict(START))
    await send(body(b"one "))
    while not await asker.is_disconnected():  # noqa: ASYNC110 - as apps do
        await anyio.sleep(0.1)


async def starlettes(scope: Any, receive: Any, send: Any) -> None:
    async def lines() -> AsyncIterator[bytes]:
        yield b"one "
        while True:
            await anyio.sleep(0.1)
            yield b"more "

    async with aclosing(lines()) as stream:
        await StreamingResponse(stream)(scope, receive, send)


STREAMING = [sends, sends_nothing_yet, listens, listened_before, looks, starlettes]


@cases("version", ["2.1", "2.4"])
@cases("app", STREAMING, ids=lambda app: app.__name__)
@cases(("end", "reason"), ENDS, ids=["expires", "revoked"])
async def test_whatever_the_app_does_its_stream_ends_properly(
    app: Any, end: Any, reason: Reason, version: str
) -> None:
    door = Door(app, grace=2)
    async with running(door, asgi={"version": "3.0", "spec_version": version}) as line:
        await until(lambda: line.body or app is sends_nothing_yet)
        await settled()
        assert not line.is_complete
        await end(door)
        await until(lambda: line.is_complete)
        assert not door.ended  # that is told when the app is done
    assert line.body.startswith(b"" if app is sends_nothing_yet else b"one ")
    assert door.ended == [reason]
    assert [type(event) for event in door.events] == [Admitted, Closed]
    assert (door.events[-1].protocol, door.events[-1].identity) == ("http", "alice")
    assert door.left_over == []


async def test_it_ends_when_the_time_has_passed_and_not_before() -> None:
    door = Door(sends)
    async with running(door) as line:
        await until(lambda: line.body)
        door.pass_time(99)
        await anyio.sleep(1)
        assert not line.is_complete
        door.pass_time(2)
        await until(lambda: line.is_complete)


# What is no stream


async def answers(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await PlainTextResponse("hello")(scope, receive, send)


async def answers_in_two_pieces(scope: Any, receive: Any, send: Any) -> None:
    await send({**START, "headers": iter([(b"content-type", b"text/event-stream")])})
    await send({"type": "http.response.body", "body": b"hello"})


async def answers_with_a_file(scope: Any, receive: Any, send: Any) -> None:
    await send({**START, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.pathsend", "path": "/hello"})


@cases("app", [answers, answers_in_two_pieces, answers_with_a_file])
@cases("goes_on", [False, True])
async def test_for_a_response_in_one_piece_nothing_is_set_up(
    app: Any, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError

    async def and_then(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        if goes_on:
            await anyio.sleep(1000)  # a background task

    door = Door(and_then)
    monkeypatch.setattr(door.revocations, "register", fail)
    monkeypatch.setattr(endable.Endable, "__init__", fail)
    async with running(door) as line:
        await until(lambda: len(line.sent) == 2)
        assert door.left_over == []
        await expires(door)
        await is_revoked(door)
    assert door.ended == []


async def test_who_waits_for_the_client_to_leave_before_it_answers_is_no_stream() -> None:
    """As Django does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await settled()
            await PlainTextResponse("hello")(scope, receive, send)
            assert door.left_over == []
            group.cancel_scope.cancel()

    door = Door(app)
    async with running(door) as line:
        pass
    assert (line.body, line.is_complete, door.ended) == (b"hello", True, [])


@cases("end", [expires, is_revoked])
async def test_what_an_app_does_after_a_stream_needs_no_login(end: Any) -> None:
    done: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(dict(EVENTS))
        await send(body(b"one "))
        await send(body(b"two", more=False))
        await anyio.sleep(100)
        done.append(True)

    door = Door(app)
    async with running(door) as line:
        await until(lambda: line.is_complete)
        assert door.left_over == []
        await end(door)
        await settled()
    assert (line.body, done, door.ended) == (b"one two", [True], [])


async def test_an_end_that_comes_with_the_last_body_is_none() -> None:
    """A revocation is judged for a list of streams that was made before."""
    taken: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(dict(EVENTS))
        taken.extend(sockets_of(door.revocations))
        await send(body(b"all", more=False))
        taken[0].end(Denied(Reason.REVOKED))
        await anyio.sleep(100)

    door = Door(app)
    async with running(door) as line:
        pass
    assert (line.body, door.ended) == (b"all", [])


@cases(
    ("auth", "options", "query"),
    [
        ({"revocations": None}, {"enforce_expiry": False}, "token=a"),
        ({"revocations": None}, {}, "token=key"),
        ({"required": False}, {}, ""),
    ],
    ids=["no expiry", "never expires", "login is off"],
)
async def test_where_nothing_can_end_it_the_app_gets_the_servers_own_objects(
    auth: dict[str, Any], options: dict[str, Any], query: str
) -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.extend((receive, send))

    line = Line()
    scope = request(query=query, client=("127.0.0.1", 1))
    await Door(app, auth, **options)(scope, line.receive, line.send)
    assert got == [line.receive, line.send]


async def test_without_revocations_it_expires_still() -> None:
    door = Door(sends, {"revocations": None})
    async with running(door) as line:
        await until(lambda: line.body)
        await expires(door)
    assert door.ended == [Reason.EXPIRED]


@cases("options", [{}, {"enforce_expiry": False}])
@cases("query", ["token=a", "token=key"])
async def test_at_its_greatest_age_it_ends(query: str, options: Any) -> None:
    door = Door(sends, {"revocations": None}, max_age=50, **options)
    async with running(door, query) as line:
        await until(lambda: line.body)
        door.pass_time(49)
        await settled()
        assert not line.is_complete
        door.pass_time(2)
    assert door.ended == [Reason.EXPIRED]


@cases("revoke", ["revoke_everybody", "block_user", "revoke_session", "with time to renew"])
async def test_however_it_is_revoked_it_ends_at_once(revoke: str) -> None:
    door = Door(sends)
    door.auth.verifiers = [Knows(a=Principal("alice", session_id="s", issued_at=NOW - 5))]
    async with running(door) as line:
        await until(lambda: line.body)
        if revoke == "revoke_everybody":
            await door.revocations.revoke_everybody()
        elif revoke == "block_user":
            await door.revocations.block_user("alice", NOW + 100)
        elif revoke == "revoke_session":
            await door.revocations.revoke_session("s")
        else:  # nobody can renew a stream
            await door.revocations.revoke_user("alice", renew_within=30)
    assert line.is_complete
    assert door.ended == [Reason.REVOKED]


async def test_without_expiry_a_revocation_ends_it_still() -> None:
    door = Door(sends, enforce_expiry=False)
    async with running(door) as line:
        await until(lambda: line.body)
        door.pass_time(1000)
        await anyio.sleep(1)
        assert not line.is_complete
        await is_revoked(door)
    assert door.ended == [Reason.REVOKED]


async def test_inside_the_same_authenticator_the_outer_one_ends_it() -> None:
    door = Door(sends)
    door.middleware = HTTPAuthMiddleware(HTTPAuthMiddleware(sends, door.auth), door.auth)
    async with running(door) as line:
        await until(lambda: line.body)
        await is_revoked(door)
    assert line.is_complete
    assert door.ended == [Reason.REVOKED]


async def test_inside_another_authenticator_each_of_them_may_end_it() -> None:
    for number in (0, 1):
        inner = Door(sends)
        doors = [Door(inner), inner]
        async with running(doors[0]) as line:
            await until(lambda: line.body)
            await is_revoked(doors[number])
        assert line.is_complete
        assert doors[number].ended == [Reason.REVOKED]
        assert [door.left_over for door in doors] == [[], []]


async def test_what_is_sent_when_the_app_is_over_is_the_servers() -> None:
    """By a task that it has left behind."""
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(send)

    door = Door(app)
    async with running(door) as line:
        await until(lambda: kept)
        await settled()
        await kept[0](dict(START))
        await kept[0](body(b"late"))
    assert (line.body, door.ended, door.left_over) == (b"late", [], [])


# When it is known for a stream


@cases("start", [START, EVENTS], ids=["a body", "events"])
@cases("end", ["expires", "is revoked", "while it is looked up"])
async def test_what_ends_before_it_is_a_stream_ends_it_at_once(start: Any, end: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if end == "expires":
            await expires(door)
        elif end == "is revoked":
            await is_revoked(door)
        await send(dict(start))
        await send(body(b"not for you"))

    class Slow(MemoryStore):
        async def get_revocations(self, subjects: Any) -> Any:
            found = await super().get_revocations(subjects)
            if end == "while it is looked up" and sockets_of(door.revocations):
                sockets_of(door.revocations)[0].end(Denied(Reason.REVOKED))  # as when that is heard
            return found

    door = Door(app)
    door.revocations = Revocations(Slow(clock=door.clock), clock=door.clock)
    door.auth.revocations = door.revocations
    async with running(door) as line:
        pass
    reason = Reason.EXPIRED if end == "expires" else Reason.REVOKED
    assert door.ended == [reason]
    assert line.is_complete
    if start is EVENTS:  # nothing was said, so the client is told why
        assert line.sent[0]["status"] == 401
        assert json.loads(line.body) == {"error": reason.phrase}
    else:
        assert line.body == b""


async def test_a_store_that_fails_then_lets_nobody_stream() -> None:
    class Fails(MemoryStore):
        async def get_revocations(self, subjects: Any) -> Any:
            if sockets_of(door.revocations):
                raise ConnectionError
            return await super().get_revocations(subjects)

    door = Door(sends)
    door.auth.revocations = door.revocations = Revocations(Fails(clock=door.clock))
    async with running(door) as line:
        pass
    assert (line.body, line.is_complete) == (b"", True)
    assert door.ended == [Reason.UNAVAILABLE]


# How it ends


async def test_trailers_that_were_promised_are_sent() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**EVENTS, "trailers": True})
        await send(body(b"one "))
        await anyio.sleep_forever()

    door = Door(app)
    async with running(door) as line:
        await until(lambda: line.body)
        await is_revoked(door)
    trailers = {"type": "http.response.trailers", "headers": [], "more_trailers": False}
    assert line.sent[-2:] == [LAST, trailers]


async def test_a_body_on_its_way_arrives_before_the_end() -> None:
    door = Door(sends)
    async with running(door) as line:
        await until(lambda: line.body)
        line.hold = anyio.Event()
        await anyio.sleep(0.2)
        await is_revoked(door)
        await settled()
        assert (line.is_complete, line.sending) == (False, 1)
        line.hold.set()
    assert (line.body, line.is_complete) == (b"one more ", True)


async def test_the_end_waits_for_each_of_two_bodies_on_their_way() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(dict(START))
        async with anyio.create_task_group() as group:
            for data in arrived:
                group.start_soon(send, body(data))

    async def send(message: Any) -> None:
        if message.get("body") in arrived:
            await arrived[message["body"]].wait()
        await line.send(message)

    arrived = {b"one ": anyio.Event(), b"two ": anyio.Event()}
    door, line = Door(app), Line()
    async with anyio.create_task_group() as group:
        group.start_soon(door, request(query="token=a"), line.receive, send)
        await settled()
        await is_revoked(door)
        for event in arrived.values():
            await settled()
            assert not line.is_complete
            event.set()
    assert (line.body, line.is_complete) == (b"one two ", True)


async def test_the_app_is_told_when_the_client_was() -> None:
    """Who waited for that before it was a stream, and who only looks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def wait() -> None:
            assert await receive() == GONE
            told.append(line.is_complete)

        await receive()
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await settled()
            await send(dict(START))
            await send(body(b"one "))
        told.append(await Request(scope, receive).is_disconnected())

    told: list[bool] = []
    door = Door(app)
    async with running(door) as line:
        await until(lambda: line.body)
        await is_revoked(door)
    assert told == [True, True]


async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    door = Door(sends, grace=5)
    since = anyio.current_time()
    async with running(door) as line:
        await until(lambda: line.body)
        line.hold = anyio.Event()
        await anyio.sleep(0.2)
        await is_revoked(door)
    assert (line.is_complete, line.sending) == (False, 0)
    assert door.ended == [Reason.REVOKED]
    assert anyio.current_time() - since < 9
    assert door.left_over == []


async def test_a_server_that_cannot_end_it_is_left_to_cut() -> None:
    """Where a Content-Length said more."""

    async def send(message: Any) -> None:
        if message == LAST:
            raise RuntimeError("Response content shorter than Content-Length")
        await line.send(message)

    door = Door(sends)
    line = Line()
    async with anyio.create_task_group() as group:
        group.start_soon(door, request(query="token=a"), line.receive, send)
        await until(lambda: line.body)
        await is_revoked(door)
    assert not line.is_complete


async def test_after_its_grace_an_app_that_still_runs_is_cancelled() -> None:
    times: list[float] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(dict(EVENTS))
        try:
            await anyio.sleep_forever()
        finally:
            times.append(anyio.current_time())

    door = Door(app, grace=7)
    async with running(door) as line:
        await until(lambda: line.sent)
        times.append(anyio.current_time())
        await is_revoked(door)
        await anyio.sleep(5)
        assert line.is_complete
    began, cancelled = times
    assert 7 <= cancelled - began < 9


def caused_by(*errors: Exception, group: bool = False) -> Exception:
    """As Litestar raises it, whose streams run in task groups."""
    error = RuntimeError("Exception caught after response started")
    error.__cause__ = ExceptionGroup("of a task group", errors) if group else errors[0]
    return error


TELLING = {
    "ours": StreamClosed(),
    "Starlette's": ClientDisconnect(),
    "a group": ExceptionGroup("", [StreamClosed(), ClientDisconnect()]),
    "a cause": caused_by(StreamClosed()),
    "Litestar's": caused_by(StreamClosed(), group=True),
}


async def raised_by(app: Any) -> list[Exception]:
    """What comes out of the middleware from an app whose stream is revoked."""
    door = Door(app)
    line = Line()
    raised: list[Exception] = []

    async def run() -> None:
        try:
            await door(request(query="token=a"), line.receive, line.send)
        except Exception as exc:
            raised.append(exc)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(lambda: line.sent)
        await is_revoked(door)
    return raised


@cases("error", TELLING.values(), ids=TELLING)
@cases("ended", [True, False])
async def test_an_error_that_only_tells_of_the_end_is_none(error: Exception, ended: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(dict(EVENTS))
        while ended and await receive() != GONE:
            pass
        raise error

    assert await raised_by(app) == ([] if ended else [error])


@cases("error", [LookupError(), caused_by(StreamClosed(), LookupError(), group=True)])
async def test_any_other_error_is_raised(error: Exception) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(dict(EVENTS))
        while await receive() != GONE:
            pass
        raise error

    assert await raised_by(app) == [error]


async def test_an_app_that_raises_before_it_streams_leaves_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    door = Door(app)
    line = Line()
    with pytest.raises(LookupError):
        await door(request(query="token=a"), line.receive, line.send)
    assert door.left_over == []


async def test_a_client_that_left_before_is_told_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while await receive() != GONE:
            pass
        await send(dict(START))
        await send(body(b"to nobody"))
        await send(body(b"", more=False))

    door = Door(app)
    async with running(door) as line:
        line.leave()
    assert line.body == b"to nobody"
    assert (door.ended, door.left_over) == ([], [])


def test_the_error_is_an_oserror_of_the_package() -> None:
    assert issubclass(StreamClosed, OSError)
    assert f"{StreamClosed.__module__}.{StreamClosed.__qualname__}" == "asgi_wsauth.StreamClosed"
