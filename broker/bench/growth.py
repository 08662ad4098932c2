"""How rate and memory behave while the worklist grows: samples at so many entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from statistics import median

from broker.bench.entries import entries, order_frame
from broker.bench.mllp import send_orders
from broker.bench.processes import Broker, cost, store_of, used_bytes
from broker.bench.report import row
from broker.bench.timings import MeasurementFailed
from broker.store import archive, keys
from broker.store.executors import Store

CONNECTIONS = 20
PIECE = 5_000
"""Orders that are made and sent at once, so that the client stays small."""
SAMPLE = 500
"""Remembered answers whose size is asked for: they are alike."""
ENTRY_BYTES = 8_192
"""More than an order has in Redis with all that belongs to its message."""


def said(marks: Sequence[int]) -> Mapping[str, str]:
    """Settings of a broker that has room for so many entries, as environment."""
    return {"BROKER_REDIS__MAX_MEMORY": f"{max(2**30, ENTRY_BYTES * max(marks))}"}


@dataclass(frozen=True)
class Mark:
    """What was measured on the way to `entries`: the last orders' rate, and memory.

    `per_message_bytes` is all that Redis holds, by message. `archived_bytes` is the archive's part,
    `remembered_bytes` that of the answer kept for a repeat, `entry_bytes` the rest: order, patient
    and indexes. `listener_mib` is the orders process, `listener_share_mib` the same with only its
    part of what it has in common with the other doors.
    """

    entries: int
    faults: int
    per_s: float
    p99_ms: float
    per_message_bytes: float
    entry_bytes: float
    remembered_bytes: float
    archived_bytes: float
    listener_mib: float
    listener_share_mib: float


def measure(broker: Broker, marks: Sequence[int], *, now: datetime) -> Iterator[Mark]:
    """Yield a mark for each number of entries, in rising order."""
    store, stored = store_of(broker), 0
    empty = used_bytes(store)
    for mark in sorted(marks):
        while stored < mark:
            count = min(PIECE, mark - stored)
            frames = [
                order_frame(entry, sent=now) for entry in entries(stored + 1, count, now.date())
            ]
            timings = send_orders(broker.hl7, frames, connections=CONNECTIONS, seconds=600)
            stored += count
            if len(timings.latencies_s) < count:
                raise MeasurementFailed(f"not all of {count} orders were answered within 600 s")
        last = row("", "", timings)
        each = (used_bytes(store) - empty) / mark
        archived, remembered = _archived_bytes(store), _remembered_bytes(store)
        listener = cost(broker.pid, "orders")
        yield Mark(
            entries=mark,
            faults=last.faults,
            per_s=last.per_s,
            p99_ms=last.p99_ms,
            per_message_bytes=each,
            entry_bytes=each - archived - remembered,
            remembered_bytes=remembered,
            archived_bytes=archived,
            listener_mib=listener.resident_mib if listener else 0.0,
            listener_share_mib=listener.share_mib if listener else 0.0,
        )
    store.close()


def _archived_bytes(store: Store) -> float:
    archived = store.run(archive.count())
    return store.run(archive.size_bytes()) / archived if archived else 0.0


def _remembered_bytes(store: Store) -> float:
    """The median of a sample, as Redis tells it, its key included."""
    found = store.redis.scan_iter(match=keys.guard("*"), count=1000)
    sizes = [store.redis.memory_usage(key) or 0 for key in islice(found, SAMPLE)]
    return float(median(sizes)) if sizes else 0.0


def lines(marks: Iterator[Mark]) -> Iterator[str]:
    """The table, line by line; the last column is how many times slower than at the first mark."""
    yield (
        f"{'entries':>10}{'faults':>8}{'per s':>10}{'p99 ms':>9}{'bytes each':>12}"
        f"{'entry':>8}{'answer':>8}"
        f"{'archived':>10}{'listener MiB':>14}{'its share':>11}{'slower':>9}"
    )
    first = 0.0
    for each in marks:
        first = first or each.per_s
        yield (
            f"{each.entries:10}{each.faults:8}{each.per_s:10.1f}{each.p99_ms:9.2f}"
            f"{each.per_message_bytes:12.0f}"
            f"{each.entry_bytes:8.0f}{each.remembered_bytes:8.0f}{each.archived_bytes:10.0f}{each.listener_mib:14.1f}"
            f"{each.listener_share_mib:11.1f}"
            f"{first / each.per_s:8.2f}×"
        )
