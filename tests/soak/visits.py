"""Handshakes and requests, and what the server says to them."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
import zlib
from collections import deque
from typing import Any, ClassVar
from urllib.parse import urlencode

from frames import CLOSE, TEXT, Close, Wire, _Reader

from .site import Worker

PATIENCE = 20.0  # seconds for which anything is waited for

_PING, _PONG = 9, 10

ADMITTED: Close = (101, "admitted")
GONE: Close = (1006, "no close")
SILENT: Close = (0, "no answer")

BY_HTTP: Close = (401, "HTTP")
MISSING: Close = (1008, "token_missing")
MALFORMED: Close = (1008, "token_malformed")
INVALID: Close = (1008, "token_invalid")
EXPIRED: Close = (4001, "token_expired")
NO_KEYS: Close = (4001, "keys_unavailable")
REVOKED: Close = (4004, "token_revoked")
FORBIDDEN: Close = (1008, "forbidden")
ORIGIN: Close = (1008, "origin_not_allowed")
THROTTLED: Close = (1013, "too_many_failures")
TOO_MANY: Close = (1013, "too_many_connections")
UNAVAILABLE: Close = (1013, "verifier_unavailable")
UNAVAILABLE_BY_HTTP: Close = (503, "HTTP")
RESTARTING: Close = (1012, "server_restarting")
ENDED: Close = (200, "ended")  # a stream, and all of it came

_pack = zlib.compressobj(9, wbits=-15)
_FLOOD = (_pack.compress(bytes(16 * 2**20)) + _pack.flush(zlib.Z_SYNC_FLUSH))[:-4]  # RFC 7692


class Visit(Wire):
    """A handshake, and the socket that it may have led to.

    Attributes:
        worker: where.
        asked_at: when something was last asked of the server, by `time.monotonic`.
        answer: what came of the handshake.
        user: who the app says that this is.
        good: the status of an admission.
    """

    opened: ClassVar[Any] = deque(maxlen=0)  # whoever visits sees to it that he leaves

    worker: Worker
    asked_at: float
    answer: Close = SILENT
    user = ""
    good: ClassVar = 101

    @classmethod
    async def begin(cls, worker: Worker, path: str, **handshake: Any) -> Visit:
        """Send a handshake, and read how it is answered."""
        asked_at = time.monotonic()
        reader = _Reader()
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        try:
            sent = cls._ask(worker, path, **handshake)
        except OSError:  # to whoever reads, the same as a server that hangs up
            sent, other = socket.socketpair()
            other.close()
        transport, _ = await loop.create_connection(lambda: protocol, sock=sent)
        self = cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        self.worker, self.asked_at = worker, asked_at
        return self

    @staticmethod
    def _ask(worker: Worker, path: str, **handshake: Any) -> socket.socket:
        return worker.server.handshake(path, **handshake)

    async def read_answer(self, first: str | None = None) -> None:
        """See whether this is an admission: the app's first words.

        Args:
            first: what to say first, where it is the client's turn.
        """
        try:
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), PATIENCE)
        except asyncio.IncompleteReadError:
            self.answer = GONE
            return
        except TimeoutError:
            return
        self.head = head.decode("latin-1")
        if self.status != self.good:
            self.answer = (self.status, "HTTP")
            return
        if first is not None:
            self.send(first)
        opcode, payload = await self.next()
        while opcode == TEXT and b".due" in payload:  # may be said before the app says anything
            opcode, payload = await self.next()
        self.answer = close_in(opcode, payload)
        if opcode == TEXT:
            self.answer = ADMITTED
            self.user = payload.decode().removeprefix("hello ")

    async def frame(self) -> tuple[int, bytes] | None:
        """The next frame that is no ping of the server's; those are answered."""
        while (frame := await super().frame()) is not None and frame[0] == _PING:
            self._write((_PONG, frame[1]))
        return frame

    async def next(self, patience: float = PATIENCE) -> tuple[int, bytes]:
        """The next frame; its opcode is 0 where none comes in time, and -1 at the end."""
        try:
            frame = await asyncio.wait_for(self.frame(), max(patience, 0.01))
        except TimeoutError:
            return 0, b""
        return frame if frame is not None else (-1, b"")

    def flood(self, times: int) -> None:
        """Send so many messages of 16 MB each, compressed."""
        size = struct.pack("!BQ", 255, len(_FLOOD))
        self._writer.write((bytes([0xC1]) + size + bytes(4) + _FLOOD) * times)

    def abort(self) -> None:
        """Let go of the connection as a crash does."""
        self._writer.transport.abort()


class Stream(Visit):
    """A response of server-sent events, as if it were a socket: each event is a message, and the
    end of the body is the close."""

    good = 200

    @staticmethod
    def _ask(worker: Worker, path: str, **handshake: Any) -> socket.socket:
        headers = dict(handshake["headers"])
        if handshake["token"] is not None:
            headers["Authorization"] = f"Bearer {handshake['token']}"
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        tcp = worker.server.tcp()
        tcp.sendall("\r\n".join([*lines, "", ""]).encode())
        return tcp

    async def frame(self) -> tuple[int, bytes] | None:
        """The next chunk (RFC 9112 section 7.1)."""
        try:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = (await self._reader.readexactly(size + 2))[:-2]
        except asyncio.IncompleteReadError:
            return None
        if size:
            return TEXT, chunk.removeprefix(b"data: ").strip()
        return CLOSE, ENDED[0].to_bytes(2, "big") + ENDED[1].encode()


def close_in(opcode: int, payload: bytes) -> Close:
    if opcode == CLOSE:
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()
    return GONE if opcode < 0 else SILENT


async def post(
    worker: Worker, target: str, token: str | None = None, method: str = "POST", **form: str
) -> tuple[int, Any]:
    """The status and the JSON; 0 where there is no answer."""
    body = urlencode(form)
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.server.port)
        try:
            writer.write("\r\n".join([*lines, "", body]).encode())
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()
        head, _, told = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(told or b"null")
    except (TimeoutError, OSError, ValueError, IndexError) as exc:
        return 0, repr(exc)
