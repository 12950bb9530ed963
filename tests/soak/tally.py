"""What was tried, what came of it, and what of that was wrong."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from typing import TextIO

# Of clients, and of what is looked at in the end. Each must stay at zero.
WRONGS = {
    "admitted": "wrongly admitted",
    "refused": "wrongly refused",
    "reason": "refused for another reason than the true one",
    "lost": "forced closes that were due, and lost or other than due",
    "doubled": "forced closes that came twice",
    "early": "forced closes before their time",
    "cut off": "sockets cut off that should have stayed",
    "hanging": "connections that the server did not end, or answer",
    "broken": "clients that broke, or waited in vain",
    "unclosed": "admissions without their one Closed event",
    "tasks": "tasks left in the workers",
    "objects": "guards, timers, sessions and other objects left",
    "memory": "workers that keep more and more objects",
    "places": "places of ended sockets that the workers' total still counts",
    "slots": "slots or sessions left in Redis, or keys without an end",
    "log": "errors and warnings in the workers' logs",
    "secrets": "credentials in the workers' logs",
}

_REMEMBERED = 50  # wrongs that are told in full, of each kind


class Tally:
    """Counts.

    Args:
        log: where each wrong is written at once.

    Attributes:
        handshakes: how many were sent.
        outcomes: for each kind of client, how often what came of it.
        answers: how often a handshake was answered with which close code, or admitted.
        wrong: how often what was wrong.
        details: the first wrongs, in words.
        seconds: how long things took, by what they are.
    """

    def __init__(self, log: TextIO | None = None) -> None:
        self.began = self.ended = time.monotonic()
        self.handshakes = 0
        self.outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.answers: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.details: list[str] = []
        self.seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=100_000))
        self._log = log

    def saw(self, kind: str, what: str) -> None:
        """A client of this kind was treated rightly."""
        self.outcomes[kind][what] += 1

    def went_wrong(self, what: str, kind: str, detail: str) -> None:
        """Something that must not be."""
        assert what in WRONGS, what
        self.outcomes[kind]["WRONG"] += 1
        self.wrong[what] += 1
        line = self.note(f"{WRONGS[what]}: {kind}: {detail}")
        if self.wrong[what] <= _REMEMBERED:
            self.details.append(line)

    def note(self, text: str) -> str:
        """Write down when something happened; the line."""
        line = f"{time.monotonic() - self.began:8.2f} s  {text}"
        if self._log is not None:
            print(line, file=self._log, flush=True)
        return line

    def took(self, what: str, seconds: float) -> None:
        self.seconds[what].append(seconds)

    @property
    def handshakes_a_second(self) -> float:
        return self.handshakes / (self.ended - self.began)

    @property
    def is_clean(self) -> bool:
        return not self.wrong
