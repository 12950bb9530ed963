"""The entry of an open socket in `Sessions`: `Listing`."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import Scope

from asgi_wsauth.connection.guard import Guard
from asgi_wsauth.connection.session import Login
from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied
from asgi_wsauth.policies.entries import SessionEntry
from asgi_wsauth.policies.sessions import Sessions
from asgi_wsauth.printable import escaped
from asgi_wsauth.redaction import scrubbed

__all__ = ["Listing"]

# Characters that an entry has at most of what a client may make as long as it likes.
_LONGEST_PATH, _LONGEST_AGENT, _LONGEST_CLIENT = 500, 200, 100

_ESCAPED = 30  # characters that one of a credential may take up: %25252525%25252532%25252535


class Listing:
    """The entry of one socket in `Sessions`.

    Args:
        sessions: where it is listed.
        guard: what ends it.
        login: what is in force on it.
    """

    __slots__ = ("_guard", "_login", "_refreshed_at", "_sessions", "_since")

    def __init__(self, sessions: Sessions, guard: Guard, login: Login) -> None:
        self._sessions = sessions
        self._guard = guard
        self._login = login
        self._since = sessions.clock()
        self._refreshed_at: float | None = None

    async def add(self) -> None:
        """Put it on the list, from which it must be removed in any case.

        Raises:
            Denied: with `Reason.UNAVAILABLE`, where the store fails.
        """
        await self._sessions.register(self)

    def is_of(self, connection: object, /) -> bool:
        """See `Listed`."""
        return self._guard is connection

    def note_refresh(self) -> None:
        """See `Listed`."""
        self._refreshed_at = self._sessions.clock()
        self._sessions.update(self)

    async def remove(self) -> None:
        """See `Listed`."""
        await self._sessions.unregister(self)

    # What `Sessions` ask for.

    @property
    def id(self) -> str:
        return self._login.session.id

    @property
    def principal(self) -> Principal:
        return self._login.principal

    @property
    def stamp(self) -> object:
        return self._login.latest

    def entry(self, *, user_agent: bool) -> SessionEntry:
        login = self._login
        session, scope = login.session, login.scope
        hidden = {*login.attempt.presented, *login.latest.presented}
        return SessionEntry(
            id=session.id,
            since=self._since,
            refreshed_at=self._refreshed_at,
            client=_told(session.client, _LONGEST_CLIENT, hidden),
            path=_told(scope.get("path"), _LONGEST_PATH, hidden) or "",
            method=session.method,
            fingerprint=session.fingerprint,
            user_agent=_told(_agent(scope), _LONGEST_AGENT, hidden) if user_agent else None,
            issuer=session.principal.issuer,
        )

    def end(self, denied: Denied, /) -> None:
        self._guard.end(denied)


def _told(text: object, longest: int, hidden: Collection[str]) -> str | None:
    """The part of a text that an entry may have; a client has chosen it, or a proxy."""
    if not isinstance(text, str):
        return None
    # Of 64 kB, no more is searched than what is told, and a credential that begins in it.
    most = longest + _ESCAPED * max(map(len, hidden), default=0)
    return escaped(scrubbed(text[:most], hidden)[:longest])


def _agent(scope: Scope) -> str | None:
    return Headers(scope=scope).get("user-agent")
