"""How often one credential may come back: `HandshakeLimit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from asgi_wsauth.credential import Credential, Principal, full_name
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import check_clock, check_rate
from asgi_wsauth.policies.recent import Recent

__all__ = ["HandshakeLimit"]

_MOST = 50_000  # credentials that are remembered
_ONCE = "ticket"  # the method of credentials that are good for one handshake


class HandshakeLimit:
    """How often the same credential may open, or try to open, a WebSocket: against clients that
    reconnect in a loop.

    Every handshake with a credential counts, whatever becomes of it: one that is admitted, one that
    is refused because its credential is EXPIRED, and one that a store's outage refuses. A
    credential that comes too often is refused with `Reason.TOO_MANY_CONNECTIONS` before any
    verifier runs, and told when to come back; such refusals don't count, neither here nor as failed
    logins. Nor does what a full or drained process refuses, nor what comes from a page that is not
    among `allowed_origins`, which therefore can't use up its visitors' handshakes. A refresh of an
    open socket is no handshake.

    Everybody with the same credential shares one count: all tabs of a browser, and all machines
    that were given one API key. The default has room for sixty tabs that come back at once. A
    ticket is good for only one handshake, so the login behind it is what counts (its issuer and
    identity), once the ticket is verified. Clients that log in anew for each attempt bring a new
    credential each time, and aren't limited here. Of two middlewares, one inside the other, each
    counts: they need one object each.

    It counts in this process's memory, and remembers the latest 50,000 credentials by their
    digests.

    Args:
        rate: how many handshakes in what time, as in "60/minute" or "100 per 2 hours"; the time
            begins with the first one. Raise it if many clients share a credential.
        clock: a function that returns seconds since any fixed moment, for tests.

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
        left = self._count("credential", *presented) if presented else None
        if left is not None:
            names = " and ".join(Credential(text).fingerprint for text in presented)
            raise self._too_often(f"the credential {names}", left)

    def count_login(self, principal: Principal) -> None:
        """Count a handshake that was verified, where it can't be told by its credential.

        Args:
            principal: whom it vouches for.

        Raises:
            Denied: that login came too often (`Reason.TOO_MANY_CONNECTIONS`).
        """
        if principal.method == _ONCE:
            left = self._count("login", full_name(principal.identity, principal.issuer))
            if left is not None:
                raise self._too_often("tickets of the same user", left)

    def _count(self, *texts: str) -> float | None:
        """Count these; if they came too often, don't, and return the seconds until they may come
        again."""
        now = self._clock()

        def renew(window: _Window | None) -> _Window:
            if window is None or window.ends <= now:
                return _Window(now + self._seconds)
            return window

        window = self._recent.came(texts, renew)
        if window.times >= self._most:
            return window.ends - now
        window.times += 1
        return None

    def _too_often(self, what: str, left: float) -> Denied:
        detail = f"more than {self._rate} with {what}"
        return Denied(Reason.TOO_MANY_CONNECTIONS, detail, retry_after=left)

    def __repr__(self) -> str:
        return f"<HandshakeLimit of {self._rate}>"


class _Window:
    """The time that began with a credential's first handshake, and how many there were."""

    __slots__ = ("ends", "times")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.times = 0
