"""Patients and orders as they are stored; an order names its patient and copies nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from broker.worklist.attributes import STEPS
from broker.worklist.changes import FILLS_GAPS, SAID, Attributes, Ranked
from broker.worklist.identity import joined

SCHEMA_VERSION = 1


class StepStatus(StrEnum):
    """Scheduled Procedure Step Status (PS3.3 C.4.10), and how a step ends."""

    SCHEDULED = "SCHEDULED"
    ARRIVED = "ARRIVED"
    READY = "READY"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    CANCELLED = "CANCELLED"


LISTED = frozenset({StepStatus.SCHEDULED, StepStatus.ARRIVED, StepStatus.READY})
"""Steps that a scanner may still start."""
OPEN = LISTED | {StepStatus.STARTED}


class Record(BaseModel):
    """A stored value: frozen, and strict about what it may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Facts(Record):
    """Attributes, with the rank of each that did not come from its best place."""

    attributes: dict[str, Any] = {}
    ranks: dict[str, int] = {}

    def told(self, said: Attributes) -> Facts:
        """Apply what a message says: absent keeps, None erases, a worse rank only fills gaps."""
        attributes, ranks = dict(self.attributes), dict(self.ranks)
        for keyword, leaf in said.items():
            value, rank = _graded(leaf)
            stored = ranks.get(keyword, SAID)
            if keyword in attributes and (rank > stored or rank == FILLS_GAPS):
                continue
            ranks.pop(keyword, None)
            attributes.pop(keyword, None)
            if value is not None:
                attributes[keyword] = value
                if rank:
                    ranks[keyword] = rank
        return Facts(attributes=attributes, ranks=ranks)

    def text(self, keyword: str) -> str:
        """Give one stored leaf as text, '' when absent."""
        value = self.attributes.get(keyword, "")
        return str(value[0]) if isinstance(value, list) and value else str(value or "")


class Patient(Record):
    """One patient of one issuer; `sent` holds each sender's newest message time (MSH-7)."""

    schema_version: int = SCHEMA_VERSION
    issuer: str
    patient_id: str
    facts: Facts = Facts()
    sent: dict[str, str] = {}

    @property
    def key(self) -> str:
        """Issuer and patient ID, joined."""
        return joined(self.issuer, self.patient_id)


class Step(Record):
    """A Scheduled Procedure Step; `performed` maps its MPPS (SOP Instance UID) to their status.

    `otherwise` is what it was, or what order control wants it to be, should no MPPS be for it.
    """

    id: str
    facts: Facts = Facts()
    status: StepStatus = StepStatus.SCHEDULED
    otherwise: StepStatus = StepStatus.SCHEDULED
    performed: dict[str, str] = {}


class Procedure(Record):
    """A Requested Procedure with its steps."""

    id: str
    facts: Facts = Facts()
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
    facts: Facts = Facts()
    procedures: tuple[Procedure, ...] = ()
    sent: dict[str, str] = {}
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

    def steps(self) -> Iterator[tuple[Procedure, Step]]:
        """Give every step with its procedure."""
        for procedure in self.procedures:
            for step in procedure.steps:
                yield procedure, step

    def with_steps(self, changed: Callable[[Procedure, Step], Step]) -> Order:
        """Give the order with every step as `changed` makes it of procedure and step."""
        procedures = tuple(
            p.model_copy(update={"steps": tuple(changed(p, step) for step in p.steps)})
            for p in self.procedures
        )
        return self.model_copy(update={"procedures": procedures})


class Item(NamedTuple):
    """One worklist item: a step with all that stands above it, as MWL attributes."""

    order: Order
    procedure: Procedure
    step: Step
    attributes: Attributes


def items(order: Order, patient: Patient) -> Iterator[Item]:
    """Join an order with its patient: one worklist item a step (PS3.4 K.6.1.2.1)."""
    for procedure, step in order.steps():
        yield Item(order, procedure, step, _joined(order, patient, procedure, step))


def _joined(order: Order, patient: Patient, procedure: Procedure, step: Step) -> Attributes:
    attributes = {
        **patient.facts.attributes,
        **order.facts.attributes,
        **procedure.facts.attributes,
    }
    step_attributes = {**step.facts.attributes, "ScheduledProcedureStepStatus": step.status.value}
    _describe(attributes, step_attributes)
    attributes[STEPS] = [step_attributes]
    return attributes


def _describe(request: Attributes, step: Attributes) -> None:
    """Fill the 1C descriptions from each other: one of text and code must be there (K.6-1)."""
    meaning = _meaning(request.get("RequestedProcedureCodeSequence"))
    described = request.get("RequestedProcedureDescription") or meaning
    protocol = step.get("ScheduledProcedureStepDescription") or _meaning(
        step.get("ScheduledProtocolCodeSequence")
    )
    if described or protocol:
        request["RequestedProcedureDescription"] = described or protocol
        step["ScheduledProcedureStepDescription"] = protocol or described


def _meaning(codes: list[Mapping[str, Any]] | None) -> str:
    return str(codes[0].get("CodeMeaning") or codes[0].get("CodeValue") or "") if codes else ""


def _graded(leaf: Any) -> tuple[Any, int]:
    return (leaf.value, leaf.rank) if isinstance(leaf, Ranked) else (leaf, SAID)
