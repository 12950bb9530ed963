"""Open sockets that are listed, and ended, in whichever process: `Sessions`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol, TypeAlias

import anyio
import anyio.lowlevel

from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied, FailsClosed, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.loops.tasks import spawn
from asgi_wsauth.options import (
    check_bool,
    check_clock,
    check_instance,
    check_list,
    check_store,
    check_text,
)
from asgi_wsauth.policies.entries import SessionEntry, read, written
from asgi_wsauth.stores.batches import batches
from asgi_wsauth.stores.leases import Leases
from asgi_wsauth.stores.listener import Listener
from asgi_wsauth.stores.protocols import Notice, SessionKey, SessionStore

__all__ = ["ListedSocket", "Sessions"]

_REMEMBERED = 86400.0  # seconds for which a process that is cut off can still learn of an end
_BATCH = 500  # sessions that are renewed or put in one exchange
_ENDED = 5  # sockets that are ended between two turns of the event loop


_Entries: TypeAlias = "list[SessionEntry]"  # in the class, that is its method


class ListedSocket(Protocol):
    """An open socket, to what lists it."""

    @property
    def id(self) -> str:
        """Its own name, which no other one ever has."""
        ...

    @property
    def principal(self) -> Principal:
        """Whose it is."""
        ...

    @property
    def stamp(self) -> object:
        """An object that is replaced whenever the entry changes."""
        ...

    def entry(self, *, user_agent: bool) -> SessionEntry:
        """Its entry, as of now."""
        ...

    def end(self, denied: Denied, /) -> None:
        """Close it, soon."""
        ...


class Sessions:
    """The open sockets of each user, in all processes that share the store: to list them, and to
    end them.

    A socket of a `WebSocketAuthMiddleware` with these sessions is listed before its app runs, and
    until it is closed. In a store that processes share, it is listed for as long as its process
    renews it, so the sockets of a process that was killed vanish after the store's `lease`. If the
    store fails, new sockets are refused, with `Reason.UNAVAILABLE`; open ones stay open, and are
    listed again once it works. No credential is in the store.

    A user is the pair of issuer and identity. Without an issuer, an identity is meant at every
    issuer, and without any.

    Ending a session closes its socket, within a second. The credential stays valid: revoke it, too,
    if its client must not come back with it (see `Revocations`).

    Args:
        store: where sockets are listed: `MemoryStore()`, or one that several processes share.
        user_agent: whether entries have the first 200 characters of the `User-Agent` header, so
            that users recognise their browsers.
        clock: a function that returns Unix time in seconds, for tests.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        user_agent: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        methods = "put_sessions", "renew_sessions", "get_sessions", "drop_session", "end_sessions"
        check_store("Sessions: store", store, *methods, "watch")
        self.store = store
        self.user_agent = check_bool("Sessions: user_agent", user_agent)
        self.clock = check_clock("Sessions: clock", clock)
        self._here: PerLoop[_Here] = PerLoop()

    async def list(self, identity: str, issuer: str | None = None) -> _Entries:
        """A user's open sockets, the oldest first.

        Args:
            identity: as in `Principal.identity`: a JWT's `sub`, for example.
            issuer: as in `Principal.issuer`; None for that identity at every issuer, and without
                any.

        Raises:
            Denied: with `Reason.UNAVAILABLE`, if the store fails.
            ConfigurationError: an argument is invalid.
        """
        return await self._list("list", identity, issuer)

    async def end(self, id: str, reason: Reason = Reason.REVOKED) -> None:
        """Close a socket, in whichever process it is. One that doesn't exist is no error.

        Args:
            id: as in `SessionEntry.id`. It doesn't matter whose it is: if users end their own,
                check that `list` has it.
            reason: what the client is told.

        Raises:
            Denied: as in `list`: it may not have been ended.
            ConfigurationError: as in `list`.
        """
        check_text("end: id", id, _ID)
        await self._end("end", [id], reason)

    async def end_these(self, ids: Sequence[str], reason: Reason = Reason.REVOKED) -> None:
        """Close several sockets, as `end` does, in as few exchanges with the store as possible.

        Args:
            ids: a list of ids, as in `end`.
            reason: as in `end`.

        Raises:
            Denied: as in `list`: some of them may not have been ended.
            ConfigurationError: as in `list`.
        """
        ids = check_list("end_these: ids", ids)
        for id in ids:
            check_text("end_these: ids", id, _ID)
        await self._end("end_these", ids, reason)

    async def end_others(
        self,
        identity: str,
        keep: str,
        issuer: str | None = None,
        reason: Reason = Reason.REVOKED,
    ) -> None:
        """Close all of a user's sockets but one.

        Args:
            identity: as in `list`.
            keep: the id of the one that stays open. It need not exist.
            issuer: as in `list`.
            reason: what the clients are told.

        Raises:
            Denied: as in `list`: some of them may not have been ended.
            ConfigurationError: as in `list`.
        """
        check_text("end_others: keep", keep, _ID)
        entries = await self._list("end_others", identity, issuer)
        await self._end("end_others", [e.id for e in entries if e.id != keep], reason)

    async def _list(self, method: str, identity: str, issuer: str | None) -> _Entries:
        check_text(f"{method}: identity", identity, "alice")
        if issuer is not None:
            check_text(f"{method}: issuer", issuer, "https://id.example")
        found: _Entries = []
        with FailsClosed(self.store):
            for part in batches(await self.store.get_sessions(identity), _BATCH):
                found += [read(*kept) for kept in part]
                await anyio.lowlevel.checkpoint()  # somebody may have thousands
        entries = [entry for entry in found if issuer is None or entry.issuer == issuer]
        return sorted(entries, key=lambda entry: (entry.since, entry.id))

    async def _end(self, method: str, ids: Sequence[str], reason: Reason) -> None:
        check_instance(f"{method}: reason", reason, Reason, "Reason.REVOKED")
        with FailsClosed(self.store):
            for part in batches(ids, _BATCH):
                await self.store.end_sessions(part, reason.phrase, ttl=_REMEMBERED)
                await anyio.lowlevel.checkpoint()  # there may be thousands

    async def register(self, socket: ListedSocket) -> None:
        """List `socket` from now on, until it is unregistered, which must be done in any case.

        Raises:
            Denied: with `Reason.UNAVAILABLE`, where the store fails.
        """
        here = self._sockets_here()
        here.sockets[socket.id] = socket
        with FailsClosed(self.store):
            await here.put([socket])
        here.leases.keep()

    def update(self, socket: ListedSocket) -> None:
        """The entry of `socket` has changed; the store learns of it soon."""
        spawn(partial(self._sockets_here().update, socket))

    async def unregister(self, socket: ListedSocket) -> None:
        """`socket` has closed: take it off the list. One that isn't on it is no error."""
        if self._sockets_here().sockets.pop(socket.id, None) is None:
            return
        try:
            await self.store.drop_session(_key(socket))
        except Exception as exc:  # it will end with its lease
            logger.warning("a session in %r stays: %s", self.store, type(exc).__qualname__)

    def _sockets_here(self) -> _Here:
        return self._here.get_or_make(lambda: _Here(self.store, user_agent=self.user_agent))

    def __repr__(self) -> str:
        return f"<Sessions in {self.store!r}>"


class _Here:
    """The sessions of one event loop.

    Attributes:
        sockets: all of them, by their ids.
        leases: what renews them in the store.
    """

    def __init__(self, store: SessionStore, *, user_agent: bool) -> None:
        self.sockets: dict[str, ListedSocket] = {}
        self._store = store
        self._user_agent = user_agent
        self._stale: set[str] = set()  # of which the store has not heard the latest
        self.leases = Leases(store, "sessions", self.sockets, self._renew)
        Listener(store, self._hear, self._renew)

    async def put(self, sockets: Iterable[ListedSocket]) -> None:
        """Tell the store of these, until it has what is true of them by then."""
        rest = list(sockets)
        while rest:
            told = [(socket, socket.stamp) for socket in rest]
            for part in batches(rest, _BATCH):
                await self._store.put_sessions([self._told(socket) for socket in part])
            rest = []
            for socket, stamp in told:
                if socket.id not in self.sockets:  # it left meanwhile
                    self._stale.discard(socket.id)
                    await self._store.drop_session(_key(socket))
                elif socket.stamp is not stamp:
                    rest.append(socket)
                else:
                    self._stale.discard(socket.id)

    def _told(self, socket: ListedSocket) -> tuple[SessionKey, str]:
        return _key(socket), written(socket.entry(user_agent=self._user_agent))

    async def update(self, socket: ListedSocket) -> None:
        """Tell the store of what has changed; if it fails, when it is renewed."""
        self._stale.add(socket.id)
        try:
            await self.put([socket])
        except Exception as exc:
            logger.warning("a session in %r is stale: %s", self._store, type(exc).__qualname__)

    async def _hear(self, notices: Sequence[Notice]) -> None:
        ids = [name for (kind, name), _ in notices if kind == "ended" and name in self.sockets]
        if ids:
            await self._renew_these(ids)  # which says how they were ended

    async def _renew(self) -> None:
        self._stale.intersection_update(self.sockets)
        for ids in batches(self.sockets, _BATCH):
            await self._renew_these(ids)
            await anyio.lowlevel.checkpoint()

    async def _renew_these(self, ids: Iterable[str]) -> None:
        sockets = [self.sockets[id] for id in ids if id in self.sockets]
        unknown, ended = await self._store.renew_sessions(list(map(_key, sockets)))
        how = dict(ended)
        over = [socket for socket in sockets if socket.id in how]
        for number, socket in enumerate(over, 1):
            reason = _REASONS.get(how[socket.id], Reason.REVOKED)  # that of another version
            socket.end(Denied(reason, "its session was ended"))
            if number % _ENDED == 0:
                await anyio.lowlevel.checkpoint()
        missing = {id for _, id in unknown} | self._stale.intersection(ids)
        await self.put([self.sockets[id] for id in missing if id in self.sockets])


_ID = "an id that list() told"
_REASONS = {reason.phrase: reason for reason in Reason}


def _key(socket: ListedSocket) -> SessionKey:
    # By the identity alone, so that it can be listed at every issuer.
    return socket.principal.identity, socket.id
