"""Orders that were typed by hand while the RIS was away, and what becomes of them when it is back.

An order by hand is one like every other, only that no RIS is told of it. The RIS's order of the
same accession number and patient takes its place; another one takes it when a person says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from broker.worklist.changes import Action, Attributes, Change, plain
from broker.worklist.finding import Known
from broker.worklist.identity import PRIOR, parted
from broker.worklist.linking import Linked, done
from broker.worklist.mpps import Performed, Reference
from broker.worklist.performing import ExamRules
from broker.worklist.reconciling import BY_HAND, TYPED_ORDER
from broker.worklist.records import OPEN, TYPED, Order, Procedure, Step, StepStatus

ORDERED_SINCE: Final = "typed by hand before it was ordered"
"""The flag of an order that a RIS has taken over."""
OTHER_STUDY: Final = "examined under another study UID than was ordered"
UNKNOWN: Final = "UNKNOWN-"
"""How the patient ID of somebody begins whom nobody could identify."""
HISTORY: Final = "by hand: "
MOST_HISTORY: Final = 20
STUDY: Final = "StudyInstanceUID"


class Impossible(Exception):
    """What a person cannot do with this order, and why."""


def ordered_since(change: Change, order: Order) -> tuple[Change, Order]:
    """Let the RIS's order take the place of one that was typed; gives what it says, and the order.

    Images of an exam that has begun have its study UID already: the RIS is told that one.
    """
    flags = tuple(flag for flag in order.flags if flag != TYPED)
    said = change.attributes
    if any(step.performed for _, step in order.steps()):
        studies = {procedure.facts.text(STUDY) for procedure in order.procedures}
        if plain(said.get(STUDY)) not in (None, *studies):
            flags = (*flags, OTHER_STUDY)
        said = {keyword: value for keyword, value in said.items() if keyword != STUDY}
    return replace(change, attributes=said), order.altered(flags=flags)


def noted(order: Order, entry: str) -> Order:
    """Keep what a person did, and why, with the order; the oldest of many entries go."""
    mine = [flag for flag in order.flags if flag.startswith(HISTORY)]
    kept = (*mine, f"{HISTORY}{entry}")[-MOST_HISTORY:]
    return order.altered(flags=(*(f for f in order.flags if f not in mine), *kept))


def is_unknown(patient: str) -> bool:
    """Tell whether the key of a patient is that of somebody whom nobody could identify."""
    return parted(patient)[-1].startswith(UNKNOWN)


def identified(order: Order, person: Attributes) -> Change:
    """Say who the unidentified patient of an order is: the two are merged. Raises Impossible."""
    if not is_unknown(order.patient):
        raise Impossible("it is of another patient: cancel it, and add one for the right patient")
    issuer, patient_id = parted(order.patient)
    prior = [{"PatientID": patient_id, "IssuerOfPatientID": issuer}]
    return Change(Action.MERGE, {**person, PRIOR: prior}, "--patient")


class Moved(NamedTuple):
    """The records with one order in the place of another, and what the exams have made of them."""

    known: Known
    exams: tuple[Linked, ...]


def reconciled(
    typed: Order,
    real: Order,
    step_id: str,
    exams: Iterable[Performed],
    known: Known,
    rules: ExamRules,
    who: str,
) -> Moved:
    """Put the RIS's order in the place of one that was typed: its exams are of that one then.

    `step_id` names the step, where there are several. Raises Impossible.
    """
    if not typed.by_hand:
        raise Impossible("it was not typed by hand, or is the RIS's since")
    if typed.key == real.key:
        raise Impossible("it is the same order")
    if typed.patient != real.patient:
        raise Impossible("they are of two patients")
    procedure, step = _only(real, step_id)
    reference = Reference(
        order=real.key, procedure=procedure.id, step=step.id, evidence=f"{BY_HAND}{who}"
    )
    after = known.without_order(typed.key).with_order(_instead(typed, real, procedure, step))
    by_time = sorted(exams, key=lambda one: one.began)
    moved = [_of(exam, typed, reference, real) for exam in by_time]
    made = tuple(done(moved, after, rules))
    return Moved(made[-1].moments[-1].after if made else after, made)


def _only(real: Order, step_id: str) -> tuple[Procedure, Step]:
    steps = [(p, s) for p, s in real.steps() if step_id in ("", s.id)]
    if len(steps) != 1:
        ids = ", ".join(step.id for _, step in real.steps())
        raise Impossible(f"say which step with --step: the order has {ids}")
    return steps[0]


def _of(exam: Performed, typed: Order, mine: Reference, real: Order) -> tuple[Performed, Performed]:
    """Give an exam as it is kept, and with the reference that is told now."""
    others = tuple(r for r in exam.references if r.order != typed.key)
    left = tuple(e for e in exam.exceptions if real.by_hand or others or e != TYPED_ORDER)
    whole = exam.model_copy(update={"references": (*others, mine), "exceptions": left})
    return whole, whole.model_copy(update={"references": (mine,)})


def _instead(typed: Order, real: Order, procedure: Procedure, step: Step) -> Order:
    """Give the order that takes the place: with the study UID of images, where it has none yet.

    What a person has said to be done without an exam is done.
    """
    told = [each for _, each in typed.steps()]
    facts, flags = procedure.facts, real.flags
    study = next(p.facts.text(STUDY) for p in typed.procedures)
    if any(each.performed for each in told) and study != facts.text(STUDY):
        flags = (*flags, OTHER_STUDY)
        began = any(each.performed for each in procedure.steps)
        facts = facts if began else facts.told({STUDY: study})
    if is_done(told) and step.status in OPEN and not step.performed:
        step = step.model_copy(update={"status": StepStatus.COMPLETED})
    steps = tuple(step if each.id == step.id else each for each in procedure.steps)
    changed = procedure.altered(facts=facts, steps=steps)
    procedures = tuple(changed if each.id == changed.id else each for each in real.procedures)
    return real.altered(procedures=procedures, flags=flags)


def is_done(steps: Iterable[Step]) -> bool:
    """Tell whether a person has said of steps that they are done, without an exam of a scanner."""
    return all(s.status is StepStatus.COMPLETED and not s.performed for s in steps)
