"""The open sockets of each event loop, which end when their credentials are revoked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Protocol

import anyio.lowlevel

from asgi_wsauth.credential import Principal, bare_name
from asgi_wsauth.denial import Denied
from asgi_wsauth.policies.subjects import EVERYBODY, all_subjects_of
from asgi_wsauth.stores.batches import batches
from asgi_wsauth.stores.listener import Listener
from asgi_wsauth.stores.protocols import Notice, RevocationStore, Subject

__all__ = ["LiveSocket", "LiveSockets"]

# Sockets that are looked at, ended, or asked about between two turns of the event loop.
_LOOKED_AT, _ENDED, _ASKED_ABOUT = 500, 5, 100

_OF_ONE_SOCKET = frozenset({"slot", "ended"})  # notices that say nothing of a principal


class LiveSocket(Protocol):
    """An open socket, to whatever may have to close it."""

    @property
    def principal(self) -> Principal:
        """The principal that it was opened by."""
        ...

    def end(self, denied: Denied, /) -> None:
        """Close it, soon."""
        ...

    def renew(self, by: float, denied: Denied, /) -> None:
        """Ask for a new credential, and close it at `by`, Unix time in seconds, if none has come;
        at once, where nobody could be asked."""
        ...


class LiveSockets:
    """The live sockets of one event loop: they are ended when a store tells that their credentials
    were revoked.

    Args:
        store: where that is told.
        judge: raises `Denied` for a principal, by what the store said of `all_subjects_of` it.
        clock: gives Unix time in seconds.

    Attributes:
        sockets: all of them; for one that has time to renew, with which principal it may go on for
            a while, and until when.
    """

    def __init__(
        self,
        store: RevocationStore,
        judge: Callable[[Principal, Sequence[float | None]], None],
        clock: Callable[[], float],
    ) -> None:
        self.sockets: dict[LiveSocket, tuple[Principal, float] | None] = {}
        self._store = store
        self._judge = judge
        self._clock = clock
        self._ended = 0
        Listener(self._store, self._hear, self._catch_up)

    def may_renew(self, socket: LiveSocket) -> bool:
        """Whether it has time to bring a new credential."""
        renewal = self.sockets.get(socket)
        if renewal is None:
            return False
        principal, by = renewal
        return self._clock() < by and socket.principal is principal

    async def _hear(self, notices: Sequence[Notice]) -> None:
        by_time: dict[float | None, dict[Subject, float]] = {}
        for notice in notices:
            if notice.subject[0] in _OF_ONE_SOCKET:
                continue
            revoked = by_time.setdefault(notice.renew_by, {})
            revoked[notice.subject] = max(notice.until, revoked.get(notice.subject, notice.until))
        for renew_by, revoked in by_time.items():
            await self._end_revoked(revoked, renew_by)

    async def _end_revoked(self, revoked: dict[Subject, float], renew_by: float | None) -> None:
        names = {bare_name(name) for _, name in revoked}
        is_everybody = EVERYBODY in revoked
        for sockets in batches(self.sockets, _LOOKED_AT):
            for socket in sockets:
                principal = socket.principal
                if not is_everybody and names.isdisjoint(
                    (principal.identity, principal.token_id, principal.session_id)
                ):
                    continue  # as nearly all of them: to judge each would take six times as long
                found = list(map(revoked.get, all_subjects_of(principal)))
                denied = self._denied(principal, found)
                if denied is not None and renew_by is not None:
                    if socket in self.sockets:
                        self.sockets[socket] = principal, renew_by
                    socket.renew(renew_by, denied)
                elif denied is not None:
                    socket.end(denied)
                await self._rest(denied)
            await anyio.lowlevel.checkpoint()

    async def _catch_up(self) -> None:
        for sockets in batches(self.sockets, _ASKED_ABOUT):
            pairs = [(socket, socket.principal) for socket in sockets]
            asked = [(*pair, all_subjects_of(pair[1])) for pair in pairs]
            subjects = chain.from_iterable(subjects for _, _, subjects in asked)
            found = iter(await self._store.get_revocations(list(subjects)))
            for socket, principal, names in asked:
                denied = self._denied(principal, list(islice(found, len(names))))
                if denied is not None and not self.may_renew(socket):
                    socket.end(denied)
                await self._rest(denied)
            await anyio.lowlevel.checkpoint()

    def _denied(self, principal: Principal, found: Sequence[float | None]) -> Denied | None:
        try:
            self._judge(principal, found)
        except Denied as denied:
            return denied
        return None

    async def _rest(self, denied: Denied | None) -> None:
        """Let others have their turn, after each few sockets that were ended."""
        if denied is not None:
            self._ended += 1
            if self._ended % _ENDED == 0:
                await anyio.lowlevel.checkpoint()
