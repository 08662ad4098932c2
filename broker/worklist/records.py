"""Patients and orders as they are stored; an order names its patient and copies nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, Final, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from broker.worklist.attributes import STEPS
from broker.worklist.changes import FILLS_GAPS, Attributes
from broker.worklist.identity import joined
from broker.worklist.telling import Basis, Telling, heard_first

SCHEMA_VERSION = 1


class StepStatus(StrEnum):
    """Scheduled Procedure Step Status (PS3.3 C.4.10), how a step ends, and an order on hold."""

    SCHEDULED = "SCHEDULED"
    ARRIVED = "ARRIVED"
    READY = "READY"
    HELD = "HELD"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    CANCELLED = "CANCELLED"


STATUSES = {status.value: status for status in StepStatus}
"""Others, like DEPARTED of a mapping, say nothing that a worklist goes by."""
LISTED = frozenset({StepStatus.SCHEDULED, StepStatus.ARRIVED, StepStatus.READY})
"""Steps that a scanner may still start."""
WAITING = LISTED | {StepStatus.HELD}
"""Steps of which nothing was performed yet."""
OPEN = WAITING | {StepStatus.STARTED}
ENDED = frozenset({StepStatus.CANCELLED, StepStatus.DISCONTINUED})
"""Steps that order control has ended; a newer order may take them up again."""
BEGUN_AT = "PerformedStationAETitle"
"""The stations of its exams, with a step where it has begun; no attribute of a worklist."""
TAKEN_OVER = "taken over from a cancelled order"
"""The flag of an order whose numbers were another patient's, of whom nothing was performed."""


TYPED = "typed by hand, not ordered yet"
"""The flag of an order that a person has typed while the RIS was away: no RIS knows of it."""


class Record(BaseModel):
    """A stored value: frozen, and strict about what it may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def made(cls, **values: Any) -> Self:
        """Make one of values of our own: as good as judged, for a third of what that takes."""
        return _made(cls, {**_blank(cls), **values})

    def altered(self, **values: Any) -> Self:
        """Give a copy with other values, of our making: a quarter of what `model_copy` takes."""
        return _made(self.__class__, {**self.__dict__, **values})


R = TypeVar("R", bound=Record)


def _made(kind: type[R], values: dict[str, Any]) -> R:
    """Make a record of all its values, which are looked at no more."""
    record = kind.__new__(kind)
    _put(record, "__dict__", values)
    _put(record, "__pydantic_fields_set__", _said_of(kind))
    _put(record, "__pydantic_extra__", None)
    _put(record, "__pydantic_private__", None)
    return record


@cache
def _said_of(kind: type[Record]) -> set[str]:
    """Give the names of all values of a record; frozen ones change neither these nor the values."""
    return set(kind.model_fields)


@cache
def _blank(kind: type[Record]) -> Mapping[str, Any]:
    """Give what each value of a record is where nothing is said of it; records change no value."""
    return {
        name: None if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in kind.model_fields.items()
    }


_put = object.__setattr__


class Facts(Record):
    """Attributes, with the rank of each that did not come from its best place.

    `stands_on` names for a stored default the attributes that it was worked out from.
    """

    attributes: dict[str, Any] = Field(default_factory=dict)
    ranks: dict[str, int] = Field(default_factory=dict)
    stands_on: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def told(self, *sayings: Attributes, only: Collection[str] | None = None) -> Facts:
        """Apply what is said, in this order, or `only` these attributes of it."""
        telling = Telling(self.attributes, self.ranks, self.stands_on)
        for said in sayings:
            telling.hear(said, only)
        return _facts(telling.attributes, telling.ranks, telling.stands_on)

    @classmethod
    def first(cls, said: Attributes) -> Facts:
        """Give what is said where nothing is stored: what `told` gives, without a look back."""
        return _facts(*heard_first(said))

    def with_guess(self, keyword: str, value: str) -> Facts:
        """Fill a gap by what is said nowhere."""
        attributes, ranks = {**self.attributes, keyword: value}, {**self.ranks, keyword: FILLS_GAPS}
        return _facts(attributes, ranks, self.stands_on)

    def text(self, keyword: str) -> str:
        """Give one stored leaf as text, '' when absent."""
        value = self.attributes.get(keyword, "")
        return str(value[0]) if isinstance(value, list) and value else str(value or "")


def _facts(attributes: Attributes, ranks: dict[str, int], stands_on: Basis) -> Facts:
    return _made(Facts, {"attributes": attributes, "ranks": ranks, "stands_on": stands_on})


_SILENCE = Facts()


class Patient(Record):
    """One patient of one issuer; `sent` holds each sender's newest message time (MSH-7).

    A `slim` one has had no order yet, and only says who it is. `by_adt` tells that a patient
    message has spoken of it, and `told_by_adt` of which keywords since it has orders. `former` are
    the keys that were merged into it.
    """

    schema_version: int = SCHEMA_VERSION
    issuer: str
    patient_id: str
    facts: Facts = Field(default_factory=lambda: _SILENCE)
    sent: dict[str, str] = Field(default_factory=dict)
    slim: bool = False
    by_adt: bool = False
    told_by_adt: tuple[str, ...] = ()
    former: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Issuer and patient ID, joined."""
        return joined(self.issuer, self.patient_id)


class Step(Record):
    """A Scheduled Procedure Step; `performed` maps its MPPS (SOP Instance UID) to their status.

    `otherwise` is what it was, or what order control wants it to be, should no MPPS be for it.
    `ended_by` is the sender that has cancelled it. What is `held_by_status` is so by a status that
    its message said (ORC-5 HD), which another status takes back. `begun_at` are the AEs of its
    exams.
    """

    id: str
    facts: Facts = Field(default_factory=lambda: _SILENCE)
    status: StepStatus = StepStatus.SCHEDULED
    otherwise: StepStatus = StepStatus.SCHEDULED
    performed: dict[str, str] = Field(default_factory=dict)
    ended_by: str = ""
    held_by_status: bool = False
    begun_at: tuple[str, ...] = ()


class Procedure(Record):
    """A Requested Procedure with its steps."""

    id: str
    facts: Facts = Field(default_factory=lambda: _SILENCE)
    steps: tuple[Step, ...] = ()


class Order(Record):
    """An Imaging Service Request: one accession number of one issuer.

    `source` scopes its placer and filler numbers, `flags` tell people what was odd about it,
    `first_key` is the key it had before its accession number was corrected.
    """

    schema_version: int = SCHEMA_VERSION
    issuer: str
    accession: str
    patient: str
    source: str
    facts: Facts = Field(default_factory=lambda: _SILENCE)
    procedures: tuple[Procedure, ...] = ()
    sent: dict[str, str] = Field(default_factory=dict)
    flags: tuple[str, ...] = ()
    first_key: str = ""

    @property
    def key(self) -> str:
        """Issuer and accession number, joined."""
        return joined(self.issuer, self.accession)

    @property
    def mailbox(self) -> str:
        """Name the order for its status messages: a rename must not let one overtake another."""
        return self.first_key or self.key

    @property
    def by_hand(self) -> bool:
        """Whether a person has typed it and no RIS has ordered it yet: nobody is told of it."""
        return TYPED in self.flags

    def steps(self) -> Iterator[tuple[Procedure, Step]]:
        """Give every step with its procedure."""
        for procedure in self.procedures:
            for step in procedure.steps:
                yield procedure, step

    def with_steps(self, changed: Callable[[Procedure, Step], Step]) -> Order:
        """Give the order with every step as `changed` makes it of procedure and step."""
        procedures = tuple(
            p.altered(steps=tuple(changed(p, step) for step in p.steps)) for p in self.procedures
        )
        return self.altered(procedures=procedures)


_OF_PATIENT, _OF_ORDER, _OF_PROCEDURE, _OF_STEP = (
    frozenset(model.model_fields) for model in (Patient, Order, Procedure, Step)
)
_ANOTHER_VERSION: Final = "a record of another version"


class Item(NamedTuple):
    """One worklist item: a step with all that stands above it, as MWL attributes."""

    order: Order
    procedure: Procedure
    step: Step
    attributes: Attributes


class StoredItem(NamedTuple):
    """One worklist item, named by the IDs of its procedure and step."""

    procedure: str
    step: str
    attributes: Attributes


def items(order: Order, patient: Patient) -> Iterator[Item]:
    """Join an order with its patient: one worklist item a step (PS3.4 K.6.1.2.1)."""
    for procedure, step in order.steps():
        above = (patient.facts.attributes, order.facts.attributes, procedure.facts.attributes)
        joined_ = _joined(above, step.facts.attributes, step.status.value, step.begun_at)
        yield Item(order, procedure, step, joined_)


def stored_items(order: Mapping[str, Any], patient: Mapping[str, Any]) -> Iterator[StoredItem]:
    """Join records as they are stored, without judging them again.

    Raises ValueError for a record of a version that knows more, and whatever comes of values that
    no record can hold.
    """
    if not (patient.keys() <= _OF_PATIENT and order.keys() <= _OF_ORDER):
        raise ValueError(_ANOTHER_VERSION)
    of_patient, of_order = patient["facts"]["attributes"], order["facts"]["attributes"]
    for procedure in order["procedures"]:
        if not procedure.keys() <= _OF_PROCEDURE:
            raise ValueError(_ANOTHER_VERSION)
        above = (of_patient, of_order, procedure["facts"]["attributes"])
        for step in procedure["steps"]:
            if not step.keys() <= _OF_STEP:
                raise ValueError(_ANOTHER_VERSION)
            said, begun_at = step["facts"]["attributes"], step.get("begun_at") or ()
            attributes = _joined(above, said, step["status"], begun_at)
            yield StoredItem(procedure["id"], step["id"], attributes)


def _joined(
    above: tuple[Attributes, Attributes, Attributes],
    step: Attributes,
    status: str,
    begun_at: Sequence[str],
) -> Attributes:
    patient, order, procedure = above
    attributes: Attributes = {**patient, **order, **procedure}
    step_attributes = {**step, "ScheduledProcedureStepStatus": status}
    if begun_at:
        step_attributes[BEGUN_AT] = list(begun_at)
    _describe(attributes, step_attributes)
    attributes[STEPS] = [step_attributes]
    return attributes


def _describe(request: Attributes, step: Attributes) -> None:
    """Fill the 1C descriptions from each other: one of text and code must be there (K.6-1)."""
    described = request.get("RequestedProcedureDescription") or _meaning(
        request.get("RequestedProcedureCodeSequence")
    )
    protocol = step.get("ScheduledProcedureStepDescription") or _meaning(
        step.get("ScheduledProtocolCodeSequence")
    )
    if described or protocol:
        request["RequestedProcedureDescription"] = described or protocol
        step["ScheduledProcedureStepDescription"] = protocol or described


def _meaning(codes: Any) -> str:
    """What the first code means; '' of what was stored and is no sequence."""
    first = codes[0] if isinstance(codes, list) and codes else None
    if not isinstance(first, Mapping):
        return ""
    return str(first.get("CodeMeaning") or first.get("CodeValue") or "")
