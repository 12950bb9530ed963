"""A server by hand that takes nothing that no server would, and all that can be seen of what a
middleware does with one connection."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from asgi_wsauth import Abandoned, Admitted, Closed, Event, Refused, log_event

T = TypeVar("T")

LASTING = ("Listener._run", "Timers._run")  # one for each event loop, whatever there is to do

_loop = asyncio.new_event_loop()


def run(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop = _loop) -> T:
    """The result of `work`, on an event loop that all examples share; none of its tasks is left."""
    result = loop.run_until_complete(work)
    loop.run_until_complete(_quiet())
    return result


async def _quiet() -> None:
    for _ in range(50):
        if not tasks():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"left behind: {tasks()}")


def tasks() -> list[str]:
    """What else runs on the event loop, but what runs there for good."""
    here = asyncio.current_task()
    names = [t.get_coro().__qualname__ for t in asyncio.all_tasks() if t is not here]  # type: ignore[union-attr]
    return [name for name in names if not name.endswith(LASTING)]


class Server:
    """The server's half of one connection, with what the client sends. A close it answers.

    Attributes:
        sent: all that was sent to it.
        faults: what should not have been. It is raised, too, but a middleware may take that for a
            server that is gone.
        told: whether it has told that the client left.
    """

    def __init__(self, scope: dict[str, Any], *messages: dict[str, Any]) -> None:
        self.sent: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.told = False
        self._scope = scope
        self._messages = deque(messages)
        self._some = asyncio.Event()

    def put(self, message: dict[str, Any]) -> None:
        """The client sends this."""
        self._messages.append(message)
        self._some.set()

    async def receive(self) -> dict[str, Any]:
        while not self._messages:
            self._some.clear()
            await self._some.wait()
        if self._messages[0]["type"].endswith(".disconnect"):
            self.told = True
            return self._messages[0]
        return self._messages.popleft()

    async def send(self, message: dict[str, Any]) -> None:
        try:
            self._check(message)
        except AssertionError as exc:
            self.faults.append(f"{exc}: {message}")
            raise
        self.sent.append(message)
        if [sent["type"] for sent in self.sent[:1]] == ["websocket.accept"] and (
            message["type"] == "websocket.close"
        ):
            self.put({"type": "websocket.disconnect", "code": 1005})  # the client answers it

    def _check(self, message: dict[str, Any]) -> None:
        kinds = [kind["type"].partition(".")[2] for kind in self.sent]
        protocol, _, kind = message["type"].partition(".")
        assert protocol == ("websocket" if self._scope.get("type") == "websocket" else "http")
        before = kinds[-1] if kinds else None
        allowed = _SOCKET if protocol == "websocket" else _HTTP
        assert kind in allowed.get(before, ()), f"{kind} behind {kinds}"
        getattr(self, f"_check_{kind.rpartition('.')[2]}")(message)

    def _check_accept(self, message: dict[str, Any]) -> None:
        subprotocol = message.get("subprotocol")
        assert subprotocol is None or isinstance(subprotocol, str)
        _check_headers(message.get("headers", []))

    def _check_send(self, message: dict[str, Any]) -> None:
        data = [message.get(kind) for kind in ("text", "bytes")]
        assert data.count(None) == 1
        assert isinstance(data[0] if data[1] is None else data[1], (str, bytes))

    def _check_close(self, message: dict[str, Any]) -> None:
        code = message.get("code", 1000)
        assert type(code) is int
        assert 1000 <= code <= 4999
        assert len((message.get("reason") or "").encode()) <= 123

    def _check_start(self, message: dict[str, Any]) -> None:
        assert 200 <= message["status"] <= 599
        _check_headers(message.get("headers", []))

    def _check_body(self, message: dict[str, Any]) -> None:
        assert isinstance(message.get("body", b""), bytes)
        assert not message.get("more_body")


_SOCKET: dict[str | None, tuple[str, ...]] = {
    None: ("accept", "close", "http.response.start"),
    "accept": ("send", "close"),
    "send": ("send", "close"),
    "http.response.start": ("http.response.body",),
}
"""What may follow what; nothing follows a close, or an HTTP answer that is complete."""

_HTTP: dict[str | None, tuple[str, ...]] = {
    None: ("response.start",),
    "response.start": ("response.body",),
}


def _check_headers(headers: Any) -> None:
    for name, value in headers:
        assert isinstance(name, bytes)
        assert name == name.lower()
        assert isinstance(value, bytes)
        assert not set(value) & {0, 10, 13}


class Log(logging.Handler):
    """Takes what is logged, as lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(self.format(record))


@contextmanager
def listening() -> Iterator[Log]:
    """The package's log, while it lasts."""
    logger, log = logging.getLogger("asgi_wsauth"), Log()
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.addHandler(log)
    logger.propagate = False
    try:
        yield log
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)
        logger.propagate = propagates


@dataclass
class Seen:
    """All that can be seen of one connection.

    Attributes:
        sent: what the client was sent.
        events: what the observers were told.
        scopes: what the app got.
        lines: what was logged.
    """

    sent: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    scopes: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def kinds(self, *kinds: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def admitted(self) -> bool:
        return bool(self.kinds(Admitted))

    def check(self, *secrets: str, is_socket: bool = True) -> None:
        """What holds for every connection that is decided about.

        Args:
            secrets: what is to be found nowhere.
            is_socket: whether its end is told, too.
        """
        verdicts = self.kinds(Admitted, Refused, Abandoned)
        assert len(verdicts) == 1, self.events
        assert len(self.scopes) == self.admitted
        assert len(self.kinds(Closed)) == (self.admitted and is_socket)
        self.check_hidden(*secrets)

    def check_hidden(self, *secrets: str) -> None:
        """None of these is anywhere."""
        for line in self.lines:
            first, *traceback = line.split("\n")
            assert first.isprintable(), ascii(line)
            assert all(part.startswith("  ") and part.isprintable() for part in traceback)
        self._check_hidden_in({"sent": self.sent, "scope": self.scopes}, secrets)
        self.check_hidden_but_sent(*secrets)

    def check_hidden_but_sent(self, *secrets: str) -> None:
        """No observer and no log has any of these."""
        self._check_hidden_in({"events": self.events, "log": self.lines}, secrets)

    def _check_hidden_in(self, places: dict[str, Any], secrets: tuple[str, ...]) -> None:
        for name, place in places.items():
            said = everything(place)
            for secret in secrets:
                assert secret not in said, f"{secret!a} in {name}: {said!a}"


def everything(thing: Any) -> str:
    """The repr of a thing, and of what the reprs in it hide."""
    if isinstance(thing, dict):
        return "".join(map(everything, [x for pair in thing.items() for x in pair]))
    if isinstance(thing, (list, tuple, set)):
        return "".join(map(everything, thing))
    if isinstance(thing, bytes):
        return thing.decode("latin-1") + "\n"
    return (thing if isinstance(thing, str) else repr(thing)) + "\n"


class Accepting:
    """An app that accepts, and returns; over HTTP, it answers."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})


async def see(
    door: Any, scope: dict[str, Any], events: list[Event], messages: Iterable[dict[str, Any]]
) -> Seen:
    """Drive a middleware around an `Accepting` app on one scope. What it raises is raised.

    Args:
        door: the middleware.
        scope: the connection.
        events: what its observer fills.
        messages: what the server has for it.
    """
    app = door.app if hasattr(door, "app") else Accepting()
    while hasattr(app, "app"):  # one guard inside another
        app = app.app
    app.scopes.clear()
    events.clear()
    server = Server(scope, *messages)
    with listening() as log:
        await within(5, door(scope, server.receive, server.send))
        for event in events:
            log_event(event)
    assert server.faults == []
    return Seen(server.sent, list(events), list(app.scopes), log.lines)


async def within(seconds: float, work: Awaitable[None]) -> None:
    """Await it; hanging is an error."""
    with anyio.fail_after(seconds):
        await work
