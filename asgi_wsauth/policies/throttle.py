"""Limits how often an address may fail: `FailureThrottle`.

Each attempt takes a place before it is judged, and releases it unless it failed. So no more are
judged than the rate allows, however many arrive at once; good credentials that arrive together wait
for each other's verdicts, which takes a moment.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from functools import cached_property, partial
from inspect import isawaitable
from typing import Any

import anyio
from starlette.requests import HTTPConnection

from asgi_wsauth.denial import Denied, FailsClosed, Reason
from asgi_wsauth.events import log_failure, logger
from asgi_wsauth.loops.tasks import detached
from asgi_wsauth.options import ConfigurationError, needs_extra, shown
from asgi_wsauth.policies.local_counts import LocalCounts
from asgi_wsauth.scope.addresses import share_of
from asgi_wsauth.sources.origins import HostWatch, Origin, comes_from_elsewhere

__all__ = ["FailureThrottle", "throttle_for"]

_PAUSES = 0.01, 0.2  # seconds between two looks at what other processes are judging
_PATIENCE = 10.0  # seconds for an answer of the storage; by then, no client may be waiting


class FailureThrottle:
    """Locks out client addresses that have presented too many bad credentials.

    INVALID and MALFORMED count, and so does a client that never sends its first message; an expired
    token, an outage or a full house don't. A locked-out address is THROTTLED, whatever it presents,
    and told when to come back. For IPv6 the first 64 bits count, because a host usually has all
    addresses that begin with them (RFC 6177). Addresses that can't be read share one count. A peer
    without an address (a Unix socket) is never locked out; the log warns of that once.

    No more credentials of one address are verified at once than may still fail; the others wait for
    those verdicts.

    Requests that a browser makes for another site's page have a second count with the same rate, so
    that no such page can lock out its visitors. A program may pretend to be such a browser, so one
    address gets at most twice the rate.

    Behind a proxy, the server must take the client's address from the proxy's headers; otherwise
    all clients share the proxy's count.

    Args:
        rate: how many failures in what time, as in "10/minute" or "100 per 2 hours"; the time
            begins with the first one.
        storage: where failures are counted: a storage of the library `limits`, and for several
            processes one of its asynchronous ones (`limits.aio.storage`). None for this process's
            memory, which keeps the latest 50,000 addresses.
        name: a name of its own, if several throttles use the same storage.

    Raises:
        ConfigurationError: an option can't work, or `limits` (the extra `throttle`) is not
            installed.
    """

    def __init__(self, rate: str = "10/minute", *, storage: Any = None, name: str = "") -> None:
        with needs_extra("FailureThrottle", "limits", "throttle"):
            import limits
            import limits.aio
        try:
            (self._rate,) = limits.parse_many(rate)
            if self._rate.amount < 1:
                raise ValueError
        except (TypeError, ValueError):
            raise ConfigurationError(
                "FailureThrottle: rate must say how many failures in what time, for example "
                f'"10/minute", got {shown(rate)}'
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
        self._here = LocalCounts(self._rate.amount, self._rate.get_expiry())
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

    async def precheck(self, client: str | None) -> None:
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
        """Release a place: what was judged is not a failure."""
        share = self._share(client)
        if share is not None:
            if self._shared is not None:
                await self._shared.release(share)
            self._here.leave(share)

    def leave(self, client: str | None) -> None:
        """Give a place back in this process, where `count` or `release` failed. Outside it stays
        taken for the rate's time."""
        share = self._share(client)
        if share is not None:
            self._here.leave(share)

    async def settle(self, client: str | None, *, failed: bool, seconds: float) -> None:
        """End what `check` began, whatever happens: count a failure, or release the place.

        Args:
            client: what `client_host` returned.
            failed: whether what was judged is a failure.
            seconds: how long the storage may take.
        """
        if not failed and not self.is_shared:  # nothing that could fail, or take its time
            self.leave(client)
            return
        ended = False
        try:
            # Who leaves at once is counted all the same.
            with anyio.move_on_after(seconds, shield=True):
                await (self.count if failed else self.release)(client)
                ended = True
        except Exception as exc:  # the verdict is what it is
            log_failure("%r could not count", self, exc)
        finally:
            if not ended:
                self.leave(client)

    async def _answer(self, question: Coroutine[Any, Any, float | None]) -> None:
        with FailsClosed(self._shared):
            locked_for = await question
        if locked_for is not None:
            raise Denied(Reason.THROTTLED, f"more than {self._rate}", retry_after=locked_for)

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


def throttle_for(
    conn: HTTPConnection,
    throttle: FailureThrottle,
    allowed_origins: frozenset[Origin] | None,
    hosts: HostWatch,
) -> FailureThrottle:
    """Which throttle counts a connection: what a browser sends on behalf of another site's page is
    counted apart.

    Args:
        conn: the connection.
        throttle: the one that is configured.
        allowed_origins: whose pages may connect, if that is known.
        hosts: told of each connection.
    """
    elsewhere = comes_from_elsewhere(conn, allowed_origins)
    if allowed_origins is None and hosts.notices(conn, elsewhere=elsewhere):
        logger.warning(
            "%r took every page so far for another site's: no Origin was that of the Host; "
            "behind a proxy that changes Host, set allowed_origins",
            throttle,
        )
    return throttle.elsewhere if elsewhere else throttle


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

    async def check(self, share: str) -> float | None:
        """Seconds for which the address is locked out still; None if it isn't."""
        key = self._rate.key_for(self._name, share)
        if await self._ask("get", key) < self._rate.amount:
            return None
        left: float = await self._ask("get_expiry", key) - time.time()
        return max(left, 1.0)

    async def take(self, share: str) -> float | None:
        """Take a place; as `check`, if there is none because the address is locked out."""
        pause, longest = _PAUSES
        while not await detached(
            partial(self._try_to_take, share), partial(self._undo, share), seconds=_PATIENCE
        ):
            locked_for = await self.check(share)
            if locked_for is not None:
                return locked_for
            await anyio.sleep(pause)
            pause = min(2 * pause, longest)
        return None

    async def _try_to_take(self, share: str) -> bool:
        taken = await self._ask("incr", self._places(share), self._seconds)
        if taken <= self._rate.amount:
            return True
        await self._release(share)
        return False

    async def _undo(self, share: str, has_place: bool) -> None:
        try:
            if has_place:
                await self._release(share)
        except Exception as exc:
            log_failure("%r could not release a place", self, exc)

    async def count(self, share: str, *, has_place: bool) -> None:
        await detached(partial(self._count, share, has_place), seconds=_PATIENCE)

    async def _count(self, share: str, has_place: bool) -> None:
        if not has_place:
            await self._ask("incr", self._places(share), self._seconds)
        await self._ask("incr", self._rate.key_for(self._name, share), self._seconds)

    async def release(self, share: str) -> None:
        await detached(partial(self._release, share), seconds=_PATIENCE)

    async def _release(self, share: str) -> None:
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
