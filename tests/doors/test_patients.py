"""ADT over the wire: merges, visits, arrivals, a patient of many orders, storms of nothing new."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

import pytest

from broker.cli import run_command
from broker.probe.orders import Order, Patient, Step, orm_o01
from broker.probe.scanner import new_uid
from broker.store import keys
from tests.doors.actors import (
    Broker,
    Line,
    accepted,
    find,
    new_order,
    of_accession,
    only,
    send,
    step_of,
    until,
)

pytestmark = pytest.mark.peer("redis-server")

_NUMBERS = count(1)


def adt(
    event: str, *segments: str, sent: str = "20260316100000", sender: str = "PROBERIS"
) -> bytes:
    """An ADT message of the segments given."""
    head = f"MSH|^~\\&|{sender}|NORTH|MWL|R|{sent}||ADT^{event}|T{next(_NUMBERS):06d}|P|2.3.1"
    return "\r".join([f"{head}||||||UNICODE UTF-8", f"EVN|{event}|{sent}", *segments, ""]).encode()


def pid(patient: Patient, **changed: Any) -> str:
    """The PID of a patient, as the pretend RIS has it."""
    who = replace(patient, **changed)
    return f"PID|1||{who.patient_id}^^^{who.issuer}^PI||{who.name}||{who.birth_date}|{who.sex}"


def mrg(patient: Patient) -> str:
    return f"MRG|{patient.patient_id}^^^{patient.issuer}^PI"


def ordered(broker: Broker, *, orders: int = 1, **more: Any) -> list[Order]:
    """Orders of one new patient, sent and taken."""
    first = new_order(**more)
    made = [first, *(new_order(patient=first.patient, **more) for _ in range(orders - 1))]
    accepted(broker.hl7, *(orm_o01(order) for order in made))
    return made


def by_id(broker: Broker, patient: Patient) -> set[str]:
    return {item["AccessionNumber"] for item in find(broker, patient_id=patient.patient_id)}


def revisions(broker: Broker, patient: Patient) -> bytes:
    found: bytes = broker.store.redis.get(keys.patient(f"{patient.issuer}|{patient.patient_id}"))
    return found


# --- merges


@pytest.mark.parametrize("event", ["A40", "A34", "A18", "A36", "A47"])
def test_c30_and_s72_after_a_merge_the_old_id_finds_nothing_and_the_new_one_all(
    broker: Broker, event: str
) -> None:
    (old,), (new,) = ordered(broker), ordered(broker)
    accepted(broker.hl7, adt(event, pid(new.patient), mrg(old.patient)))
    assert by_id(broker, old.patient) == set()
    assert by_id(broker, new.patient) == {old.accession, new.accession}
    assert only(broker, old)["PatientName"] == new.patient.name


def test_s72_and_s74_two_pairs_of_one_merge_are_both_merged(broker: Broker) -> None:
    orders = [ordered(broker)[0] for _ in range(4)]
    one, two, three, four = (order.patient for order in orders)
    accepted(broker.hl7, adt("A40", pid(one), mrg(two), pid(three), mrg(four)))
    assert by_id(broker, one) == {orders[0].accession, orders[1].accession}
    assert by_id(broker, three) == {orders[2].accession, orders[3].accession}


def test_a_late_order_with_the_old_id_lands_at_the_survivor(broker: Broker) -> None:
    (old,), (new,) = ordered(broker), ordered(broker)
    accepted(broker.hl7, adt("A40", pid(new.patient), mrg(old.patient)))
    late = new_order(patient=old.patient)
    accepted(broker.hl7, orm_o01(late))
    assert only(broker, late)["PatientID"] == new.patient.patient_id


def test_a_late_exam_with_the_old_id_starts_the_order_of_the_survivor(broker: Broker) -> None:
    (old,), (new,) = ordered(broker), ordered(broker)
    (item,) = of_accession(broker, old)
    accepted(broker.hl7, adt("A40", pid(new.patient), mrg(old.patient)))
    broker.scanner.mpps_start(item, uid=new_uid(), now=datetime(2026, 3, 16, 9, 35, 12))  # noqa: DTZ001
    assert of_accession(broker, old) == []


def test_an_exam_under_a_strangers_id_starts_its_order_and_is_warned_of(broker: Broker) -> None:
    (order,) = ordered(broker)
    (item,) = of_accession(broker, order)
    uid, item = new_uid(), {**item, "PatientID": "STRANGER"}
    broker.scanner.mpps_start(item, uid=uid, now=datetime(2026, 3, 16, 9, 35, 12))  # noqa: DTZ001
    assert of_accession(broker, order) == []
    lines = [line for line in broker.log().splitlines() if uid in line and "warning" in line]
    assert [json.loads(line)["event"] for line in lines] == ["MPPS wants a look"]
    assert all("names another patient" in line and "STRANGER" not in line for line in lines)
    assert any(order.accession in line for line in lines)


def unmerge(
    broker: Broker, capsys: pytest.CaptureFixture[str], who: Patient, *words: str
) -> tuple[int, str]:
    """What the command says of an ID that was given up, and its exit code."""
    capsys.readouterr()
    config = str(broker.folder / "broker.yaml")
    code = run_command(
        ["patient", "unmerge", who.issuer, who.patient_id, *words, "--config", config]
    )
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_merge_that_a_person_undoes_is_undone_and_in_the_log(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    (old,), (new,) = ordered(broker), ordered(broker)
    accepted(broker.hl7, adt("A40", pid(new.patient), mrg(old.patient)))
    assert unmerge(broker, capsys, old.patient)[0] == 2  # without a reason
    code, said = unmerge(broker, capsys, old.patient, "--dry-run")
    assert (code, old.accession in said, new.accession in said) == (0, True, True)
    code, dry = unmerge(broker, capsys, old.patient, "--dry-run", "--json")
    code, said = unmerge(broker, capsys, old.patient, "--reason", "wrong twin", "--json")
    assert (code, said) == (0, dry)
    assert {each["order"].split("|")[1] for each in json.loads(said)["orders"]} == {
        old.accession,
        new.accession,
    }
    late = new_order(patient=old.patient)
    accepted(broker.hl7, orm_o01(late))
    assert by_id(broker, old.patient) == {late.accession}
    assert by_id(broker, new.patient) == {old.accession, new.accession}
    code, said = unmerge(broker, capsys, old.patient, "--reason", "again")
    assert (code, "is not merged" in said) == (1, True)

    config = ["--config", str(broker.folder / "broker.yaml")]
    assert run_command(["log", "--outcome", "by hand", *config]) == 0
    said = capsys.readouterr().out
    assert "wrong twin" in said
    assert old.patient.patient_id not in said
    assert run_command(["log", "show", said.split("\t")[0], *config]) == 0
    assert old.patient.patient_id in capsys.readouterr().out
    assert (
        run_command(["replay", said.split("\t")[0], *config]) == 1
    )  # there is no message to replay
    assert by_id(broker, new.patient) == {old.accession, new.accession}


def test_an_id_that_was_given_up_and_is_registered_anew_is_warned_of(broker: Broker) -> None:
    (old,), (new,) = ordered(broker), ordered(broker)
    accepted(broker.hl7, adt("A40", pid(new.patient), mrg(old.patient)))
    counted = partial(broker.metric, "broker_orders_merged_ids_total", type="ADT^A28")
    before = counted()
    accepted(broker.hl7, adt("A28", pid(old.patient)))
    # What other tests sent just before may be counted late, so there may be more.
    until(lambda: counted() > before, "counted")
    warned = [line for line in broker.log().splitlines() if "broker patient unmerge" in line]
    assert warned
    assert not any(old.patient.patient_id in line for line in warned)
    assert only(broker, old)["PatientName"] == new.patient.name


def test_what_is_said_of_people_without_an_order_is_counted(broker: Broker) -> None:
    (order,) = ordered(broker)
    counted = partial(broker.metric, "broker_orders_patients_without_order_total")
    before = counted()
    accepted(broker.hl7, adt("A08", pid(order.patient)))
    accepted(broker.hl7, adt("A08", pid(replace(order.patient, issuer="ELSEWHERE"))))
    # What other tests sent just before may be counted late, so there may be more.
    until(lambda: counted() > before, "counted")


def test_an_unlink_is_refused_with_what_a_person_can_do(broker: Broker) -> None:
    (one,), (two,) = ordered(broker), ordered(broker)
    answer = send(broker.hl7, adt("A37", pid(one.patient), pid(two.patient)))
    assert answer.code == "AR"
    assert "201" in answer.error
    assert "broker patient unmerge" in answer.error


def test_a_merge_by_a_type_of_id_that_is_not_read_says_so(broker: Broker) -> None:
    (order,) = ordered(broker)
    answer = send(broker.hl7, adt("A40", pid(order.patient), "MRG|J8a^^^N^SS"))
    assert answer.code == "AE"
    assert "of a type that the mapping reads" in answer.error


def test_c30_a_merge_again_and_with_itself_is_taken_and_a_circle_is_not(broker: Broker) -> None:
    (old,), (new,) = ordered(broker), ordered(broker)
    merge = adt("A40", pid(new.patient), mrg(old.patient))
    accepted(broker.hl7, merge, adt("A40", pid(new.patient), mrg(old.patient)))
    accepted(broker.hl7, adt("A40", pid(new.patient), mrg(new.patient)))
    circle = send(broker.hl7, adt("A40", pid(old.patient), mrg(new.patient)))
    assert circle.code == "AR"
    assert "205" in circle.error
    assert by_id(broker, new.patient) == {old.accession, new.accession}


def test_of_two_pairs_the_one_that_makes_a_circle_is_named_and_none_is_merged(
    broker: Broker,
) -> None:
    (old,), (new,), (one,), (two,) = (ordered(broker) for _ in range(4))
    accepted(broker.hl7, adt("A40", pid(new.patient), mrg(old.patient)))
    pairs = (pid(one.patient), mrg(two.patient), pid(old.patient), mrg(new.patient))
    circle = send(broker.hl7, adt("A40", *pairs))
    assert circle.code == "AR"
    assert "MRG^2^1^205" in circle.error
    assert by_id(broker, two.patient) == {two.accession}


def test_c30_a_chain_of_merges_leads_to_its_end(broker: Broker) -> None:
    (one,), (two,), (three,) = ordered(broker), ordered(broker), ordered(broker)
    accepted(
        broker.hl7,
        adt("A40", pid(two.patient), mrg(one.patient)),
        adt("A40", pid(three.patient), mrg(two.patient)),
        orm_o01(late := new_order(patient=one.patient)),
    )
    mine = {order.accession for order in (one, two, three, late)}
    assert by_id(broker, three.patient) == mine


def test_orders_that_race_a_merge_are_never_of_nobody(broker: Broker) -> None:
    """Several connections reach both processes: an order is of the survivor whichever was first."""
    for _ in range(5):
        (old,), (new,) = ordered(broker), ordered(broker)
        late = [new_order(patient=old.patient) for _ in range(6)]
        lines = [Line(broker.hl7) for _ in range(7)]
        messages = [*map(orm_o01, late[:3]), adt("A40", pid(new.patient), mrg(old.patient))]
        messages += map(orm_o01, late[3:])
        for line, message in zip(lines, messages, strict=True):
            line.write(b"\x0b" + message + b"\x1c\r")
        assert {line.answer().code for line in lines} <= {"AA", "CA"}
        for line in lines:
            line.close()
        wanted = {order.accession for order in (old, new, *late)}
        assert by_id(broker, new.patient) == wanted


# --- demographics and visits


def test_c31_a_correction_of_two_hundred_entries_takes_a_second_of_work_at_most(
    broker: Broker,
) -> None:
    """Processor time of doors and Redis, since a test shares its machine."""
    first = new_order()
    steps = 40
    for number in range(5):
        group = new_order(
            *(Step(step_id=f"{first.accession}{number}{at:02d}"[-16:]) for at in range(steps)),
            patient=first.patient,
        )
        accepted(broker.hl7, orm_o01(group))
    before = broker.processor_s("door orders|redis-server")
    accepted(broker.hl7, adt("A08", pid(first.patient, name="ROE^ANN"), sent="20260316110000"))
    took = broker.processor_s("door orders|redis-server") - before
    found = find(broker, patient_id=first.patient.patient_id)
    assert len(found) == 5 * steps
    assert {item["PatientName"] for item in found} == {"ROE^ANN"}
    assert took < 1


def test_s71_a_correction_is_of_nobody_elses_entries(broker: Broker) -> None:
    (mine,), (other,) = ordered(broker), ordered(broker)
    accepted(broker.hl7, adt("A08", pid(mine.patient, name="ROE^ANN")))
    assert only(broker, mine)["PatientName"] == "ROE^ANN"
    assert only(broker, other)["PatientName"] == other.patient.name


@pytest.mark.parametrize("event", ["A01", "A02", "A03", "A06", "A07", "A12", "A13"])
def test_a_ward_changes_for_the_orders_of_the_visit_only(broker: Broker, event: str) -> None:
    (mine,) = ordered(broker)
    other = new_order(patient=mine.patient)
    accepted(broker.hl7, orm_o01(other))
    ward = f"PV1|1|I|W{event}^12^1||||||||||||||||{mine.visit}"
    accepted(broker.hl7, adt(event, pid(mine.patient), ward))
    assert only(broker, mine)["CurrentPatientLocation"] == f"W{event} 12 1"
    assert only(broker, other)["CurrentPatientLocation"] != f"W{event} 12 1"


def test_who_arrives_is_arrived_and_who_goes_is_not(broker: Broker) -> None:
    (order,) = ordered(broker)
    visit = f"PV1|1|O|||||||||||||||||{order.visit}"
    accepted(broker.hl7, adt("A10", pid(order.patient), visit))
    assert step_of(only(broker, order))["ScheduledProcedureStepStatus"] == "ARRIVED"
    accepted(broker.hl7, adt("A11", pid(order.patient), visit, sent="20260316101500"))
    assert step_of(only(broker, order))["ScheduledProcedureStepStatus"] == "SCHEDULED"


@pytest.mark.parametrize("event", ["A08", "A01", "A28", "A31", "A04", "A05", "A38", "A09"])
def test_s73_a_message_about_a_patient_without_orders_makes_no_entry(
    broker: Broker, event: str
) -> None:
    patient = new_order().patient
    accepted(broker.hl7, adt(event, pid(patient)))
    assert find(broker, patient_id=patient.patient_id) == []


# --- storms


def test_of_a_patient_without_orders_the_header_is_kept_and_no_name_is_indexed(
    broker: Broker,
) -> None:
    patient = new_order().patient
    accepted(broker.hl7, adt("A04", pid(patient) + "|||FERN LANE 4^^TWINCREEK"))
    assert b"FERN" not in revisions(broker, patient)
    name = patient.name.split("^")[0].lower().encode()
    assert not [m for m in broker.store.redis.zrange(keys.NAMES, 0, -1) if m.startswith(name)]
    accepted(broker.hl7, orm_o01(order := new_order(patient=patient)))
    assert find(broker, patient_name=f"{patient.name}*")[0]["AccessionNumber"] == order.accession


def test_c32_messages_that_say_nothing_new_write_no_record(broker: Broker) -> None:
    (order,) = ordered(broker)
    accepted(broker.hl7, adt("A08", pid(order.patient), sent="20260316100000"))
    before = revisions(broker, order.patient)
    said = [adt("A08", pid(order.patient), sent=f"2026031611{at:02d}00") for at in range(60)]
    accepted(broker.hl7, *said)
    assert revisions(broker, order.patient) == before
    late = adt("A08", pid(order.patient, name="OLD^NAME"), sent="20260316105900")
    accepted(broker.hl7, late)
    assert only(broker, order)["PatientName"] == order.patient.name
