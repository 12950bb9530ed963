"""One client: it makes handshakes, and knows what each must lead to."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from random import Random
from typing import Any

from frames import CLOSE, TEXT, Close

from . import terms
from .mint import Mint, Token
from .site import Site, Worker
from .tally import Tally
from .visits import (
    ADMITTED,
    GONE,
    NO_KEYS,
    PATIENCE,
    RESTARTING,
    SILENT,
    UNAVAILABLE,
    UNAVAILABLE_BY_HTTP,
    Stream,
    Visit,
    close_in,
    post,
)


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
        is_page: whether he comes from a page, as a browser would tell it; else from a program.
    """

    def __init__(
        self, kind: str, site: Site, mint: Mint, tally: Tally, random: Random, over: asyncio.Event
    ) -> None:
        self.kind, self.site, self.mint, self.tally = kind, site, mint, tally
        self.random, self.over = random, over
        self.address = ".".join(["10", *(str(random.randrange(256)) for _ in range(3))])
        self.is_page = True
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
        flood: int = 0,
    ) -> Visit:
        """Make a handshake, which must lead to one of `expected`; with a flood on its heels."""
        value = token.value if isinstance(token, Token) else token
        if self.is_page and "Origin" not in dict(headers):
            headers = (*headers, ("Origin", terms.ORIGIN))
        headers = (*headers, ("X-Forwarded-For", self.address))
        if first is not None:
            value = None
        elif value is not None and self.random.random() < 0.5:
            headers, value = (*headers, ("Authorization", f"Bearer {value}")), None
        kind = Stream if path == "/events" else Visit
        visit = await kind.begin(
            worker or self.site.any_worker(self.random), path, headers=headers, token=value
        )
        self._visits.append(visit)
        self.tally.handshakes += 1
        if flood:
            visit.flood(flood)
        await visit.read_answer(first)
        self.tally.took("handshake, answered", time.monotonic() - visit.asked_at)
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
            await self.hang_up(visit, answer)

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
        await self.hang_up(visit, close)
        return close

    async def close_of(self, visit: Visit) -> Close:
        """The next close."""
        until = time.monotonic() + PATIENCE
        while (left := until - time.monotonic()) > 0:
            opcode, payload = await visit.next(left)
            if opcode not in (TEXT, 0):
                return close_in(opcode, payload)
            if self.site.troubles.has("redis"):  # nobody hears of a revocation meanwhile
                until = time.monotonic() + PATIENCE
        return SILENT

    async def message(self, visit: Visit, kind: str | None = None) -> str | Close:
        """The next text, or JSON of this `type`; or how the socket is closed."""
        while True:
            opcode, payload = await visit.next()
            if opcode != TEXT:
                return close_in(opcode, payload)
            text = payload.decode()
            if text == "tick" or (".due" in text and kind is None):
                continue
            if kind is None or (text.startswith("{") and json.loads(text)["type"] == kind):
                return text

    async def leave(self, visit: Visit) -> None:
        """Close politely."""
        visit.close(1000)
        await self._end(visit, 1000)

    async def hang_up(self, visit: Visit, close: Close) -> None:
        """Answer this close, after which none comes."""
        if close != GONE and close[0] >= 1000:  # and not by HTTP
            visit.close(close[0])
            await self._end(visit, close[0], closed=True)
        visit.leave()

    async def _end(self, visit: Visit, code: int, *, closed: bool = False) -> None:
        closes, until = int(closed), time.monotonic() + PATIENCE
        while (opcode := (await visit.next(until - time.monotonic()))[0]) > 0:
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

    async def ask(
        self, target: str, token: Token | None = None, method: str = "POST", **form: str
    ) -> tuple[int, Any]:
        """The status and the JSON of a request to any worker; 0 where there is no answer."""
        worker = self.site.any_worker(self.random)
        began = time.monotonic()
        status, told = await post(worker, target, token and token.value, method, **form)
        troubles = ("redis", "issuer") if form else ("redis",)
        if status == 503 and not any(self.site.troubles.had(name, began) for name in troubles):
            self.wrong("refused", f"{method} {target}: {status} {told} at {worker.name}")
        elif status == 0 and not worker.is_over:
            self.wrong("hanging", f"{method} {target} at {worker.name}: {told}")
        return status, told

    # What is told of it

    def is_excused(self, visit: Visit, answer: Close) -> bool:
        """Whether an outage explains this."""
        troubles, since = self.site.troubles, visit.asked_at
        if answer in (UNAVAILABLE, UNAVAILABLE_BY_HTTP) and troubles.had("redis", since):
            return True
        if answer == NO_KEYS:
            return troubles.had("issuer", since)
        if visit.worker.is_drained and visit.answer == ADMITTED and not isinstance(visit, Stream):
            return answer == RESTARTING
        return visit.worker.is_over and (answer in (GONE, SILENT) or answer[0] in (1012, 500, 503))

    def saw(self, what: str) -> None:
        self.tally.saw(self.kind, what)

    def wrong(self, what: str, detail: str) -> None:
        recent = sorted(self.site.troubles.now)
        self.tally.went_wrong(what, self.kind, f"{detail} (troubles now: {recent})")
