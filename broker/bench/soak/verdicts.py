"""Whether a soak was good, by rules that can be read: each gives a verdict with its figure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

from broker.bench.ris import Heard
from broker.bench.soak.watch import Sample

WARM_UP = 0.25
"""Part of the run that is left out: pools fill, and what is freed is not used again yet."""
LEAST_S = 300.0
"""Of samples after it: a slope over less is noise."""
MOST_MIB_PER_H = 8.0
"""Of a process: 1,200 orders a minute that each leave 120 bytes are more."""
MOST_MORE = 2
"""Descriptors and threads: as many come and go with associations in any moment."""
BYTES = {"orders": 4200.0, "messages": 1100.0, "exams": 5000.0}
"""What Redis may grow by for a new order with its patient and indexes, for what a message leaves in
the archive and as remembered answer, and for an exam with its record and status messages."""
BESIDE_MIB = 4.0
"""What Redis takes for tables that it doubles, buffers, metrics."""


@dataclass(frozen=True)
class Verdict:
    """`good` is None where the run was too short to tell."""

    name: str
    good: bool | None
    figure: str
    rule: str


def memory(samples: Sequence[Sample]) -> Iterator[Verdict]:
    """A verdict for each process but Redis, which holds what grows.

    Its part of shared memory (PSS) would grow where another program ends that had a part as well.
    """
    for name in _lasting(samples):
        if name == "redis":
            continue
        points = [(each.at, each.costs[name].heap_mib) for each in _warm(samples)]
        slope = _per_hour(points)
        rule = f"slope after the first quarter at most {MOST_MIB_PER_H:g} MiB/h"
        good = slope <= MOST_MIB_PER_H if _is_enough(samples) else None
        yield Verdict(f"memory of {name} flat", good, f"{slope:+.2f} MiB/h", rule)


def handles(samples: Sequence[Sample]) -> Iterator[Verdict]:
    """A verdict for descriptors and for threads, each of all processes."""
    rule = (
        f"median of the last half after the first quarter at most {MOST_MORE} above the half before"
    )
    for what in ("descriptors", "threads"):
        more = {}
        for name in _lasting(samples):
            counts = [getattr(each.costs[name], what) for each in _warm(samples)]
            half = max(1, len(counts) // 2)
            more[name] = median(counts[-half:]) - median(counts[:half])
        name, most = max(more.items(), key=lambda each: each[1], default=("", 0))
        good = most <= MOST_MORE if _is_enough(samples) else None
        yield Verdict(f"{what} flat", good, f"{most:+g} ({name})", rule)


def store(samples: Sequence[Sample], counts: Mapping[str, int]) -> Verdict:
    """Whether Redis holds no more than what came explains; `counts` as in BYTES."""
    came_bytes = sum(BYTES[name] * count for name, count in counts.items())
    expected_mib = BESIDE_MIB + came_bytes / 2**20
    grown_mib = samples[-1].redis_mib - samples[0].redis_mib
    came = ", ".join(f"{count} {name} of {BYTES[name]:g} B" for name, count in counts.items())
    return Verdict(
        "store grows as expected",
        grown_mib <= expected_mib,
        f"{grown_mib:.1f} MiB",
        f"at most {expected_mib:.1f} MiB: {came}",
    )


def all_told(begun: Iterable[int], ended: Iterable[int], heard: Sequence[Heard]) -> Verdict:
    """Whether a RIS heard of each exam its begin, then its end, once, and of nothing else."""
    wanted: dict[bytes, list[bytes]] = {b"ACC%d" % number: [b"IP"] for number in begun}
    for number in ended:
        wanted[b"ACC%d" % number].append(b"CM")
    told = defaultdict[bytes, list[bytes]](list)
    for each in heard:
        told[each.accession].append(each.state)
    wrong = sum(told.get(each) != states for each, states in wanted.items())
    strange = len(told.keys() - wanted.keys())
    twice = sum(count - 1 for count in Counter(each.control_id for each in heard).values())
    figure = f"{len(heard)} messages of {len(wanted)} exams; {wrong} wrong, {strange} of others"
    return Verdict(
        "status at the RIS once, in order",
        not wrong + strange + twice,
        f"{figure}, {twice} twice",
        "IP, then CM of each",
    )


def none(name: str, found: Sequence[str] | Mapping[str, int], rule: str) -> Verdict:
    """Whether nothing of a kind was found; else the first words of it."""
    words = [f"{key} ({n})" for key, n in found.items()] if isinstance(found, Mapping) else found
    figure = "; ".join(list(words)[:3])
    return Verdict(name, not found, f"{len(found)}{f': {figure}' if figure else ''}", rule)


def _warm(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples[int(len(samples) * WARM_UP) :]


def _is_enough(samples: Sequence[Sample]) -> bool:
    warm = _warm(samples)
    return len(warm) > 1 and warm[-1].at - warm[0].at >= LEAST_S


def _lasting(samples: Sequence[Sample]) -> list[str]:
    """The processes that are in each sample after the first quarter."""
    warm = _warm(samples)
    return [name for name in warm[0].costs if all(name in each.costs for each in warm)]


def _per_hour(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line of least squares, by hour where `points` are by second."""
    if len(points) < 2:
        return 0.0
    slope, _ = linear_regression(*zip(*points, strict=True))
    return 3600 * slope
