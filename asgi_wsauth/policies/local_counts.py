"""Failures that this process has counted for each address, and attempts that are being judged."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from itertools import islice

import anyio

from asgi_wsauth.denial import Denied, Reason

__all__ = ["LocalCounts"]

_MOST_ADDRESSES = 50_000  # kept in memory
_LOCK_KNOWN_FOR = 1.0  # seconds for which a storage that locked an address isn't asked again


class _Account:
    """One address.

    Attributes:
        failures: how many there were within the time; none is worth nothing after `until`.
        until: when their time is over.
        opens: when a locked address may come back.
        judging: how many places are taken by what is being judged.
        turns: those who wait for one, the first one first.
    """

    __slots__ = ("failures", "judging", "opens", "turns", "until")

    def __init__(self) -> None:
        self.failures = self.judging = 0
        self.until = self.opens = 0.0
        self.turns: deque[_Turn] | None = None


class _Turn:
    """One that waits. It is called where there is a place, which it then has, and where there will
    be none."""

    __slots__ = ("called", "gone", "has_place")

    def __init__(self) -> None:
        self.called = anyio.Event()
        self.has_place = self.gone = False


class LocalCounts:
    """What this process knows of addresses: all of it where nothing outside counts; otherwise what
    is being judged here, and for a moment who is locked out. Nothing here waits for anything else.

    Args:
        most: failures that lock an address.
        seconds: within which they count.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._of: OrderedDict[str, _Account] = OrderedDict()  # the oldest first

    def check(self, share: str) -> None:
        account = self._current(share)
        if account is not None and account.failures >= self._most:
            left = max(account.opens - time.time(), 1.0)
            raise Denied(Reason.THROTTLED, f"{self._most} failures", retry_after=left)

    async def enter(self, share: str) -> None:
        while True:
            self.check(share)
            account = self._of.get(share) or self._add(share)
            if account.failures + account.judging < self._most:
                account.judging += 1
                return
            if await self._wait_for_place(share, account):
                return

    async def _wait_for_place(self, share: str, account: _Account) -> bool:
        turn = _Turn()
        account.turns = account.turns or deque()
        account.turns.append(turn)
        try:
            await turn.called.wait()
        except BaseException:
            turn.gone = True
            if turn.has_place:
                self.leave(share)
            raise
        return turn.has_place

    def leave(self, share: str, *, failed: bool = False) -> None:
        account = self._current(share) or self._add(share)
        account.judging = max(account.judging - 1, 0)
        if failed:
            if not account.failures:
                account.until = account.opens = time.time() + self._seconds
                self._of.move_to_end(share)
            account.failures += 1
        self._call(account)
        if not account.judging and not account.failures:
            del self._of[share]

    def is_judging(self, share: str) -> bool:
        account = self._of.get(share)
        return account is not None and account.judging > 0

    def lock(self, share: str, seconds: float) -> None:
        """It is locked out, as somebody else has found."""
        account = self._of[share]
        account.failures = self._most
        account.opens = time.time() + seconds
        account.until = time.time() + min(seconds, _LOCK_KNOWN_FOR)

    def _current(self, share: str) -> _Account | None:
        account = self._of.get(share)
        if account is not None and account.failures and account.until <= time.time():
            account.failures = 0
        return account

    def _call(self, account: _Account) -> None:
        """Call those who needn't wait any longer."""
        while account.turns:
            has_place = account.failures + account.judging < self._most
            if not has_place and account.failures < self._most:
                return
            turn = account.turns.popleft()
            if not turn.gone:
                account.judging += has_place
                turn.has_place = has_place
                turn.called.set()

    def _add(self, share: str) -> _Account:
        now = time.time()
        for old in [*islice(self._of, 2)]:  # two for each that comes, so it never takes long
            account = self._of[old]
            if account.judging:
                self._of.move_to_end(old)
            elif account.until <= now or len(self._of) >= _MOST_ADDRESSES:
                del self._of[old]
        self._of[share] = account = _Account()
        return account
