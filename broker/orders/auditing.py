"""What the trail hears of messages: one event for each that was taken or refused."""

from __future__ import annotations

from typing import Final

from broker.audit.events import Alarm, Order
from broker.audit.trail import Silence, Trail
from broker.orders.admission import UNPROVEN
from broker.orders.answering import Heard, heard_by_nobody
from broker.orders.arrival import Arrival
from broker.store.archive import Archived
from broker.worklist.identity import parted

MOST_KEPT: Final = 8 * 1024
"""Bytes of a message in which its patients and order controls stand; as many as wait are held."""


def heard_by(trail: Trail | Silence) -> Heard:
    """Give what notes a message when it was archived; what is no HL7 is about nobody."""
    if isinstance(trail, Silence):
        return heard_by_nobody

    def heard(arrived: Arrival, archived: Archived) -> None:
        if arrived.header is None or archived.outcome == "ignored":
            return
        accessions = tuple(parted(key)[-1] for key in archived.orders)
        kind, refused = archived.message_type, archived.outcome == "refused"
        what = (archived.source, arrived.host, kind, refused, arrived.raw[:MOST_KEPT], accessions)
        trail.note(Order(arrived.at, *what))
        if UNPROVEN in archived.cause:
            trail.note(Alarm(arrived.at, archived.source, arrived.host, UNPROVEN))

    return heard
