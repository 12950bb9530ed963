"""What refused clients can cost that go on sending after they were told to go.

    python tests/support/refused_flood.py uvicorn-sansio        (or another of servers.VARIANTS)

starts that server, has forty clients of one address refused that each send a compressed flood
(messages of 16 MB of zeros, 16 kB on the wire) for as long as the server takes it, ten seconds at
most once all are answered, and prints what it costs.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from servers import DEADLINE, HERE, Server, serving

CLIENTS = 40
SECONDS = 10.0
SIZE = 16 * 1024 * 1024

_OFFER = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]


@dataclass
class Cost:
    """What a flood did to a server process.

    Attributes:
        megabytes: how much more memory it had at most, in MB of resident set.
        handshakes: the seconds that each handshake of a good client took meanwhile.
        told: how many of the clients were answered with which status.
    """

    megabytes: float = 0.0
    handshakes: list[float] = field(default_factory=list)
    told: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        slowest = max(self.handshakes, default=0.0)
        return (
            f"{self.megabytes:.0f} MB more, {len(self.handshakes)} good handshakes, the slowest "
            f"{slowest:.2f} s, answers {self.told}"
        )


def resident(pid: int) -> float:
    """MB of a process and of its children."""
    pids = [pid]
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if children.exists():
        pids += map(int, children.read_text().split())
    total = 0
    for one in pids:
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total * 1024 / 1e6


@contextmanager
def watched(server: Server) -> Iterator[Cost]:
    """What it costs meanwhile."""
    cost, done = Cost(), threading.Event()
    before = resident(server.process.pid)

    def watch() -> None:
        while not done.wait(0.005):
            cost.megabytes = max(cost.megabytes, resident(server.process.pid) - before)

    def shake() -> None:
        while not done.wait(0.1):
            begun = time.monotonic()
            with server.handshake("/guarded", token="opaque-1") as tcp:
                tcp.settimeout(30)
                if tcp.recv(12) == b"HTTP/1.1 101":
                    cost.handshakes.append(time.monotonic() - begun)

    threads = [threading.Thread(target=work) for work in (watch, shake)]
    for thread in threads:
        thread.start()
    try:
        yield cost
    finally:
        done.set()
        for thread in threads:
            thread.join()


def frames(count: int = 32) -> bytes:
    """So many compressed messages."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -12)
    payload = deflate.compress(bytes(SIZE)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    payload = payload[:-4]
    # A mask of zeros is a mask.
    return (bytes([0xC2, 254]) + len(payload).to_bytes(2, "big") + bytes(4) + payload) * count


def flood(port: int, path: str, clients: int, seconds: float) -> dict[int, int]:
    """Have so many clients connect, and send whatever the server takes, until all of them have been
    answered for so long."""
    server = Server("flooded", port, None, Path())  # type: ignore[arg-type]
    selector, data, told = selectors.DefaultSelector(), memoryview(frames()), {}
    for _ in range(clients):
        page = ("Origin", server.origin)  # a program would be told by HTTP soon
        tcp = server.handshake(path, headers=[page, *_OFFER], token="deny-EXPIRED")
        tcp.setblocking(False)
        selector.register(tcp, selectors.EVENT_READ, 0)
    deadline, unanswered = time.monotonic() + 3 * DEADLINE, clients
    while selector.get_map() and time.monotonic() < deadline:
        for key, events in selector.select(0.1):
            tcp: socket.socket = key.fileobj  # type: ignore[assignment,no-redef]
            try:
                if events & selectors.EVENT_READ:  # the answer; nothing is read after that
                    unanswered -= 1
                    if not unanswered:
                        deadline = time.monotonic() + seconds
                    status = int(tcp.recv(65536).split(maxsplit=2)[1])
                    told[status] = told.get(status, 0) + 1
                    if status != 101:
                        raise ConnectionError
                    selector.modify(tcp, selectors.EVENT_WRITE, 0)
                else:
                    at = (key.data + tcp.send(data[key.data :])) % len(data)
                    selector.modify(tcp, selectors.EVENT_WRITE, at)
            except BlockingIOError:
                pass
            except (OSError, IndexError):
                selector.unregister(tcp)
                tcp.close()
    for key in list(selector.get_map().values()):
        key.fileobj.close()  # type: ignore[union-attr]
    return told


def measure(server: Server, clients: int = CLIENTS, seconds: float = SECONDS) -> Cost:
    """What that costs a server; the clients are a process of their own."""
    with watched(server) as cost:
        command = [sys.executable, __file__, str(server.port), str(clients), str(seconds)]
        out = subprocess.run(command, check=True, capture_output=True, cwd=HERE).stdout
    cost.told = {int(k): int(v) for k, v in (line.split() for line in out.decode().splitlines())}
    return cost


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        port, clients, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
        for status, count in flood(port, "/daphne", clients, seconds).items():
            print(status, count)
    else:
        clients = int(os.environ.get("CLIENTS", CLIENTS))
        with serving(sys.argv[1]) as running:
            print(sys.argv[1], measure(running, clients))
