"""One client: it makes handshakes, and knows what each must lead to."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import deque
from contextlib import suppress
from random import Random
from typing import Any, ClassVar

from frames import CLOSE, TEXT, Close, Wire, _Reader

from .mint import Mint, Token
from .site import Site, Worker
from .tally import Tally

PATIENCE = 20.0  # seconds for which anything is waited for

_PING, _PONG = 9, 10

ADMITTED: Close = (101, "admitted")
GONE: Close = (1006, "no close")
SILENT: Close = (0, "no answer")

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


class Visit(Wire):
    """A handshake, and the socket that it may have led to.

    Attributes:
        worker: where.
        began: when, by `time.monotonic`.
        answer: what came of the handshake.
        user: who the app says that this is.
    """

    opened: ClassVar[Any] = deque(maxlen=0)  # whoever visits sees to it that he leaves

    worker: Worker
    began: float
    answer: Close = SILENT
    user = ""

    @classmethod
    async def begin(cls, worker: Worker, path: str, **handshake: Any) -> Visit:
        """Send a handshake, and read how it is answered."""
        began = time.monotonic()
        reader = _Reader()
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        try:
            sent = worker.server.handshake(path, **handshake)
        except OSError:  # to whoever reads, the same as a server that hangs up
            sent, other = socket.socketpair()
            other.close()
        transport, _ = await loop.create_connection(lambda: protocol, sock=sent)
        self = cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        self.worker, self.began = worker, began
        return self

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
        except asyncio.TimeoutError:
            return
        self.head = head.decode("latin-1")
        if self.status != 101:
            self.answer = (self.status, "HTTP")
            return
        if first is not None:
            self.send(first)
        opcode, payload = await self.next()
        while opcode == TEXT and b".due" in payload:  # said at once, before the app says anything
            opcode, payload = await self.next()
        self.answer = _close(opcode, payload)
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
            frame = await asyncio.wait_for(self.frame(), patience)
        except asyncio.TimeoutError:
            return 0, b""
        return frame if frame is not None else (-1, b"")

    def abort(self) -> None:
        """Let go of the connection as a crash does."""
        self._writer.transport.abort()


def _close(opcode: int, payload: bytes) -> Close:
    if opcode == CLOSE:
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()
    return GONE if opcode < 0 else SILENT


class Client:
    """Somebody who comes and goes.

    Args:
        kind: what he is like, for the table.
        site: where he goes.
        mint: what gives him credentials.
        tally: what is told of it.
        random: decides.
        over: is set when everybody is to leave.

    Attributes:
        address: from where he comes, as a proxy would tell it.
    """

    def __init__(
        self, kind: str, site: Site, mint: Mint, tally: Tally, random: Random, over: asyncio.Event
    ) -> None:
        self.kind, self.site, self.mint, self.tally = kind, site, mint, tally
        self.random, self.over = random, over
        self.address = ".".join(["10", *(str(random.randrange(256)) for _ in range(3))])
        self._visits: list[Visit] = []

    # What he does

    async def visit(
        self,
        token: Token | str | None,
        *expected: Close,
        worker: Worker | None = None,
        path: str = "/chat",
        headers: tuple[tuple[str, str], ...] = (),
        first: str | None = None,
    ) -> Visit:
        """Make a handshake, which must lead to one of `expected`."""
        value = token.value if isinstance(token, Token) else token
        headers = (*headers, ("X-Forwarded-For", self.address))
        if first is not None:
            value = None
        elif value is not None and self.random.random() < 0.5:
            headers, value = (*headers, ("Authorization", f"Bearer {value}")), None
        visit = await Visit.begin(
            worker or self.site.any_worker(self.random), path, headers=headers, token=value
        )
        self._visits.append(visit)
        self.tally.handshakes += 1
        await visit.read_answer(first)
        self.tally.took("handshake, answered", time.monotonic() - visit.began)
        self.tally.answers[" ".join(map(str, visit.answer))] += 1
        await self._judge(visit, token, expected)
        return visit

    async def _judge(
        self, visit: Visit, token: Token | str | None, expected: tuple[Close, ...]
    ) -> None:
        answer = visit.answer
        told = f"{answer[0]} {answer[1]} at {visit.worker.name}, and not {expected}; {token}"
        if answer == ADMITTED and isinstance(token, Token) and visit.user != token.user:
            self.wrong("admitted", f"as {visit.user}: {told}")
        elif answer in expected:
            self.saw("admitted" if answer == ADMITTED else "refused")
        elif self.is_excused(visit, answer):
            self.saw("excused")
        elif answer == ADMITTED:
            self.wrong("admitted", told)
        elif answer == SILENT:
            self.wrong("hanging", told)
        else:
            self.wrong("refused" if ADMITTED in expected else "reason", told)
        if answer != ADMITTED:
            await self._hang_up(visit, answer)

    async def must_be_closed(
        self, visit: Visit, *expected: Close, not_before: float = 0.0, due: float = 0.0
    ) -> Close:
        """Wait for a forced close. What the app says meanwhile is nobody's business.

        Args:
            visit: an open socket.
            expected: how it may be closed.
            not_before: Unix time.
            due: Unix time from which on it is late, for the table.
        """
        close = await self.close_of(visit)
        now = time.time()
        told = f"{close[0]} {close[1]} at {visit.worker.name}, and not {expected}"
        if close not in expected:
            if self.is_excused(visit, close):
                self.saw("excused")
            else:
                self.wrong("lost", told)
        elif now < not_before:
            self.wrong("early", f"{not_before - now:.3f} s: {told}")
        else:
            self.saw("closed")
            if due or not_before:
                self.tally.took(f"late with {close[1]}", now - max(due, not_before))
        await self._hang_up(visit, close)
        return close

    async def close_of(self, visit: Visit) -> Close:
        """The next close."""
        patience = PATIENCE
        while True:
            opcode, payload = await visit.next(patience)
            if opcode not in (TEXT, 0):
                return _close(opcode, payload)
            # While Redis is away, nobody hears of a revocation.
            if opcode == 0 and not self.site.troubles.had("redis", time.monotonic() - PATIENCE):
                return SILENT

    async def message(self, visit: Visit, kind: str | None = None) -> str | Close:
        """The next text, or JSON of this `type`; or how the socket is closed."""
        while True:
            opcode, payload = await visit.next()
            if opcode != TEXT:
                return _close(opcode, payload)
            text = payload.decode()
            if text == "tick" or (".due" in text and kind is None):
                continue
            if kind is None or (text.startswith("{") and json.loads(text)["type"] == kind):
                return text

    async def leave(self, visit: Visit) -> None:
        """Close politely."""
        visit.close(1000)
        await self._end(visit, 1000)

    async def _hang_up(self, visit: Visit, close: Close) -> None:
        if close not in (GONE, SILENT) and close[1] != "HTTP":
            visit.close(close[0])
            await self._end(visit, close[0], closed=True)
        visit.leave()

    async def _end(self, visit: Visit, code: int, *, closed: bool = False) -> None:
        closes = int(closed)
        while (opcode := (await visit.next())[0]) > 0:
            closes += opcode == CLOSE
        told = f"{code} at {visit.worker.name}"
        if closes > 1:
            self.wrong("doubled", told)
        if opcode == 0 and not visit.worker.is_over:
            self.wrong("hanging", f"after the close: {told}")
        visit.leave()

    def must_stay(self, visit: Visit, close: Close) -> None:
        """Judge a close of a socket that nothing was to close."""
        if self.is_excused(visit, close):
            self.saw("excused")
        else:
            self.wrong("cut off", f"{close[0]} {close[1]} at {visit.worker.name}")

    async def pause(self, seconds: float) -> None:
        """Wait, or until everybody is to leave."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    def go(self) -> None:
        """Let go of all that is left."""
        for visit in self._visits:
            visit.leave()

    # HTTP

    async def ask(self, target: str, token: Token | None = None) -> tuple[int, Any]:
        """The status and the JSON of a POST to any worker; 0 where there is no answer."""
        worker = self.site.any_worker(self.random)
        began = time.monotonic()
        status, told = await post(worker, target, token)
        if status == 503 and not self.site.troubles.had("redis", began):
            self.wrong("refused", f"POST {target}: {status} {told} at {worker.name}")
        elif status == 0 and not worker.is_over:
            self.wrong("hanging", f"POST {target} at {worker.name}: {told}")
        return status, told

    # What is told of it

    def is_excused(self, visit: Visit, answer: Close) -> bool:
        """Whether an outage explains this."""
        troubles, since = self.site.troubles, visit.began
        if answer == UNAVAILABLE:
            return troubles.had("redis", since)
        if answer == NO_KEYS:
            return troubles.had("issuer", since)
        return visit.worker.is_over and (answer in (GONE, SILENT) or answer[0] in (1012, 500, 503))

    def saw(self, what: str) -> None:
        self.tally.saw(self.kind, what)

    def wrong(self, what: str, detail: str) -> None:
        recent = sorted(self.site.troubles.now)
        self.tally.went_wrong(what, self.kind, f"{detail} (troubles now: {recent})")


async def post(worker: Worker, target: str, token: Token | None = None) -> tuple[int, Any]:
    """The status and the JSON; 0 where there is no answer."""
    lines = [f"POST {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", "Content-Length: 0"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token.value}")
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.server.port)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode())
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)
    except (OSError, asyncio.TimeoutError, ValueError, IndexError) as exc:
        return 0, repr(exc)
