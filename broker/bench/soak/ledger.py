"""What each hop took, and what went wrong on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from broker.bench.report import percentile

MLLP = "MLLP to AA"
SEEN = "AA to C-FIND"
STANDING = "C-FIND, kept"
FRESH = "C-FIND, associating"
CREATE = "N-CREATE"
SET = "N-SET"
TOLD = "status at RIS"
HOPS = (MLLP, SEEN, STANDING, FRESH, CREATE, SET, TOLD)
SHOWN = 5
"""Words of errors that are kept of each hop and minute: the first tell the most."""


@dataclass(frozen=True)
class Hop:
    """Figures of one hop: from when it was due, which for what only follows is when it could be."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    errors: int
    words: tuple[str, ...]


@dataclass
class Tally:
    """Seconds of each answer of a hop, and its errors."""

    took_s: list[float] = field(default_factory=list)
    errors: int = 0
    words: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in another."""
        self.took_s += other.took_s
        self.errors += other.errors
        self.words = (self.words + other.words)[:SHOWN]

    def hop(self) -> Hop:
        """Its figures; all 0 where there was no answer."""
        ordered = sorted(self.took_s) or [0.0]
        p50, p95, p99, most = (1000 * percentile(ordered, percent) for percent in (50, 95, 99, 100))
        return Hop(len(self.took_s), p50, p95, p99, most, self.errors, tuple(self.words))


class Ledger:
    """Of all hops since it was last asked. Used by several threads."""

    def __init__(self) -> None:
        self._tallies = {name: Tally() for name in HOPS}
        self._lock = Lock()

    def took(self, hop: str, seconds: float) -> None:
        """Note an answer."""
        with self._lock:
            self._tallies[hop].took_s.append(max(0.0, seconds))

    def wrong(self, hop: str, words: str) -> None:
        """Note an error."""
        with self._lock:
            tally = self._tallies[hop]
            tally.errors += 1
            tally.words = [*tally.words, words][:SHOWN]

    def drain(self) -> Mapping[str, Tally]:
        """Give everything since the last time."""
        with self._lock:
            given, self._tallies = self._tallies, {name: Tally() for name in HOPS}
        return given
