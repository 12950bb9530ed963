"""A client that reads bytes, because a library would hide a second close, or what comes after the
first.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from servers import DEADLINE, Server

TEXT, BINARY, CLOSE = 1, 2, 8

Close = tuple[int, str]
T = TypeVar("T")


class _Reader(asyncio.StreamReader):
    """Gives all that came, also where the server then reset the connection."""

    def set_exception(self, exc: Exception) -> None:
        self.feed_eof()


class Wire:
    """One WebSocket, frame by frame."""

    opened: ClassVar[list[Wire]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.head = ""
        self.opened.append(self)

    @classmethod
    async def open(cls, server: Server, path: str, **handshake: Any) -> Wire:
        """Send a handshake, and read how it is answered."""
        reader = _Reader()
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        sent = server.handshake(path, **handshake)
        transport, _ = await loop.create_connection(lambda: protocol, sock=sent)
        self = cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), DEADLINE)
        self.head = head.decode("latin-1").lower()
        return self

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    def send(self, *messages: str | bytes) -> None:
        """Send messages in one go."""
        frames = [(TEXT, m.encode()) if isinstance(m, str) else (BINARY, m) for m in messages]
        self._write(*frames)

    def _write(self, *frames: tuple[int, bytes]) -> None:
        data = b""
        for opcode, payload in frames:
            size = len(payload)
            length = bytes([128 | size]) if size < 126 else struct.pack("!BH", 254, size)
            # A mask of zeros is a mask.
            data += bytes([128 | opcode]) + length + bytes(4) + payload
        self._writer.write(data)

    async def frame(self) -> tuple[int, bytes] | None:
        """The next frame; None where the server has ended the connection."""
        try:
            first, size = await self._reader.readexactly(2)
            if size > 125:
                size = int.from_bytes(
                    await self._reader.readexactly(2 if size == 126 else 8), "big"
                )
            return first & 15, await self._reader.readexactly(size)
        except asyncio.IncompleteReadError:
            return None

    async def message(self) -> str | bytes:
        """The next message, which must be there."""
        frame = await asyncio.wait_for(self.frame(), DEADLINE)
        assert frame is not None and frame[0] in (TEXT, BINARY), frame
        return frame[1].decode() if frame[0] == TEXT else frame[1]

    async def close_frame(self) -> Close | None:
        """The next close, whatever was sent before it; None where the connection ends."""
        while (frame := await asyncio.wait_for(self.frame(), DEADLINE)) is not None:
            opcode, payload = frame
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()
        return None

    async def closes(self) -> list[Close]:
        """All closes until the connection ends, the first of them answered."""
        closes: list[Close] = []
        while (found := await self.close_frame()) is not None:
            if not closes:
                self.close(found[0])
            closes.append(found)
        self.leave()
        return closes

    def close(self, code: int = 1000) -> None:
        """Send a close."""
        self._write((CLOSE, struct.pack("!H", code)))

    def leave(self) -> None:
        """Let go of the connection."""
        self._writer.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """What came of the clients that `work` opened. None of them is left to another test."""

    async def and_leave() -> T:
        try:
            return await asyncio.wait_for(work, 3 * DEADLINE)
        finally:
            while Wire.opened:
                Wire.opened.pop().leave()
            await asyncio.sleep(0)  # for the transports to see it

    return asyncio.run(and_leave())


async def with_longest_wait(
    work: Awaitable[T], ask: Callable[[], Awaitable[object]]
) -> tuple[T, float]:
    """What came of `work`; and the seconds that `ask` took at most meanwhile: so much the machine
    had to do besides."""
    longest, doing = 0.0, asyncio.ensure_future(work)
    while not doing.done():
        began = time.monotonic()
        await ask()
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(0.05)
    return await doing, longest


def together(*clients: Awaitable[Any]) -> list[Any]:
    """What came of clients that ran at the same time."""

    async def gather() -> list[Any]:
        return await asyncio.gather(*clients)

    return run(gather())
