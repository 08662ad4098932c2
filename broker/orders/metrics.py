"""What the orders door counts; a label never holds a patient's data."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from broker.store.metrics import SECONDS, Bounded, VersionInfo


class OrdersMetrics:
    """Counters of one orders process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sources, self._types = Bounded(100), Bounded(100)
        self._reasons, self._events = Bounded(30), Bounded(30)
        self._messages = self._counter(
            "messages", "Messages answered; ack none: closed unanswered", ("source", "type", "ack")
        )
        self._ack_seconds = Histogram(
            "broker_orders_ack_seconds",
            "Seconds from the end of a message to its acknowledgement",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._refused = self._counter("refused", "Messages refused, by reason", ("reason",))
        self._repeats = self._counter("repeats", "Messages that had been answered before")
        self._stale = self._counter("stale", "Messages older than what is known")
        self._conflicts = self._counter("conflicts", "Commits tried again after a conflict")
        self._store_unavailable = self._counter(
            "store_unavailable", "Messages not taken because the store was unavailable"
        )
        self._connections = self._counter(
            "connection_events", "What happened to connections", ("event",)
        )
        self.mapping = VersionInfo("orders", self.registry)

    def answered(self, source: str, message_type: str, code: str, seconds: float) -> None:
        """Count one message with its acknowledgement code; code '' is closed without an answer."""
        labels = self._sources(source), self._types(message_type), _ack(code)
        self._messages.labels(*labels).inc()
        self._ack_seconds.observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a refusal; `reason` is one of our fixed words or an error code, never content."""
        self._refused.labels(self._reasons(reason)).inc()

    def repeat(self) -> None:
        """Count a message that got its remembered answer."""
        self._repeats.inc()

    def stale(self) -> None:
        """Count a message that came too late to change anything."""
        self._stale.inc()

    def conflict(self) -> None:
        """Count a commit that has to be made again."""
        self._conflicts.inc()

    def store_unavailable(self) -> None:
        """Count a message that could not be stored."""
        self._store_unavailable.inc()

    def connection(self, event: str) -> None:
        """Count something that happened to a connection; `event` is one of our fixed words."""
        self._connections.labels(self._events(event)).inc()

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"broker_orders_{name}", text, labels, registry=self.registry)


ACKNOWLEDGEMENTS = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
"""HL7 table 0008."""


def _ack(code: str) -> str:
    """Both codes of enhanced mode count by the last one; '' is an answer that was not wanted."""
    last = code.rpartition("+")[2]
    return last if last in ACKNOWLEDGEMENTS else "other" if last else "none"
