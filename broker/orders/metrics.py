"""What the orders door counts; a label never holds a patient's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from broker.store.metrics import SECONDS, Bounded, VersionInfo
from broker.store.peers import Peers

COUNTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "messages": ("Messages answered; ack none: closed unanswered", ("source", "type", "ack")),
    "refused": ("Messages refused, by reason", ("reason",)),
    "repeats": ("Messages that had been answered before", ()),
    "stale": ("Messages older than what is known", ()),
    "finished": ("Orders and updates of which every step has ended: on no list", ()),
    "patients_without_order": ("Patient messages of people without an order", ()),
    "merged_ids": ("Messages under a patient ID that was merged into another", ("type",)),
    "unknown": ("Cancels, holds and releases of an order or step that is not known", ()),
    "conflicts": ("Commits tried again after a conflict", ()),
    "store_unavailable": ("Messages not taken because the store was unavailable", ()),
    "mislabelled": ("Messages whose MSH-18 does not fit their bytes", ("source",)),
    "odd_values": ("Messages with a value that was left empty or cut, or no start", ("note",)),
    "returned": ("Status messages of ours that were sent back to us", ()),
    "batches_miscounted": ("Batches that hold not as many messages as BTS-1 says", ()),
    "connection_events": ("What happened to connections", ("event",)),
}
"""What is counted, and by which labels."""


class OrdersMetrics:
    """Counters of one orders process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            name: Counter(f"broker_orders_{name}", text, labels, registry=self.registry)
            for name, (text, labels) in COUNTERS.items()
        }
        self._sources, self._types = Bounded(100), Bounded(100)
        self._reasons, self._events = Bounded(30), Bounded(30)
        # What appears with 1 has not grown for Prometheus, and an alert waits for the first one.
        self._counters["connection_events"].labels(self._events("handshake_failed"))
        self._counted: dict[tuple[str, str, str], Counter] = {}  # bounded as the labels are
        self._ack_seconds = Histogram(
            "broker_orders_ack_seconds",
            "Seconds from the end of a message to its acknowledgement",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._notes = Bounded(100)
        self._warned: set[str] = set()
        self._senders = Peers("orders", "message", "source", self.registry)
        self.mapping = VersionInfo("orders", self.registry)

    def answered(self, source: str, message_type: str, code: str, seconds: float) -> None:
        """Count one message with its acknowledgement code; code '' is closed without an answer."""
        labels = self._sources(source), self._types(message_type), _ack(code)
        counted = self._counted.get(labels)
        if counted is None:
            counted = self._counted[labels] = self._counters["messages"].labels(*labels)
        counted.inc()
        self._ack_seconds.observe(seconds)
        self._senders.answered(labels[0], seconds)

    def refused(self, reason: str) -> None:
        """Count a refusal; `reason` is one of our fixed words or an error code, never content."""
        self._counters["refused"].labels(self._reasons(reason)).inc()

    def repeat(self) -> None:
        """Count a message that got its remembered answer."""
        self._counters["repeats"].inc()

    def stale(self) -> None:
        """Count a message that came too late to change anything."""
        self._counters["stale"].inc()

    def finished(self) -> None:
        """Count a message about an order that is over."""
        self._counters["finished"].inc()

    def without_order(self) -> None:
        """Count a message about nobody who has had an order."""
        self._counters["patients_without_order"].inc()

    def merged_id(self, message_type: str) -> None:
        """Count a message that names a patient by an ID that was merged away."""
        self._counters["merged_ids"].labels(self._types(message_type)).inc()

    def unknown(self) -> None:
        """Count a message that names an order or step that is not known."""
        self._counters["unknown"].inc()

    def conflict(self) -> None:
        """Count a commit that has to be made again."""
        self._counters["conflicts"].inc()

    def store_unavailable(self) -> None:
        """Count a message that could not be stored."""
        self._counters["store_unavailable"].inc()

    def mislabelled(self, source: str) -> bool:
        """Count a message with a wrong MSH-18; True the first time for its source."""
        label = self._sources(source)
        self._counters["mislabelled"].labels(label).inc()
        first = label not in self._warned
        self._warned.add(label)
        return first

    def odd_value(self, note: str) -> None:
        """Count a message with a value left empty or cut, or with no start; `note` says which."""
        self._counters["odd_values"].labels(self._notes(note)).inc()

    def returned(self) -> None:
        """Count a status message of ours that was sent back to us."""
        self._counters["returned"].inc()

    def miscounted(self) -> None:
        """Count a batch whose trailer says another number of messages than it holds."""
        self._counters["batches_miscounted"].inc()

    def connection(self, event: str) -> None:
        """Count something that happened to a connection; `event` is one of our fixed words."""
        self._counters["connection_events"].labels(self._events(event)).inc()


ACKNOWLEDGEMENTS = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
"""HL7 table 0008."""


def _ack(code: str) -> str:
    """Both codes of enhanced mode count by the last one; '' is an answer that was not wanted."""
    last = code.rpartition("+")[2]
    return last if last in ACKNOWLEDGEMENTS else "other" if last else "none"
