"""What people must hear of a message that was applied: counted, and warned of where it matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from broker.orders.arrival import Arrival
from broker.orders.metrics import OrdersMetrics
from broker.worklist.applied import FINISHED, NO_START, STALE, Applied
from broker.worklist.changes import OF_PATIENTS, Change
from broker.worklist.persons import MERGED_ID

REGISTERS: Final = frozenset({"ADT^A01", "ADT^A04", "ADT^A28"})
"""What makes a person known: of an ID that was merged away perhaps somebody else."""

log = structlog.get_logger("orders")


def remark(
    arrived: Arrival, groups: Sequence[Change], applied: Applied, metrics: OrdersMetrics
) -> None:
    """Count what is odd about a message that was applied."""
    if STALE in applied.notes:
        metrics.stale()
    if FINISHED in applied.notes:
        metrics.finished()
    if NO_START in applied.notes:
        metrics.odd_value(NO_START)
    if {"unknown order", "unknown step"} & set(applied.notes):
        metrics.unknown()
    of_patients = all(group.action in OF_PATIENTS for group in groups)
    if of_patients and all(patient.slim for patient in applied.known.patients.values()):
        metrics.without_order()
    if MERGED_ID in applied.notes:
        metrics.merged_id(arrived.message_type)
        if arrived.message_type in REGISTERS:
            log.warning(
                "an ID that was merged into another one is registered anew: if it is somebody "
                "else's, see `broker patient unmerge`",
                **arrived.facts,
            )
