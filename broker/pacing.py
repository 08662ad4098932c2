"""How soon one of many peers has its next turn: so many a second of each, a second's at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

LONGEST_S: Final = 5.0
"""Nobody is made to wait longer: what would have to is refused."""
AT_ONCE_S: Final = 1.0
MOST: Final = 1_000


class Pacing:
    """Turns of peers by their names, in one process (the generic cell rate algorithm)."""

    def __init__(self) -> None:
        self._free: OrderedDict[str, float] = OrderedDict()  # when all that was taken is paid for

    def wait_s(self, who: str, a_second: float, now: float) -> float | None:
        """Take a turn at `now` (seconds) and say how long to wait for it; None: there is none."""
        each, free = 1 / a_second, max(self._free.get(who, now), now)
        wait = free - now + each - max(AT_ONCE_S, each)
        if wait > LONGEST_S:
            return None
        self._free[who] = free + each
        self._free.move_to_end(who)
        if len(self._free) > MOST:
            self._free.popitem(last=False)
        return max(wait, 0.0)
