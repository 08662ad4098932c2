"""Modality Worklist C-FIND (PS3.4 Annex K), without a socket: identifier in, answers out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

import structlog

from broker.dicom.dimse import (
    IDENTIFIER_DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_UNSUPPORTED_KEYS,
    SUCCESS,
    DimseRequest,
    Response,
)
from broker.dicom.identifier import (
    Identifier,
    UnencodableValue,
    UnreadableIdentifier,
    charset_for,
    decode,
    encode,
)
from broker.modality.connection import Association
from broker.modality.metrics import ModalityMetrics
from broker.store import reads
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.worklist.attributes import STEPS
from broker.worklist.changes import Attributes, text_of
from broker.worklist.finding import Known
from broker.worklist.matching import START_DATE, START_TIME, Query
from broker.worklist.narrowing import narrow
from broker.worklist.records import LISTED, items

MODALITY_WORKLIST: Final = "1.2.840.10008.5.1.4.31"
TURN: Final = 16
"""Answers encoded before other associations get their turn."""

log = structlog.get_logger("modality")


@dataclass(frozen=True)
class Find:
    """Answers worklist queries; `charsets` says what a calling AE reads, by its title."""

    store: AsyncStore
    metrics: ModalityMetrics
    max_answers: int
    charsets: dict[str, tuple[str, ...]] = field(default_factory=dict)

    async def __call__(
        self, request: DimseRequest, association: Association
    ) -> AsyncIterator[Response]:
        """Give the pending answers in the order of their start, then the final status."""
        began, count, final = perf_counter(), 0, Response(SUCCESS)
        try:
            identifier = decode(request.dataset or b"", request.transfer_syntax)
            query = Query.of(identifier.keys)
            if unread := [*query.passed_over(), *identifier.unusable]:
                log.warning("keys passed over", calling=association.calling, keys=unread)
            for item in await self._matching(query):
                answer = self._encoded(query, item, identifier, request, association)
                if answer:
                    count += 1
                    yield answer
                if count % TURN == 0:
                    await asyncio.sleep(0)  # others, and a C-CANCEL, get their turn
        except UnreadableIdentifier as fault:
            offending = (fault.tag,) if fault.tag else ()
            final = Response(
                IDENTIFIER_DOES_NOT_MATCH, error_comment=fault.fact, offending=offending
            )
        except StoreUnavailable as problem:
            log.error("store unavailable", problem=f"{problem}", calling=association.calling)
            final = Response(OUT_OF_RESOURCES, error_comment="worklist store is unavailable")
        except TooMany:
            comment = f"more than {self.max_answers} answers, narrow the query"
            final = Response(OUT_OF_RESOURCES, error_comment=comment)
        self.metrics.find(final.status, count, perf_counter() - began)
        yield final

    async def _matching(self, query: Query) -> list[Attributes]:
        """Read the candidates slice by slice and match them; sorted by start."""
        read = await self.store.run(reads.candidates(narrow(query)))
        found = list(_matching(query, read.known))
        _report(read.unreadable)
        for at in range(reads.SLICE, len(read.found), reads.SLICE):
            if len(found) > self.max_answers:
                raise TooMany
            more = await self.store.run(reads.orders(read.found[at : at + reads.SLICE]))
            found += _matching(query, more.known)
            _report(more.unreadable)
        if len(found) > self.max_answers:
            raise TooMany
        return sorted(found, key=_start)

    def _encoded(
        self,
        query: Query,
        item: Attributes,
        identifier: Identifier,
        request: DimseRequest,
        association: Association,
    ) -> Response | None:
        """Encode one answer; one that cannot be encoded is left out and reported, not the list."""
        answer = query.answer(item)
        requested = self.charsets.get(association.calling, identifier.charset)
        try:
            charset = charset_for(answer, requested)
            data = encode(answer, request.transfer_syntax, charset)
        except UnencodableValue as fault:
            accession = text_of(item, "AccessionNumber")
            log.error(
                "answer left out", accession=accession, keyword=fault.keyword, fact=fault.fact
            )
            return None
        whole = query.supported() and not identifier.unknown
        return Response(PENDING if whole else PENDING_UNSUPPORTED_KEYS, data)


class TooMany(Exception):
    """More answers than a scanner may get; the list is never cut in silence."""


def _report(unreadable: tuple[str, ...]) -> None:
    if unreadable:  # their keys hold patient IDs, which have no place in a log
        log.error("records left out: this version cannot read them", count=len(unreadable))


def _matching(query: Query, known: Known) -> Iterator[Attributes]:
    for order in known.orders.values():
        patient = known.patients.get(order.patient)
        for item in items(order, patient) if patient else ():
            if item.step.status in LISTED and query.matches(item.attributes):
                yield item.attributes


def _start(item: Attributes) -> tuple[str, str, str]:
    step = item[STEPS][0]
    return (
        text_of(step, START_DATE),
        text_of(step, START_TIME),
        text_of(item, "AccessionNumber"),
    )
