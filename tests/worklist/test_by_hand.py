"""What a person may decide of an exam, and what not."""

from __future__ import annotations

import pytest

from broker.worklist.by_hand import Impossible, close, link, unlink
from broker.worklist.changes import Action
from broker.worklist.finding import Known
from broker.worklist.mpps import COMPLETED, IN_PROGRESS, STATUS, Performed
from broker.worklist.performing import ExamRules
from broker.worklist.reconciling import NOT_FOUND, UNLINKED_BY_HAND
from tests.worklist.speaking import STEP_ID, group, only_order, said, statuses, step

RULES = ExamRules()


def exam(status: str = COMPLETED) -> Performed:
    return Performed(
        sop_instance_uid="1.9",
        status=status,
        attributes={STATUS: status},
        exceptions=(NOT_FOUND,),
    )


def two_steps() -> Known:
    return said(Action.SCHEDULE, group(step(**{STEP_ID: "ONE"}), step(**{STEP_ID: "TWO"})))


def test_of_several_steps_one_has_to_be_named() -> None:
    known = two_steps()
    order = only_order(known)
    for named in ("", "THREE"):
        with pytest.raises(Impossible, match="--step: the order has ONE, TWO"):
            link(exam(), order, named, known, RULES, "me")
    made = link(exam(), order, "TWO", known, RULES, "me")
    assert statuses(made.moments[-1].after) == ["SCHEDULED", "COMPLETED"]
    assert (made.exam.exceptions, made.exam.references[0].evidence) == ((), "by hand: me")


def test_an_exam_is_linked_once_and_unlinked_once() -> None:
    known = said(Action.SCHEDULE, group())
    with pytest.raises(Impossible, match="linked to nothing"):
        unlink(exam(), known)
    made = link(exam(), only_order(known), "", known, RULES, "me")
    after = made.moments[-1].after
    with pytest.raises(Impossible, match="linked already"):
        link(made.exam, only_order(after), "", after, RULES, "me")
    free = unlink(made.exam, after)
    assert statuses(free.moments[-1].after) == ["SCHEDULED"]
    assert free.exam.exceptions == (UNLINKED_BY_HAND,)


def test_only_what_runs_is_given_an_end() -> None:
    known = said(Action.SCHEDULE, group())
    with pytest.raises(Impossible, match="it is COMPLETED already"):
        close(exam(), COMPLETED, known, RULES)
    with pytest.raises(Impossible, match="say with --as"):
        close(exam(IN_PROGRESS), "", known, RULES)
    begun = link(exam(IN_PROGRESS), only_order(known), "", known, RULES, "me")
    ended = close(begun.exam, COMPLETED, begun.moments[-1].after, RULES)
    assert statuses(ended.moments[-1].after) == ["COMPLETED"]
    assert ended.exam.closed
    assert ended.exam.exceptions == ()
