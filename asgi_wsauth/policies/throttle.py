"""How often an address may fail: `FailureThrottle`.

A guess takes its place before it is judged, and gives it back if it was no bad one. So no more are
judged than the rate says, however many come at once; and good credentials that come together wait
for each other's verdicts, which are there in a moment.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Coroutine
from functools import cached_property, partial
from inspect import isawaitable
from itertools import islice
from typing import Any

import anyio

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import log_failure, logger
from asgi_wsauth.loops.tasks import detached
from asgi_wsauth.options import ConfigurationError, shown
from asgi_wsauth.scope.addresses import share_of

__all__ = ["FailureThrottle"]

_MOST_ADDRESSES = 50_000  # kept in memory
_LOCK_KNOWN_FOR = 1.0  # seconds for which a storage that locked an address isn't asked again
_PAUSES = 0.01, 0.2  # seconds between two looks at what other processes are judging
_PATIENCE = 10.0  # seconds for an answer of the storage, for which nobody may wait any longer


class FailureThrottle:
    """Locks out client addresses from which too many bad credentials came.

    INVALID and MALFORMED count, and so does who lets the time for a first message run out; an
    expired token, an outage or a full house never do. Whoever is locked out is THROTTLED, whatever
    he presents, and told when to come back. Of an IPv6 address the first 64 bits count, because
    whoever has one has all of those (RFC 6177). Addresses that can't be read share one count. A
    peer without an address (a Unix socket) is never locked out; the log warns of that once.

    No more credentials of one address are judged at once than may still fail; others wait for their
    verdicts.

    What browsers send because another site's page told them to has the same rate once more, so that
    no such page locks out its visitors. A program may claim to be such a browser: of one address,
    twice the rate is the most.

    Behind a proxy the server must take the client's address from it, or everybody has the proxy's.

    Args:
        rate: how many failures in what time, as in "10/minute" or "100 per 2 hours"; the time
            begins with the first one.
        storage: where they are counted: a storage of the library `limits`, for several processes
            one of its asynchronous ones (`limits.aio.storage`). None for this process's memory,
            which keeps the latest 50,000 addresses.
        name: throttles that count separately in one storage have different names.

    Raises:
        ConfigurationError: an option can't work, or `limits` is not installed.
    """

    def __init__(self, rate: str = "10/minute", *, storage: Any = None, name: str = "") -> None:
        try:
            import limits
            import limits.aio
        except ImportError:
            raise ConfigurationError(
                "FailureThrottle: limits is missing; pip install 'asgi-wsauth[throttle]'"
            ) from None
        try:
            (self._rate,) = limits.parse_many(rate)
            if self._rate.amount < 1:
                raise ValueError
        except (TypeError, ValueError):
            raise ConfigurationError(
                'FailureThrottle: rate must be one rate, for example "10/minute", got '
                f"{shown(rate)}"
            ) from None
        if not isinstance(name, str):
            raise ConfigurationError(f"FailureThrottle: name must be a string, got {shown(name)}")
        kinds = limits.storage.MemoryStorage, limits.aio.storage.Storage
        if storage is not None and not isinstance(storage, kinds):
            raise ConfigurationError(
                "FailureThrottle: storage must be one of limits.aio.storage, which an event loop "
                f"can use, got {shown(storage)}"
            )
        self._given = rate, storage, name
        self._here = _Accounts(self._rate.amount, self._rate.get_expiry())
        self._shared: _Shared | None = None
        if storage is not None:
            memcached = isinstance(storage, limits.aio.storage.MemcachedStorage)
            self._shared = _Shared(storage, self._rate, f"wsauth{name}", memcached=memcached)
        self._warned = False

    @cached_property
    def elsewhere(self) -> FailureThrottle:
        """The same rate once more, for what browsers send because another site's page told them to:
        such a page is not to lock its visitors out."""
        rate, storage, name = self._given
        throttle = type(self)(rate, storage=storage, name=f"{name}-elsewhere")
        throttle._warned = True  # once is enough
        return throttle

    @property
    def is_shared(self) -> bool:
        """Whether something outside this process counts, so that it may have to be waited for."""
        return self._shared is not None

    async def look(self, client: str | None) -> None:
        """Refuse an address that is locked out; what is being judged doesn't matter.

        Args:
            client: what `client_host` returned.

        Raises:
            Denied: with `Reason.THROTTLED`; or `Reason.UNAVAILABLE`, where the storage fails.
        """
        share = self._share(client)
        if share is not None:
            self._here.check(share)
            if self._shared is not None:
                await self._answer(self._shared.check(share))

    async def check(self, client: str | None) -> None:
        """Refuse an address that is locked out; otherwise take a place for what is to be judged,
        which ends by `count` or `release`. Waits while what is being judged might use up the rate.

        Args:
            client: what `client_host` returned.

        Raises:
            Denied: with `Reason.THROTTLED`; or `Reason.UNAVAILABLE`, where the storage fails.
        """
        share = self._share(client)
        if share is None:
            return
        await self._here.enter(share)
        if self._shared is None:
            return
        try:
            await self._answer(self._shared.take(share))
        except BaseException as exc:
            if isinstance(exc, Denied) and exc.reason is Reason.THROTTLED:
                self._here.lock(share, exc.retry_after or 0.0)
            self._here.leave(share)
            raise

    async def count(self, client: str | None) -> None:
        """Count a failure: its place stays taken for the rate's time."""
        share = self._share(client)
        if share is not None:
            if self._shared is not None:
                await self._shared.count(share, has_place=self._here.is_judging(share))
            self._here.leave(share, failed=self._shared is None)

    async def release(self, client: str | None) -> None:
        """Give a place back: what was judged is no failure."""
        share = self._share(client)
        if share is not None:
            if self._shared is not None:
                await self._shared.give_back(share)
            self._here.leave(share)

    def leave(self, client: str | None) -> None:
        """Give a place back in this process, where `count` or `release` failed. Outside it stays
        taken for the rate's time."""
        share = self._share(client)
        if share is not None:
            self._here.leave(share)

    async def _answer(self, question: Coroutine[Any, Any, None]) -> None:
        try:
            await question
        except Denied:
            raise
        except Exception as exc:
            raise Denied.because(repr(self._shared), exc, Reason.UNAVAILABLE) from exc

    def _share(self, client: str | None) -> str | None:
        share = share_of(client)
        if share is None and not self._warned:
            self._warned = True
            logger.warning(
                "%r counts nothing for peers without an address: behind a proxy, have the server "
                "take it from there (uvicorn --forwarded-allow-ips)",
                self,
            )
        return share

    def __repr__(self) -> str:
        return f"<FailureThrottle at {self._rate}>"


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


class _Accounts:
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


class _Shared:
    """What is counted in a storage, under two keys for each address. One is the failures. The other
    one has the places, those of failures and those of what is being judged somewhere, and keeps the
    rate. The first one tells a locked address from one with many verdicts to come.

    A storage can't be asked to tell when a place is free, so it is looked at again and again.

    What changes a count is done in a task of its own: whoever leaves before the answer is there
    can't know whether the change was made, and it is to be undone exactly then.
    """

    def __init__(self, storage: Any, rate: Any, name: str, *, memcached: bool) -> None:
        self._storage = storage
        self._rate = rate
        self._seconds = rate.get_expiry()
        self._name = name
        self._memcached = memcached

    async def check(self, share: str) -> None:
        key = self._rate.key_for(self._name, share)
        if await self._ask("get", key) >= self._rate.amount:
            left = await self._ask("get_expiry", key) - time.time()
            raise Denied(Reason.THROTTLED, f"more than {self._rate}", retry_after=max(left, 1.0))

    async def take(self, share: str) -> None:
        pause, longest = _PAUSES
        while not await detached(
            partial(self._try_to_take, share), partial(self._undo, share), seconds=_PATIENCE
        ):
            await self.check(share)
            await anyio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _try_to_take(self, share: str) -> bool:
        taken = await self._ask("incr", self._places(share), self._seconds)
        if taken <= self._rate.amount:
            return True
        await self._give_back(share)
        return False

    async def _undo(self, share: str, has_place: bool) -> None:
        try:
            if has_place:
                await self._give_back(share)
        except Exception as exc:
            log_failure("%r could not give a place back", self, exc)

    async def count(self, share: str, *, has_place: bool) -> None:
        await detached(partial(self._count, share, has_place), seconds=_PATIENCE)

    async def _count(self, share: str, has_place: bool) -> None:
        if not has_place:
            await self._ask("incr", self._places(share), self._seconds)
        await self._ask("incr", self._rate.key_for(self._name, share), self._seconds)

    async def give_back(self, share: str) -> None:
        await detached(partial(self._give_back, share), seconds=_PATIENCE)

    async def _give_back(self, share: str) -> None:
        places = self._places(share)
        if self._memcached:  # which adds nothing negative
            await self._ask("decr", places, 1, of=self._storage.bridge)
        elif await self._ask("incr", places, self._seconds, -1) < 0:  # taken before their time
            await self._ask("incr", places, self._seconds, 1)

    def _places(self, share: str) -> str:
        return str(self._rate.key_for(self._name, "places", share))

    async def _ask(self, method: str, *arguments: Any, of: Any = None) -> Any:
        answer = getattr(of or self._storage, method)(*arguments)
        return await answer if isawaitable(answer) else answer

    def __repr__(self) -> str:
        return repr(self._storage)
