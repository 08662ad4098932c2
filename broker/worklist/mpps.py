"""Modality Performed Procedure Steps: transitions (PS3.4 F.7.2) and what they make of steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from broker.worklist.changes import Attributes, text_of
from broker.worklist.finding import Identifier
from broker.worklist.identity import parted
from broker.worklist.records import SCHEMA_VERSION, Order, Procedure, Record, Step, StepStatus

IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
STATUS = "PerformedProcedureStepStatus"
SCHEDULED_ITEMS = "ScheduledStepAttributesSequence"
REASON = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
MAY_NO_LONGER_BE_UPDATED = 0xA710
"""Error ID of Table F.7.2-2."""
WRONG_ENTRY = "110514"
"""Incorrect worklist entry selected (CID 9300): the exam was not of this step at all."""

OTHER_PATIENT = "MPPS names another patient ID"

KEPT = (
    STATUS,
    "PatientID",
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedStationName",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "PerformedProcedureStepEndDate",
    "PerformedProcedureStepEndTime",
    "Modality",
    REASON,
    SCHEDULED_ITEMS,
)
"""What rules and status messages read; the data sets themselves are kept as received."""


class MppsStatus(StrEnum):
    """Status of a response, by its number in PS3.7 Annex C."""

    INVALID_VALUE = "0106"
    PROCESSING_FAILURE = "0110"
    DUPLICATE = "0111"
    NO_SUCH_INSTANCE = "0112"


class MppsRefused(Exception):
    """A request that the transition table does not allow; comment is (0000,0902), ≤ 64."""

    def __init__(self, status: MppsStatus, comment: str, error_id: int | None = None) -> None:
        super().__init__(comment)
        self.status, self.comment, self.error_id = int(status.value, 16), comment, error_id


class Reference(Record):
    """The step that an item of the Scheduled Step Attributes Sequence was matched to."""

    order: str
    procedure: str
    step: str


class Performed(Record):
    """One Modality Performed Procedure Step."""

    schema_version: int = SCHEMA_VERSION
    sop_instance_uid: str
    status: str
    attributes: dict[str, Any]
    references: tuple[Reference, ...] = ()


CREATED: Mapping[tuple[str, str], str] = {("", IN_PROGRESS): IN_PROGRESS}
"""(stored, asked) → new status, of an N-CREATE."""
CHANGED: Mapping[tuple[str, str], str] = {
    (IN_PROGRESS, ""): IN_PROGRESS,
    (IN_PROGRESS, IN_PROGRESS): IN_PROGRESS,
    (IN_PROGRESS, COMPLETED): COMPLETED,
    (IN_PROGRESS, DISCONTINUED): DISCONTINUED,
}
"""(stored, asked) → new status, of an N-SET; final states take nothing more (F.7.2.2.3)."""


def created(stored: Performed | None, uid: str, attributes: Attributes) -> Performed:
    """Answer an N-CREATE: the new record, or MppsRefused 0111, 0106."""
    if stored is not None:
        raise MppsRefused(MppsStatus.DUPLICATE, "this SOP Instance UID exists already")
    status = CREATED.get(("", text_of(attributes, STATUS)))
    if status is None:
        raise MppsRefused(MppsStatus.INVALID_VALUE, "N-CREATE: status must be IN PROGRESS")
    return Performed(sop_instance_uid=uid, status=status, attributes=_kept(attributes))


def changed(stored: Performed | None, attributes: Attributes) -> Performed:
    """Answer an N-SET: the record after it, or MppsRefused 0112, 0110 (A710), 0106.

    What an N-SET may not change (Table F.7.2-1: the scheduled step, the patient) is left as it was.
    """
    if stored is None:
        raise MppsRefused(MppsStatus.NO_SUCH_INSTANCE, "no such performed procedure step")
    if stored.status != IN_PROGRESS:
        raise MppsRefused(
            MppsStatus.PROCESSING_FAILURE,
            "Performed Procedure Step Object may no longer be updated",
            MAY_NO_LONGER_BE_UPDATED,
        )
    status = CHANGED.get((stored.status, text_of(attributes, STATUS)))
    if status is None:
        raise MppsRefused(MppsStatus.INVALID_VALUE, "no such Performed Procedure Step Status")
    fixed = {SCHEDULED_ITEMS, "PatientID", "Modality"} & stored.attributes.keys()
    said = {k: v for k, v in _kept(attributes).items() if k not in fixed and v}
    merged = {**stored.attributes, **said, STATUS: status}
    return stored.model_copy(update={"status": status, "attributes": merged})


def leads(attributes: Attributes) -> set[Identifier]:
    """Give the numbers of an N-CREATE by which the orders it belongs to can be read."""
    found = set()
    for item in attributes.get(SCHEDULED_ITEMS) or ():
        for kind, keyword in (("study", "StudyInstanceUID"), ("accession", "AccessionNumber")):
            if value := text_of(item, keyword).strip():
                found.add(Identifier(kind, value))
    return found


def references(attributes: Attributes, orders: Iterable[Order]) -> tuple[Reference, ...]:
    """Match every scheduled item: by study UID and step ID, else by accession number."""
    known = list(orders)
    patient_id = text_of(attributes, "PatientID").strip()
    found: dict[Reference, None] = {}
    for item in attributes.get(SCHEDULED_ITEMS) or ():
        for order, procedure, step in _by_study(item, known) or _by_accession(
            item, known, patient_id
        ):
            found[Reference(order=order.key, procedure=procedure.id, step=step.id)] = None
    return tuple(found)


def followed(performed: Performed, aliases: Mapping[str, str]) -> Performed:
    """Let the references follow orders that got another accession number since."""
    moved = tuple(
        r.model_copy(update={"order": aliases.get(f"order:{r.order}", r.order)})
        for r in performed.references
    )
    return performed.model_copy(update={"references": moved})


def advanced(order: Order, performed: Performed) -> Order:
    """Record a performed step with the scheduled steps that it refers to."""
    mine = {(r.procedure, r.step) for r in performed.references if r.order == order.key}
    patient_id = text_of(performed.attributes, "PatientID").strip()
    if mine and not _same_person(order, patient_id) and OTHER_PATIENT not in order.flags:
        order = order.model_copy(update={"flags": (*order.flags, OTHER_PATIENT)})
    return order.with_steps(
        lambda p, step: _performed(step, performed) if (p.id, step.id) in mine else step
    )


def selected_wrongly(performed: Performed) -> bool:
    """Tell whether the operator had picked the wrong worklist entry."""
    codes = performed.attributes.get(REASON) or []
    return performed.status == DISCONTINUED and any(
        text_of(code, "CodeValue") == WRONG_ENTRY for code in codes
    )


def _performed(step: Step, performed: Performed) -> Step:
    marks = {**step.performed, performed.sop_instance_uid: performed.status}
    if selected_wrongly(performed):
        marks.pop(performed.sop_instance_uid)
    if not step.performed and step.status is not StepStatus.STARTED:
        step = step.model_copy(update={"otherwise": step.status})
    return step.model_copy(update={"performed": marks, "status": _status(step, marks.values())})


def _status(step: Step, performed: Iterable[str]) -> StepStatus:
    """Of several performed steps of one scheduled step the running one decides, then the best."""
    states = set(performed)
    for state, status in (
        (IN_PROGRESS, StepStatus.STARTED),
        (COMPLETED, StepStatus.COMPLETED),
        (DISCONTINUED, StepStatus.DISCONTINUED),
    ):
        if state in states:
            return status
    return step.otherwise if step.status is StepStatus.STARTED else step.status


Found = tuple[Order, Procedure, Step]


class _Asked(NamedTuple):
    study: str
    accession: str
    procedure: str
    step: str

    @classmethod
    def of(cls, item: Attributes) -> _Asked:
        keywords = (
            "StudyInstanceUID",
            "AccessionNumber",
            "RequestedProcedureID",
            "ScheduledProcedureStepID",
        )
        return cls(*(text_of(item, keyword).strip() for keyword in keywords))


def _by_study(item: Attributes, orders: list[Order]) -> list[Found]:
    asked = _Asked.of(item)
    if not asked.study:
        return []
    of_study = [
        (order, procedure, step)
        for order in orders
        for procedure, step in order.steps()
        if procedure.facts.text("StudyInstanceUID") == asked.study
    ]
    return _narrowed(of_study, asked)


def _by_accession(item: Attributes, orders: list[Order], patient_id: str) -> list[Found]:
    asked = _Asked.of(item)
    of_accession = [
        (order, procedure, step)
        for order in orders
        # Without an issuer an accession number alone may be another facility's.
        if asked.accession == order.accession and _same_person(order, patient_id)
        for procedure, step in order.steps()
    ]
    return _narrowed(of_accession, asked)


def _narrowed(found: list[Found], asked: _Asked) -> list[Found]:
    """Take the one step that the accession, procedure and step ID leave; of several, none."""
    if asked.accession:
        found = [f for f in found if asked.accession == f[0].accession] or found
    if asked.procedure:
        found = [f for f in found if asked.procedure in _ids(f[1], "RequestedProcedureID")] or found
    if asked.step:
        exact = [f for f in found if asked.step in _ids(f[2], "ScheduledProcedureStepID")]
        found = exact or found
    return found if len(found) == 1 else []


def _ids(holder: Procedure | Step, keyword: str) -> tuple[str, str]:
    return holder.id, holder.facts.text(keyword)


def _same_person(order: Order, patient_id: str) -> bool:
    return not patient_id or parted(order.patient)[-1] == patient_id


def _kept(attributes: Attributes) -> Attributes:
    return {keyword: attributes[keyword] for keyword in KEPT if keyword in attributes}
