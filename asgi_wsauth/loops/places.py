"""A limited number of places, shared fairly between addresses: an address that asks for hundreds
waits behind its own requests, not in front of everybody else's.
"""

from __future__ import annotations

from collections import Counter, deque

import anyio

__all__ = ["Places"]


class Places:
    """Places on one event loop. A place that becomes free goes to the share that holds the fewest,
    and among those to the one that has waited longest. A share may hold all of them while nobody
    else wants any.

    Args:
        total: the number of places.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._held: Counter[str | None] = Counter()
        # For each share, in the order of their turns, the tasks that wait for a place.
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
        """Release a place that was taken."""
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
