"""What the updates door counts; a label never holds a patient's data."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from broker.store.metrics import SECONDS, Bounded
from broker.worklist.profile import Rule
from broker.worklist.unseen import ASKED

REASONS = sorted(
    {*ASKED.values(), *(rule.value for rule in Rule)} - {Rule.STATUS, Rule.AHEAD, Rule.CANARY}
)


class UpdatesMetrics:
    """Counters of one updates process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._verdicts = Bounded(30)
        self._sent = self._counter(
            "sent", "Tries to send a status message, by verdict", ("destination", "verdict")
        )
        self._send_seconds = Histogram(
            "broker_updates_send_seconds",
            "Seconds from sending a status message to the verdict on its acknowledgement",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._parked = self._counter(
            "parked", "Status messages put aside for people", ("destination",)
        )
        self._removed = self._counter("removed", "Records that outlived their time", ("what",))
        self._kept = self._counter(
            "kept_in_progress",
            "Records that outlived their time and stay, since their exam has not ended",
            ("what",),
        )
        self._invisible = Gauge(
            "broker_updates_invisible_steps",
            "Steps to be done that no known AE can get, by what keeps them from the nearest one",
            ("reason",),
            registry=self.registry,
        )
        self._unended = Gauge(
            "broker_updates_unended_steps",
            "Steps that began, were to start longer ago than mpps.ends_within, and have no end",
            registry=self.registry,
        )
        self._retries = self._counter(
            "retries", "Status messages to be sent again", ("destination",)
        )

    def sent(self, destination: str, verdict: str, seconds: float) -> None:
        """Count one try; `destination` is a configured name, `verdict` one of our fixed words."""
        self._sent.labels(destination, self._verdicts(verdict)).inc()
        self._send_seconds.observe(seconds)

    def parked(self, destination: str) -> None:
        """Count a message that went to the dead letters."""
        self._parked.labels(destination).inc()

    def retry(self, destination: str) -> None:
        """Count a message that will be sent again."""
        self._retries.labels(destination).inc()

    def removed(self, what: str, count: int) -> None:
        """Count what retention has removed; `what` is one of its fixed words."""
        self._removed.labels(what).inc(count)

    def kept(self, what: str, count: int) -> None:
        """Count what retention leaves, once for each time that it has outlived."""
        self._kept.labels(what).inc(count)

    def open_steps(self, reasons: Mapping[str, int], unended: int) -> None:
        """Set how many steps nobody gets, by our fixed words (worklist.unseen), or do not end."""
        for reason in REASONS:
            self._invisible.labels(reason).set(reasons.get(reason, 0))
        self._unended.set(unended)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"broker_updates_{name}", text, labels, registry=self.registry)
