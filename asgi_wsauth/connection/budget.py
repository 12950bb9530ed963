"""A limit on refused clients that have not disconnected yet.

A refused client that was accepted, so that it sees its close code, can keep sending, and the server
can keep reading, for up to 20 seconds. So there is a budget of such clients, per address and in
total; beyond it, the refusal is a plain HTTP response, after which nothing is read. A client that
answers the close frees its place at once. One that doesn't is "silent", and holds its place for as
long as the server may keep reading. Few of those are allowed; an office full of expired tokens has
none.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
from starlette.types import Message, Receive, Send

from asgi_wsauth.connection.closing import close
from asgi_wsauth.connection.valve import valve_of
from asgi_wsauth.denial import Denied
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.loops.timers import timers
from asgi_wsauth.scope.addresses import client_host, share_of

__all__ = ["close_within_budget"]

_LINGER = 20.0  # seconds for which a server may read from a client that has not answered
_WAIT = 3.0  # seconds that a refused client waits for a place while none at its address answers
_LONGEST_WAIT = 10.0  # seconds that it waits at all

# The total is this many times what one address may have, so that the silent clients of a few
# addresses leave room for the others. Clients without an address share that much, too.
_IN_ALL = 8

# With a valve, each of them costs a file descriptor and no more.
_FRESH = 1000
_SILENT = 50

# Without, each may cost 256 MB and seconds while it is read from. So an address begins with two,
# and has one more for each that answers: 500 that answer within 0.1 s pass in about 3 seconds.
_LEAST = 2
_MOST = 16


class _Share:
    """The refused clients of one address, or of all.

    Args:
        times: how many addresses' places these are.
        width: how many there may be at once of each where there is no valve.

    Attributes:
        fresh: those that were told within the last second.
        silent: those that did not answer within a second.
        answers: how often one answered.
        waiting: those that wait for a place, and whether they have a valve.
    """

    __slots__ = ("answers", "fresh", "silent", "times", "waiting", "width")

    def __init__(self, times: int, width: int = _LEAST) -> None:
        self.times = times
        self.width = width
        self.fresh = self.silent = self.answers = 0
        self.waiting: list[tuple[anyio.Event, bool]] = []

    def free(self, valved: bool) -> int:
        """How many more there may be; 0 or less for none."""
        if not valved:
            return self.width * self.times - self.fresh - self.silent
        return _FRESH * self.times - self.fresh if self.may_have_room(valved) else 0

    def may_have_room(self, valved: bool) -> bool:
        """Whether there is some when the fresh ones have answered."""
        return self.silent < (_SILENT if valved else self.width) * self.times


def _share(host: str | None) -> _Share:
    return _Share(_IN_ALL if host is None else 1)


_NOBODY = _share(""), _share(None)  # those of an address that has no client, and of none


class Budget:
    """The refused clients of one event loop that are not gone yet."""

    def __init__(self) -> None:
        self._timers = timers(anyio.current_time)
        self._all = _Share(_IN_ALL, _MOST)
        self._shares: dict[str | None, _Share] = {}

    def __len__(self) -> int:
        return self._all.fresh + self._all.silent

    def _has_room(self, host: str | None, valved: bool) -> bool:
        share = self._shares.get(host) or _NOBODY[host is None]
        return share.free(valved) > 0 and self._all.free(valved) > 0

    async def enter(self, host: str | None, *, valved: bool) -> bool:
        """Take a place, or wait a little for one that a fresh client holds; whether there was
        one.

        Args:
            host: the client's address, or what stands for it.
            valved: whether what is read of it can be bounded.
        """
        if self._has_room(host, valved) or await self._wait(host, valved):
            self.add(host)
            return True
        self._forget(host)
        return False

    async def _wait(self, host: str | None, valved: bool) -> bool:
        """Whether a place has become free."""
        deadline: float | None = None
        while not self._has_room(host, valved):
            share = self._shares.get(host)
            # None is free soon where silent ones hold them, or those of other addresses.
            if share is None or not share.fresh or not share.may_have_room(valved):
                return False
            if len(share.waiting) >= _FRESH:
                return False
            event, answers = anyio.Event(), share.answers
            share.waiting.append((event, valved))
            now = self._timers.now()
            deadline = deadline or now + _LONGEST_WAIT
            try:
                with anyio.CancelScope(deadline=min(deadline, now + _WAIT)):
                    await event.wait()
            finally:
                if (event, valved) in share.waiting:
                    share.waiting.remove((event, valved))
            someone_left = share.answers > answers and self._timers.now() < deadline
            if not event.is_set() and not someone_left:
                return False
        return True

    def add(self, host: str | None) -> None:
        """Have one more, whether there is room or not."""
        share = self._shares.get(host)
        if share is None:
            share = self._shares[host] = _share(host)
        share.fresh += 1
        self._all.fresh += 1

    def leave(self, host: str | None, *, is_gone: bool) -> None:
        """A fresh client is gone, or has become a silent one."""
        mine, everyone = self._shares[host], self._all
        mine.fresh -= 1
        everyone.fresh -= 1
        if is_gone:
            mine.answers += 1
            if mine.width < _MOST:
                mine.width += 1
        else:
            mine.silent += 1
            everyone.silent += 1
            mine.width = _LEAST
            self._timers.call_in(_LINGER, partial(self._end, host))
        self._wake(host)

    def _end(self, host: str | None) -> None:
        for share in (self._shares[host], self._all):
            share.silent -= 1
        self._wake(host)

    def _wake(self, host: str | None) -> None:
        """Let those look again who wait for a place that is free now; all, where they wait in
        vain."""
        share = self._shares[host]
        if share.waiting:
            valved = share.waiting[0][1]
            woken = share.waiting[:]
            if share.may_have_room(valved):
                woken = woken[: max(share.free(valved), 0)]
            del share.waiting[: len(woken)]
            for event, _ in woken:
                event.set()
        self._forget(host)

    def _forget(self, host: str | None) -> None:
        share = self._shares.get(host)
        if share is not None and not (share.fresh or share.silent or share.waiting):
            del self._shares[host]


_here: PerLoop[Budget] = PerLoop()


def budget() -> Budget:
    """The budget of the running event loop."""
    return _here.get_or_make(Budget)


async def close_within_budget(
    scope: Any, receive: Receive, send: Send, denied: Denied, code: int, *first: Message
) -> bool:
    """Close the socket of a refused client, that was accepted or is by `first`, if there is a place
    for it. One that was accepted always has one.

    Args:
        scope: the handshake.
        receive: the server's.
        send: the server's.
        denied: why.
        code: the close code for that.
        first: what accepts it.

    Returns:
        Whether there was. Else nothing was sent.
    """
    host, valve, here = share_of(client_host(scope)), valve_of(receive), budget()
    if not first:
        here.add(host)
    elif not await here.enter(host, valved=valve is not None):
        return False
    is_gone = True  # also where the server cancels this
    try:
        is_gone = await close(receive, send, denied, code, *first, valve=valve)
    finally:
        here.leave(host, is_gone=is_gone)
    return True
