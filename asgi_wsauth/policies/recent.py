"""What is remembered of credentials that came lately: `Recent`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import blake2b
from secrets import token_bytes
from typing import TypeVar

__all__ = ["Recent"]

T = TypeVar("T")


class Recent(OrderedDict[bytes, T]):
    """Something about each of the texts that came most recently, the latest one last. They are
    known by digests under a key of this process's, so no credential stays in memory.

    Args:
        most: how many are remembered; the one that came longest ago is forgotten first.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._key = token_bytes(16)

    def came(self, texts: Iterable[str], renew: Callable[[T | None], T]) -> T:
        """These came once more.

        Args:
            texts: what came, together.
            renew: gets what was remembered of them, or None; returns what is to be.

        Returns:
            what `renew` returned.
        """
        text = "\0".join(texts).encode(errors="surrogatepass")
        digest = blake2b(text, digest_size=16, key=self._key).digest()
        known = self[digest] = renew(self.pop(digest, None))
        if len(self) > self._most:
            self.popitem(last=False)
        return known
