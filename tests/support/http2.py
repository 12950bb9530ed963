"""A client of WebSockets over HTTP/2 (RFC 8441): several sockets, each one stream of one TCP
connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from servers import DEADLINE, Server
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

__all__ = ["Connection2", "Socket2", "connected"]


class Socket2:
    """One stream of a connection.

    Attributes:
        status: of the answer to the handshake: 200 where the socket was opened (section 5).
        headers: its other headers.
        body: what an answer has that is no WebSocket.
        messages: what the server said.
        close: its code and its reason, where it closed.
        is_over: whether the server has ended the stream.
    """

    def __init__(self, connection: Connection2, number: int) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.messages: list[str] = []
        self.close: tuple[int, str] | None = None
        self.is_over = False
        self._connection = connection
        self._number = number
        self._frames = Connection(ConnectionType.CLIENT)

    async def say(self, words: str) -> None:
        await self._send(TextMessage(data=words))

    async def _send(self, event: Any) -> None:
        await self._connection.send(self._number, self._frames.send(event))

    async def take(self, event: Any) -> None:
        """What the connection has received for this stream."""
        if isinstance(event, h2.events.ResponseReceived):
            headers = {name.decode(): value.decode() for name, value in event.headers or []}
            self.status = int(headers.pop(":status"))
            self.headers = headers
        elif isinstance(event, h2.events.DataReceived):
            if self.status == 200 and event.data:  # the last one has nothing but END_STREAM
                self._frames.receive_data(event.data)
                for frame in self._frames.events():
                    await self._take_frame(frame)
            else:
                self.body += event.data or b""
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            self.is_over = True

    async def _take_frame(self, frame: Any) -> None:
        if isinstance(frame, TextMessage):
            self.messages.append(frame.data)
        elif isinstance(frame, CloseConnection):
            self.close = (int(frame.code), frame.reason or "")
            await self._send(frame.response())

    async def until(self, attribute: str) -> Any:
        """An attribute, once it is more than nothing."""
        async with asyncio.timeout(DEADLINE):
            while not getattr(self, attribute):
                await self._connection.read()
        return getattr(self, attribute)


class Connection2:
    """One TCP connection, with prior knowledge that the server speaks HTTP/2 (RFC 9113 section
    3.3)."""

    def __init__(self, server: Server, reader: Any, writer: Any) -> None:
        self._server = server
        self._reader, self._writer = reader, writer
        self._sockets: dict[int, Socket2] = {}
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._state = h2.connection.H2Connection(config)

    async def begin(self) -> None:
        self._state.initiate_connection()
        await self._flush()
        async with asyncio.timeout(DEADLINE):
            while not self._state.remote_settings.enable_connect_protocol:
                await self.read()

    async def open(self, target: str) -> Socket2:
        """Ask for a socket (RFC 8441 section 4), whose handshake need not have been answered."""
        number = self._state.get_next_available_stream_id()
        socket = self._sockets[number] = Socket2(self, number)
        headers = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", target),
            (":authority", f"127.0.0.1:{self._server.port}"),
            ("sec-websocket-version", "13"),
        ]
        self._state.send_headers(number, headers)
        await self._flush()
        return socket

    async def send(self, number: int, data: bytes) -> None:
        self._state.send_data(number, data)
        await self._flush()

    async def read(self) -> None:
        """Take what arrives next, for whichever socket."""
        data = await self._reader.read(65_536)
        assert data, "the server has ended the connection"
        for event in self._state.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self._state.acknowledge_received_data(
                    event.flow_controlled_length or 0, event.stream_id or 0
                )
            socket = self._sockets.get(getattr(event, "stream_id", None) or 0)
            if socket is not None:
                await socket.take(event)
        await self._flush()

    async def _flush(self) -> None:
        self._writer.write(self._state.data_to_send())
        await self._writer.drain()


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Connection2]:
    """A connection to a server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    connection = Connection2(server, reader, writer)
    try:
        await connection.begin()
        yield connection
    finally:
        writer.close()
        await writer.wait_closed()
