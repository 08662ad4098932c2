"""A soak as text: a block for each minute, then the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.bench.soak.measure import Minute
from broker.bench.soak.verdicts import Verdict

SAID = {True: "good", False: "BAD", None: "too short to tell"}


def block(minute: Minute) -> Iterator[str]:
    """Yield the lines of a minute."""
    names = ("count", "p50 ms", "p95 ms", "p99 ms", "max ms", "errors")
    yield f"{minute.name:24}{''.join(f'{name:>10}' for name in names)}"
    for name, hop in minute.hops.items():
        yield (
            f"  {name:22}{hop.count:10}{hop.p50_ms:10.2f}{hop.p95_ms:10.2f}{hop.p99_ms:10.2f}"
            f"{hop.max_ms:10.2f}{hop.errors:10}"
        )
        for words in hop.words:
            yield f"    {words}"
    for name, cost in minute.costs.items():
        yield (
            f"  {name:22}{cost.share_mib:10.1f} MiB (RSS {cost.resident_mib:.1f})"
            f"{cost.descriptors:6} descriptors{cost.threads:5} threads"
        )
    yield f"  {'store':22}{minute.redis_mib:10.1f} MiB in Redis, {minute.disk_mib:.1f} MiB on disk"


def verdict(each: Verdict) -> str:
    """The line of a verdict."""
    return f"{SAID[each.good]:18}{each.name:34}{each.figure}  [{each.rule}]"


def verdict_lines(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Yield the line of each."""
    yield from map(verdict, verdicts)
