"""Secondary indexes: open steps only, and after any history what a recomputation would give."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from broker.store import indexes, keys
from broker.store.call import text, texts
from broker.store.commit import Change, Conflict
from broker.store.executors import Store
from broker.store.stored import order as read_order
from broker.store.stored import patient as read_patient
from broker.store.stored import versioned
from broker.worklist.apply import Sender
from broker.worklist.changes import FILLS_GAPS, Action, Attributes, Ranked
from broker.worklist.mpps import Performed, Reference
from broker.worklist.performing import advanced
from broker.worklist.records import OPEN, Order, Patient
from broker.worklist.refusals import Refused
from tests.store.writing import apply, order, patient, read, whole, write

KINDS = ("by-", "orders-of:", "open-", "steps-of:")
AWKWARD = "A/1 *?[x]|%"


Entries = set[indexes.Entry | tuple[str, str, str]]


def stored(store: Store) -> tuple[list[Order], list[Patient]]:
    """Every record."""
    found: dict[str, list[Any]] = {}
    for kind in ("order", "patient"):
        names = [n for n in texts(store.redis.keys("*")) if n.startswith(f"{keys.PREFIX}{kind}:")]
        found[kind] = [store.redis.get(name) for name in names]
    return (
        [versioned(raw, read_order)[0] for raw in found["order"]],
        [versioned(raw, read_patient)[0] for raw in found["patient"]],
    )


def version(store: Store, key: str) -> str:
    """The revision of a record as members show it, '' of none."""
    return (store.redis.get(key) or b"")[:12].decode().lstrip("0")


def held(store: Store) -> Entries:
    """Every entry of every index."""
    entries: Entries = set()
    for key in texts(store.redis.keys("*")):
        if not key.removeprefix(keys.PREFIX).startswith(KINDS):
            continue
        if store.redis.type(key) == b"hash":
            fields = store.redis.hgetall(key).items()
            entries |= {(key, text(member), text(places)) for member, places in fields}
        else:
            scored = store.redis.zrange(key, 0, -1, withscores=True)
            entries |= {indexes.Entry(key, text(m), int(score)) for m, score in scored}
    return entries


def recomputed(store: Store) -> Entries:
    """What the indexes should hold: of open steps with the versions that the records have now."""
    orders, patients = stored(store)
    entries: Entries = set()
    for record in orders:
        entries |= indexes.of_order(record)
        of_order = version(store, keys.order(record.key))
        of_patient = version(store, keys.patient(record.patient))
        for member, places in indexes.places(record):
            start, *names = places.split(indexes.STEP_MARK)
            entries.add((keys.steps_of(record.patient), member, places))
            entries |= {
                indexes.Entry(
                    keys.starts(*name.split(":", 1)),
                    f"{member}@{of_order}.{of_patient}",
                    int(start),
                )
                for name in names
            }
    for person in patients:
        entries |= indexes.of_patient(person)
    return entries


def a_message(dice: random.Random) -> tuple[Action, Attributes]:
    """Something that a RIS might say; few numbers, so that messages meet."""
    said: dict[str, Any] = {
        "PatientID": dice.choice(["1", "2", AWKWARD]),
        "PatientName": dice.choice(["DOE^JOHN", "Müller^J=王^小", "roe"]),
        "AccessionNumber": dice.choice(["A1", "A2", AWKWARD, Ranked("A9", FILLS_GAPS)]),
        "FillerOrderNumberImagingServiceRequest": dice.choice(["F1", "F2", "F|3", ""]),
        "PlacerOrderNumberImagingServiceRequest": dice.choice(["P1", None, ""]),
        "StudyInstanceUID": dice.choice(["1.2", "1.3", ""]),
        "ScheduledProcedureStepSequence": [
            {
                "ScheduledStationAETitle": dice.choice(["CT1", ["CT1", "CT2"], "MR 1"]),
                "ScheduledProcedureStepStartDate": dice.choice(["20260101", "20260102"]),
                "ScheduledProcedureStepStartTime": dice.choice(["0800", "193000"]),
                "Modality": dice.choice(["CT", "MR"]),
            }
            for _ in range(dice.randrange(1, 3))
        ],
    }
    kept = {k: v for k, v in said.items() if v != "" and dice.random() < 0.9}
    return dice.choice(list(Action)), kept


def an_exam(store: Store, dice: random.Random) -> None:
    """A scanner starts or ends a step, or retention removes an order."""
    orders, _ = stored(store)
    if not orders:
        return
    before = dice.choice(sorted(orders, key=lambda o: o.key))
    revision = read(store, before.key).revision(before)
    steps = list(before.steps())
    if not steps or dice.random() < 0.2:
        write(store, Change(revision, before, None))
        return
    procedure, step = dice.choice(steps)
    performed = Performed(
        sop_instance_uid=dice.choice(["1.1", "1.2"]),
        status=dice.choice(["IN PROGRESS", "COMPLETED", "DISCONTINUED"]),
        attributes={},
        references=(Reference(order=before.key, procedure=procedure.id, step=step.id),),
    )
    outcome = write(store, Change(revision, before, advanced(before, performed)))
    assert not isinstance(outcome, Conflict)


@pytest.mark.parametrize("seed", range(8))
def test_after_any_history_the_indexes_equal_a_full_recomputation(store: Store, seed: int) -> None:
    dice = random.Random(seed)
    for number in range(60):
        sender = Sender("RIS", "H", f"20260101{dice.randrange(max(1, number - 5), number + 2):06}")
        with contextlib.suppress(Refused):
            apply(store, sender, *(a_message(dice) for _ in range(dice.choice([1, 1, 2]))))
        if dice.random() < 0.3:
            an_exam(store, dice)
        if number % 20 == 19:
            assert held(store) == recomputed(store)
    orders, _ = stored(store)
    assert {o.facts.text("AccessionNumber") for o in orders if o.accession == "A1"} <= {"A1", ""}
    open_steps = {(o.key, p.id, s.id) for o in orders for p, s in o.steps() if s.status in OPEN}
    members = texts(store.redis.zrange(keys.starts("start"), 0, -1))
    stood = [member.rpartition("@")[0] for member in members]
    assert {tuple(member.split(indexes.STEP_MARK)) for member in stood} == open_steps
    closed = {o.key for o in orders if not indexes.is_open(o)}
    assert set(texts(store.redis.zrange(keys.CLOSED, 0, -1))) == closed


def test_a_step_that_moves_changes_its_place_only(store: Store) -> None:
    def scheduled(sent: str, **step: Any) -> None:
        apply(store, Sender("RIS", "H", sent), (Action.SCHEDULE, whole(step=step)))

    scheduled("20260101", ScheduledStationAETitle=["CT1", "CT2"])
    scheduled(
        "20260102",
        ScheduledProcedureStepStartDate="20260102",
        ScheduledStationAETitle="CT2",
        Modality="CT",
    )
    assert store.redis.exists(keys.starts("station", "CT1")) == 0
    for key in (keys.starts("station", "CT2"), keys.starts("modality", "CT"), keys.starts("start")):
        ((_, score),) = store.redis.zrange(key, 0, -1, withscores=True)
        assert score == 20260102080000


def test_an_order_without_open_steps_is_found_by_its_numbers_only(store: Store) -> None:
    said = whole()
    apply(store, Sender("RIS", "H", "20260101"), (Action.SCHEDULE, said))
    apply(store, Sender("RIS", "H", "20260102"), (Action.CANCEL, said))
    assert not [key for key in texts(store.redis.keys("*")) if "open-" in key]
    assert store.redis.zrange(keys.numbers("accession", "A1"), 0, -1) == [b"H|A1"]
    assert store.redis.zrange(keys.CLOSED, 0, -1) == [b"H|A1"]


def test_entries_of_no_record_are_none() -> None:
    assert indexes.of_order(None) == indexes.of_patient(None) == set()
    assert list(indexes.changes(indexes.of_order(order()), indexes.of_order(order()))) == []


def test_every_group_of_a_name_is_indexed() -> None:
    person = patient(PatientName="Wang^XiaoDong=王^小東=^")
    names = {e.member for e in indexes.of_patient(person) if e.key == keys.NAMES}
    assert names == {"wang^xiaodong\0H|1", "王^小東\0H|1"}
