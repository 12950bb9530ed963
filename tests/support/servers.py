"""Real servers on loopback ports, and the clients that talk to them.

    with serving("uvicorn-wsproto", "wire_apps:app") as server:
        seen = server.talk("/guarded", token="...")

The fixture `server`, for modules that import it, runs `wire_apps:app`; one process of each variant
serves all tests of the session. Every case runs on uvicorn with its default protocol. Where servers
differ, a test says on which others it runs, too: `@each_server`, `@all_but("daphne")`,
`@only("granian")`. With `WSAUTH_SERVERS=all` in the environment, every case runs on every
variant, and crowds are as large as they get.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import re
import signal
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import forking
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

HERE = Path(__file__).resolve().parent
DEADLINE = 10.0  # seconds that anything may take before it counts as stuck

_COMMANDS = {
    "uvicorn-websockets": "uvicorn --host 127.0.0.1 --port {port} --ws websockets",
    "uvicorn-sansio": "uvicorn --host 127.0.0.1 --port {port} --ws websockets-sansio",
    "uvicorn-wsproto": "uvicorn --host 127.0.0.1 --port {port} --ws wsproto",
    "hypercorn": "hypercorn --bind 127.0.0.1:{port} --workers 0",
    "hypercorn-trio": "hypercorn --bind 127.0.0.1:{port} --workers 0 --worker-class trio",
    "daphne": "daphne --bind 127.0.0.1 --port {port}",
    "granian": "granian --interface asgi --host 127.0.0.1 --port {port}",
}

VARIANTS = tuple(_COMMANDS)
UVICORN = tuple(name for name in VARIANTS if name.startswith("uvicorn"))
EVERYTHING = os.environ.get("WSAUTH_SERVERS") == "all"
USUAL = VARIANTS if EVERYTHING else VARIANTS[:1]

# What a log has when something went wrong that nobody handled.
_TROUBLE = re.compile(
    r"Traceback|Exception|never awaited|was destroyed|Unhandled|panicked|Warning:", re.IGNORECASE
)

# Settings of the servers and of Python that the developer's own shell may have.
_NOISE = re.compile(rf"(UVICORN|HYPERCORN|DAPHNE|GRANIAN|WIRE)_|{forking.UNUSUAL}")

_numbers = count(1)

# For `free_port`. The nodes of a cluster have ports 10,000 below these, too: see redis_servers.py.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = range(20_000, 30_000)[_WORKER :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
_ports = deque(random.SystemRandom().sample(_PORTS, len(_PORTS)))


@dataclass
class Seen:
    """What a client saw of one connection."""

    status: int = 101
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    subprotocol: str | None = None
    messages: list[str | bytes] = field(default_factory=list)
    close: tuple[int, str] | None = None  # the server's, where it closed

    @property
    def json(self) -> Any:
        """The JSON of an HTTP answer."""
        return json.loads(self.body)

    @property
    def report(self) -> dict[str, Any]:
        """What the echo app told of itself, in its first message."""
        assert self.messages, self
        return json.loads(self.messages[0])


class Client:
    """A program that talks to a server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def talk(
        self,
        path: str,
        *,
        say: Iterable[str | bytes] = (),
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        **query: Any,
    ) -> Seen:
        """Connect, read a first message, send each of `say` and read an answer to it, and close;
        or see how the server refuses that."""
        return asyncio.run(self._talk(_target(path, query), say, list(headers), subprotocols))

    async def _talk(
        self,
        target: str,
        say: Iterable[str | bytes],
        headers: list[tuple[str, str]],
        subprotocols: Sequence[str],
    ) -> Seen:
        seen = Seen()
        try:
            async with connect(
                f"ws://127.0.0.1:{self.port}{target}",
                sock=self.tcp(),  # and so around any proxy that the environment may name
                additional_headers=headers,
                subprotocols=subprotocols or None,
                open_timeout=DEADLINE,
                close_timeout=DEADLINE,
                compression=None,
            ) as ws:
                seen.subprotocol = ws.subprotocol
                try:
                    seen.messages.append(await asyncio.wait_for(ws.recv(), DEADLINE))
                    for message in say:
                        await ws.send(message)
                        seen.messages.append(await asyncio.wait_for(ws.recv(), DEADLINE))
                except ConnectionClosed as closed:
                    seen.close = (
                        (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
                    )
        except InvalidStatus as refused:
            response = refused.response
            seen.status, seen.body = response.status_code, bytes(response.body or b"")
            seen.headers = {name.lower(): value for name, value in response.headers.raw_items()}
        return seen

    def tcp(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def handshake(
        self, path: str, *, headers: Iterable[tuple[str, str]] = (), **query: Any
    ) -> socket.socket:
        """A TCP connection on which a WebSocket handshake was sent, and nothing was read."""
        lines = [
            f"GET {_target(path, query)} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *(f"{name}: {value}" for name, value in headers),
        ]
        tcp = self.tcp()
        tcp.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return tcp

    def talk_at_once(self, times: int, path: str, **handshake: Any) -> list[Seen]:
        """The same connection several times over, all of them begun before any has ended."""
        return self.talk_all([(path, handshake)] * times)

    def talk_all(self, handshakes: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Seen]:
        """What `talk` sees of several handshakes (path, and arguments), all at the same time."""

        async def one(
            path: str,
            *,
            say: Iterable[str | bytes] = (),
            headers: Iterable[tuple[str, str]] = (),
            subprotocols: Sequence[str] = (),
            **query: Any,
        ) -> Seen:
            return await self._talk(_target(path, query), say, list(headers), subprotocols)

        async def all_of_them() -> list[Seen]:
            return await asyncio.gather(*(one(path, **given) for path, given in handshakes))

        return asyncio.run(all_of_them())

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        **query: Any,
    ) -> Seen:
        """An HTTP request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * DEADLINE)
        try:
            connection.putrequest(method, _target(path, query))
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Seen(answer.status, told, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET."""
        seen = self.ask("GET", path, **query)
        assert seen.status == 200, seen
        return seen.json


class Server(Client):
    """A server process that accepts connections.

    Attributes:
        is_watched: whether its log must show no trouble.
    """

    is_watched = False

    def __init__(self, name: str, port: int, process: forking.Process, log: Path) -> None:
        super().__init__(port)
        self.name = name
        self.process = process
        self._log = log
        self._excused = False
        self._quiet_until = 0

    # What the apps in the process noted (see wire_apps.Notes).

    def new_test(self) -> str:
        """A name for the notes of one test."""
        return f"{self.name}.{next(_numbers)}"

    def notes(self, test: str, *, until: str, within: float = DEADLINE) -> list[str]:
        """All notes of a test, once `until` is among them, or after `within` seconds."""
        return self.get("/notes", test=test, until=until, within=within)

    def release(self, test: str) -> None:
        """Let the verifier or app that waits for this test's `release` go on."""
        self.get("/release", test=test)

    # The log.

    def log(self) -> str:
        """All that the process wrote so far."""
        return self._log.read_text(errors="replace")

    def log_since(self, start: int) -> str:
        """What it wrote after the first `start` characters, with all that comes to light when
        what was dropped is collected."""
        self.get("/settle")
        return self.log()[start:]

    def excuse_trouble(self) -> None:
        """The running test makes something go wrong on purpose."""
        self._excused = True

    def wait_for_trouble(self) -> None:
        """It did, and a server tells of that once it has told the client."""
        self.excuse_trouble()
        deadline = time.monotonic() + DEADLINE
        while not _TROUBLE.search(self.log()[self._quiet_until :]):
            assert time.monotonic() < deadline, "the log shows no trouble"
            time.sleep(0.01)

    @contextmanager
    def must_stay_quiet(self) -> Iterator[None]:
        """Whatever is done to the server meanwhile, its log shows no trouble. Inside another such
        block, what is excused is excused in the inner one only."""
        self._quiet_until = len(self.log())
        self._excused = False
        self.is_watched, before = True, self.is_watched
        try:
            yield
            start = self._quiet_until
            try:
                log = self.log_since(start)
            except OSError as exc:
                raise AssertionError(f"{self.name} is gone ({exc}):\n{self.log()[start:]}") from exc
            assert self._excused or not _TROUBLE.search(log), log
        finally:
            self.is_watched = before
            self._quiet_until = len(self.log())
            self._excused = False


def _target(path: str, query: Mapping[str, Any]) -> str:
    given = urlencode({name: value for name, value in query.items() if value is not None})
    return f"{path}?{given}" if given else path


@contextmanager
def serving(
    name: str, app: str = "wire_apps:app", *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a server variant with `app`; stop it for sure.

    Args:
        name: one of VARIANTS.
        app: `module:attribute`; modules of this folder, and packages beside it, can be imported.
        arguments: more of the server's own command line.
        env: more environment variables. `WIRE_PORT` is set to the port.
    """
    with tempfile.TemporaryDirectory(prefix="wire") as directory:
        log = Path(directory, "log")
        for attempt in range(1, 4):  # another process may take the free port first
            server = _start(name, app, arguments, env or {}, log)
            try:
                if accepts(server):
                    yield server
                    return
            finally:
                _stop(server.process)
            text = log.read_text(errors="replace")
            assert attempt < 3, f"{name} does not start:\n{text}"


def once_in(words: str, read: Callable[[], str], *, times: int = 1) -> str:
    """What is read, once these words are in it so often: a log may come after the answer."""
    deadline = time.monotonic() + DEADLINE
    while (text := read()).count(words) < times:
        assert time.monotonic() < deadline, text
        time.sleep(0.01)
    return text


def free_port() -> int:
    """A port on which nobody listens at this moment.

    None that the system gives by itself: until a server has it, another process could be given it,
    and what connects there would take that one for the server. For the same reason, each of
    pytest's processes has ports of its own, and gives each of them once.
    """
    while True:
        port = _ports.popleft()
        _ports.append(port)  # to be given when all others were
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def _start(
    name: str, app: str, arguments: Sequence[str], env: Mapping[str, str], log: Path
) -> Server:
    port = free_port()
    module, *options = _COMMANDS[name].format(port=port).split()
    inherited = {key: value for key, value in os.environ.items() if not _NOISE.match(key)}
    folders = [str(HERE), str(HERE.parent), inherited.get("PYTHONPATH")]
    path = os.pathsep.join(filter(None, folders))
    with log.open("ab") as output:
        process = forking.start(
            ["-m", module, *options, *arguments, app],
            cwd=HERE,
            env={**inherited, "PYTHONPATH": path, "WIRE_PORT": str(port), **env},
            stdout=output,
        )
    return Server(name, port, process, log)


def accepts(server: Server) -> bool:
    """Waits until it accepts connections; False where it doesn't."""
    deadline = time.monotonic() + 3 * DEADLINE
    while server.process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            server.tcp().close()
            return server.process.poll() is None
        time.sleep(0.02)
    return False


def _stop(process: forking.Process) -> None:
    """Nothing is asserted on how a server shuts down: no test waits for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(DEADLINE)


class _Pool:
    """The servers of this session, each started when it is first needed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._servers: dict[tuple[Any, ...], Server] = {}

    def get(self, name: str, *arguments: str, **env: str) -> Server:
        key = (name, arguments, *sorted(env.items()))
        # One that died fails the test that it died in, and not all the others too.
        if key not in self._servers or self._servers[key].process.poll() is not None:
            context = serving(name, "wire_apps:app", *arguments, env=env)
            self._servers[key] = self._stack.enter_context(context)
        return self._servers[key]

    def close(self) -> None:
        self._stack.close()


_POOL = pytest.StashKey[_Pool]()


def pooled(config: pytest.Config, name: str, *arguments: str, **env: str) -> Server:
    """The session's server of this variant, with `wire_apps:app`."""
    if _POOL not in config.stash:
        config.stash[_POOL] = _Pool()
        config.add_cleanup(config.stash[_POOL].close)
    return config.stash[_POOL].get(name, *arguments, **env)


def only(*variants: str) -> pytest.MarkDecorator:
    """Run a test on these servers."""
    return pytest.mark.parametrize("server", variants, indirect=True)


def all_but(*variants: str) -> pytest.MarkDecorator:
    """Run a test on all servers but these."""
    return only(*(name for name in VARIANTS if name not in variants))


def usual_but(*variants: str) -> pytest.MarkDecorator:
    """Run a test on the usual servers, of which it can't run on these."""
    return only(*(name for name in USUAL if name not in variants))


def usual_and(*variants: str) -> pytest.MarkDecorator:
    """Run a test on the usual servers, and on these."""
    return only(*dict.fromkeys([*USUAL, *variants]))


each_server = only(*VARIANTS)


@pytest.fixture(params=USUAL)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server variant. A test fails if it leaves trouble in the server's log."""
    running = pooled(request.config, request.param)
    with running.must_stay_quiet():
        yield running


@pytest.fixture
def attempts(server: Server) -> Callable[[], int]:
    """How many sockets the server decided about since the test began."""
    begin = len(server.log())
    return lambda: len(re.findall("websocket (admitted|refused)", server.log_since(begin)))
