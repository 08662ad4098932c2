"""How often and how long the updates door does things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Intervals in seconds; tests shorten them.

    `lease` bounds how long an order waits after its worker was killed; it is renewed every `renew`
    while a RIS is slow to answer. While one is away a job takes `away`, so that wake-ups cost
    little. Wake-ups that come within `gather` are one; where nothing is due a job looks once more
    after `linger`. A message may take `stop_grace` more once we are told to stop.
    """

    wake_s: float = 0.3
    gather_s: float = 0.003
    sweep_s: float = 2.0
    lease_s: float = 10.0
    renew_s: float = 3.0
    drain_s: float = 1.0
    linger_s: float = 0.005
    backoff_s: tuple[float, ...] = (1, 2, 5, 15, 60)
    away_s: float = 0.25
    stop_grace_s: float = 8.0
    retention_s: float = 60.0
    look_s: float = 10.0
    store_away_s: float = 0.5

    def pause_s(self, attempts: int, dice: Callable[[], float]) -> float:
        """How long to wait after so many failed attempts (from 1), up to a fifth longer."""
        step = self.backoff_s[min(attempts, len(self.backoff_s)) - 1]
        return step * (1 + dice() / 5)

    def knock_s(self, attempts: int, dice: Callable[[], float]) -> float:
        """How long to wait after so many attempts to reach a destination in vain.

        Never the longest pause: to knock costs nobody anything, and much waits behind the door.
        """
        return self.pause_s(min(attempts, max(1, len(self.backoff_s) - 1)), dice)

    @property
    def longest_s(self) -> float:
        """The longest pause till the next try of anything."""
        return self.pause_s(len(self.backoff_s), lambda: 1.0)
