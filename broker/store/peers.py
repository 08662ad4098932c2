"""How each peer fares, as every door counts it: when it was heard last, and how long it waited."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram

PER_PEER_S: Final = (0.01, 0.05, 0.25, 1, 5)
"""Bounds of a histogram of which there is one for each peer: few, for every process writes them."""


class Peers:
    """`broker_DOOR_NAME_seconds` and `broker_DOOR_last_NAME_timestamp_seconds`, by one label.

    The values of the label have to be bounded by whoever calls.
    """

    def __init__(self, door: str, name: str, label: str, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            f"broker_{door}_{name}_seconds",
            f"Seconds that each {label} waited for an answer; _count is how often it asked",
            (label,),
            buckets=PER_PEER_S,
            registry=registry,
        )
        self._last = Gauge(
            f"broker_{door}_last_{name}_timestamp_seconds",
            f"When each {label} was answered last, since the processes started",
            (label,),
            registry=registry,
        )
        self._known: dict[str, tuple[Histogram, Gauge]] = {}

    def answered(self, peer: str, seconds: float) -> None:
        """Count one answer, now."""
        known = self._known.get(peer)
        if known is None:
            known = self._known[peer] = self._seconds.labels(peer), self._last.labels(peer)
        known[0].observe(seconds)
        known[1].set_to_current_time()
