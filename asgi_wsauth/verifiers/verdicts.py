"""Verdicts that need not be reached again: for the storm of reconnects after a deploy."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

from asgi_wsauth.options import check_clock, check_count, check_instance, check_seconds

__all__ = ["VerdictCache", "check_cache"]


class _Entry(NamedTuple):
    verdict: Any
    gone_at: float


class VerdictCache:
    """Remembers good credentials, so that the same one need not be verified again. It is bounded in
    size and time, and keeps only a keyed hash of each credential.

    At each use, times are still checked, and revocations and `load_user` asked: what it saves is
    the signature check, or the request to the issuer. Several verifiers can share one; none of them
    sees another's verdicts.

    Args:
        size: how many verdicts it may keep; the oldest are dropped.
        ttl: seconds after which a verdict is forgotten, however often it was used.
        clock: a function that returns seconds since any fixed moment, for tests.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        size: int = 10_000,
        ttl: float = 60.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._size = check_count("VerdictCache: size", size)
        self._ttl = check_seconds("VerdictCache: ttl", ttl)
        self._clock = check_clock("VerdictCache: clock", clock)
        self._lock = threading.Lock()
        # The oldest first: all live equally long, so those that are over stand in front. An ordered
        # dict for the same reason as in MemoryStore.
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def get(self, secret: bytes, credential: str) -> Any:
        """The verdict; None where there is none.

        Args:
            secret: the key of the hash, of the verifier's own making: 16 to 64 random bytes.
            credential: what was presented.
        """
        entry = self._entries.get(_digest(secret, credential))
        return None if entry is None or entry.gone_at <= self._clock() else entry.verdict

    def put(self, secret: bytes, credential: str, verdict: Any) -> None:
        """Keep a verdict. Never None."""
        digest, now = _digest(secret, credential), self._clock()
        with self._lock:
            self._entries.pop(digest, None)
            self._entries[digest] = _Entry(verdict, now + self._ttl)
            while len(self._entries) > self._size or self._oldest_is_over(now):
                self._entries.popitem(last=False)

    def _oldest_is_over(self, now: float) -> bool:
        oldest = next(iter(self._entries.values()), None)
        return oldest is not None and oldest.gone_at <= now

    def __repr__(self) -> str:
        return f"<VerdictCache with {len(self._entries)} of {self._size}>"


def _digest(secret: bytes, credential: str) -> bytes:
    return blake2b(credential.encode(errors="surrogatepass"), key=secret, digest_size=32).digest()


def check_cache(cache: VerdictCache | None) -> VerdictCache | None:
    """The cache that was given for the option of that name.

    Raises:
        ConfigurationError: it is none.
    """
    return None if cache is None else check_instance("cache", cache, VerdictCache, "VerdictCache()")
