"""A merge is one commit: what races it conflicts, and nothing is left of the patient that goes."""

from __future__ import annotations

from typing import Any

from broker.store import indexes, keys, reads
from broker.store.commit import Change, Commit, Committed, Conflict, commit, members, value
from broker.store.consequences import consequences
from broker.store.executors import Store
from broker.worklist.applied import Applied, Sender
from broker.worklist.apply import apply_all
from broker.worklist.changes import Action
from broker.worklist.changes import Change as Asked
from broker.worklist.finding import Wanted, wanted
from tests.store.writing import AT, KEEP, attempt, create, order, patient, write

BY = Sender("RIS|H", "H", "20260101120000")
MERGE = {"PatientID": "2", "PriorPatientIDsSequence": [{"PatientID": "1"}]}


def read_for_merge(store: Store) -> tuple[Wanted, reads.Read]:
    asked = wanted([MERGE], "H", orders_of_patients=True)
    return asked, store.run(reads.lookup(asked))


def merged(store: Store, asked: Wanted, read: reads.Read) -> Any:
    applied = apply_all([Asked(Action.MERGE, MERGE, "PID[1]")], read.known, BY)
    return store.run(commit(consequences(asked, read, applied, at=AT, keep=KEEP)))


def two(store: Store) -> None:
    create(store, patient("1", PatientName="OLD"), patient("2", PatientName="NEW"))
    create(store, order("A1", "H|1"), order("A2", "H|2"))


def test_a_merge_moves_the_orders_and_leaves_nothing_of_the_patient_that_goes(
    store: Store,
) -> None:
    two(store)
    assert isinstance(merged(store, *read_for_merge(store)), Committed)
    assert store.redis.zrange(keys.orders_of("H|2"), 0, -1) == [b"H|A1", b"H|A2"]
    left = [key for key in store.redis.scan_iter() if b"H|1" in key]
    assert left == [keys.alias("patient", "H|1").encode()]
    assert not store.redis.exists(keys.patient_ids("1"))
    assert not [m for m in store.redis.zrange(keys.NAMES, 0, -1) if m.startswith(b"old")]


def test_an_order_that_came_after_the_read_makes_the_merge_conflict(store: Store) -> None:
    """The patient's record is the same as read; only the number of orders tells."""
    two(store)
    asked, read = read_for_merge(store)
    create(store, order("A9", "H|1"))
    assert merged(store, asked, read) == Conflict(keys.orders_of("H|1"))
    assert isinstance(merged(store, *read_for_merge(store)), Committed)
    assert b"H|A9" in store.redis.zrange(keys.orders_of("H|2"), 0, -1)


def test_an_order_for_the_patient_that_has_gone_meanwhile_conflicts(store: Store) -> None:
    two(store)
    late = {"PatientID": "1", "AccessionNumber": "A9"}
    asked = wanted([late], "H", orders_of_patients=False)
    read = store.run(reads.lookup(asked))
    assert isinstance(merged(store, *read_for_merge(store)), Committed)
    stood = read.known.patients["H|1"]
    outcome = write(
        store,
        Change(read.revision(stood), stood, stood),
        Change("", None, order("A9", "H|1")),
    )
    assert isinstance(outcome, Conflict)


def test_a_slim_patient_is_in_no_index_of_names(store: Store) -> None:
    slim = patient("1", PatientName="DOE").model_copy(update={"slim": True})
    assert indexes.of_patient(slim) == set()


def test_what_a_key_must_hold_is_looked_at(store: Store) -> None:
    name = keys.tombstone("patient:H|1")
    store.redis.set(name, '{"RIS|H": "2026"}')
    same = Commit(at=AT, unchanged=[(name, value({"RIS|H": "2026"}))])
    other = Commit(at=AT, unchanged=[(name, value({"RIS|H": "2025"}))])
    assert isinstance(store.run(commit(same)), Committed)
    assert store.run(commit(other)) == Conflict(name)
    none = Commit(at=AT, unchanged=[(keys.orders_of("H|7"), members(0))])
    assert isinstance(store.run(commit(none)), Committed)


def test_a_message_that_says_nothing_new_is_remembered_for_a_while(store: Store) -> None:
    said = {"PatientID": "1", "PatientName": "DOE"}
    attempt(store, BY, [(Action.PATIENT, said)])
    record = store.redis.get(keys.patient("H|1"))
    later = Sender("RIS|H", "H", "20260101130000")
    _, applied = attempt(store, later, [(Action.PATIENT, said)])
    assert applied.notes == ("unchanged",)
    assert store.redis.get(keys.patient("H|1")) == record
    assert 0 < store.redis.ttl(keys.tombstone("patient:H|1")) <= KEEP.guard.total_seconds()
    late = Sender("RIS|H", "H", "20260101123000")
    _, applied = attempt(store, late, [(Action.PATIENT, {**said, "PatientName": "OLD"})])
    assert applied.notes == ("stale",)


LATE = {"PatientID": "1", "AccessionNumber": "A9"}


def read_for_late(store: Store) -> tuple[Wanted, reads.Read]:
    asked = wanted([LATE], "H", orders_of_patients=False)
    return asked, store.run(reads.lookup(asked))


def added(store: Store, asked: Wanted, read: reads.Read) -> Any:
    """Store the order of a patient of whom nothing was known when it was read."""
    known = read.known.with_both(order("A9", "H|1"), patient("1", PatientName="OLD"))
    applied = Applied(known)
    return store.run(commit(consequences(asked, read, applied, at=AT, keep=KEEP)))


def test_an_order_of_an_unknown_patient_who_is_merged_meanwhile_conflicts(store: Store) -> None:
    """Neither has a record: only the alias tells."""
    late = read_for_late(store)
    assert isinstance(merged(store, *read_for_merge(store)), Committed)
    assert added(store, *late) == Conflict(keys.alias("patient", "H|1"))


def test_a_merge_of_an_unknown_patient_whose_order_comes_meanwhile_conflicts(store: Store) -> None:
    merge = read_for_merge(store)
    assert isinstance(added(store, *read_for_late(store)), Committed)
    assert merged(store, *merge) == Conflict(keys.patient("H|1"))
    assert isinstance(merged(store, *read_for_merge(store)), Committed)
    assert store.redis.zrange(keys.orders_of("H|2"), 0, -1) == [b"H|A9"]


def test_of_two_merges_in_a_circle_of_unknown_patients_the_second_conflicts(store: Store) -> None:
    merge = read_for_merge(store)
    back = {"PatientID": "1", "PriorPatientIDsSequence": [{"PatientID": "2"}]}
    asked = wanted([back], "H", orders_of_patients=True)
    read = store.run(reads.lookup(asked))
    assert isinstance(merged(store, *merge), Committed)
    applied = apply_all([Asked(Action.MERGE, back, "PID[1]")], read.known, BY)
    outcome = store.run(commit(consequences(asked, read, applied, at=AT, keep=KEEP)))
    assert isinstance(outcome, Conflict)


def test_an_alias_that_leads_to_nothing_stands_in_nobodys_way(store: Store) -> None:
    """A survivor without orders expires before its alias does."""
    store.redis.set(keys.alias("patient", "H|1"), "H|2")
    asked, read = read_for_late(store)
    assert (read.known.aliases, read.astray) == ({}, {"patient:H|1"})
    assert isinstance(added(store, asked, read), Committed)
