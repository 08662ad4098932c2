"""What a person decides of an exam, written as a scanner's report is: with what a RIS is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from broker.modality.recording import Recording
from broker.store import reads
from broker.store.archive import Archived
from broker.store.commit import Change, Commit, Committed, MppsChange, commit
from broker.store.executors import StoreUnavailable
from broker.store.outbox import Event
from broker.worklist.by_hand import Corrected, Impossible
from broker.worklist.finding import Identifier, Known
from broker.worklist.mpps import Performed

ATTEMPTS = 20
Decide = Callable[[Performed, Known], Corrected]


@dataclass(frozen=True)
class Done:
    """What was decided of an exam, or would be, and every message to a RIS that follows."""

    exam: Performed
    orders: tuple[str, ...]
    events: tuple[Event, ...]


async def correct(
    recording: Recording,
    uid: str,
    decide: Decide,
    *,
    accession: str = "",
    archived: Archived | None = None,
) -> Done:
    """Decide and write; without an entry for the archive only show. Raises Impossible.

    `accession` is that of an order that the exam does not name itself.
    """
    for _ in range(ATTEMPTS):
        stored, revision = await recording.store.run(reads.mpps(uid))
        if stored is None:
            raise Impossible("no such performed procedure step")
        read = await _read(recording, stored, accession)
        made = decide(stored, read.known)
        events = tuple(_events(recording, made, archived))
        changes = _changes(read, made)
        done = Done(made.exam, tuple(c.after.key for c in changes if c.after), events)
        if archived is None:
            return done
        wanted = Commit(
            at=recording.clock(),
            changes=changes,
            mpps=[MppsChange(revision, stored, made.exam)],
            events=events,
            archived=archived,
        )
        outcome = await recording.store.run(commit(wanted))
        if isinstance(outcome, Committed):
            return done
    raise StoreUnavailable("messages kept changing the same records")


async def _read(recording: Recording, exam: Performed, accession: str) -> reads.Read:
    if accession:
        return await recording.store.run(reads.orders_by([Identifier("accession", accession)]))
    named = sorted({reference.order for reference in exam.references})
    return await recording.store.run(reads.orders(named))


def _changes(read: reads.Read, made: Corrected) -> list[Change]:
    if not made.moments:
        return []
    after = made.moments[-1].after
    return [
        Change(read.revision(order), order, after.orders[key])
        for key, order in read.known.orders.items()
        if after.orders[key] is not order
    ]


def _events(recording: Recording, made: Corrected, archived: Archived | None) -> Iterator[Event]:
    """Render the messages; what is decided twice is told twice."""
    when = f"{archived.received if archived else 0}"
    for exam, before, after in made.moments:
        yield from recording.events(exam, before, after.orders, recording.clock(), when)
