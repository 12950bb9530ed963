"""Every order of what can happen to a live socket, as random programs.

Whatever the order: one close at most, nothing behind it, the right code where the middleware was
the first, and at the end no timer, no slot, no registered socket and no task.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from handshakes import CONNECT, NOW, Clock, Knows, authenticator, websocket
from hypothesis import example, given
from hypothesis import strategies as st
from insides import slots_here
from sockets import ACCEPT, CLOSE, LEFT, left_over, pass_time, said, text, until
from strategies import examples

from asgi_wsauth import (
    Admitted,
    Closed,
    ConnectionLimit,
    Denied,
    Event,
    MemoryStore,
    Principal,
    Reason,
    Revocations,
    WebSocketAuthMiddleware,
)

pytestmark = pytest.mark.slow

TELL = "auth.refresh"
HTTP = "websocket.http.response"
LASTING = ("Listener._run", "Timers._run")  # one for each event loop, whatever there is to do


class Server:
    """The server's half of one socket: takes what is sent, one step at a time, and complains of
    what no server would take."""

    def __init__(self, clock: Clock, slowness: int) -> None:
        self.sent: list[dict[str, Any]] = []
        self.left = False
        self._clock = clock
        self._slowness = slowness  # turns of the event loop for each message
        self._accepting = False
        self._told = False  # that the client has left
        self._messages = deque([CONNECT])
        self._some = anyio.Event()

    def put(self, message: dict[str, Any]) -> None:
        if not self.left:
            self.left = message is LEFT
            self._messages.append(message)
            self._some.set()

    async def receive(self) -> dict[str, Any]:
        while not self._messages:
            self._some = anyio.Event()
            await self._some.wait()
        if self._messages[0] is LEFT:
            self._told = True
            return LEFT
        return self._messages.popleft()

    async def send(self, message: dict[str, Any]) -> None:
        if self._told:
            raise OSError("nobody is there")
        kinds = [kind["type"].removeprefix("websocket.") for kind in self.sent]
        kind = message["type"].removeprefix("websocket.")
        self.sent.append(message)
        assert not self._accepting, f"{kind} while the accept is on its way"
        assert "close" not in kinds, f"{kind} behind a close"
        if kind == "accept":
            assert kinds == []
        elif kind == "send":
            assert kinds[:1] == ["accept"]
        elif kind.startswith("http"):
            assert "accept" not in kinds
        self._accepting = kind == "accept"
        try:
            for _ in range(self._slowness):
                await anyio.lowlevel.checkpoint()
        finally:
            self._accepting = False

    @property
    def close(self) -> dict[str, Any] | None:
        return next((m for m in self.sent if m["type"] == "websocket.close"), None)

    @property
    def answered_with_http(self) -> bool:
        return any(message["type"].startswith(HTTP) for message in self.sent)


class Bug(Exception):
    """The app's own."""


class Steered:
    """An app that does what it is told, in an order that an app may choose."""

    def __init__(self) -> None:
        self.told: deque[str] = deque()
        self.some = anyio.Event()
        self.got: list[dict[str, Any]] = []
        self.accepts = self.closes = self.heard = self.raised = False

    def tell(self, what: str) -> None:
        self.told.append(what)
        self.some.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        session = scope["wsauth"]

        async def take() -> None:
            self.got.append(await receive())
            self.heard |= self.got[-1]["type"] == "websocket.disconnect"

        async def refresh() -> None:
            with suppress(Denied):
                await session.refresh("b")

        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "sends": lambda: send(said("x")),
            "relays": lambda: send(said(f'{{"type": "{TELL}.due", "expires_at": 0}}')),
            "closes": lambda: send(CLOSE),
            "closes its session": lambda: session.close(Reason.FORBIDDEN),
            "refreshes its session": refresh,
        }
        async with anyio.create_task_group() as group:
            while True:
                while not self.told:
                    self.some = anyio.Event()
                    await self.some.wait()
                what = self.told.popleft()
                try:
                    if what == "returns":
                        break
                    if what == "raises":
                        self.raised = True
                        raise Bug
                    if what == "receives":
                        group.start_soon(take)
                    elif what == "answers with HTTP" and not self.accepts and not self.closes:
                        self.closes = True
                        start = {"type": f"{HTTP}.start", "status": 404, "headers": []}
                        for message in (start, {"type": f"{HTTP}.body", "body": b""}):
                            await send(message)
                    elif what == "accepts" and not self.accepts and not self.closes:
                        self.accepts = True
                        await send(ACCEPT)
                    elif what in steps and (self.accepts or what == "closes its session"):
                        self.closes |= what == "closes"
                        await steps[what]()
                except OSError:
                    self.heard = True
            group.cancel_scope.cancel()


APP = [
    *["accepts", "receives", "sends", "relays", "closes", "answers with HTTP", "returns", "raises"],
    *["closes its session", "refreshes its session"],
]
OTHERS = [
    *["client says something", "client refreshes", "client refreshes for bob", "client leaves"],
    "client brings what it has",
    *["time passes", "expires", "is revoked", "token is revoked", "loses its slot", "is cancelled"],
]
PROGRAMS = st.lists(st.tuples(st.sampled_from(APP + OTHERS), st.integers(0, 6)), max_size=12)


async def run(
    program: list[tuple[str, int]], slowness: int, grace: float, opened: bool, waits: bool
) -> None:
    clock, events, app = Clock(), list[Event](), Steered()
    store = MemoryStore(clock=clock)
    known = {
        "a": Principal("alice", expires_at=NOW + 100, token_id="a", issued_at=NOW),
        "b": Principal("alice", expires_at=NOW + 1000, token_id="b", issued_at=NOW),
        "bob": Principal("bob", expires_at=NOW + 1000),
    }
    knows, revocations = Knows(**known), Revocations(store, clock=clock)

    async def verify(credential: Any, conn: Any) -> Any:
        for _ in range(3 * waits):
            await anyio.lowlevel.checkpoint()
        return await knows(credential, conn)

    auth = authenticator(verify, clock=clock, revocations=revocations, observers=[events.append])
    limit = ConnectionLimit(5, store, overflow="evict_oldest")
    door = WebSocketAuthMiddleware(
        app, auth, grace=grace, connection_limit=limit, refresh_message=TELL
    )
    server = Server(clock, slowness)
    scope = anyio.CancelScope()
    raised: list[Exception] = []
    done = anyio.Event()

    async def serve() -> None:
        try:
            with scope:
                await door(websocket("token=a"), server.receive, server.send)
        except Exception as exc:
            raised.append(exc)
        finally:
            done.set()

    async def happens(what: str) -> None:
        if what == "client says something":
            server.put(text("hello"))
        elif what == "client refreshes":
            server.put(text(json.dumps({"type": TELL, "token": "b"})))
        elif what == "client brings what it has":
            server.put(text(json.dumps({"type": TELL, "token": "a"})))
        elif what == "client refreshes for bob":
            server.put(text(json.dumps({"type": TELL, "token": "bob"})))
        elif what == "client leaves":
            server.put(LEFT)
        elif what == "time passes":
            pass_time(clock, 25)
        elif what == "expires":
            pass_time(clock, 1000)
        elif what == "is revoked":
            await revocations.revoke_user("alice")
        elif what == "token is revoked":
            await revocations.revoke_token("a")
        elif what == "loses its slot":
            for name in slots_here(limit):
                limit._here.get()._evict(name)
                break
        elif what == "is cancelled":
            scope.cancel()
        else:
            app.tell(what)

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        steps = [("receives", 9), ("accepts", 9)] if opened else []
        for what, turns in [*steps, *program]:
            await happens(what)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
        ended_by = {what for what, _ in program} & {"expires", "is revoked"}
        if ended_by and not scope.cancel_called and not done.is_set():
            # The app need not do anything for it.
            await until(
                lambda: (
                    done.is_set()
                    or server.close
                    or server.answered_with_http
                    or app.heard
                    or server.left
                )
            )
        server.put(LEFT)
        app.tell("returns")
        with anyio.move_on_after(5) as patience:
            await done.wait()
        assert not patience.cancelled_caught, "it did not end"

    # What the client was told is what the observers were.
    closed = [event for event in events if isinstance(event, Closed)]
    assert len(closed) == sum(isinstance(event, Admitted) for event in events)
    await until(lambda: left_over(door, clock) == [] and tasks_left() == [])
    if closed and closed[0].reason is not None:
        reason = closed[0].reason
        assert closed[0].close_code == reason.close_code
        if server.close is None:
            assert server.left  # at that moment
        else:
            told = server.close["code"], server.close["reason"]
            assert told == (reason.close_code, reason.phrase)
    elif closed and server.close is not None:
        assert server.close == CLOSE
    # Of each end the client was told once that it is due, if at all.
    words = [json.loads(m["text"]) for m in server.sent if TELL in (m.get("text") or "")]
    dues = [told["expires_at"] for told in words if told["type"] == f"{TELL}.due"]
    assert dues == sorted(set(dues))
    assert 0 not in dues  # as the app relays it
    # What the app was told fits, too.
    for message in app.got:
        if message["type"] == "websocket.disconnect" and message is not LEFT:
            assert closed[0].reason is not None
            assert message["code"] == closed[0].reason.close_code
    assert app.got[1:].count(CONNECT) == 0
    assert all(TELL not in (message.get("text") or "") for message in app.got)
    # Only the app's own errors are raised.
    assert [type(error.exceptions[0]) for error in raised] == [Bug] * len(raised)  # type: ignore[attr-defined]
    assert len(raised) <= app.raised


def tasks_left() -> list[str]:
    """The names of tasks that a socket has left behind."""
    try:
        loop_tasks = asyncio.all_tasks()
    except RuntimeError:
        import trio

        system = trio.lowlevel.current_root_task().child_nurseries  # type: ignore[union-attr]
        names = [task.name for nursery in system for task in nursery.child_tasks]
        names += [
            task.name
            for nursery in system
            for child in nursery.child_tasks
            for inner in child.child_nurseries
            for task in inner.child_tasks
        ]
    else:
        names = [task.get_coro().__qualname__ for task in loop_tasks]  # type: ignore[union-attr]
    return [
        name
        for name in names
        if "asgi_wsauth" in name or "Guard" in name or "Handshake" in name
        if not name.endswith(LASTING)
    ]


def all_orders(number: int) -> Callable[[Any], Any]:
    """Random programs, the same ones each time; and some that went wrong once."""

    def decorate(test: Any) -> Any:
        programs = given(
            PROGRAMS, st.integers(0, 4), st.sampled_from([0, 60]), st.booleans(), st.booleans()
        )
        test = programs(test)
        # The grace was forgotten where a refresh or an accept was under way.
        refreshing = [("refreshes its session", 1), ("is revoked", 9), ("receives", 0)]
        test = example(refreshing, 0, 0, True, True)(test)
        test = example([("accepts", 1), ("expires", 9)], 4, 0, False, False)(test)
        # That it is due was told again, because the client had brought what it had.
        kept = [("receives", 0), ("client brings what it has", 9)]
        due = [*[("time passes", 9)] * 2, *kept, ("time passes", 9), *kept, ("receives", 9)]
        test = example(due, 0, 60, True, False)(test)
        # The end was told of where the client had left, or the app had closed.
        test = example([("closes", 9), ("is revoked", 9)], 0, 60, True, False)(test)
        test = example([("client leaves", 9), ("expires", 9)], 0, 60, True, False)(test)
        return examples(number)(test)

    return decorate


@pytest.mark.both_loops
@all_orders(400)
def test_whatever_the_order_there_is_one_end(
    anyio_backend_name: str,
    program: list[tuple[str, int]],
    slowness: int,
    grace: float,
    opened: bool,
    waits: bool,
) -> None:
    anyio.run(run, program, slowness, grace, opened, waits, backend=anyio_backend_name)
