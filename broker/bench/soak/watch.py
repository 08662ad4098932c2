"""What the broker's processes and its Redis hold, sampled while it works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError, loads
from pathlib import Path

from broker.bench.processes import Broker, Cost, costs, used_bytes
from broker.store.executors import Store

TROUBLE = ("warning", "error", "critical")


@dataclass(frozen=True)
class Sample:
    """What everything holds `at` seconds after the begin: by process, in Redis, on the disk."""

    at: float
    costs: Mapping[str, Cost]
    redis_mib: float
    disk_mib: float


def sample(broker: Broker, store: Store, at: float) -> Sample:
    """Look at everything."""
    files = [each for each in broker.data.rglob("*") if each.is_file()]
    return Sample(at, costs(broker.pid), used_bytes(store) / 2**20, sum(map(_size, files)) / 2**20)


def troubles(log: Path) -> Mapping[str, int]:
    """How often each event is in a log above the level info; a line that is no JSON is one."""
    found = Counter[str]()
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                said = loads(line)
            except JSONDecodeError:
                found[line.strip()[:100]] += 1
            else:
                if said.get("level") in TROUBLE:
                    found[f"{said['level']}: {said.get('event')}"] += 1
    return found


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # Redis has put another in its place meanwhile
        return 0
