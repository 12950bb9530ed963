"""Messages per second through uvicorn, said and heard back: what a guard costs each of them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from .echo import compared, dial, echo_server, greeted, token
from .measure import Row

GROUP = "messages"

_SOCKETS = 8  # talk at the same time, so that the server never waits for the client
_WORDS = b"x" * 32
_SAID = bytes([129, 128 | len(_WORDS), 0, 0, 0, 0]) + _WORDS  # masked with zeros
_HEARD = bytes([129, len(_WORDS)]) + _WORDS

_GUARDS = {
    "no guard": "/none",
    "ours, unguarded": "/unguarded",
    "ours, guarded": "/ours",
    "the floor": "/floor",
}


def _echoes(sockets: list[socket.socket], count: int, at_once: int) -> None:
    """Each socket says `count` messages, `at_once` of them before it reads the answers."""
    said = _SAID * at_once
    for _ in range(count // at_once):
        for tcp in sockets:
            tcp.sendall(said)
        for tcp in sockets:
            left = len(_HEARD) * at_once
            while left:
                heard = len(tcp.recv(left))
                assert heard, "the server is gone"
                left -= heard


def rows(short: bool) -> Iterator[Row]:
    """One message at a time on each socket, and 16 of them."""
    count, rounds = (32, 3) if short else (128, 60)
    with echo_server() as server, ExitStack() as stack:
        presented = token()

        def talking(path: str, at_once: int) -> Callable[[], int]:
            sockets = [stack.enter_context(dial(server, path, presented)) for _ in range(_SOCKETS)]
            for tcp in sockets:
                greeted(tcp)

            def talk() -> int:
                _echoes(sockets, count, at_once)
                return count * _SOCKETS

            return talk

        for at_once, how in ((1, "one at a time"), (16, "16 at once")):
            work = {f"{name}, {how}": talking(path, at_once) for name, path in _GUARDS.items()}
            costs = {f"ours, guarded, {how}": "≤ 1.04"}
            yield from compared(GROUP, "messages", server, work, rounds, costs=costs)
