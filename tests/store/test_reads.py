"""What can be read: by key, by number, through aliases, and the candidates of a query."""

from __future__ import annotations

from typing import Any

import pytest

from broker.store import keys, reads
from broker.store.commit import Change
from broker.store.executors import Store
from broker.worklist.apply import Sender
from broker.worklist.changes import Action
from broker.worklist.finding import Identifier, Wanted
from broker.worklist.query.matching import Query
from broker.worklist.query.narrowing import Narrowing, narrow
from broker.worklist.records import items
from tests.store.writing import apply, create, order, patient, read, whole, write

STEPS = "ScheduledProcedureStepSequence"
AWKWARD = "A/1 *?[x]|%"


def schedule(store: Store, accession: str, patient_id: str = "1", **said: Any) -> None:
    """One order with one step."""
    step = {
        "ScheduledStationAETitle": said.pop("station", "CT1"),
        "ScheduledProcedureStepStartDate": said.pop("date", "20260101"),
        "ScheduledProcedureStepStartTime": said.pop("time", "0800"),
        "Modality": said.pop("modality", "CT"),
    }
    attributes = {
        "PatientID": patient_id,
        "PatientName": f"DOE^{patient_id}",
        "AccessionNumber": accession,
        **said,
        STEPS: [step],
    }
    apply(store, Sender("RIS", "H", "2026"), (Action.SCHEDULE, attributes))


def found(store: Store, narrowing: Narrowing) -> list[str]:
    """The order keys that an index gives."""
    if narrowing.kind == "names":
        names = store.run(reads.names("", 100))
        patients = [n.decode().split("\0")[1] for n in names if narrowing.value.encode() in n]
        return [key for each in patients for key in found(store, Narrowing("patient", each))]
    return [reads.stood(member).order for member in store.run(reads.members(narrowing)).found]


def answered(store: Store, **keys_: Any) -> set[str]:
    """The accession numbers that a query gives, index and matching together."""
    query = Query.of(keys_)
    known = read(store, *found(store, narrow(query))).known
    return {
        item.order.accession
        for one in known.orders.values()
        for item in items(one, known.patients[one.patient])
        if query.matches(item.attributes)
    }


def test_nothing_is_read_from_an_empty_store(store: Store) -> None:
    nothing = read(store, "H|A1")
    assert nothing.known.orders == nothing.known.patients == nothing.known.aliases == {}
    for kind in ("accession", "study", "patient_id", "name", "station", "modality", "start"):
        assert found(store, Narrowing(kind, "x" if kind != "start" else "")) == []
    assert store.run(reads.open_steps()) == 0
    assert store.run(reads.ping()) is True
    assert store.run(reads.writable()) is True


def test_an_order_is_read_by_any_of_its_numbers_with_its_patient(store: Store) -> None:
    schedule(
        store,
        "A1",
        StudyInstanceUID="1.2",
        FillerOrderNumberImagingServiceRequest="F1",
        PlacerOrderNumberImagingServiceRequest="P1",
    )
    for number in (("accession", "A1"), ("study", "1.2"), ("filler", "H|F1"), ("placer", "H|P1")):
        known = store.run(reads.orders_by([Identifier(*number)])).known
        assert set(known.orders) == {"H|A1"}
        assert set(known.patients) == {"H|1"}


def test_an_order_named_twice_is_read_once(store: Store) -> None:
    schedule(store, "A1", StudyInstanceUID="1.2")
    both = Wanted(("H|A1",), ("H|1",), (Identifier("study", "1.2"),), True)
    known = store.run(reads.lookup(both)).known
    assert set(known.orders) == {"H|A1"}


def test_the_orders_of_a_patient_are_read_when_asked_for(store: Store) -> None:
    schedule(store, "A1")
    schedule(store, "A2")
    schedule(store, "B1", "2")
    for asked, expected in ((True, {"H|A1", "H|A2"}), (False, set())):
        known = store.run(reads.lookup(Wanted((), ("H|1",), (), asked))).known
        assert set(known.orders) == expected
        assert set(known.patients) == {"H|1"}


def test_aliases_are_followed_in_chains_and_circles_end(store: Store) -> None:
    create(store, patient(), order("A3"))
    write(
        store,
        aliases=[
            ("order", "H|A1", "H|A2"),
            ("order", "H|A2", "H|A3"),
            ("order", "H|C1", "H|C2"),
            ("order", "H|C2", "H|C1"),
            ("patient", "H|0", "H|1"),
        ],
        alias_keep_s=60,
    )
    known = read(store, "H|A1", "H|C1").known
    assert set(known.orders) == {"H|A3"}
    assert known.order("H|A1") == order("A3")
    merged = store.run(reads.lookup(Wanted((), ("H|0",), (), True))).known
    assert merged.patient("H|0") == patient()
    assert set(merged.orders) == {"H|A3"}


def test_a_former_number_can_be_used_again_when_its_order_is_gone(store: Store) -> None:
    """An alias outlives the order it leads to; it must not hide, nor lose, a new one."""
    schedule(store, "A1", FillerOrderNumberImagingServiceRequest="F1")
    corrected = whole(AccessionNumber="A7", FillerOrderNumberImagingServiceRequest="F1")
    apply(store, Sender("RIS", "H", "2027"), (Action.UPDATE, corrected))
    (renamed,) = read(store, "H|A1").known.orders.values()
    assert renamed.accession == "A7"
    write(store, Change(read(store, "H|A7").revision(renamed), renamed, None))
    filler = {"FillerOrderNumberImagingServiceRequest": "F2"}
    for number in ("A1", "A1"):
        schedule(store, number, "2", **filler)
    assert set(read(store, "H|A1").known.orders) == {"H|A1"}
    assert answered(store, AccessionNumber="A1") == {"A1"}


def test_an_awkward_accession_number_is_a_number_like_any_other(store: Store) -> None:
    """Redis patterns, our own separators and escapes in one key."""
    schedule(store, AWKWARD, AWKWARD, station=AWKWARD[:16], StudyInstanceUID="1.2")
    schedule(store, "A/1 xx[x]|%", "2", station="X")
    schedule(store, "A/1 *?[x]%7C%25", "3", station="X")
    assert len(read(store, "H|A/1 *?[x]%7C%25").known.orders) == 1
    assert found(store, Narrowing("accession", AWKWARD)) == ["H|A/1 *?[x]%7C%25"]
    assert found(store, Narrowing("patient_id", AWKWARD)) == ["H|A/1 *?[x]%7C%25"]
    assert answered(store, StudyInstanceUID="1.2") == {AWKWARD}
    apply(store, Sender("RIS", "H", "2027"), (Action.CANCEL, {"AccessionNumber": AWKWARD}))
    assert store.run(reads.open_steps()) == 2


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"AccessionNumber": "A1"}, {"A1"}),
        ({"PatientID": "2"}, {"A2", "A3"}),
        ({"PatientName": "doe^2"}, {"A2", "A3"}),
        ({"PatientName": "DOE*"}, {"A1", "A2", "A3"}),
        ({"PatientName": "DOF*"}, set()),
        ({STEPS: [{"ScheduledStationAETitle": "MR1"}]}, {"A3"}),
        ({STEPS: [{"Modality": "CT"}]}, {"A1", "A2"}),
        ({STEPS: [{"ScheduledProcedureStepStartDate": "20260102"}]}, {"A2", "A3"}),
        (
            {
                STEPS: [
                    {
                        "ScheduledProcedureStepStartDate": "20260101-20260102",
                        "ScheduledProcedureStepStartTime": "1000-1000",
                    }
                ]
            },
            {"A2"},
        ),
        ({}, {"A1", "A2", "A3"}),
        ({"PatientName": "*2", "IssuerOfPatientID": "H"}, {"A2", "A3"}),
    ],
)
def test_whatever_index_is_read_the_answer_is_right(
    store: Store, query: dict[str, Any], expected: set[str]
) -> None:
    schedule(store, "A1")
    schedule(store, "A2", "2", date="20260102", time="0900")
    schedule(store, "A3", "2", date="20260102", time="2359", station="MR1", modality="MR")
    assert answered(store, **query) == expected


def test_candidates_come_in_the_order_of_their_start(store: Store) -> None:
    for accession, date in (("A1", "20260103"), ("A2", "20260101"), ("A3", "20260102")):
        schedule(store, accession, date=date)
    assert found(store, Narrowing("start")) == ["H|A2", "H|A3", "H|A1"]
    assert found(store, Narrowing("station", "CT1", 20260102000000, 20260102235959)) == ["H|A3"]


def slices(store: Store, narrowing: Narrowing, at_most: int) -> list[list[str]]:
    """The order keys that an index gives, slice by slice."""
    found: list[list[str]] = []
    rest: Narrowing | None = narrowing
    while rest is not None:
        members = store.run(reads.members(rest, at_most))
        found.append([reads.stood(member).order for member in members.found])
        rest = members.rest
    return found


def test_a_long_list_comes_in_slices_that_end_between_two_starts(store: Store) -> None:
    for n, time in enumerate(("0800", "0801", "0802", "0802", "0802", "0803")):
        schedule(store, f"A{n}", f"{n}", time=time)
    at_once = [[f"H|A{n}" for n in range(6)]]
    assert slices(store, Narrowing("start"), 100) == slices(store, Narrowing("start"), 6) == at_once
    in_slices = [["H|A0", "H|A1"], ["H|A2", "H|A3", "H|A4"], ["H|A5"]]
    assert slices(store, Narrowing("start"), 2) == in_slices
    assert slices(store, Narrowing("start"), 3) == in_slices
    assert store.run(reads.members(Narrowing("start"), 2)).count == 6
    assert [x for y in slices(store, Narrowing("start"), 1) for x in y] == at_once[0]


def test_what_goes_between_two_slices_hides_nothing(store: Store) -> None:
    for n in range(4):
        schedule(store, f"A{n}", f"{n}", time=f"080{n}")
    first = store.run(reads.members(Narrowing("start"), 2))
    apply(store, Sender("RIS", "H", "2027"), (Action.CANCEL, {"AccessionNumber": "A0"}))
    assert first.rest is not None
    assert found(store, first.rest) == ["H|A2", "H|A3"]


def test_names_come_in_slices_too(store: Store) -> None:
    for n in range(5):
        schedule(store, f"A{n}", f"{n}")
    whole_list = [f"H|A{n}" for n in range(5)]
    assert [x for y in slices(store, Narrowing("name", "doe"), 2) for x in y] == whole_list


def test_a_member_shows_the_versions_of_its_order_and_its_patient(store: Store) -> None:
    """Whatever leads to it: what was read of these versions is still what the store holds."""
    schedule(store, "A1", StudyInstanceUID="1.2", station="CT1")
    schedule(store, "A2")
    ways = (
        Narrowing("accession", "A1"),
        Narrowing("study", "1.2"),
        Narrowing("patient_id", "1"),
        Narrowing("name", "doe"),
        Narrowing("station", "CT1"),
    )

    def versions(narrowing: Narrowing) -> bytes:
        members = [reads.stood(member) for member in store.run(reads.members(narrowing)).found]
        (ours,) = [member.versions for member in members if member.order == "H|A1"]
        return ours

    first = {versions(way) for way in ways}
    renamed = {"PatientID": "1", "PatientName": "ROE^JANE"}
    apply(store, Sender("RIS", "H", "2027"), (Action.PATIENT, renamed))
    second = {versions(way) for way in ways if way.kind != "name"}
    again = {"AccessionNumber": "A1", "PatientID": "1", "RequestedProcedureDescription": "CT"}
    apply(store, Sender("RIS", "H", "2028"), (Action.UPDATE, again))
    third = {versions(way) for way in ways if way.kind != "name"}
    assert len(first) == len(second) == len(third) == len(first | second | third) / 3 == 1


def test_a_cancelled_order_is_no_candidate(store: Store) -> None:
    schedule(store, "A1")
    apply(store, Sender("RIS", "H", "2027"), (Action.CANCEL, {"AccessionNumber": "A1"}))
    assert found(store, Narrowing("start")) == []
    assert found(store, Narrowing("accession", "A1")) == []


def test_a_new_name_is_found_and_the_old_one_is_not(store: Store) -> None:
    schedule(store, "A1", PatientName="Müller^Jörg")
    assert answered(store, PatientName="MULLER*") == {"A1"}
    said = {"PatientID": "1", "PatientName": "Schmidt^Jörg"}
    apply(store, Sender("RIS", "H", "2027"), (Action.PATIENT, said))
    assert answered(store, PatientName="muller*") == set()
    assert answered(store, PatientName="schmi*") == {"A1"}
    assert store.redis.zcard(keys.NAMES) == 1


def test_what_is_due_is_what_lies_before(store: Store) -> None:
    store.redis.zadd(keys.CLOSED, {"a": 1, "b": 2, "c": 3})
    assert store.run(reads.due(keys.CLOSED, before=3, limit=10)) == ["a", "b"]
    assert store.run(reads.due(keys.CLOSED, before=3, limit=1)) == ["a"]


def test_the_order_of_changes_in_one_commit_does_not_matter(store: Store) -> None:
    create(store, patient(), order())
    create(store, order("A2", "H|2"), patient("2"))
    assert set(read(store, "H|A1", "H|A2").known.patients) == {"H|1", "H|2"}
    write(store, Change("000000000002", order("A2", "H|2"), None))
    assert set(read(store, "H|A1", "H|A2").known.orders) == {"H|A1"}
