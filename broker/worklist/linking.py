"""Exams that were done before their order came: found by its numbers, and made good."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from broker.worklist.finding import Known
from broker.worklist.mpps import IN_PROGRESS, REASON, SCHEDULED_ITEMS, SERIES, STATUS, Performed
from broker.worklist.performing import ExamRules, advanced, doubted, withdrawn
from broker.worklist.reconciling import (
    PARTLY_FOUND,
    TYPED_ORDER,
    UNLINKED,
    Candidates,
    Level,
    Matching,
    followed,
    marked,
    reconciled,
)

LINKED: Final = "an exam was there before its order"

SAID_AT_ITS_END: Final = frozenset(
    {"PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime", REASON, SERIES}
)
"""What a RIS is not told when it hears later that an exam began: of IP it is news of an end."""


class Moment(NamedTuple):
    """An exam that begins or ends, and the records before and after."""

    performed: Performed
    before: Known
    after: Known


class Linked(NamedTuple):
    """An exam as it is kept from now on, and what it has made of the records that it found."""

    exam: Performed
    moments: tuple[Moment, ...]


def linked(
    known: Known, exams: Iterable[Performed], rules: ExamRules, typed: Collection[str] = ()
) -> list[Linked]:
    """Give what each exam makes of the records, in the order in which they began.

    Of one that has ended it is told that it began, too. Nobody is matched by a guess: where and
    when a patient was expected is no evidence of an order that was not there yet. Of orders that
    were `typed` by hand till now, and are ordered now, it is made good as well.
    """
    by_time = sorted(exams, key=lambda one: one.began)
    made = untold([exam for exam in by_time if TYPED_ORDER in exam.exceptions], known, rules, typed)
    known = made[-1].moments[-1].after if made else known
    for exam in by_time:
        if TYPED_ORDER in exam.exceptions:
            continue
        found = _found(exam, known, rules.matching)
        if not found.references:
            continue
        moments = tuple(moments_of(found, known, rules))
        joined = doubted(_joined(exam, found), known)
        known = moments[-1].after
        made.append(Linked(marked(joined, known.orders.values()), moments))
    return made


def untold(
    exams: Sequence[Performed], known: Known, rules: ExamRules, typed: Collection[str]
) -> list[Linked]:
    """Give what exams make of orders that were `typed` by hand and are so no more.

    They are taken off their steps first: only what is done once more can be told.
    """
    mine: list[tuple[Performed, Performed]] = []
    for exam in exams:
        now = followed(exam, known.aliases)
        told = tuple(
            r
            for r in now.references
            if r.order in typed and (o := known.order(r.order)) and not o.by_hand
        )
        if told:
            mine.append((_told_of(now, known), now.model_copy(update={"references": told})))
    for _, part in mine:
        for key in dict.fromkeys(reference.order for reference in part.references):
            known = known.with_order(withdrawn(known.orders[key], part))
    return done(mine, known, rules)


def done(
    exams: Iterable[tuple[Performed, Performed]], known: Known, rules: ExamRules
) -> list[Linked]:
    """Let exams begin and end: each as it is kept, and with the references that it is told of."""
    made: list[Linked] = []
    for whole, part in exams:
        moments = tuple(moments_of(part, known, rules))
        known = moments[-1].after
        made.append(Linked(whole, moments))
    return made


def _told_of(exam: Performed, known: Known) -> Performed:
    """Give an exam that waits no more, unless another of its orders is still typed by hand."""
    orders = [known.order(reference.order) for reference in exam.references]
    if any(order is None or order.by_hand for order in orders):
        return exam
    left = tuple(each for each in exam.exceptions if each != TYPED_ORDER)
    return exam.model_copy(update={"exceptions": left})


def _found(exam: Performed, known: Known, matching: Matching) -> Performed:
    """Give an exam with the steps that it has not been linked to before."""
    levels = tuple(level for level in matching.levels if level is not Level.PATIENT)
    among = Candidates(tuple(known.orders.values()), known.patients)
    found = reconciled(exam, among, replace(matching, levels=levels))
    had = {(r.order, r.procedure, r.step) for r in exam.references}
    new = tuple(r for r in found.references if (r.order, r.procedure, r.step) not in had)
    return found.model_copy(update={"references": new})


def _joined(exam: Performed, found: Performed) -> Performed:
    """Give an exam with all its steps; while one of a group is missing it goes on waiting."""
    references = (*exam.references, *found.references)
    others = tuple(e for e in exam.exceptions if e not in UNLINKED)
    whole = len(references) >= len(exam.attributes.get(SCHEDULED_ITEMS) or ())
    exceptions = others if whole else (*others, PARTLY_FOUND)
    return exam.model_copy(update={"references": references, "exceptions": exceptions})


def moments_of(performed: Performed, known: Known, rules: ExamRules) -> Iterator[Moment]:
    """Let an exam begin and, if it has, end."""
    if performed.status != IN_PROGRESS:
        begun = {k: v for k, v in performed.attributes.items() if k not in SAID_AT_ITS_END}
        begun[STATUS] = IN_PROGRESS
        beginning = performed.model_copy(update={"status": IN_PROGRESS, "attributes": begun})
        after = _after(beginning, known, rules)
        yield Moment(beginning, known, after)
        known = after
    yield Moment(performed, known, _after(performed, known, rules))


def _after(performed: Performed, known: Known, rules: ExamRules) -> Known:
    for key in dict.fromkeys(reference.order for reference in performed.references):
        order = known.orders[key]
        known = known.with_order(advanced(order, performed, known.patients, rules.reasons))
    return known
