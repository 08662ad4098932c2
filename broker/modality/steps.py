"""MPPS N-CREATE, N-SET and N-GET (PS3.4 Annex F), without a socket: judge, commit, answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple

import structlog

from broker.dicom.dictionary import STANDARD_KEYWORDS, tag_of
from broker.dicom.dimse import (
    INVALID_ATTRIBUTE_VALUE,
    PROCESSING_FAILURE,
    DimseRequest,
    Response,
)
from broker.dicom.identifier import Identifier, UnreadableIdentifier, decode
from broker.dicom.wellformed import is_uid, odd_values
from broker.instep import all_so_far
from broker.modality.connection import Association
from broker.modality.metrics import ModalityMetrics
from broker.modality.recording import Recording
from broker.store import reads
from broker.store.commit import ABSENT, MppsChange
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.worklist import canary, mpps
from broker.worklist.directory import Directory
from broker.worklist.mpps import Answer, Mode, MppsRefused, Performed, Request
from broker.worklist.requirements import Fault, Wrong

MODALITY_PERFORMED_PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"
ATTEMPTS: Final = 100
LARGE: Final = 64 * 1024
"""Bytes of a data set of some hundred images: reading it takes milliseconds that others wait."""
MOST_LOGGED: Final = 20
MOST_RECENT: Final = 200
"""Exams that are remembered till their next request: some 10 KB each."""
UNCHECKED: Final = frozenset(
    {"ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"}
)

log = structlog.get_logger("modality")


class Reported(NamedTuple):
    """An N-CREATE or N-SET that was answered; `said` are the attributes of the exam.

    Where it was refused they are those of the request.
    """

    association: Association
    kind: str
    uid: str
    status: int
    said: Mapping[str, Any]


def reported_to_nobody(it: Reported) -> None:
    """The default: nobody keeps a trail of reports."""


class Recent(NamedTuple):
    """An exam that this process has written, and how many connections to Redis it had made then."""

    performed: Performed
    revision: str
    connections: int


@dataclass(frozen=True)
class Steps:
    """Answers N-CREATE and N-SET; Success only after the commit that holds all of it.

    `reported` hears of each when it is answered. `recent` are exams that need not be read again.
    """

    store: AsyncStore
    recording: Recording
    metrics: ModalityMetrics
    directory: Directory = field(default_factory=Directory)
    reported: Callable[[Reported], None] = reported_to_nobody
    recent: dict[str, Recent] = field(default_factory=dict)

    async def create(
        self, request: DimseRequest, association: Association
    ) -> AsyncIterator[Response]:
        """N-CREATE: 0000, 0106 (not IN PROGRESS), 0110, 0111 (exists); strict 0116, 0117, 012x."""
        yield await self._answered(request, association)

    async def set(self, request: DimseRequest, association: Association) -> AsyncIterator[Response]:
        """N-SET: 0000, 0106, 0107, 0110 with A710 (final), 0112 (unknown); strict 0105, 0121."""
        yield await self._answered(request, association)

    async def _answered(self, request: DimseRequest, association: Association) -> Response:
        began, tolerated = perf_counter(), tuple[Fault, ...]()
        said: Mapping[str, Any] = {}
        uid = request.sop_instance
        if not uid and request.kind == mpps.CREATE:
            uid = _uid_of(request, association.calling)
        ae = self.directory.profile(association.calling, association.address).rules
        try:
            asked = await self._read(request, uid, association.calling, ae.terms)
            await all_so_far()
            said = asked.said
            answer = await self._record(request, asked, ae.mpps)
            said = answer.performed.attributes
            tolerated = answer.tolerated
            tags = _tags(answer.attributes)
            response = Response(answer.status.code, sop_instance=uid, attribute_list=tags)
        except (UnreadableIdentifier, MppsRefused, StoreUnavailable) as problem:
            response = _refusal(problem, uid)
        self._report(request, response, association.calling, uid, tolerated, began)
        self.reported(Reported(association, request.kind, uid, response.status, said))
        return response

    async def _read(
        self, request: DimseRequest, uid: str, calling: str, terms: tuple[str, ...]
    ) -> Request:
        """Read a request; a large one in a thread, so that others are served meanwhile."""
        data = request.dataset or b""
        reading = partial(_decoded, data, request.transfer_syntax, terms)
        identifier, odd = await asyncio.to_thread(reading) if len(data) > LARGE else reading()
        return Request(
            kind=request.kind,
            uid=uid,
            said=identifier.keys,
            digest=hashlib.sha256(request.kind.encode() + data).hexdigest()[:32],
            odd=odd if is_uid(uid) else (Fault("SOPInstanceUID", Wrong.INSTANCE), *odd),
            calling=calling,
            charset=identifier.charset,
            at=self.recording.clock().timestamp(),
        )

    async def _record(self, request: DimseRequest, asked: Request, mode: Mode) -> Answer:
        """Read, decide, commit; again when another message changed a record meanwhile."""
        if (guess := self._guessed(asked)) is not None:
            # The commit finds out whether it is right; what is refused is perhaps a repeat.
            with suppress(MppsRefused):
                answer = await self._attempt(request, asked, mode, *guess)
                if answer and not answer.repeat:
                    return answer
        for _ in range(ATTEMPTS):
            stored, revision = await self.store.run(reads.mpps(asked.uid))
            if answer := await self._attempt(request, asked, mode, stored, revision):
                return answer
        raise StoreUnavailable("other messages kept changing the same records")

    async def _attempt(
        self,
        request: DimseRequest,
        asked: Request,
        mode: Mode,
        stored: Performed | None,
        revision: str,
    ) -> Answer | None:
        """Decide on what is stored and commit; None when that, or an order, is other meanwhile."""
        answer = mpps.answered(stored, asked, mode)
        if answer.repeat:
            return answer
        change = MppsChange(revision, stored, answer.performed, request.dataset or b"")
        relayed = self.recording.relayed(request, answer.performed, asked.calling)
        written = await self.recording.write(change, answer.performed, sent_on=relayed)
        if written is None:
            return None
        if len(self.recent) >= MOST_RECENT:
            self.recent.pop(next(iter(self.recent)))
        self.recent[asked.uid] = Recent(*written, self.store.connections)
        return answer

    def _guessed(self, asked: Request) -> tuple[Performed | None, str] | None:
        """Give what is probably stored: nothing before an N-CREATE, then what this process wrote.

        Nothing is guessed once another Redis may answer: it may give revisions anew.
        """
        if asked.kind == mpps.CREATE:
            return None, ABSENT
        recent = self.recent.pop(asked.uid, None)
        if recent is None or recent.connections != self.store.connections:
            return None
        return recent.performed, recent.revision

    def _report(
        self,
        request: DimseRequest,
        response: Response,
        calling: str,
        uid: str,
        tolerated: tuple[Fault, ...],
        began: float,
    ) -> None:
        if calling != canary.AE:
            self.metrics.mpps(request.kind, response.status)
        for fault in tolerated:
            self.metrics.tolerated(request.kind, fault.keyword)
        told = [f"{fault}" for fault in tolerated]
        more = [f"and {len(told) - MOST_LOGGED} more"] if len(told) > MOST_LOGGED else []
        log.info(
            "mpps",
            operation=request.kind,
            calling=calling,
            sop_instance=uid,
            status=f"{response.status:04X}",
            comment=response.error_comment,
            tolerated=[*told[:MOST_LOGGED], *more],
            ms=round((perf_counter() - began) * 1000, 1),
        )


def _decoded(
    data: bytes, transfer_syntax: str, terms: tuple[str, ...]
) -> tuple[Identifier, tuple[Fault, ...]]:
    """Read a data set, and name the values that their VR does not allow."""
    identifier = decode(data, transfer_syntax, STANDARD_KEYWORDS, assumed=terms)
    odd = (
        Fault(each.attribute, Wrong.TOO_LONG if each.too_long else Wrong.INVALID)
        for each in odd_values(identifier.keys, UNCHECKED)
    )
    unusable = (Fault(keyword, Wrong.INVALID) for keyword in identifier.unusable)
    return identifier, tuple(dict.fromkeys((*odd, *unusable)))


def _uid_of(request: DimseRequest, calling: str) -> str:
    """Give an exam a UID that its scanner has not given: the same for the same request.

    A scanner that has missed our answer and asks once more has begun one exam, not two.
    """
    digest = hashlib.sha256(calling.encode() + b"\0" + (request.dataset or b"")).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


def _refusal(problem: Exception, uid: str) -> Response:
    if isinstance(problem, UnreadableIdentifier):
        offending = (problem.tag,) if problem.tag else ()
        return Response(INVALID_ATTRIBUTE_VALUE, error_comment=problem.fact, offending=offending)
    if isinstance(problem, MppsRefused):
        return Response(
            problem.status,
            error_comment=problem.comment,
            error_id=problem.error_id,
            attribute_list=_tags(problem.attributes),
        )
    log.error("store unavailable", problem=f"{problem}", sop_instance=uid)
    return Response(PROCESSING_FAILURE, error_comment="the step cannot be stored now")


def _tags(keywords: Iterable[str]) -> tuple[int, ...]:
    return tuple(tag_of(keyword) for keyword in keywords)
