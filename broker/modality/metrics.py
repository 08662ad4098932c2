"""What the modality door counts; a label never holds a patient's data."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.dicom.dimse import CANCELLED, SUCCESS
from broker.modality.kept import Kept
from broker.store.metrics import SECONDS, Bounded, VersionInfo
from broker.store.peers import Peers

COUNTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "find_requests": ("Worklist queries, by final DIMSE status", ("status",)),
    "find_results": ("Worklist items sent", ()),
    "find_overflows": ("Lists longer than their AE's limit, refused or cut", ("outcome",)),
    "find_left_out": ("Worklist items that could not be sent: see the log for which and why", ()),
    "mpps": ("MPPS requests, by operation and DIMSE status", ("operation", "status")),
    "mpps_tolerated": (
        "Faults of MPPS requests that were forgiven, by operation and attribute",
        ("operation", "attribute"),
    ),
    "mpps_never_ended": ("Performed steps that have not ended in time", ()),
    "associations": ("Associations, by outcome", ("outcome",)),
    "echo": ("C-ECHO requests", ()),
    "ae_failures": ("Queries that were refused", ("aet",)),
    "ae_empty": ("Queries that nothing answered", ("aet",)),
}
"""What is counted, and by which labels."""

HANDSHAKE_FAILED: Final = "handshake failed"


class ModalityMetrics:
    """Counters of one modality process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            name: Counter(f"broker_modality_{name}", text, labels, registry=self.registry)
            for name, (text, labels) in COUNTERS.items()
        }
        self._operations, self._outcomes = Bounded(10), Bounded(30)
        # What appears with 1 has not grown for Prometheus, and an alert waits for the first one.
        self._counters["associations"].labels(self._outcomes(HANDSHAKE_FAILED))
        self._find_seconds = Histogram(
            "broker_modality_find_seconds",
            "Seconds from a query to its final response",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._attributes = Bounded(60)
        Gauge(
            "broker_modality_tasks",
            "Tasks of the event loop: one for each request that is served, and a few that stay",
            registry=self.registry,
        ).set_function(_tasks)
        self._strangers = Bounded(50)
        self._aes = Peers("modality", "ae_find", "aet", self.registry)
        self.mapping = VersionInfo("modality", self.registry)

    def find(self, status: int, results: int, seconds: float) -> None:
        """Count one query: its final status (PS3.7 Annex C), its answers, how long it took."""
        self._counters["find_requests"].labels(_status(status)).inc()
        self._counters["find_results"].inc(results)
        self._find_seconds.observe(seconds)

    def asked(self, known: str, calling: str, status: int, results: int, seconds: float) -> None:
        """Count one query by its AE: the title of the directory, else what it calls itself.

        Of those that are not `known` there the first fifty have a name.
        """
        aet = known or self._strangers(calling)
        self._aes.answered(aet, seconds)
        # Both are there from the first query on: what appears with 1 has not grown for Prometheus.
        self._counters["ae_failures"].labels(aet).inc(status not in (SUCCESS, CANCELLED))
        self._counters["ae_empty"].labels(aet).inc(status == SUCCESS and not results)

    def overflow(self, outcome: str) -> None:
        """Count one list that is longer than its AE's limit; refuse or cut."""
        self._counters["find_overflows"].labels(outcome).inc()

    def left_out(self) -> None:
        """Count one item that no answer could be made of."""
        self._counters["find_left_out"].inc()

    def mpps(self, operation: str, status: int) -> None:
        """Count one MPPS request; operation is N-CREATE, N-SET or N-GET."""
        self._counters["mpps"].labels(self._operations(operation), _status(status)).inc()

    def tolerated(self, operation: str, keyword: str) -> None:
        """Count one fault that a lenient AE was forgiven; `keyword` is that of its attribute."""
        self._counters["mpps_tolerated"].labels(
            self._operations(operation), self._attributes(keyword)
        ).inc()

    def never_ended(self) -> None:
        """Count one exam of which nothing was heard for too long."""
        self._counters["mpps_never_ended"].inc()

    def association(self, outcome: str) -> None:
        """Count one association; `outcome` is one of our fixed words."""
        self._counters["associations"].labels(self._outcomes(outcome)).inc()

    def echo(self) -> None:
        """Count one C-ECHO."""
        self._counters["echo"].inc()

    def watch(self, kept: Mapping[str, Kept[Any, Any]]) -> None:
        """Tell of what is kept, by its name: lookups that were of use or not, and bytes."""
        self.registry.register(_Watched(kept))


def _status(status: int) -> str:
    """A status as the standard writes it: A700."""
    return f"{status:04X}"


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # whoever looks is not in the loop
        return 0


class _Watched(Collector):
    """What is kept counts its lookups itself: they are looked at when somebody asks."""

    def __init__(self, kept: Mapping[str, Kept[Any, Any]]) -> None:
        self._kept = kept

    def collect(self) -> Iterator[Metric]:
        lookups = CounterMetricFamily(
            "broker_modality_kept_lookups",
            "Lookups of what a process keeps for queries, by outcome",
            labels=("kept", "outcome"),
        )
        held = GaugeMetricFamily(
            "broker_modality_kept_bytes", "Bytes of what is kept for queries", labels=("kept",)
        )
        for name, kept in self._kept.items():
            lookups.add_metric((name, "hit"), kept.hits)
            lookups.add_metric((name, "miss"), kept.misses)
            held.add_metric((name,), kept.held_bytes)
        yield lookups
        yield held
