"""What a message that was applied is answered, and what archive, metrics and log are told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from broker.hl7.acknowledgement import as_told
from broker.hl7.refusal import Refusal
from broker.mapping.running.refusing import in_part
from broker.orders.answering import FRAME_SEPARATOR, Answering
from broker.orders.arrival import Arrival
from broker.orders.unknown import not_known
from broker.store import reads
from broker.store.archive import IN_PART, Archived
from broker.store.consequences import order_keys
from broker.worklist.applied import STALE, Applied
from broker.worklist.changes import Change

MOST_NOTES: Final = 20
"""Facts about odd values that are told of one message."""
MOST_LOGGED: Final = 10
"""Orders of one message that its line in the log names."""


class Verdict(NamedTuple):
    """What a message that was applied is answered, and the archive's entry of it."""

    refusal: Refusal | None
    payloads: list[bytes]
    notes: tuple[str, ...]
    odd: tuple[str, ...]
    archived: Archived

    def remembered(self, arrived: Arrival) -> tuple[str, bytes] | None:
        """Give the answer to remember, unless the sender has got another one for this long ago.

        What was refused in part is judged afresh when it comes again.
        """
        if self.refusal or arrived.was_accepted:
            return None
        return arrived.digest, FRAME_SEPARATOR.join(self.payloads)


def verdict_on(
    arrived: Arrival,
    groups: Sequence[Change],
    read: reads.Read,
    applied: Applied,
    mapping: str,
    answering: Answering,
) -> Verdict:
    """Say what the sender will be answered, and the archive told, once it is committed."""
    refusal = as_told(in_part(applied), arrived.header)
    payloads = answering.payloads(arrived, refusal, note=not_known(applied))
    odd = tuple(dict.fromkeys(note for group in groups for note in group.warnings))[:MOST_NOTES]
    notes = (*((f"{refusal}",) if refusal else ()), *applied.notes, *odd)
    orders = order_keys(read, applied)
    archived = arrived.archived(_outcome(read, applied), notes, payloads, orders, mapping)
    return Verdict(refusal, payloads, applied.notes, odd, archived)


def told(arrived: Arrival, verdict: Verdict, answering: Answering) -> list[bytes]:
    """Count, log and give the answer of a message that was committed."""
    if verdict.refusal:
        answering.metrics.refused(verdict.refusal.code)
    for note in verdict.odd:
        answering.metrics.odd_value(note)
    answering.tell(arrived, verdict.archived)
    orders = verdict.archived.orders
    few = [*orders[:MOST_LOGGED], *_and_more(len(orders) - MOST_LOGGED)]
    each = list(dict.fromkeys((*verdict.notes, *verdict.odd)))
    answering.answered(arrived, verdict.payloads, orders=few, notes=each)
    return verdict.payloads


def _outcome(read: reads.Read, applied: Applied) -> str:
    """Say stale of a message of which nothing is new enough to change a record."""
    if applied.refused:
        return IN_PART
    if STALE not in applied.notes:
        return "applied"
    before, after = read.known, applied.known
    same = (before.orders, before.patients) == (after.orders, after.patients)
    return STALE if same and not (applied.buried or applied.heard) else "applied"


def _and_more(count: int) -> Iterator[str]:
    if count > 0:
        yield f"and {count} more"
