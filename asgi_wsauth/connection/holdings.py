"""What a guarded socket holds while it is open: `Holdings`."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import anyio

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.connection.guard import Guard
from asgi_wsauth.connection.listing import Listing
from asgi_wsauth.connection.session import Login
from asgi_wsauth.options import check_instance, check_seconds_or_none
from asgi_wsauth.policies.limits import ConnectionLimit
from asgi_wsauth.policies.rechecks import RecheckSchedule
from asgi_wsauth.policies.revocation import Revocations
from asgi_wsauth.policies.sessions import Sessions
from asgi_wsauth.policies.subjects import all_subjects_of

__all__ = ["Holdings"]

_PATIENCE = 1.0  # seconds that a store may take to get back what it gave


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What a middleware's guarded sockets hold while they are open, and give back: a registration
    for revocations, one for rechecks, a slot, a place on the list. A socket without a login holds
    nothing; one whose login an instance further out has decided, only a slot, and its place on the
    list if that instance hasn't given it one.

    Attributes:
        revocations: what closes them when it revokes them, or None.
        rechecks: what decides about them again, or None.
        limit: what counts them, or None.
        sessions: what lists them, or None.
    """

    revocations: Revocations | None
    rechecks: RecheckSchedule | None
    limit: ConnectionLimit | None
    sessions: Sessions | None

    @classmethod
    def of(
        cls,
        authenticator: Authenticator,
        recheck: float | None,
        limit: ConnectionLimit | None,
        sessions: Sessions | None,
    ) -> Holdings | None:
        """What these options of a middleware say; None where that is nothing.

        Raises:
            ConfigurationError: one of them can't work.
        """
        recheck = check_seconds_or_none("recheck", recheck)
        if sessions is not None:
            check_instance("sessions", sessions, Sessions, "Sessions(MemoryStore())")
        revocations = authenticator.revocations
        if revocations is None and recheck is None and limit is None and sessions is None:
            return None
        return cls(
            revocations=revocations,
            rechecks=None if recheck is None else RecheckSchedule(recheck, authenticator.clock),
            limit=limit,
            sessions=sessions,
        )

    def are_for(self, login: Login, *, is_inside: bool) -> bool:
        """Whether a socket with this login holds anything."""
        if login.is_anonymous:
            return False
        if self.limit is not None or self._sessions_for(login) is not None:
            return True
        return not is_inside and (self.revocations is not None or self.rechecks is not None)

    def _sessions_for(self, login: Login) -> Sessions | None:
        """Where it is to be listed, if it isn't yet."""
        return self.sessions if login.listing is None else None

    def take(self, guard: Guard, login: Login, is_inside: bool) -> Coroutine[Any, Any, None] | None:
        """Take all that `guard` holds; what has to be waited for, if anything.

        Args:
            guard: who holds it.
            login: what is in force on it.
            is_inside: whether an instance further out has decided.

        Raises:
            Denied: when waited for: there is no slot, it was revoked, or a store fails.
        """
        if self.rechecks is not None and not is_inside:
            self.rechecks.register(guard)
        revocations = None if is_inside else self.revocations
        sessions = self._sessions_for(login)
        if sessions is not None:
            listing = Listing(sessions, guard, login)
            login.list_as(listing)
            return self._claim_and_list(guard, revocations, listing)
        if revocations is None and self.limit is None:
            return None
        return self._claim(guard, revocations)

    async def _claim_and_list(
        self, guard: Guard, revocations: Revocations | None, listing: Listing
    ) -> None:
        await self._claim(guard, revocations)
        await listing.add()  # at last, so that nobody is listed who is refused

    async def _claim(self, guard: Guard, revocations: Revocations | None) -> None:
        """Register, take a slot, and see once more whether the principal was revoked: before that,
        a revocation is found in the store, and afterwards it is heard of."""
        limit = self.limit
        if revocations is not None:
            revocations.register(guard)
        if revocations is not None and limit is not None and limit.counts_in(revocations.store):
            found = await limit.take_slot(guard, all_subjects_of(guard.principal))
            revocations.judge(guard.principal, found)
            return
        if limit is not None:
            await limit.take_slot(guard)
        if revocations is not None:
            await revocations.check(guard.principal)

    async def release(self, guard: Guard, login: Login) -> None:
        """Give back whatever it holds."""
        if self.rechecks is not None:
            self.rechecks.unregister(guard)
        if self.revocations is not None:
            self.revocations.unregister(guard)
        is_listed = login.listing is not None and login.listing.is_of(guard)
        # Each in its own time: what one store holds up must not stay with the other one.
        try:
            if self.limit is not None:
                with anyio.move_on_after(_PATIENCE, shield=True):
                    await self.limit.release_slot(guard)
        finally:
            if is_listed:
                with anyio.move_on_after(_PATIENCE, shield=True):
                    await login.unlist()
