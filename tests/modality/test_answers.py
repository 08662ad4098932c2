"""Whatever a process keeps, it answers what the store holds: byte for byte, at once, in order."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from broker.dicom.encoding import charset_for, encode
from broker.dicom.identifier import decode
from broker.dicom.negotiation import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from broker.modality import answers as kept_answers
from broker.modality import candidates
from broker.modality.plan import UNSAID
from broker.store import keys, stored
from broker.store.call import texts
from broker.store.executors import Store
from broker.store.server import EmbeddedServer
from broker.worklist.apply import Sender
from broker.worklist.attributes import START_DATE, START_TIME, STEPS
from broker.worklist.changes import Action, text_of
from broker.worklist.query.matching import Query
from broker.worklist.records import LISTED, items
from broker.worklist.refusals import Refused
from tests.modality.test_find import spoil
from tests.modality.worklist import Worklist, of_station
from tests.store.test_indexes import a_message, an_exam
from tests.store.writing import apply, whole

pytestmark = pytest.mark.peer("redis-server")
BOTH = pytest.mark.parametrize("syntax", [IMPLICIT_LITTLE, EXPLICIT_LITTLE])
STATUS = "ScheduledProcedureStepStatus"
BACK = {
    "AccessionNumber": "",
    "PatientName": "",
    "PatientID": "",
    "PatientSex": "",
    "StudyInstanceUID": "",
    "RequestedProcedureCodeSequence": [{"CodeValue": "", "CodeMeaning": ""}],
    "OtherPatientIDsSequence": [],
}
STEP = {
    "ScheduledStationAETitle": "",
    START_DATE: "",
    START_TIME: "",
    "Modality": "",
    "ScheduledProtocolCodeSequence": [{"CodeValue": ""}],
}
QUERIES: tuple[dict[str, Any], ...] = (
    {**BACK, STEPS: [STEP]},
    {**BACK, STEPS: [{**STEP, "ScheduledStationAETitle": "CT1", START_DATE: "20260101"}]},
    {**BACK, STEPS: [{**STEP, "ScheduledStationAETitle": "CT2"}]},
    {**BACK, STEPS: [{**STEP, START_DATE: "20260101-20260102", START_TIME: "0900-2000"}]},
    {**BACK, STEPS: [{**STEP, START_DATE: "-20260101", "Modality": "CT"}]},
    {**BACK, STEPS: [{**STEP, "Modality": "MR"}]},
    {**BACK, STEPS: [{**STEP, "Modality": ["MR", "CT"], START_DATE: "20260101-"}]},
    {**BACK, STEPS: [{**STEP, "ScheduledStationAETitle": ["CT1", "CT2", "CT1"]}]},
    {**BACK, "PatientID": "1", STEPS: [STEP]},
    {**BACK, "PatientName": "doe*", STEPS: [STEP]},
    {**BACK, "PatientName": "*LL*", STEPS: []},
    {**BACK, "AccessionNumber": "A1", STEPS: [{}]},
    {**BACK, "StudyInstanceUID": "1.2", STEPS: [STEP]},
    {**BACK, STEPS: [{**STEP, START_TIME: "080000"}]},
    {**BACK, "PatientID": "1", STEPS: [{**STEP, STATUS: "CANCELLED"}]},
    {**BACK, "AccessionNumber": "A2", STEPS: [{**STEP, STATUS: "COMPLETED"}]},
    {**BACK, "PatientName": "ROE", STEPS: [{**STEP, STATUS: "STARTED"}]},
    {**BACK, STEPS: [{**STEP, "ScheduledStationAETitle": "CT1", STATUS: "HELD"}]},
)


def expected(store: Store, asked: dict[str, Any], syntax: str) -> list[bytes]:
    """Every record of the store read, matched and encoded, without an index or anything kept."""
    query = Query.of(decode(encode(asked, syntax), syntax).keys)
    patients = {}
    for name in texts(store.redis.keys(keys.patient("*"))):
        person = stored.versioned(store.redis.get(name), stored.patient)[0]
        patients[person.key] = person
    found = []
    for name in texts(store.redis.keys(keys.order("*"))):
        order = stored.versioned(store.redis.get(name), stored.order)[0]
        for item in items(order, patients[order.patient]):
            seen = item.step.status in LISTED or query.asks_for_status()
            if seen and query.matches(item.attributes):
                answer = query.answer(item.attributes)
                step = item.attributes[STEPS][0]
                start = text_of(step, START_DATE), text_of(step, START_TIME).ljust(6, "0")
                found.append((start, encode(answer, syntax, charset_for(answer, (), (UNSAID,)))))
    return [data for _, data in sorted(found)]


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_after_every_message_two_warm_processes_answer_what_the_store_holds(
    store: Store, worklist: Worklist, other: Worklist, seed: int, syntax: str
) -> None:
    """Reschedules, corrections, merges, cancels, exams: in the next answer of any process."""
    dice = random.Random(seed)
    answered = 0
    for number in range(40):
        sender = Sender("RIS", "H", f"20260101{dice.randrange(max(1, number - 5), number + 2):06}")
        said = [a_message(dice) for _ in range(dice.choice([1, 1, 2]))]
        if dice.random() < 0.5:
            said = [(Action.SCHEDULE, attributes) for _, attributes in said]
        for _, attributes in said:
            for step in attributes.get(STEPS, ()):
                step["ScheduledProtocolCodeSequence"] = [{"CodeValue": f"C{dice.randrange(9)}"}]
        with contextlib.suppress(Refused):
            apply(store, sender, *said)
        if dice.random() < 0.3:
            an_exam(store, dice)
        for process in (worklist, other):
            for asked in dice.sample(QUERIES, 4):
                answer = process.ask(asked, syntax=syntax)
                assert sorted(answer.datasets) == sorted(expected(store, asked, syntax)), asked
                answered += len(answer.datasets)
    assert answered > 40
    assert worklist.find.answers.encoded.hits > 5


def test_answers_come_by_start_whatever_index_they_are_from(
    store: Store, worklist: Worklist
) -> None:
    for accession, time in (("A1", "093000"), ("A2", "0800"), ("A3", "093059"), ("A4", "0931")):
        step = {"ScheduledProcedureStepStartTime": time}
        schedule(store, accession, step=step)
    by_start = ["A2", "A1", "A3", "A4"]
    assert worklist.ask(of_station()).accessions == by_start
    assert worklist.ask(of_station(PatientID="1")).accessions == by_start
    assert worklist.ask(of_station("", "", PatientName="DOE*")).accessions == by_start


def test_the_stations_of_a_group_are_looked_up_each_by_itself(
    store: Store, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By start, each step once; where that is too much, in the index of all."""
    for accession, time, station in (
        ("A1", "0930", "CT1"),
        ("A2", "0800", "CT2"),
        ("A3", "0830", "MR1"),
        ("A4", "0900", ["CT1", "CT2"]),
        ("A5", "1200", "CT1"),
    ):
        step = {"ScheduledProcedureStepStartTime": time, "ScheduledStationAETitle": station}
        schedule(store, accession, step=step)
    several = of_station()
    several[STEPS][0] |= {"ScheduledStationAETitle": ["CT1", "CT2"], START_TIME: "0800-0930"}
    looked_at = {"kept": "facts", "outcome": "miss"}
    with Worklist(redis_server.url, max_answers=3) as worklist:
        for most, misses in ((20_000, 4), (2, 5)):
            monkeypatch.setattr(candidates, "WHOLE", most)
            assert worklist.ask(several).accessions == ["A2", "A4", "A1"]
            value = worklist.metrics.registry.get_sample_value
            assert value("broker_modality_kept_lookups_total", looked_at) == misses


def schedule(store: Store, accession: str, *, sent: str = "2026", **said: Any) -> None:
    """One order of CT1 on 1 January 2026."""
    order = whole(AccessionNumber=accession, StudyInstanceUID=f"1.2.{accession[1:]}", **said)
    apply(store, Sender("RIS", "H", sent), (Action.SCHEDULE, order))


def test_a_list_that_is_too_long_is_refused_before_anything_of_it_is_sent(
    store: Store, redis_server: EmbeddedServer
) -> None:
    """A part of a list must never be taken for the whole."""
    for number in range(4):
        schedule(store, f"A{number}", PatientID=f"{number}")
    with Worklist(redis_server.url, max_answers=3) as short:
        for asked in (of_station(), of_station("", ""), of_station("", "", PatientName="D*")):
            answer = short.ask(asked)
            assert (answer.status, answer.datasets) == (0xA700, [])
            assert answer.comment == "more than 3 answers, narrow the query"
        assert len(short.ask(of_station(PatientID="1")).datasets) == 1
    with Worklist(redis_server.url, max_answers=4) as enough:
        assert len(enough.ask(of_station()).datasets) == 4


def test_a_query_that_no_index_serves_is_refused_where_too_much_had_to_be_read(
    store: Store, redis_server: EmbeddedServer
) -> None:
    for number in range(4):
        schedule(store, f"A{number}", PatientID=f"{number}")
    with Worklist(redis_server.url, max_candidates=3) as frugal:
        answer = frugal.ask(of_station("CT*", ""))
        assert (answer.status, answer.datasets) == (0xA700, [])
        assert answer.comment == "more than 3 steps to look through, add a key"
        assert len(frugal.ask(of_station("CT*", "", PatientID="1")).datasets) == 1
        assert len(frugal.ask(of_station()).datasets) == 4


def test_what_is_kept_is_bounded_and_the_answers_stay_right(
    store: Store, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_answers, "ANSWERS_BYTES", 8_000)
    monkeypatch.setattr(kept_answers, "FACTS_BYTES", 16_000)
    for number in range(40):
        schedule(store, f"A{number:02}", PatientID=f"{number}")
    with Worklist(redis_server.url) as small:
        for _ in range(3):
            for station in ("CT1", "CT*"):
                assert len(small.ask(of_station(station)).accessions) == 40
            assert 0 < small.find.answers.encoded.held_bytes <= 8_000
            assert 0 < small.find.answers.facts.held_bytes <= 16_000


def test_a_step_that_moves_while_a_long_list_goes_out_is_on_it_once(
    store: Store, worklist: Worklist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a list holds is settled at one moment: neither direction hides it, or shows it twice."""
    monkeypatch.setattr(candidates, "PAGE", 50)
    for number in range(150):
        times = {"ScheduledProcedureStepStartTime": f"08{number // 60:02}{number % 60:02}"}
        schedule(store, f"A{number:03}", PatientID=f"{number}", step=times)

    def moves() -> None:
        for accession, time in (("A140", "080000"), ("A000", "0859")):
            step = {"ScheduledProcedureStepStartTime": time}
            schedule(
                store, accession, sent="2027", PatientID=accession[1:].lstrip("0") or "0", step=step
            )

    found = worklist.ask(of_station(), after_first=moves).accessions
    assert sorted(found) == [f"A{number:03}" for number in range(150)]


@pytest.mark.parametrize("name", ["DOE^JOHN", "DÖE^JÖHN"])
def test_an_answer_that_would_lack_a_type_1_attribute_is_left_out_and_counted(
    store: Store, worklist: Worklist, name: str
) -> None:
    """As an earlier release may have stored it; who does not ask for it gets the rest."""
    for accession in ("A1", "A2", "A3"):
        schedule(store, accession, PatientID=accession, PatientName=name)
    spoil(store, "A1", "StudyInstanceUID", "")
    spoil(store, "A2", "StudyInstanceUID", [" "])
    with_study = worklist.ask(of_station(StudyInstanceUID=""))
    assert (with_study.status, with_study.accessions) == (0, ["A3"])
    value = worklist.metrics.registry.get_sample_value
    assert value("broker_modality_find_left_out_total") == 2
    assert worklist.ask(of_station()).accessions == ["A1", "A2", "A3"]


def test_nothing_is_left_of_a_list_that_nobody_wants_to_the_end(
    store: Store, worklist: Worklist
) -> None:
    """What is read ahead of a list ends with it: after a C-CANCEL, or when a scanner leaves."""
    for number in range(150):
        schedule(store, f"A{number:03}", PatientID=f"{number}")
    assert worklist.leave(of_station()) == 0
    assert len(worklist.ask(of_station()).datasets) == 150


def test_a_name_is_found_by_letters_in_its_middle(store: Store, worklist: Worklist) -> None:
    for number, name in enumerate(("SMITH^ANNA", "Goldsmith^Ben=金匠", "SMYTH^CAL")):
        schedule(store, f"A{number}", PatientID=f"{number}", PatientName=name)
    assert worklist.ask(of_station("", "", PatientName="*SMITH*")).accessions == ["A0", "A1"]
    assert worklist.ask(of_station("", "", PatientName="?M?TH*")).accessions == ["A0", "A2"]
    assert worklist.ask(of_station("", "", PatientName="*SMITH")).accessions == []
    assert worklist.ask(of_station("", "", PatientName="*ITH^B*")).accessions == ["A1"]


def test_queries_that_want_the_same_back_share_their_answers(
    store: Store, worklist: Worklist
) -> None:
    schedule(store, "A1")
    first = worklist.ask(of_station())
    hits = worklist.find.answers.encoded.hits
    for asked in (of_station("CT1", "20260101-"), of_station("", "20260101")):
        assert worklist.ask(asked).datasets == first.datasets
    assert worklist.find.answers.encoded.hits == hits + 2


def test_what_is_kept_and_of_use_is_counted(store: Store, worklist: Worklist) -> None:
    schedule(store, "A1")
    for _ in range(3):
        worklist.ask(of_station())
    value = worklist.metrics.registry.get_sample_value
    of_plans = {"kept": "plans", "outcome": "hit"}
    assert value("broker_modality_kept_lookups_total", of_plans) == 2
    of_answers = {"kept": "answers", "outcome": "miss"}
    assert value("broker_modality_kept_lookups_total", of_answers) == 1
    assert (value("broker_modality_kept_bytes", {"kept": "answers"}) or 0) > 100


def test_nothing_is_kept_across_a_new_connection(store: Store, worklist: Worklist) -> None:
    """The Redis behind it may be another one, which counts its revisions anew."""
    schedule(store, "A1")
    worklist.ask(of_station())
    assert worklist.find.answers.encoded.held_bytes > 0
    store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    store.redis.delete(*store.redis.keys("*"))
    answers = [worklist.ask(of_station()) for _ in range(2)]
    assert answers[-1].status == 0
    assert worklist.find.answers.encoded.held_bytes == 0
