"""How the broker is, hop by hop, as far as the store can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from broker.store import archive, bundles, held, keys, metrics, outbox, reads
from broker.store.bundles import Activation, Failure
from broker.store.call import Call, text
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.store.metrics import Family, Labels, Snapshot, gauge

SILENT_S = 30.0
"""A door publishes every two seconds; one that has been silent for so long needs a look."""


@dataclass(frozen=True)
class Counts:
    """How much the store holds; `pending` counts, for each RIS, orders with unsent messages.

    `held` counts messages that were accepted and wait for a code in a table.
    """

    open_steps: int
    held: int
    archive_messages: int
    archive_bytes: int
    pending: Mapping[str, int]
    dead_letters: int


@dataclass(frozen=True)
class Health:
    """What one look found; `refusal` says why the store takes no writes, '' when it does."""

    at: float
    refusal: str
    counts: Counts | None = None
    doors: Mapping[str, Snapshot] = field(default_factory=dict)
    mappings: Activation | None = None
    failed_reload: Failure | None = None

    def report(self) -> dict[str, object]:
        """Give what /readyz says: ready or not, then each hop."""
        counts = self.counts
        return {
            "ready": not self.refusal,
            "store": {"writable": not self.refusal, "why": self.refusal},
            "orders": {"held": counts.held if counts else None},
            "worklist": {"open_steps": counts.open_steps if counts else None},
            "updates": {
                "pending": dict(counts.pending) if counts else None,
                "dead_letters": counts.dead_letters if counts else None,
            },
            "mappings": self._mappings(),
            "doors": {name: self._seen(taken) for name, taken in sorted(self.doors.items())},
        }

    def exposition(self) -> str:
        """Give what /metrics says: the sum over the doors, then what the store itself tells."""
        live = Snapshot(self.at, tuple(self._gauges()))
        return metrics.exposition([*self.doors.values(), live])

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
        yield _gauge("broker_store_open_steps", "Open scheduled steps", counts.open_steps)
        yield _gauge("broker_orders_held", "Messages that wait for a code in a table", counts.held)
        yield _gauge("broker_store_archive_messages", "Archived messages", counts.archive_messages)
        yield _gauge(
            "broker_store_archive_bytes", "Compressed size of the archive", counts.archive_bytes
        )
        pending: dict[Labels, float] = {(("ris", r),): n for r, n in counts.pending.items()}
        yield gauge("broker_updates_pending", "Orders with messages a RIS has not taken", pending)
        yield _gauge(
            "broker_updates_dead_letters", "Status messages put aside", counts.dead_letters
        )


async def look(store: AsyncStore, ris: Iterable[str], *, now: float) -> Health:
    """Ask the store about everything at `now` (epoch s); a store that is away is a finding."""
    try:
        counts = await _counts(store, ris)
        published = await store.run(metrics.published())
        active = await store.run(bundles.active())
        failure = await store.run(bundles.failure())
    except StoreUnavailable as away:
        return Health(now, str(away))
    doors = metrics.fresh(published, now=now)
    return Health(now, await _refusal(store), counts, doors, active, failure)


async def _counts(store: AsyncStore, ris: Iterable[str]) -> Counts:
    return Counts(
        open_steps=await store.run(reads.open_steps()),
        held=await store.run(held.count()),
        archive_messages=await store.run(archive.count()),
        archive_bytes=await store.run(archive.size_bytes()),
        pending={name: await store.run(outbox.pending(name)) for name in ris},
        dead_letters=await store.run(outbox.dead()),
    )


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
