"""How much a server reads of what a client sends that was told to go.

After a close, uvicorn goes on to read and to decompress what arrives for ten seconds, 256 kB of it
at a time, which may be 256 MB of zeros; no ASGI message ends that. But its `receive` is a method of
the connection's protocol, which has the transport. So nothing is read from a refused client while
more waits to be read than an answer to a close takes. Behind something that wraps `receive`, and on
other servers, there is no `Valve`.
"""

from __future__ import annotations

import select
import sys
from typing import Any

from anyio import sleep
from anyio.lowlevel import checkpoint
from starlette.types import Receive

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["Valve", "valve_of"]

_FEW = 4096  # bytes that may wait to be read; compressed, that is 4 MB
_HUNG_UP = getattr(select, "POLLRDHUP", 0x2000)
_PAUSE = 0.01  # seconds between two looks
_TURNS = 3  # of the event loop, in which it reads what is there


class Valve:
    """What a connection's server may read.

    Args:
        transport: asyncio's, or uvloop's.
        fd: the number of its socket.
    """

    def __init__(self, transport: Any, fd: int) -> None:
        self._transport = transport
        self._fd = fd

    def shut(self) -> None:
        """Read no more."""
        self._transport.pause_reading()

    async def until_gone(self) -> None:
        """Read the client's answer, as long as little is to be read, until it is gone."""
        try:
            while not self._transport.is_closing():
                if 0 < self._waiting() <= _FEW or self._has_hung_up():
                    self._transport.resume_reading()
                    for _ in range(_TURNS):
                        await checkpoint()
                    self.shut()
                await sleep(0 if self._transport.is_closing() else _PAUSE)
        finally:
            self.shut()

    def _waiting(self) -> int:
        """Bytes that arrived and were not read."""
        assert sys.platform != "win32"
        waiting = fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)

    def _has_hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, _HUNG_UP)
        return bool(poll.poll(0))


def valve_of(receive: Receive) -> Valve | None:
    """The valve of a connection, if there is one.

    Args:
        receive: the server's.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if sys.platform == "win32" or transport is None:
        return None
    try:
        fd = transport.get_extra_info("socket").fileno()
        transport.pause_reading()
    except Exception:  # none of those that are known here
        return None
    return Valve(transport, fd) if fd >= 0 else None
