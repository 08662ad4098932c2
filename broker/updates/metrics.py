"""What the updates door counts; a label never holds a patient's data."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from broker.store.metrics import SECONDS, Bounded


class UpdatesMetrics:
    """Counters of one updates process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._verdicts = Bounded(30)
        self._sent = self._counter(
            "sent", "Tries to send a status message, by verdict", ("ris", "verdict")
        )
        self._send_seconds = Histogram(
            "broker_updates_send_seconds",
            "Seconds from sending a status message to the verdict on its acknowledgement",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._parked = self._counter("parked", "Status messages put aside for people", ("ris",))
        self._retries = self._counter("retries", "Status messages to be sent again", ("ris",))

    def sent(self, ris: str, verdict: str, seconds: float) -> None:
        """Count one try; `ris` is a configured name, `verdict` one of our fixed words."""
        self._sent.labels(ris, self._verdicts(verdict)).inc()
        self._send_seconds.observe(seconds)

    def parked(self, ris: str) -> None:
        """Count a message that went to the dead letters."""
        self._parked.labels(ris).inc()

    def retry(self, ris: str) -> None:
        """Count a message that will be sent again."""
        self._retries.labels(ris).inc()

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"broker_updates_{name}", text, labels, registry=self.registry)
