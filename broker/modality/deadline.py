"""One deadline at a time, by name: more bytes do not prolong the one that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `expired` with the name of the deadline that ran out."""

    def __init__(self, expired: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None
        self._name = ""

    def arm_once(self, name: str, seconds: float) -> None:
        """Start the deadline `name` in place of another; if it already runs, let it run."""
        if name != self._name:
            self.disarm()
            self._name = name
            self._timer = self._loop.call_later(seconds, self._expired, name)

    def arm(self, name: str, seconds: float) -> None:
        """Start the deadline `name` from now."""
        self.disarm()
        self.arm_once(name, seconds)

    def disarm(self) -> None:
        """Stop the one that runs."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._name = None, ""
