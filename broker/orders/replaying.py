"""Messages of the past judged once more, the same way as when they came, without a listener."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from broker.mapping.trials.trying import try_message
from broker.orders.arrival import Again
from broker.orders.door import intake_of
from broker.orders.elision import MARK
from broker.orders.intake import Intake
from broker.orders.metrics import OrdersMetrics
from broker.orders.rehearsing import Difference, Rehearsal, differences
from broker.rollout.current import Current
from broker.settings import Settings
from broker.store import archive, held, reads, recall, refused
from broker.store.archive import Archived
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.store.held import Waiting
from broker.store.recall import Entry

REPEAT = "repeat"
UNSOUND = "unsound"
ACCEPTED = frozenset({"applied", "stale", "held", REPEAT})


@dataclass(frozen=True)
class Past:
    """A message as it came: from the archive, or one that waits for a code.

    `entry` is the stream ID of where it was read, `of` that of its first entry; '' for one that
    waits. `received` is in epoch seconds, `cut` says that it is not whole.
    """

    entry: str
    of: str
    source: str
    control_id: str
    received: float
    digest: str
    raw: bytes = field(repr=False)
    port: int = 0
    cut: bool = False


@dataclass(frozen=True)
class Replayed:
    """What became of a message, and why: an outcome as of the archive, or unsound.

    What is stale changes nothing: something newer is known of all that it says.
    One that waited and was refused still waits: its sender believes that it was accepted. What is
    unsound was not judged: the archive does not hold enough of it. `differences` are those that
    a rehearsal found.
    """

    message: Past
    outcome: str
    cause: str
    orders: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()


def archived(entry: Entry) -> Past | None:
    """Take a message from the archive; None when its entry is none or cannot be read."""
    message = entry.message
    if message is None or message.outcome == archive.BY_HAND:
        return None
    return Past(
        entry=entry.stream_id,
        of=message.replay_of or entry.stream_id,
        source=message.source,
        control_id=message.control_id,
        received=message.came or message.received,
        digest=archive.digest_of(message),
        raw=message.raw,
        port=message.port,
        cut=message.cut,
    )


class Replaying:
    """Judges messages by the mappings in force when it was opened."""

    def __init__(self, store: AsyncStore, intake: Intake, told: list[Archived]) -> None:
        """Made by `replaying`."""
        self._store, self._intake, self._told = store, intake, told

    async def judge(self, past: Past, *, force: bool = False) -> Replayed:
        """Judge one message by the ordinary rules; `force` takes it although newer ones are known.

        Raises StoreUnavailable.
        """
        if reason := self._unsound(past):
            return Replayed(past, UNSOUND, reason)
        answered = bool(past.of) and await self._was_accepted(past)
        at = datetime.fromtimestamp(past.received, UTC)
        self._told.clear()
        if isinstance(self._store, Rehearsal):
            self._store.changes.clear()
        again = Again(past.of, past.digest, at, answered, force)
        if not await self._intake.judge_again(past.raw, past.port, again) and not self._told:
            raise StoreUnavailable("it was away while messages were replayed")
        done = self._replayed(past)
        if done.outcome in ACCEPTED and not isinstance(self._store, Rehearsal):
            await self._store.run(refused.forget(past.digest))
        return done

    async def _was_accepted(self, past: Past) -> bool:
        return await self._store.run(reads.remembered(past.digest)) is not None

    def _unsound(self, past: Past) -> str:
        """Say why what is kept of a message cannot stand for it, '' when it can."""
        if past.cut:
            return "the archive keeps only its beginning: let its sender send it again"
        if not MARK.search(past.raw.decode("latin-1")):
            return ""
        trial = try_message(
            self._intake.current.mappings.bundle,
            past.raw,
            received=datetime.fromtimestamp(past.received, UTC),
            site_zone=self._intake.zone,
            port=past.port,
        )
        read = (traced for outcome in trial.outcomes for traced in outcome.traced)
        for traced in read:
            if MARK.search(traced.raw):
                return f"the archive keeps no value as long as that of {traced.path}, which is read"
        return ""

    def _replayed(self, past: Past) -> Replayed:
        changes = self._store.changes if isinstance(self._store, Rehearsal) else []
        if not self._told:
            return Replayed(past, REPEAT, "applied before")
        last = self._told[-1]
        return Replayed(past, last.outcome, last.cause, last.orders, tuple(differences(changes)))


@asynccontextmanager
async def replaying(
    url: str, settings: Settings, *, rehearse: bool = False
) -> AsyncIterator[Replaying]:
    """Open the store at `url` for replays; a rehearsal writes nothing.

    Raises StoreUnavailable, Complaints.
    """
    store = Rehearsal(url) if rehearse else AsyncStore(url)
    told: list[Archived] = []
    try:
        current = await Current.opened(store, settings)
        intake = intake_of(settings, store, current, OrdersMetrics(), told.append)
        yield Replaying(store, intake, told)
    finally:
        await store.close()


async def replay(
    url: str,
    settings: Settings,
    stream_ids: Iterable[str],
    *,
    force: bool = False,
    rehearse: bool = False,
) -> AsyncIterator[Replayed]:
    """Judge archived messages, in this order. Raises StoreUnavailable, Complaints."""
    async with replaying(url, settings, rehearse=rehearse) as judge:
        store = AsyncStore(url)
        try:
            for stream_id in stream_ids:
                for entry in await store.run(recall.named([stream_id])):
                    if past := archived(entry):
                        yield await judge.judge(past, force=force)
        finally:
            await store.close()


async def replay_waiting(
    url: str, settings: Settings, digests: Iterable[str]
) -> AsyncIterator[Replayed]:
    """Judge messages that wait for a code, in this order. Raises StoreUnavailable, Complaints."""
    async with replaying(url, settings) as judge:
        store = AsyncStore(url)
        try:
            for digest in digests:
                for message in await store.run(held.read([digest])):
                    yield await judge.judge(_waiting(message))
        finally:
            await store.close()


def _waiting(message: Waiting) -> Past:
    return Past(
        entry="",
        of="",
        source=message.source,
        control_id=message.control_id,
        received=message.received,
        digest=message.digest,
        raw=message.raw,
        port=message.port,
    )
