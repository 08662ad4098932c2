"""Modality Performed Procedure Steps: the transitions of PS3.4 F.7.2, and what is kept of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from broker.worklist.changes import Attributes, text_of
from broker.worklist.device_times import ends_before_start
from broker.worklist.records import SCHEMA_VERSION, Record
from broker.worklist.requirements import (
    Fault,
    Wrong,
    ends_with,
    faults_of_create,
    faults_of_end,
    faults_of_set,
    is_fixed,
)

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
CREATE, SET = "N-CREATE", "N-SET"
STATUS = "PerformedProcedureStepStatus"
SCHEDULED_ITEMS = "ScheduledStepAttributesSequence"
REASON = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
SERIES = "PerformedSeriesSequence"
OBJECTS = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
MAY_NO_LONGER_BE_UPDATED = 0xA710
"""Error ID of Table F.7.2-2."""
MOST_TOLERATED: Final = 40
NEVER_ENDED: Final = "has not ended in time"
ENDS_BEFORE_START: Final = "ends before it began, by the clock of the scanner"


class Mode(StrEnum):
    """Whether a scanner is held to the letter of Table F.7.2-1, or its exam is what counts."""

    STRICT = "strict"
    LENIENT = "lenient"


class MppsStatus(StrEnum):
    """Status of a response, by its number in PS3.7 Annex C."""

    SUCCESS = "0000"
    NO_SUCH_ATTRIBUTE = "0105"
    INVALID_VALUE = "0106"
    ATTRIBUTE_LIST = "0107"
    PROCESSING_FAILURE = "0110"
    DUPLICATE = "0111"
    NO_SUCH_INSTANCE = "0112"
    OUT_OF_RANGE = "0116"
    INVALID_INSTANCE = "0117"
    MISSING_ATTRIBUTE = "0120"
    MISSING_VALUE = "0121"

    @property
    def code(self) -> int:
        """The number itself."""
        return int(self.value, 16)


class MppsRefused(Exception):
    """A request that is not taken; comment is (0000,0902), ≤ 64, `attributes` are keywords."""

    def __init__(
        self,
        status: MppsStatus,
        comment: str,
        error_id: int | None = None,
        attributes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(comment)
        self.status, self.comment, self.error_id = status.code, comment, error_id
        self.attributes = attributes


class Reference(Record):
    """The step that an item of the Scheduled Step Attributes Sequence was matched to.

    `evidence` says by what: the numbers that agreed, or that a person has linked it.
    """

    order: str
    procedure: str
    step: str
    evidence: str = ""


class Performed(Record):
    """One Modality Performed Procedure Step: all that its N-CREATE and N-SETs have said.

    `last` is the digest of the request that was accepted last, `tolerated` what a lenient AE was
    forgiven, `exceptions` why a person should look, `closed` that one did. `station` is the calling
    AE, `charset` that of its N-CREATE, `began` and `changed` when its first and last request came
    (epoch s, our clock).
    """

    schema_version: int = SCHEMA_VERSION
    sop_instance_uid: str
    status: str
    attributes: dict[str, Any]
    references: tuple[Reference, ...] = ()
    last: str = ""
    tolerated: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()
    closed: bool = False
    station: str = ""
    charset: tuple[str, ...] = ()
    began: float = 0.0
    changed: float = 0.0


def series_of(attributes: Attributes) -> tuple[int, int]:
    """Count the series of an exam, and the images and other objects in them."""
    series = attributes.get(SERIES) or []
    objects = (len(one.get(kind) or ()) for one in series for kind in OBJECTS)
    return len(series), sum(objects)


class Transition(NamedTuple):
    """What a request does to a performed step; () stands for whatever else there may be.

    `stored` and `asked` are statuses, '' being none; `result` is the new status or a refusal.
    """

    stored: tuple[str, ...]
    request: str
    asked: tuple[str, ...]
    result: str | MppsStatus


TRANSITIONS: Sequence[Transition] = (
    Transition(("",), CREATE, (IN_PROGRESS,), IN_PROGRESS),
    Transition(("",), CREATE, (), MppsStatus.INVALID_VALUE),
    Transition((), CREATE, (), MppsStatus.DUPLICATE),
    Transition(("",), SET, (), MppsStatus.NO_SUCH_INSTANCE),
    Transition((IN_PROGRESS,), SET, ("", IN_PROGRESS), IN_PROGRESS),
    Transition((IN_PROGRESS,), SET, (COMPLETED,), COMPLETED),
    Transition((IN_PROGRESS,), SET, (DISCONTINUED,), DISCONTINUED),
    Transition((IN_PROGRESS,), SET, (), MppsStatus.INVALID_VALUE),
    Transition((COMPLETED, DISCONTINUED), SET, (), MppsStatus.PROCESSING_FAILURE),
)
"""The first line that fits decides; final states take nothing more (F.7.2.2.3)."""
_REFUSALS: Mapping[tuple[str, MppsStatus], str] = {
    (CREATE, MppsStatus.INVALID_VALUE): "N-CREATE: status must be IN PROGRESS",
    (CREATE, MppsStatus.DUPLICATE): "this SOP Instance UID exists already",
    (SET, MppsStatus.NO_SUCH_INSTANCE): "no such performed procedure step",
    (SET, MppsStatus.INVALID_VALUE): "no such Performed Procedure Step Status",
    (SET, MppsStatus.PROCESSING_FAILURE): (
        "Performed Procedure Step Object may no longer be updated"
    ),
}
ANSWERS: Mapping[Wrong, MppsStatus] = {
    Wrong.INSTANCE: MppsStatus.INVALID_INSTANCE,
    Wrong.FORBIDDEN: MppsStatus.NO_SUCH_ATTRIBUTE,
    Wrong.NOT_CREATED: MppsStatus.NO_SUCH_ATTRIBUTE,
    Wrong.MISSING: MppsStatus.MISSING_ATTRIBUTE,
    Wrong.EMPTY: MppsStatus.MISSING_VALUE,
    Wrong.INVALID: MppsStatus.INVALID_VALUE,
    Wrong.TOO_LONG: MppsStatus.OUT_OF_RANGE,
}
"""What a strict AE is answered, the first that applies; 0116 is a warning, the others are not."""


class Request(NamedTuple):
    """One N-CREATE or N-SET: what it says, and what is `odd` about its values.

    `digest` tells a byte-identical repeat, `calling` is the AE, `at` when it came (epoch s).
    """

    kind: str
    uid: str
    said: Attributes
    digest: str = ""
    odd: tuple[Fault, ...] = ()
    calling: str = ""
    charset: tuple[str, ...] = ()
    at: float = 0.0


class Answer(NamedTuple):
    """The record after a request, and the response: Success, or a warning with its attributes.

    Of a `repeat` nothing is written. `tolerated` is what this request was forgiven.
    """

    performed: Performed
    status: MppsStatus = MppsStatus.SUCCESS
    attributes: tuple[str, ...] = ()
    tolerated: tuple[Fault, ...] = ()
    repeat: bool = False


def answered(stored: Performed | None, request: Request, mode: Mode = Mode.LENIENT) -> Answer:
    """Answer an N-CREATE or N-SET, or raise MppsRefused.

    A lenient AE that has missed our answer, and sends the very same bytes again, is told Success.
    """
    if stored and mode is Mode.LENIENT and request.digest and stored.last == request.digest:
        return Answer(stored, repeat=True)
    status = _after(stored.status if stored else "", request)
    if stored is None:
        return _created(request, status, mode)
    return _changed(stored, request, status, mode)


def _after(stored: str, request: Request) -> str:
    """Look the new status up in the table. Raises MppsRefused."""
    asked = text_of(request.said, STATUS)
    result = next(
        row.result
        for row in TRANSITIONS
        if row.request == request.kind
        and (not row.stored or stored in row.stored)
        and (not row.asked or asked in row.asked)
    )
    if not isinstance(result, MppsStatus):
        return result
    raise MppsRefused(
        result,
        _REFUSALS[request.kind, result],
        MAY_NO_LONGER_BE_UPDATED if result is MppsStatus.PROCESSING_FAILURE else None,
        (STATUS,) if result is MppsStatus.INVALID_VALUE else (),
    )


def _created(request: Request, status: str, mode: Mode) -> Answer:
    faults = (*request.odd, *faults_of_create(request.said))
    warning = _judged(faults, request.kind, mode)
    performed = Performed.made(
        sop_instance_uid=request.uid,
        status=status,
        attributes=request.said,
        last=request.digest,
        tolerated=_noted((), faults),
        station=request.calling,
        charset=request.charset,
        began=request.at,
        changed=request.at,
    )
    return Answer(performed, *warning, faults)


def _changed(stored: Performed, request: Request, status: str, mode: Mode) -> Answer:
    merged = {**_merged(stored.attributes, request.said, mode), STATUS: status}
    faults = (*request.odd, *faults_of_set(stored.attributes, request.said))
    if status != IN_PROGRESS:
        faults += tuple(faults_of_end(merged))
    odd = (ENDS_BEFORE_START,) if ends_before_start(merged) else ()
    warning = _judged(faults, request.kind, mode)
    if ignored := tuple(_ignored(stored.attributes, request.said)):
        warning = MppsStatus.ATTRIBUTE_LIST, ignored
    performed = stored.altered(
        status=status,
        attributes=merged,
        last=request.digest,
        tolerated=_noted((*stored.tolerated, *odd), faults),
        exceptions=tuple(e for e in stored.exceptions if e != NEVER_ENDED),
        closed=False,
        changed=request.at,
    )
    return Answer(performed, *warning, faults)


def _merged(stored: Attributes, said: Attributes, mode: Mode) -> Attributes:
    """Apply an N-SET: a sequence replaces the whole of the stored one (F.7.2.2.2).

    What is fixed is only given where it is still missing. What a lenient AE leaves empty, though it
    must have a value in the end, stays as it was said before.
    """
    merged = dict(stored)
    for keyword, value in said.items():
        keeps = is_fixed(keyword) or (mode is Mode.LENIENT and not value and ends_with(keyword))
        if not (keeps and stored.get(keyword)):
            merged[keyword] = value
    return merged


def _ignored(stored: Attributes, said: Attributes) -> Iterable[str]:
    """Name what an N-SET wants otherwise, and cannot have: patient and scheduled step stay."""
    return (k for k in said if is_fixed(k) and stored.get(k) and said[k] and said[k] != stored[k])


def _judged(faults: Sequence[Fault], kind: str, mode: Mode) -> tuple[MppsStatus, tuple[str, ...]]:
    """Refuse what a strict AE must not say; give the status of what is taken.

    There is no 0120 in the list of N-SET (PS3.7 10.1.3.1.9): what is missing has no value.
    """
    if mode is Mode.LENIENT:
        return MppsStatus.SUCCESS, ()
    for wrong, status in ANSWERS.items():
        found = [fault for fault in faults if fault.wrong is wrong]
        if not found:
            continue
        if status is MppsStatus.MISSING_ATTRIBUTE and kind == SET:
            status = MppsStatus.MISSING_VALUE
        keywords = tuple(dict.fromkeys(fault.keyword for fault in found))
        if status is MppsStatus.OUT_OF_RANGE:
            return status, keywords
        raise MppsRefused(status, _comment(found), attributes=keywords)
    return MppsStatus.SUCCESS, ()


def _comment(found: Sequence[Fault]) -> str:
    more = f", {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0].keyword} {found[0].wrong}"[: 64 - len(more)] + more


def _noted(before: tuple[str, ...], faults: Iterable[Fault]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *map(str, faults))))[:MOST_TOLERATED]
