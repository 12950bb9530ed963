"""How much a server reads of what a client sends that was told to go.

After a close, uvicorn goes on to read and to decompress what arrives for ten seconds, 256 kB of it
at a time, which may be 256 MB of zeros; no ASGI message ends that. So nothing is read from a
refused client but its answer to the close: what it says before that is taken from its socket here,
frame by frame, and is thrown away as it came. Behind something that wraps `receive`, and on other
servers, there is no `Valve`.
"""

from __future__ import annotations

import select
import socket
import sys
from typing import Any

from anyio import sleep
from anyio.lowlevel import checkpoint
from starlette.types import Receive

if sys.platform != "win32":  # pragma: no branch
    import fcntl
    import termios

__all__ = ["Valve", "valve_of"]

_HEADER = 14  # bytes, at most: two, eight that say how much follows, four of a mask
_CLOSE = 8
_OPCODES = {0, 1, 2, _CLOSE, 9, 10}

_ANSWER = 131  # bytes: the longest close (RFC 6455 section 5.5)
_ENCRYPTED = 256  # bytes that may hold one; what they hold can't be told before they are read
_SKIPPED = 1024 * 1024  # bytes of a client that are thrown away; more of it stay where they are
_READS = 8  # times that a server may read what looks like an answer, or like an end

_HUNG_UP = getattr(select, "POLLRDHUP", 0x2000)
_PAUSE = 0.01  # seconds between two looks
_TURNS = 3  # of the event loop, in which it reads what is there


class Valve:
    """What a connection's server may read.

    Args:
        transport: asyncio's, or uvloop's.
        fd: the number of its socket.
        encrypted: whether what arrives there is TLS.
    """

    def __init__(self, transport: Any, fd: int, *, encrypted: bool = False) -> None:
        self._transport = transport
        self._fd = fd
        self._encrypted = encrypted
        self._reads = _READS
        self._skipped = 0
        self._rest = 0  # of a frame of which the beginning was thrown away

    def shut(self) -> None:
        """Read no more."""
        self._transport.pause_reading()

    async def until_gone(self) -> None:
        """Read the client's answer, and nothing else, until it is gone."""
        try:
            while not self._transport.is_closing():
                if self._reads and self._is_to_be_read():
                    self._reads -= 1
                    self._transport.resume_reading()
                    for _ in range(_TURNS):
                        await checkpoint()
                    self.shut()
                await sleep(0 if self._transport.is_closing() else _PAUSE)
        finally:
            self.shut()

    def _is_to_be_read(self) -> bool:
        """Whether the client has answered, or hung up, and little else is there to be read."""
        has_hung_up = self._has_hung_up()  # before what it said last is looked at
        has_answered = bool(self._waiting()) and (self._encrypted or self._skip())
        little = _ENCRYPTED if self._encrypted else _ANSWER
        return (has_answered or has_hung_up) and self._waiting() <= little

    def _skip(self) -> bool:
        """Throw away what is not a close; whether one is next."""
        # A descriptor of our own: the transport's socket may be another object, or none.
        with socket.fromfd(self._fd, socket.AF_INET, socket.SOCK_STREAM) as tcp:
            try:
                while self._skipped < _SKIPPED:
                    if not self._rest:
                        opcode, self._rest = _frame(tcp.recv(_HEADER, socket.MSG_PEEK))
                        if opcode == _CLOSE:
                            size, self._rest = self._rest, 0
                            return self._waiting() >= size
                        if not self._rest:
                            return False
                    skipped = len(tcp.recv(min(self._rest, 65536)))
                    self._skipped += skipped
                    self._rest -= skipped
                    if not skipped:
                        return False
            except OSError:  # nothing more is there yet, or it is gone
                pass
        return False

    def _waiting(self) -> int:
        """Bytes that arrived and were not read."""
        assert sys.platform != "win32"
        waiting = fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)

    def _has_hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, _HUNG_UP)
        return bool(poll.poll(0))


def _frame(data: bytes) -> tuple[int, int]:
    """The opcode of a client's frame, and its size with its header; 0 where that is not all there,
    or where it is no such frame."""
    if len(data) < 2 or not data[1] & 0x80 or data[0] & 0x0F not in _OPCODES:
        return 0, 0
    short = data[1] & 0x7F
    more = {126: 2, 127: 8}.get(short, 0)
    if len(data) < 2 + more:
        return 0, 0
    length = int.from_bytes(data[2 : 2 + more], "big") if more else short
    return data[0] & 0x0F, 2 + more + 4 + length


def valve_of(receive: Receive) -> Valve | None:
    """The valve of a connection, if there is one.

    Args:
        receive: the server's. uvicorn's is a method of the connection's protocol, which keeps its
            transport as `transport`, as protocols of asyncio do; nothing else leads to it.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if sys.platform == "win32" or transport is None:
        return None
    try:
        fd = transport.get_extra_info("socket").fileno()
        encrypted = transport.get_extra_info("ssl_object") is not None
        transport.pause_reading()
    except Exception:  # none of those that are known here
        return None
    return Valve(transport, fd, encrypted=encrypted) if fd >= 0 else None
