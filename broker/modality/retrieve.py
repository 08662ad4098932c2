"""MPPS Retrieve N-GET (PS3.4 F.8), without a socket: what is stored of a performed step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import perf_counter

import structlog

from broker.dicom.dictionary import UnencodableValue, keyword_of
from broker.dicom.dimse import (
    NO_SUCH_INSTANCE,
    OPTIONAL_ATTRIBUTES,
    PROCESSING_FAILURE,
    SUCCESS,
    DimseRequest,
    Response,
)
from broker.dicom.encoding import charset_for, encode
from broker.modality.connection import Association
from broker.modality.metrics import ModalityMetrics
from broker.store import reads
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.worklist.changes import Attributes
from broker.worklist.mpps import Performed
from broker.worklist.requirements import NEEDS

log = structlog.get_logger("modality")


@dataclass(frozen=True)
class Retrieve:
    """Answers N-GET: 0000, 0001 (something asked for is not there), 0110, 0112 (unknown, purged).

    Sequences are given whole. Text is in the character set of the N-CREATE where that has all of
    it, else in UTF-8.
    """

    store: AsyncStore
    metrics: ModalityMetrics

    async def __call__(
        self, request: DimseRequest, association: Association
    ) -> AsyncIterator[Response]:
        """Answer with the attributes of the request's list, with all when it has none."""
        began = perf_counter()
        response = await self._answered(request)
        self.metrics.mpps(request.kind, response.status)
        log.info(
            "mpps",
            operation=request.kind,
            calling=association.calling,
            sop_instance=request.sop_instance,
            status=f"{response.status:04X}",
            comment=response.error_comment,
            ms=round((perf_counter() - began) * 1000, 1),
        )
        yield response

    async def _answered(self, request: DimseRequest) -> Response:
        try:
            performed, _ = await self.store.run(reads.mpps(request.sop_instance))
            if performed is None:
                return Response(NO_SUCH_INSTANCE, error_comment="no such object instance")
            return _told(performed, request)
        except UnencodableValue as fault:
            comment = f"{fault.keyword} cannot be sent"
            return Response(PROCESSING_FAILURE, error_comment=comment)
        except StoreUnavailable as problem:
            log.error("store unavailable", problem=f"{problem}", sop_instance=request.sop_instance)
            return Response(PROCESSING_FAILURE, error_comment="the step cannot be read now")


def _told(performed: Performed, request: DimseRequest) -> Response:
    asked = tuple(dict.fromkeys(request.attribute_list))
    stored = performed.attributes
    named = {tag: keyword_of(tag) for tag in asked}
    held = {keyword: stored.get(keyword, "") for keyword in named.values() if keyword in NEEDS}
    held |= {keyword: stored[keyword] for keyword in named.values() if keyword in stored}
    missing = [keyword for keyword in named.values() if keyword not in held]
    data = _encoded(held if asked else stored, performed, request.transfer_syntax)
    status = OPTIONAL_ATTRIBUTES if missing else SUCCESS
    comment = f"attributes that are not there: {len(missing)}" if missing else ""
    return Response(status, data, error_comment=comment)


def _encoded(attributes: Attributes, performed: Performed, transfer_syntax: str) -> bytes:
    return encode(attributes, transfer_syntax, charset_for(attributes, performed.charset))
