"""What a store must do, as small protocols.

A store keeps strings and doesn't know what they mean. Each of its operations is atomic, however
many tasks, threads or processes call it at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "BlockStore",
    "Notice",
    "RenewalNotice",
    "RenewedSessions",
    "RevocationStore",
    "SessionKey",
    "SessionStore",
    "Slot",
    "SlotStore",
    "Subject",
    "TakenSlot",
    "TicketMemory",
    "TicketStore",
]

Subject: TypeAlias = (
    "tuple[Literal['user', 'token', 'session', 'everybody', 'blocked', 'slot', 'ended'], str]"
)
"""What can be revoked: a user by identity, a token or a session by its id, everybody at once, and a
user for a time; a slot for a connection, which is lost to a newer one; and a single connection that
is ended, by its own id. The second text is the name at every issuer, or the name and its issuer; to
a store it may be any text."""

Slot: TypeAlias = "tuple[str, str]"
"""A place for one connection: whose it is, and its own name, which no other slot ever has."""

SessionKey: TypeAlias = "tuple[str, str]"
"""A connection that is listed: whose it is, and its own id, which no other one ever has."""


class Notice(NamedTuple):
    """Something was revoked.

    Attributes:
        subject: what.
        until: Unix time in seconds: what was issued up to then is revoked. For a user who is
            blocked, the end of the block.
    """

    subject: Subject
    until: float

    @property
    def renew_by(self) -> float | None:
        """Unix time in seconds up to which open sockets may bring a new credential; None if they
        may not.
        """
        return None


class RenewalNotice(Notice):
    """Something was revoked, and open sockets may bring a new credential. It is a pair, like any
    notice, for code that knows nothing of that.
    """

    _renew_by: float

    @classmethod
    def of(cls, notice: Notice, renew_by: float) -> RenewalNotice:
        """The same notice, with the time up to which they may.

        Args:
            notice: what is revoked.
            renew_by: Unix time in seconds.
        """
        self = cls(*notice)
        self._renew_by = renew_by
        return self

    @property
    def renew_by(self) -> float | None:
        return self._renew_by


class TakenSlot(NamedTuple):
    """The result of taking a slot.

    Attributes:
        taken: whether it was free.
        revoked: for each subject that was asked about, until when it is revoked.
    """

    taken: bool
    revoked: Sequence[float | None]


class RenewedSessions(NamedTuple):
    """The result of renewing sessions.

    Attributes:
        unknown: those that the store doesn't have, because they lapsed or it lost them.
        ended: the ids of those that were ended, each with how.
    """

    unknown: Sequence[SessionKey]
    ended: Sequence[tuple[str, str]]


class TicketStore(Protocol):
    """Keeps records that can be taken out once."""

    async def put_ticket(
        self, digest: str, record: str, /, *, owner: str, limit: int, ttl: float
    ) -> None:
        """Keep a record.

        Args:
            digest: its key, 64 hex digits.
            record: what to keep, JSON.
            owner: whose it is.
            limit: how many records this owner may have; the oldest are dropped.
            ttl: seconds after which it is to be gone.
        """
        ...

    async def take_ticket(self, digest: str, /) -> str | None:
        """The record, which is gone from now on; None if there is none. Of any number of calls for
        one digest, at most one gets the record.
        """
        ...


@runtime_checkable
class TicketMemory(Protocol):
    """What a `TicketStore` may have besides, to tell a used ticket from one that never existed."""

    async def had_ticket(self, digest: str, /) -> bool:
        """Whether there was a record that was taken, or was dropped for newer ones, and whose time
        is not over yet. Called right after `take_ticket` returned None.
        """
        ...


class RevocationStore(Protocol):
    """Keeps revocations, and notifies watchers."""

    async def put_revocation(self, notice: Notice, /, *, ttl: float) -> None:
        """Keep a revocation, and notify watchers.

        Args:
            notice: what is revoked. Of two for one subject, the later `until` counts.
            ttl: seconds after which it may be forgotten.
        """
        ...

    async def get_revocations(self, subjects: Sequence[Subject], /) -> Sequence[float | None]:
        """For each subject, until when it is revoked; None if it isn't."""
        ...

    def watch(self) -> AsyncGenerator[Sequence[Notice] | None, None]:
        """What is revoked from now on, by any process, including slots that are lost.

        The first item is None and says that the watch has begun: what was revoked before may have
        been missed. The iterator raises if it is cut off; the caller then begins another.
        """
        ...


@runtime_checkable
class BlockStore(Protocol):
    """What a `RevocationStore` may have besides, so that users can be blocked and unblocked."""

    async def replace_revocation(self, notice: Notice, /, *, ttl: float) -> None:
        """Keep a revocation in place of what is known of its subject, and notify watchers.

        Args:
            notice: what is revoked.
            ttl: seconds after which it is to be forgotten; 0 to forget what is known, without
                notifying anyone.
        """
        ...


class SlotStore(Protocol):
    """Keeps count of connections."""

    @property
    def lease(self) -> float | None:
        """Seconds for which a slot is kept unless it is renewed; None if it is kept until it is
        released.
        """
        ...

    async def take_slot(
        self, slot: Slot, /, *, limit: int, evict: bool, subjects: Sequence[Subject] = ()
    ) -> TakenSlot:
        """Take a slot, unless its owner has `limit` of them. A slot that is already held stays
        held.

        Args:
            slot: which.
            limit: how many an owner may have.
            evict: whether to take it in any case, and drop the owner's oldest, each with a notice.
            subjects: what to look up among the revocations in the same exchange.
        """
        ...

    async def renew_slots(self, slots: Sequence[Slot], /) -> Sequence[Slot]:
        """Keep these for another lease, or take them again. Those that were lost to newer ones in
        the meantime are returned.
        """
        ...

    async def release_slot(self, slot: Slot, /) -> None:
        """Release it."""
        ...

    def watch(self) -> AsyncGenerator[Sequence[Notice] | None, None]:
        """See `RevocationStore`."""
        ...


@runtime_checkable
class SessionStore(Protocol):
    """Keeps a list of connections, and which of them were ended."""

    @property
    def lease(self) -> float | None:
        """Seconds for which a session is listed unless it is renewed; None if it is listed until it
        is dropped.
        """
        ...

    async def put_sessions(self, sessions: Sequence[tuple[SessionKey, str]], /) -> None:
        """List these, each with what to keep of it, in place of what is known of it."""
        ...

    async def renew_sessions(self, keys: Sequence[SessionKey], /) -> RenewedSessions:
        """List these for another lease, as far as they are known and were not ended."""
        ...

    async def get_sessions(self, owner: str, /) -> Sequence[tuple[str, str]]:
        """All of this owner's sessions that were not ended: their ids, and what was kept."""
        ...

    async def drop_session(self, key: SessionKey, /) -> None:
        """Take it off the list. One that isn't there is no error."""
        ...

    async def end_sessions(self, ids: Sequence[str], how: str, /, *, ttl: float) -> None:
        """Note that these are ended, and notify watchers of each, as `("ended", id)`. There may be
        none with that id. Of two ends of one, the first counts.

        Args:
            ids: a list of ids.
            how: what `renew_sessions` returns for it.
            ttl: seconds after which that may be forgotten; also once it was dropped.
        """
        ...

    def watch(self) -> AsyncGenerator[Sequence[Notice] | None, None]:
        """See `RevocationStore`."""
        ...
