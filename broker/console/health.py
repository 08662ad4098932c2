"""How the broker is, hop by hop, as far as the store can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from broker.store import (
    archive,
    bundles,
    dead,
    destinations,
    held,
    keys,
    metrics,
    outbox,
    reads,
    refused,
    selftest,
    vitals,
)
from broker.store.bundles import Activation, Failure
from broker.store.call import Call, text
from broker.store.destinations import Away, Pause
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.store.metrics import Family, Labels, Snapshot, gauge
from broker.store.selftest import Result
from broker.store.vitals import Followers

NOBODY = Followers(0, 0, 0)
SILENT_S = 30.0
"""A door publishes every two seconds; one that has been silent for so long needs a look."""


@dataclass(frozen=True)
class Counts:
    """How much the store holds; `pending` counts orders with unsent messages by destination.

    `followers` are the replicas of the store; `followers_needed` must have what is promised.
    `held` counts messages that were accepted and wait for a code in a table, `refused` those that
    could not be applied, `stopped` the orders of each destination that wait for a person,
    `exceptions` the exams that do.
    """

    open_steps: int
    held: int
    refused: int
    archive_messages: int
    archive_bytes: int
    pending: Mapping[str, int]
    dead_letters: int
    stopped: Mapping[str, int] = field(default_factory=dict)
    paused: Mapping[str, Pause] = field(default_factory=dict)
    away: Mapping[str, Away] = field(default_factory=dict)
    exceptions: int = 0
    followers: Followers = NOBODY
    followers_needed: int = 0


@dataclass(frozen=True)
class Health:
    """What one look found; `refusal` says why the store takes no writes, '' when it does."""

    at: float
    refusal: str
    counts: Counts | None = None
    doors: Mapping[str, Snapshot] = field(default_factory=dict)
    mappings: Activation | None = None
    failed_reload: Failure | None = None
    tested: Result | None = None

    def report(self) -> dict[str, object]:
        """Give what /readyz says: ready or not, then each hop."""
        counts = self.counts
        return {
            "ready": not self.refusal,
            "store": {"writable": not self.refusal, "why": self.refusal},
            "orders": {
                "held": counts.held if counts else None,
                "refused": counts.refused if counts else None,
            },
            "worklist": {"open_steps": counts.open_steps if counts else None},
            "mpps": {"exceptions": counts.exceptions if counts else None},
            "updates": {
                "pending": dict(counts.pending) if counts else None,
                "dead_letters": counts.dead_letters if counts else None,
                "stopped": dict(counts.stopped) if counts else None,
                "paused": {n: each.at for n, each in counts.paused.items()} if counts else None,
                "away": {n: each.since for n, each in counts.away.items()} if counts else None,
            },
            "mappings": self._mappings(),
            "doors": {name: self._seen(taken) for name, taken in sorted(self.doors.items())},
        }

    def exposition(self, *ours: Snapshot) -> str:
        """Give what /metrics says: the sum over the doors, then what the store itself tells.

        `ours` are metrics of the console's own.
        """
        live = Snapshot(self.at, tuple(self._gauges()))
        return metrics.exposition([*self.doors.values(), live, *ours])

    def hears(self, name: str) -> bool:
        """Whether a process has published lately."""
        taken = self.doors.get(name)
        return taken is not None and self.at - taken.at < SILENT_S

    def deep(self, every_s: float | None) -> tuple[bool, dict[str, object]]:
        """Give what /health/deep says: whether an order goes all the way, and each hop.

        A result that is older than three times `every_s` proves nothing; None: none is expected.
        """
        age_s = self.at - self.tested.at if self.tested else None
        late = self.tested.is_late(self.at, every_s) if self.tested else every_s is not None
        well = not self.refusal and not late and (self.tested is None or self.tested.ok)
        hops = self.tested.hops if self.tested else ()
        told = {
            "ok": well,
            "store": {"writable": not self.refusal, "why": self.refusal},
            "selftest": {
                "expected": every_s is not None,
                "age_s": round(age_s, 1) if age_s is not None else None,
                "late": late,
                "failing": self.tested.failing if self.tested else None,
                "hops": {
                    h.name: {"ms": h.ms, "ok": not h.fault, "skipped": h.skipped} for h in hops
                },
            },
        }
        return well, told

    def _of_the_selftest(self) -> Iterable[Family]:
        if (tested := self.tested) is None:
            return
        yield _gauge("broker_selftest_ok", "1 when the last self-test held", tested.ok)
        for name, said, at in (
            ("last_run", "When the self-test ran last", tested.at),
            ("last_ok", "When the self-test held last, 0 for never", tested.last_ok),
        ):
            yield _gauge(f"broker_selftest_{name}_timestamp_seconds", said, at)
        yield gauge(
            "broker_selftest_hop_seconds",
            "Seconds that each hop of the last self-test took",
            {(("hop", hop.name),): hop.ms / 1000 for hop in tested.hops if not hop.skipped},
        )

    def _seen(self, taken: Snapshot) -> dict[str, object]:
        age_s = max(0.0, self.at - taken.at)
        seen: dict[str, object] = {"age_s": round(age_s, 1), "heard": age_s < SILENT_S}
        if version := metrics.mapping_version(taken):
            seen["mappings"] = version
        return seen

    def _mappings(self) -> dict[str, object]:
        """Which are in force; why a reload failed is nobody's business without a key."""
        active, failed = self.mappings, self.failed_reload
        return {
            "version": active.short if active else None,
            "since": active.at if active else None,
            "by": active.by if active else None,
            "reload_failed": failed.at if failed else None,
        }

    def _gauges(self) -> Iterable[Family]:
        counts = self.counts
        yield _gauge("broker_store_up", "1 while the store answers", counts is not None)
        yield _gauge("broker_store_writable", "1 while the store takes writes", not self.refusal)
        if counts is None:
            return
        yield _gauge(
            "broker_store_mapping_reload_ok",
            "0 after other mappings were refused, till some are right",
            self.failed_reload is None,
        )
        yield _gauge(
            "broker_store_mapping_active_timestamp_seconds",
            "When the mappings in force came into force",
            self.mappings.at if self.mappings else 0,
        )
        yield from self._of_the_selftest()
        for name, said, value in (
            ("replicas", "Replicas that follow the store", counts.followers.there),
            ("replicas_needed", "How many must have what is promised", counts.followers_needed),
            ("replica_behind_bytes", "What the last replica lacks", counts.followers.behind),
        ):
            yield _gauge(f"broker_store_{name}", said, value)
        yield _gauge("broker_store_open_steps", "Open scheduled steps", counts.open_steps)
        yield _gauge("broker_orders_held", "Messages that wait for a code in a table", counts.held)
        yield _gauge("broker_orders_dead", "Messages that could not be applied", counts.refused)
        yield _gauge("broker_modality_mpps_exceptions", "Exams to look at", counts.exceptions)
        yield _gauge("broker_store_archive_messages", "Archived messages", counts.archive_messages)
        yield _gauge(
            "broker_store_archive_bytes", "Compressed size of the archive", counts.archive_bytes
        )
        pending: dict[Labels, float] = {(("destination", r),): n for r, n in counts.pending.items()}
        yield gauge("broker_updates_pending", "Orders with messages a RIS has not taken", pending)
        for name, said, found in (
            ("stopped", "Orders that wait for a person after a refusal", counts.stopped),
            ("paused", "1 while a destination is paused", counts.paused),
            ("away", "1 while a destination cannot be reached", counts.away),
        ):
            yield gauge(f"broker_updates_{name}", said, _by_destination(found, counts.pending))
        yield _gauge(
            "broker_updates_dead_letters", "Status messages put aside", counts.dead_letters
        )


async def look(store: AsyncStore, names: Iterable[str], *, now: float) -> Health:
    """Ask the store about everything at `now` (epoch s); a store that is away is a finding."""
    try:
        counts = await _counts(store, list(names))
        published = await store.run(metrics.published())
        active = await store.run(bundles.active())
        failure = await store.run(bundles.failure())
        tested = await store.run(selftest.last())
    except StoreUnavailable as away:
        return Health(now, str(away))
    doors = metrics.fresh(published, now=now)
    return Health(now, await _refusal(store), counts, doors, active, failure, tested)


async def _counts(store: AsyncStore, names: Sequence[str]) -> Counts:
    return Counts(
        open_steps=await store.run(reads.open_steps()),
        held=await store.run(held.count()),
        refused=await store.run(refused.count()),
        archive_messages=await store.run(archive.count()),
        archive_bytes=await store.run(archive.size_bytes()),
        pending={name: await store.run(outbox.pending(name)) for name in names},
        dead_letters=await store.run(dead.count()),
        stopped={name: await store.run(dead.holding(name)) for name in names},
        paused=await store.run(destinations.paused()),
        away=await store.run(destinations.away()),
        exceptions=await store.run(reads.exceptions()),
        followers=await store.run(vitals.followers()),
        followers_needed=store.replicas_needed,
    )


def _by_destination(found: Mapping[str, object], names: Iterable[str]) -> dict[Labels, float]:
    """Give the number of each destination; what is there without one counts as 1."""
    values = ((name, found.get(name, 0)) for name in names)
    return {(("destination", name),): float(v) if isinstance(v, int) else 1.0 for name, v in values}


async def _refusal(store: AsyncStore) -> str:
    """Why nothing can be stored: the server cannot, or the supervisor has forbidden it."""
    forbidden = Call(("GET", keys.REFUSE_WRITES), lambda reply: text(reply or b""))
    try:
        await store.run(reads.writable())
        return await store.run(forbidden)
    except StoreUnavailable as unable:
        return str(unable)


def _gauge(name: str, documentation: str, value: float) -> Family:
    return gauge(name, documentation, {(): float(value)})
