"""Timings → figures, and figures side by side as text."""

from __future__ import annotations

import math
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from broker.bench.timings import Timings

OURS = "broker"
SYNCS = 50
COLUMNS = {"count": 8, "faults": 8, "per s": 10, "p50 ms": 10, "p99 ms": 10, "max ms": 10}


@dataclass(frozen=True)
class Row:
    """The figures of one server in one scenario; `faults` are refused or wrong answers.

    `cpu_us` is what an answer costs in CPU, by process, where that was measured.
    """

    scenario: str
    server: str
    count: int
    faults: int
    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ratio:
    """How many times better the broker is than `peer`: above 1 is faster in every column."""

    scenario: str
    peer: str
    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def row(scenario: str, server: str, timings: Timings) -> Row:
    """The figures of one measurement, which has at least one answer."""
    ordered = sorted(timings.latencies_s)
    return Row(
        scenario=scenario,
        server=server,
        count=len(ordered),
        faults=timings.faults,
        per_s=len(ordered) / timings.elapsed_s,
        p50_ms=1000 * percentile(ordered, 50),
        p99_ms=1000 * percentile(ordered, 99),
        max_ms=1000 * ordered[-1],
    )


def percentile(ordered: list[float], percent: int) -> float:
    """The smallest value that `percent` of the ordered values do not exceed (nearest rank)."""
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]


def ratios(rows: Iterable[Row]) -> Iterator[Ratio]:
    """A ratio for every peer's row; the broker's row of the same scenario comes before it."""
    for _, ratio in paired(rows):
        if ratio is not None:
            yield ratio


def paired(rows: Iterable[Row]) -> Iterator[tuple[Row, Ratio | None]]:
    """Each row as it comes, with its ratio if it is a peer's."""
    ours: dict[str, Row] = {}
    for each in rows:
        if each.server == OURS:
            ours[each.scenario] = each
        own = ours.get(each.scenario)
        yield each, None if own is None or own is each else _ratio(own, each)


def _ratio(own: Row, peer: Row) -> Ratio:
    return Ratio(
        scenario=own.scenario,
        peer=peer.server,
        per_s=own.per_s / peer.per_s,
        p50_ms=peer.p50_ms / own.p50_ms,
        p99_ms=peer.p99_ms / own.p99_ms,
        max_ms=peer.max_ms / own.max_ms,
    )


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """The table, line by line as the rows come."""
    yield " " * 44 + "".join(f"{name:>{width}}" for name, width in COLUMNS.items())
    for each, ratio in paired(rows):
        yield (
            f"{each.scenario:32}{each.server:12}{each.count:8}{each.faults:8}"
            f"{each.per_s:10.1f}{each.p50_ms:10.2f}{each.p99_ms:10.2f}{each.max_ms:10.2f}"
        )
        if each.cpu_us:
            parts = " + ".join(f"{name} {used:.0f}" for name, used in each.cpu_us.items())
            yield f"{'':32}{'CPU µs':12}{sum(each.cpu_us.values()):8.0f} = {parts}"
        if ratio is not None:
            yield (
                f"{'':32}{'better by':12}{'':16}"
                f"{ratio.per_s:9.2f}×{ratio.p50_ms:9.2f}×{ratio.p99_ms:9.2f}×{ratio.max_ms:9.2f}×"
            )


def machine() -> dict[str, str | int | float]:
    """What the figures depend on: processors, how busy they are already, the disk, versions."""
    load_1min, *_ = os.getloadavg()
    return {
        "processors": os.cpu_count() or 0,
        "load_1min": round(load_1min, 2),
        "fdatasync_ms": round(1000 * disk_sync_s(), 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def disk_sync_s() -> float:
    """The median time until 2 KiB are on the disk of the temporary folder, where brokers write.

    Nothing is acknowledged sooner than this: it bounds what one connection can do.
    """
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNCS):
            file.write(bytes(2048))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return percentile(sorted(taken), 50)
