"""What the modality door counts; a label never holds a patient's data."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from broker.store.metrics import SECONDS, Bounded, VersionInfo


class ModalityMetrics:
    """Counters of one modality process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._operations, self._outcomes = Bounded(10), Bounded(30)
        self._finds = self._counter(
            "find_requests", "Worklist queries, by final DIMSE status", ("status",)
        )
        self._find_seconds = Histogram(
            "broker_modality_find_seconds",
            "Seconds from a query to its final response",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._find_results = self._counter("find_results", "Worklist items sent")
        self._mpps = self._counter(
            "mpps", "MPPS requests, by operation and DIMSE status", ("operation", "status")
        )
        self._associations = self._counter("associations", "Associations, by outcome", ("outcome",))
        self._echoes = self._counter("echo", "C-ECHO requests")
        self.mapping = VersionInfo("modality", self.registry)

    def find(self, status: int, results: int, seconds: float) -> None:
        """Count one query: its final status (PS3.7 Annex C), its answers, how long it took."""
        self._finds.labels(_status(status)).inc()
        self._find_results.inc(results)
        self._find_seconds.observe(seconds)

    def mpps(self, operation: str, status: int) -> None:
        """Count one MPPS request; operation is N-CREATE or N-SET."""
        self._mpps.labels(self._operations(operation), _status(status)).inc()

    def association(self, outcome: str) -> None:
        """Count one association; `outcome` is one of our fixed words."""
        self._associations.labels(self._outcomes(outcome)).inc()

    def echo(self) -> None:
        """Count one C-ECHO."""
        self._echoes.inc()

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"broker_modality_{name}", text, labels, registry=self.registry)


def _status(status: int) -> str:
    """A status as the standard writes it: A700."""
    return f"{status:04X}"
