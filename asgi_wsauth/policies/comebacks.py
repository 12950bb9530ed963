"""How often one credential may come back: `HandshakeLimit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from asgi_wsauth.credential import Principal, full_name
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import check_clock, check_rate
from asgi_wsauth.policies.recent import Recent

__all__ = ["HandshakeLimit"]

_MOST = 50_000  # credentials that are remembered
_ONCE = "ticket"  # the method of credentials that are good for one handshake


class HandshakeLimit:
    """How often the same credential may open, or try to open, a WebSocket: against clients that
    reconnect in a loop.

    Every handshake counts, whatever becomes of it: one that is admitted, one that is refused
    because its credential is EXPIRED, and one that a store's outage refuses. What comes too often
    is refused with `Reason.TOO_MANY_CONNECTIONS` before any verifier runs, and told when to come
    back; such refusals don't count, neither here nor as failed logins. A refresh of an open socket
    is no handshake.

    Whoever has the same credential shares one count: all tabs of a browser, and all machines that
    were given one API key. The default has room for sixty tabs that come back at once. A ticket is
    good for only one handshake, so the login behind it is what counts (its issuer and identity),
    once the ticket is verified. Clients that log in anew for each attempt bring a new credential
    each time, and aren't limited here.

    It counts in this process's memory, and remembers the latest 50,000 credentials by their
    digests.

    Args:
        rate: how many handshakes in what time, as in "60/minute" or "100 per 2 hours"; the time
            begins with the first one.
        clock: gives seconds, from any moment on.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self, rate: str = "60/minute", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._seconds = check_rate("HandshakeLimit: rate", rate)
        self._clock = check_clock("HandshakeLimit: clock", clock)
        self._rate = rate
        self._recent: Recent[_Window] = Recent(_MOST)

    def count(self, presented: Sequence[str]) -> None:
        """Count a handshake.

        Args:
            presented: the credentials that came with it, usually one; none doesn't count.

        Raises:
            Denied: they came too often (`Reason.TOO_MANY_CONNECTIONS`).
        """
        if presented:
            self._count("credential", *presented)

    def count_login(self, principal: Principal) -> None:
        """Count a handshake that was verified, where it can't be told by its credential.

        Args:
            principal: whom it vouches for.

        Raises:
            Denied: that login came too often (`Reason.TOO_MANY_CONNECTIONS`).
        """
        if principal.method == _ONCE:
            self._count("login", full_name(principal.identity, principal.issuer))

    def _count(self, *texts: str) -> None:
        now = self._clock()

        def renew(window: _Window | None) -> _Window:
            if window is None or window.ends <= now:
                return _Window(now + self._seconds)
            return window

        window = self._recent.came(texts, renew)
        if window.times >= self._most:
            detail = f"more than {self._rate} with the same {texts[0]}"
            raise Denied(Reason.TOO_MANY_CONNECTIONS, detail, retry_after=window.ends - now)
        window.times += 1

    def __repr__(self) -> str:
        return f"<HandshakeLimit of {self._rate}>"


class _Window:
    """The time that began with a credential's first handshake, and how many there were."""

    __slots__ = ("ends", "times")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.times = 0
