"""Each process leaves a snapshot of its metrics here; what people see is the sum."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.store import keys
from broker.store.call import Call, text
from broker.store.executors import AsyncStore, Store, StoreUnavailable

FORMAT = 1
STALE_S = 600.0
"""How long the counts of a process that has gone away still show."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Histogram bounds that suit everything the doors time."""
LARGEST = ("_max", "_oldest_seconds", "_timestamp_seconds")
"""Gauges whose names end so are not added up over processes: the largest one counts."""
SMALLEST = ("_days_left",)
"""And of these the smallest one."""
OTHER = "other"
LABEL_LENGTH = 80

Labels = tuple[tuple[str, str], ...]


class Bounded:
    """Label values that a peer can choose: the first distinct ones, then 'other'."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """Give the value to use as a label, at most 80 characters long."""
        if value in self._seen:
            return value
        value = "".join(c if c.isprintable() else "?" for c in value[:LABEL_LENGTH])
        if value not in self._seen:
            if len(self._seen) >= self._limit:
                return OTHER
            self._seen.add(value)
        return value


MAPPING_INFO = "_mapping_info"


class Shortfalls(Collector):
    """The counter broker_store_shortfalls of one store: promises that could not be made."""

    def __init__(self, store: AsyncStore | Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Give the count."""
        text = "Writes that were refused since too few replicas had them in time"
        counted = CounterMetricFamily("broker_store_shortfalls", text)
        counted.add_metric([], self._store.shortfalls)
        yield counted


class VersionInfo:
    """A gauge broker_ROLE_mapping_info: how many processes work with which mapping version."""

    def __init__(self, role: str, registry: CollectorRegistry) -> None:
        text = "Processes that work with this version of the mappings"
        self._gauge = Gauge(f"broker_{role}{MAPPING_INFO}", text, ("version",), registry=registry)

    def __call__(self, version: str) -> None:
        """Set the version that this process works with from now on."""
        self._gauge.clear()
        self._gauge.labels(version).set(1)


@dataclass(frozen=True)
class Sample:
    """One number of a metric: its name with suffix (_total, _bucket …) and its labels."""

    name: str
    labels: Labels
    value: float


@dataclass(frozen=True)
class Family:
    """A metric: kind is counter | gauge | histogram | …, `help` is for people."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Snapshot:
    """The metrics of one process at a time (epoch s)."""

    at: float
    families: tuple[Family, ...]


def mapping_version(taken: Snapshot) -> str:
    """Give the mapping version that a process works with, '' for one that needs none."""
    found = (
        dict(sample.labels).get("version", "")
        for family in taken.families
        if family.name.endswith(MAPPING_INFO)
        for sample in family.samples
    )
    return next(found, "")


def gauge(name: str, documentation: str, values: Mapping[Labels, float]) -> Family:
    """Give a gauge as a family, one sample for each set of labels."""
    samples = tuple(Sample(name, labels, value) for labels, value in values.items())
    return Family(name, "gauge", documentation, samples)


def snapshot(registry: CollectorRegistry, *, at: float) -> Snapshot:
    """Read every metric of a registry; when a child was created is nobody's question here."""
    families = []
    for metric in registry.collect():
        samples = tuple(
            Sample(sample.name, tuple(sample.labels.items()), float(sample.value))
            for sample in metric.samples
            if not sample.name.endswith("_created")
        )
        families.append(Family(metric.name, metric.type, metric.documentation, samples))
    return Snapshot(at, tuple(families))


def summed(snapshots: Iterable[Snapshot]) -> tuple[Family, ...]:
    """Add up the families of all processes; see LARGEST and SMALLEST for what is not added."""
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, Labels], float]] = {}
    for family in (family for each in snapshots for family in each.families):
        first = families.setdefault(family.name, family)
        if first.kind != family.kind:  # a process of another version: the first one is believed
            continue
        totals = values.setdefault(family.name, {})
        for sample in family.samples:
            place = (sample.name, tuple(sorted(sample.labels)))
            totals[place] = _together(family, totals.get(place), sample.value)
    return tuple(
        Family(name, family.kind, family.help, tuple(_samples(values[name])))
        for name, family in sorted(families.items())
    )


def exposition(snapshots: Iterable[Snapshot]) -> str:
    """Give the sum of snapshots in the Prometheus text format, with HELP and TYPE."""
    return generate_latest(_Collected(summed(snapshots))).decode()


def own_name(role: str, instance: int) -> str:
    """Name this process among all that share the store: role:instance@host."""
    return f"{role}:{instance}@{socket.gethostname()}"


def publish(name: str, taken: Snapshot) -> Call[bool]:
    """Leave a process's snapshot, in place of its former one."""
    return Call(("HSET", keys.METRICS, name, _dump(taken)), lambda reply: reply is not None)


def published() -> Call[dict[str, Snapshot]]:
    """Give the snapshot of every process by its name, stale ones and all."""
    return Call(("HGETALL", keys.METRICS), _load_all)


def forget(names: Iterable[str]) -> Call[int]:
    """Remove the snapshots of processes that have gone away."""
    return Call(("HDEL", keys.METRICS, *names), int)


def fresh(
    found: Mapping[str, Snapshot], *, now: float, within_s: float = STALE_S
) -> dict[str, Snapshot]:
    """Leave out what is older than `within_s` at `now` (epoch s)."""
    return {name: taken for name, taken in found.items() if now - taken.at <= within_s}


async def publish_forever(
    store: AsyncStore, registry: CollectorRegistry, name: str, every_s: float = 2.0
) -> None:
    """Publish a registry again and again until cancelled; a store that is away is waited for.

    Removes at first what processes of the past have left behind.
    """
    with suppress(StoreUnavailable):
        found = await store.run(published())
        if gone := found.keys() - fresh(found, now=time.time()):
            await store.run(forget(gone))
    while True:
        await publish_last(store, registry, name)
        await asyncio.sleep(every_s)


async def publish_last(store: AsyncStore, registry: CollectorRegistry, name: str) -> None:
    """Publish a registry now, or not at all while the store is away."""
    with suppress(StoreUnavailable):
        await store.run(publish(name, snapshot(registry, at=time.time())))


def publish_once(store: Store, registry: CollectorRegistry, name: str) -> None:
    """Publish a registry now. Raises StoreUnavailable."""
    store.run(publish(name, snapshot(registry, at=time.time())))


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Collected(Collector):
    """Families as the library's writer wants them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, dict(sample.labels), sample.value)
            yield metric


def _together(family: Family, total: float | None, value: float) -> float:
    if total is None:
        return value
    if family.kind == "gauge" and family.name.endswith(LARGEST):
        return max(total, value)
    if family.kind == "gauge" and family.name.endswith(SMALLEST):
        return min(total, value)
    return total + value


def _samples(totals: Mapping[tuple[str, Labels], float]) -> Iterator[Sample]:
    for (name, labels), value in totals.items():
        yield Sample(name, labels, value)


def _dump(taken: Snapshot) -> str:
    families = [
        [f.name, f.kind, f.help, [[s.name, s.labels, s.value] for s in f.samples]]
        for f in taken.families
    ]
    return json.dumps({"format": FORMAT, "at": taken.at, "families": families})


def _load_all(reply: Any) -> dict[str, Snapshot]:
    entries = (
        reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    )
    found = {text(name): json.loads(raw) for name, raw in entries}
    return {name: _load(facts) for name, facts in found.items() if facts["format"] == FORMAT}


def _load(facts: dict[str, Any]) -> Snapshot:
    families = tuple(
        Family(name, kind, documentation, tuple(_sample(*each) for each in samples))
        for name, kind, documentation, samples in facts["families"]
    )
    return Snapshot(float(facts["at"]), families)


def _sample(name: str, labels: list[list[str]], value: float) -> Sample:
    return Sample(name, tuple((key, held) for key, held in labels), float(value))
