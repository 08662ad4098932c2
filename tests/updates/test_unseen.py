"""The lookout for steps on nobody's list: round by round, told once, held steps left alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from broker.store.commit import ABSENT, Change, Commit, Committed, commit
from broker.store.executors import Store
from broker.updates.metrics import UpdatesMetrics
from broker.updates.unseen import SLICE, Lookout
from broker.worklist.directory import Directory, Entry
from broker.worklist.records import Facts, Order, Patient, Procedure, Step, StepStatus
from broker.worklist.rules import Rules

NOW = datetime(2026, 3, 16, 9, 30, tzinfo=UTC)
ONLY_MR = Directory([Entry("MR1", Rules(modalities=("MR",)))])


def order(number: int, modality: str, status: StepStatus = StepStatus.SCHEDULED) -> Order:
    attributes = {"Modality": modality, "ScheduledProcedureStepStartDate": "20260316"}
    step = Step(id="S", facts=Facts(attributes=attributes), status=status)
    procedures = (Procedure(id="R", steps=(step,)),)
    return Order(
        issuer="H", accession=f"A{number}", patient="H|P1", source="RIS", procedures=procedures
    )


@pytest.fixture
def patient(store: Store) -> Patient:
    patient = Patient(issuer="H", patient_id="P1")
    save(store, patient)
    return patient


def save(store: Store, *records: Order | Patient) -> None:
    changes = [Change(ABSENT, None, record) for record in records]
    assert isinstance(store.run(commit(Commit(at=NOW, changes=changes))), Committed)


def test_each_round_counts_all_and_tells_what_is_new(store: Store, patient: Patient) -> None:
    """Slice by slice, each no more than its share of the time; the log is not filled."""
    rounds: list[Mapping[str, int]] = []
    lookout = Lookout(store, ONLY_MR, lambda: NOW, lambda reasons, _: rounds.append(dict(reasons)))
    save(store, *(order(number, "CT") for number in range(SLICE + 20)), order(999, "MR"))

    def whole_round() -> list[Mapping[str, object]]:
        with capture_logs() as logged:
            pauses = [lookout.slice()]
            while pauses[-1] is not None:
                pauses.append(lookout.slice())
        assert len(pauses) == 2
        assert pauses[0] is not None
        assert pauses[0] > 0
        return logged

    (line,) = whole_round()
    assert (line["new"], line["steps"], line["reasons"]) == (120, 120, {"modality": 120})
    assert whole_round() == []
    save(store, order(500, "US"))
    (line,) = whole_round()
    assert (line["new"], line["steps"]) == (1, 121)
    assert rounds == [{"modality": 120}, {"modality": 120}, {"modality": 121}]


def test_steps_that_nobody_is_to_get_now_are_not_counted(store: Store, patient: Patient) -> None:
    """Held ones, those that run, and those that are over."""
    over = (StepStatus.HELD, StepStatus.STARTED, StepStatus.COMPLETED, StepStatus.CANCELLED)
    save(store, *(order(number, "CT", status) for number, status in enumerate(over)))
    metrics = UpdatesMetrics()
    with capture_logs() as logged:
        assert Lookout(store, ONLY_MR, lambda: NOW, metrics.open_steps).slice() is None
    assert logged == []
    value = metrics.registry.get_sample_value(
        "broker_updates_invisible_steps", {"reason": "modality"}
    )
    assert value == 0


def test_where_no_ae_is_known_nothing_is_told(store: Store, patient: Patient) -> None:
    save(store, order(1, "CT"))
    with capture_logs() as logged:
        assert Lookout(store, Directory(), lambda: NOW, lambda *_: None).slice() is None
    assert logged == []


def test_steps_that_began_long_ago_and_have_no_end_are_counted(
    store: Store, patient: Patient
) -> None:
    running = (order(number, "CT", StepStatus.STARTED) for number in range(SLICE + 3))
    save(store, *running, order(998, "CT"), order(999, "CT", StepStatus.COMPLETED))
    metrics = UpdatesMetrics()

    def counted(after: timedelta) -> float | None:
        lookout = Lookout(store, Directory(), lambda: NOW + after, metrics.open_steps)
        while lookout.slice() is not None:
            pass
        return metrics.registry.get_sample_value("broker_updates_unended_steps")

    assert counted(timedelta(hours=14)) == 0
    assert counted(timedelta(hours=15)) == SLICE + 3, "a day after their midnight"
