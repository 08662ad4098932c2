"""How soon what ends is started again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

FREE_RESTARTS: Final = 3
RESTART_WINDOW_S: Final = 60.0
LONGEST_PAUSE_S: Final = 30.0


@dataclass
class Pace:
    """At once the first times, then ever later."""

    ends: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    def pause_s(self, now: float) -> float:
        """Note an end at `now` (seconds) and answer how long to wait."""
        self.ends.append(now)
        recent = self.recent(now, RESTART_WINDOW_S)
        if recent <= FREE_RESTARTS:
            return 0.0
        return min(LONGEST_PAUSE_S, 0.5 * 2.0 ** (recent - FREE_RESTARTS - 1))

    def recent(self, now: float, within_s: float) -> int:
        """How many ends there were lately."""
        return sum(now - end < within_s for end in self.ends)
