"""How a client is refused: with a close code, which a page can see, or over HTTP, which makes
programs stop or slow down. This is the only place that decides.

To a client's reconnection loop, an accepted socket means success: it retries at once, thousands of
times. So a program that keeps presenting the same refused credential is refused over HTTP instead,
until it has been quiet for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

from asgi_wsauth.policies.recent import Recent
from asgi_wsauth.scope.addresses import client_host, share_of
from asgi_wsauth.sources.origins import origin_of

__all__ = ["ACCEPT_THEN_CLOSE", "ChosenRejection", "Rejection", "Rejections"]

Rejection: TypeAlias = Literal["accept_then_close", "http_response", "close", "auto"]
"""How a client is refused: see the option `rejection` of `WebSocketAuthMiddleware`."""

_OFTEN = 10  # refusals of the same
_WITHIN = 10.0  # seconds
_QUIET = 60.0  # seconds after which one that came often is a new one
_MOST = 10_000  # that are remembered
_RETRY_AFTER = 10.0  # seconds that such a program is asked to wait


class ChosenRejection(NamedTuple):
    """How one client is refused.

    Attributes:
        rejection: how.
        repeated: how often the same had been refused before, where that was often.
        retry_after: seconds that the client is to stay away, where nothing else says how long.
    """

    rejection: Literal["accept_then_close", "http_response", "close"]
    repeated: int = 0
    retry_after: float | None = None


ACCEPT_THEN_CLOSE = ChosenRejection("accept_then_close")
"""How nearly all are."""


class Rejections:
    """How one middleware refuses clients.

    Args:
        rejection: what it is configured to do.
        clock: gives seconds, from any moment on.
    """

    def __init__(self, rejection: Rejection, clock: Callable[[], float] = time.monotonic) -> None:
        self.rejection = rejection
        self._clock = clock
        self._streaks: Recent[_Streak] = Recent(_MOST)

    def choose(self, scope: Any, presented: Iterable[str] | None = None) -> ChosenRejection:
        """How to refuse a handshake that hasn't been answered.

        Args:
            scope: the handshake.
            presented: the credentials that came with it; None where that doesn't matter.
        """
        if self.rejection in ("http_response", "close"):
            return ChosenRejection(self.rejection)
        if origin_of(scope) is not None:  # a page, which sees nothing but codes
            return ACCEPT_THEN_CLOSE
        if self.rejection == "auto":
            return ChosenRejection("http_response")
        share = share_of(client_host(scope))
        if share is None or presented is None:
            return ACCEPT_THEN_CLOSE
        repeated = self._count(share, presented)
        if repeated + 1 < _OFTEN:
            return ACCEPT_THEN_CLOSE
        return ChosenRejection("http_response", repeated, _RETRY_AFTER)

    def _count(self, share: str, presented: Iterable[str]) -> int:
        """How often the same was refused before."""
        now = self._clock()

        def renew(streak: _Streak | None) -> _Streak:
            return _Streak(now) if streak is None or streak.is_over(now) else streak

        streak = self._streaks.came([share, *presented], renew)
        repeated = streak.times
        streak.times += 1
        streak.latest = now
        return repeated


class _Streak:
    __slots__ = ("latest", "since", "times")

    def __init__(self, now: float) -> None:
        self.since = self.latest = now
        self.times = 0

    def is_over(self, now: float) -> bool:
        if self.times < _OFTEN:
            return now - self.since > _WITHIN
        return now - self.latest > _QUIET
