"""Messages whose codes are in no table of the mapping: accepted, but on no list till they are."""

from __future__ import annotations

import structlog

from broker.hl7.refusal import Refusal
from broker.orders.answering import Answering
from broker.orders.arrival import Arrival
from broker.store import held, reads
from broker.store.commit import Commit, commit
from broker.store.executors import AsyncStore
from broker.worklist.changes import Unmapped

log = structlog.get_logger("orders")


async def held_back(
    answering: Answering, arrived: Arrival, unmapped: tuple[Unmapped, ...], mapping: str
) -> list[bytes]:
    """Keep a whole message till its codes are in a table: accepted, but on no list.

    It is not remembered as answered: the same bytes are judged afresh. Raises Refusal when no
    more can wait.
    """
    remembered = await answering.store.run(reads.remembered(arrived.digest))
    if remembered is not None:
        return await answering.repeated(arrived, remembered, mapping)
    waiting = held.Waiting(
        digest=arrived.digest,
        source=arrived.facts["source"],
        control_id=arrived.facts["control_id"],
        received=arrived.received.timestamp(),
        mapping=mapping,
        unmapped=unmapped,
        raw=arrived.raw,
        port=arrived.port,
    )
    await _make_sure_it_can_wait(answering.store, waiting)
    payloads = answering.payloads(arrived, None)
    notes = [f"table '{each.table}' has no '{each.key[:80]}'" for each in unmapped]
    archived = arrived.archived("held", notes, payloads, (), mapping)
    await answering.store.run(commit(Commit(at=arrived.at, held=waiting, archived=archived)))
    answering.tell(arrived, archived)
    tables = sorted({each.table for each in unmapped})
    log.warning("a message waits for its codes: see `broker unmapped`", tables=tables)
    answering.answered(arrived, payloads, note="held")
    return payloads


async def _make_sure_it_can_wait(store: AsyncStore, waiting: held.Waiting) -> None:
    if not held.fits(waiting):
        raise Refusal(
            "its codes are in no table, and it is too large to wait for that",
            code="103",
            remedy="assign the codes to the tables of the mapping, then resend",
        )
    full = await store.run(held.count()) >= held.MOST
    if full and not await store.run(held.waits(waiting.digest)):
        raise Refusal(
            "its codes are in no table, and too many messages wait for that already",
            code="207",
            acknowledgement="AE",
            remedy="assign the codes that `broker unmapped` lists, then resend",
        )
