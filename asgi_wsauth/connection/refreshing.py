"""The new credentials of one client on its open socket."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from typing import Any

from starlette.types import Message

from asgi_wsauth.connection.refresh_messages import RefreshMessages
from asgi_wsauth.connection.session import Session, login_behind, login_of
from asgi_wsauth.connection.terms import EndTerms
from asgi_wsauth.denial import Denied
from asgi_wsauth.loops.tasks import spawn
from asgi_wsauth.loops.timers import Timer, timers

__all__ = ["Refreshing"]

_NOTICE = 60.0  # seconds before the expiry at which a client is reminded, at the earliest
_PAUSE = 5.0  # seconds between two reminders, at least


class Refreshing:
    """Takes new credentials from a client, and reminds it that one is due.

    Args:
        messages: what both of them say.
        terms: what the middleware has fixed.
        session: of the login that is to go on.
        tell: sends the client a message.
    """

    __slots__ = (
        "_demand",
        "_reminder",
        "_session",
        "_tell",
        "_terms",
        "_told_at",
        "_told_end",
        "messages",
    )

    def __init__(
        self,
        messages: RefreshMessages,
        terms: EndTerms,
        session: Session,
        tell: Callable[[Message], Coroutine[Any, Any, None]],
    ) -> None:
        self.messages = messages
        self._terms = terms
        self._session = session
        self._tell = tell
        self._reminder: Timer | None = None
        self._demand: Timer | None = None
        self._told_at = self._told_end = -inf  # when, and of which end, the client was told last

    async def take(self, token: str) -> Denied | None:
        """Continue with a credential that the client sent; return why not, if it is refused."""
        login = login_behind(self._session)
        if login is None:  # the app is over
            return None
        try:
            await login.refresh(token)
        except Denied as denied:
            return denied
        await self._tell(self.messages.ok(login.ends_at(self._terms)))
        return None

    def schedule(self, expires_at: float) -> None:
        """Remind the client, once per expiry. Otherwise a client with a short-lived credential, or
        one that sends the same credential again, would be reminded without a pause.

        Args:
            expires_at: Unix time in seconds when the credential ends.
        """
        left = expires_at - self._session.authenticated_at
        when = max(expires_at - min(_NOTICE, left / 2), self._told_at + _PAUSE)
        if self._told_end < expires_at and when < expires_at:
            self._reminder = timers(self._terms.clock).call_at(when, self._remind)

    @property
    def is_demanded(self) -> bool:
        """Whether a new credential must come, and has not."""
        return self._demand is not None

    def demand(self, by: float, end: Callable[[], None]) -> None:
        """Tell the client at once that a new credential must come. Of two demands, the one that
        ends sooner counts.

        Args:
            by: Unix time in seconds.
            end: called at that time, if none has come.
        """
        if self._demand is not None and self._told_end <= by:
            return
        self.cancel()
        self._demand = timers(self._terms.clock).call_at(by, end)
        self._say_due(by)

    def cancel(self) -> None:
        """Remind of nothing, and demand nothing."""
        if self._reminder is not None:
            self._reminder.cancel()
            self._reminder = None
        if self._demand is not None:
            self._demand.cancel()
            self._demand = None

    def _remind(self) -> None:
        expires_at = login_of(self._session).ends_at(self._terms)
        assert expires_at is not None
        self._say_due(expires_at)

    def _say_due(self, by: float) -> None:
        self._told_at, self._told_end = self._terms.clock(), by
        spawn(partial(self._tell, self.messages.due(by)))
