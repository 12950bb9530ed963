"""A number of places that many want at once, and of which everybody behind one address gets a fair
share: an address that asks for hundreds waits behind itself, not in front of the others.
"""

from __future__ import annotations

from collections import Counter, deque

import anyio

__all__ = ["Places"]


class Places:
    """Places, for one event loop. One that gets free goes to the share that holds the fewest, and
    among those to the one that has waited longest for its turn. A share may hold them all, as long
    as no other one wants any.

    Args:
        total: how many there are.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._held: Counter[str | None] = Counter()
        # Shares in the order of their turns; who waits for a place of theirs.
        self._waiting: dict[str | None, deque[anyio.Event]] = {}

    async def take(self, share: str | None) -> None:
        """Wait for a place.

        Args:
            share: what `share_of` returned.
        """
        if self._free:  # nobody waits then
            self._free -= 1
            self._held[share] += 1
            return
        turn = anyio.Event()
        self._waiting.setdefault(share, deque()).append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.release(share)
            else:
                self._leave(share, turn)
            raise

    def _leave(self, share: str | None, turn: anyio.Event) -> None:
        queue = self._waiting[share]
        queue.remove(turn)
        if not queue:
            del self._waiting[share]

    def release(self, share: str | None) -> None:
        """Leave a place that was taken."""
        self._held[share] -= 1
        if not self._held[share]:
            del self._held[share]
        if not self._waiting:
            self._free += 1
            return
        following = min(self._waiting, key=self._held.__getitem__)
        self._held[following] += 1
        queue = self._waiting.pop(following)
        queue.popleft().set()
        if queue:
            self._waiting[following] = queue  # at the end: the others have their turns first
