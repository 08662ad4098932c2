"""How soon one of many peers has its next turn, and how often it is told of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

LONGEST_S: Final = 5.0
"""Nobody is made to wait longer: what would have to is refused."""
AT_ONCE_S: Final = 1.0
MOST: Final = 1_000


class Pacing:
    """Turns of peers by their names, in one process: so many a second, a second's at once.

    This is the generic cell rate algorithm.
    """

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


class Seldom:
    """What happens again and again is told once in `quiet_s`, of each kind."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._told: OrderedDict[Hashable, float] = OrderedDict()

    def first(self, kind: Hashable, now: float) -> bool:
        """Whether none of this kind was told in the time before `now` (seconds)."""
        if now - self._told.get(kind, float("-inf")) < self._quiet_s:
            return False
        self._told[kind] = now
        self._told.move_to_end(kind)
        if len(self._told) > MOST:
            self._told.popitem(last=False)
        return True
