"""MPPS N-CREATE and N-SET (PS3.4 Annex F), without a socket: transition, commit, answer."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from time import perf_counter
from typing import Final
from uuid import uuid4

import structlog

from broker.dicom.dimse import (
    INVALID_ATTRIBUTE_VALUE,
    PROCESSING_FAILURE,
    SUCCESS,
    DimseRequest,
    Response,
)
from broker.dicom.identifier import UnreadableIdentifier, decode
from broker.modality.connection import Association
from broker.modality.metrics import ModalityMetrics
from broker.modality.notices import notices
from broker.rollout.current import Current
from broker.settings import Ris
from broker.store import reads
from broker.store.commit import Change, Commit, Conflict, MppsChange, commit
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.store.outbox import Event
from broker.worklist import mpps
from broker.worklist.changes import Attributes
from broker.worklist.finding import Known
from broker.worklist.mpps import MppsRefused, Performed
from broker.worklist.records import Order

MODALITY_PERFORMED_PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"
ATTEMPTS: Final = 100

log = structlog.get_logger("modality")


@dataclass(frozen=True)
class Steps:
    """Answers N-CREATE and N-SET; Success only after the commit that holds all of it."""

    store: AsyncStore
    current: Current
    ris: tuple[Ris, ...]
    clock: Callable[[], datetime]
    metrics: ModalityMetrics

    async def create(
        self, request: DimseRequest, association: Association
    ) -> AsyncIterator[Response]:
        """N-CREATE: 0000, 0106 (not IN PROGRESS), 0110, 0111 (exists)."""
        uid = request.sop_instance or f"2.25.{uuid4().int}"
        yield await self._answered(request, association, uid)

    async def set(self, request: DimseRequest, association: Association) -> AsyncIterator[Response]:
        """N-SET: 0000, 0106 (unknown status), 0110 with A710 (final), 0112 (unknown)."""
        yield await self._answered(request, association, request.sop_instance)

    async def _answered(
        self, request: DimseRequest, association: Association, uid: str
    ) -> Response:
        began = perf_counter()
        response = await self._response(request, uid)
        self.metrics.mpps(request.kind, response.status)
        log.info(
            "mpps",
            operation=request.kind,
            calling=association.calling,
            instance=uid,
            status=f"{response.status:04X}",
            comment=response.error_comment,
            took_ms=round((perf_counter() - began) * 1000, 1),
        )
        return response

    async def _response(self, request: DimseRequest, uid: str) -> Response:
        try:
            said = decode(request.dataset or b"", request.transfer_syntax, mpps.KEPT).keys
            await self._record(request, uid, said)
        except UnreadableIdentifier as fault:
            offending = (fault.tag,) if fault.tag else ()
            return Response(INVALID_ATTRIBUTE_VALUE, error_comment=fault.fact, offending=offending)
        except MppsRefused as refused:
            return Response(
                refused.status, error_comment=refused.comment, error_id=refused.error_id
            )
        except StoreUnavailable as problem:
            log.error("store unavailable", problem=f"{problem}", instance=uid)
            return Response(PROCESSING_FAILURE, error_comment="the step cannot be stored now")
        return Response(SUCCESS, sop_instance=uid)

    async def _record(self, request: DimseRequest, uid: str, said: Attributes) -> None:
        """Read, decide, commit; again when another message changed a record meanwhile."""
        for _ in range(ATTEMPTS):
            stored, revision = await self.store.run(reads.mpps(uid))
            if request.kind == "N-CREATE":
                performed = mpps.created(stored, uid, said)
            else:
                performed = mpps.changed(stored, said)
            change = MppsChange(revision, stored, performed, request.dataset or b"")
            if not isinstance(await self._committed(change), Conflict):
                return
        raise StoreUnavailable("other messages kept changing the same records")

    async def _committed(self, change: MppsChange) -> object:
        performed = change.after
        if change.before is None:
            leads = mpps.leads(performed.attributes)
            read = await self.store.run(reads.orders_by(leads))
            found = mpps.references(performed.attributes, read.known.orders.values())
            performed = performed.model_copy(update={"references": found})
        else:
            named = sorted({reference.order for reference in performed.references})
            read = await self.store.run(reads.orders(named))
            performed = mpps.followed(performed, read.known.aliases)
        if not performed.references:
            log.warning("no scheduled step found", instance=performed.sop_instance_uid)
        now = self.clock()
        after = _advanced(read.known, performed)
        return await self.store.run(
            commit(
                Commit(
                    at=now,
                    mpps=replace(change, after=performed),
                    changes=[
                        Change(read.revision(order), order, after[key])
                        for key, order in read.known.orders.items()
                        if key in after
                    ],
                    events=list(self._events(performed, read.known, after, now)),
                )
            )
        )

    def _events(
        self, performed: Performed, before: Known, after: Mapping[str, Order], now: datetime
    ) -> Iterator[Event]:
        """Render the status messages of a transition, once and with their final MSH-10."""
        mappings = self.current.mappings
        for notice in notices(performed, before, after):
            for ris in self.ris:
                control_id = _control_id(ris.name, performed, notice.order, notice.procedure)
                payload = mappings.bundle.outbound[ris.mapping].render(
                    notice.attributes, control_id=control_id, now=now
                )
                yield Event(
                    ris=ris.name,
                    order=notice.order,
                    control_id=control_id,
                    created=now.timestamp(),
                    mapping=mappings.named(ris.mapping),
                    note=performed.status,
                    payload=payload.encode(),
                )


def _advanced(known: Known, performed: Performed) -> dict[str, Order]:
    """Give the orders that a performed step refers to, as they are after it."""
    named = {reference.order for reference in performed.references}
    return {k: mpps.advanced(o, performed) for k, o in known.orders.items() if k in named}


def _control_id(ris: str, performed: Performed, order: str, procedure: str) -> str:
    """Derive MSH-10 (ST 20) from what happened: a replayed commit gives the same message."""
    parts = (ris, performed.sop_instance_uid, performed.status, order, procedure)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:20].upper()
