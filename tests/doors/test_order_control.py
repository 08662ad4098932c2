"""Every order control code and what a site may decide: none ends in silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from broker.probe.orders import Envelope, Order, Step, orm_o01
from broker.probe.ris import Received, Sink
from broker.probe.scanner import new_uid
from tests.doors.actors import (
    CONFIG,
    Broker,
    accepted,
    find,
    new_order,
    of_accession,
    only,
    send,
    step_of,
    until,
)
from tests.houses import few_mappings

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
TABLE_0119 = (
    *("AF", "CA", "CH", "CN", "CR", "DC", "DE", "DF", "DR", "FU", "HD", "HR", "LI", "MC", "NA"),
    *("NW", "OC", "OD", "OE", "OF", "OH", "OK", "OP", "OR", "PA", "PR", "PY", "RE", "RF", "RL"),
    *("RO", "RP", "RQ", "RR", "RU", "SC", "SN", "SR", "SS", "UA", "UC", "UD", "UF", "UH", "UM"),
    *("UN", "UR", "UX", "XO", "XR", "XX"),
)


def at(time: str) -> Envelope:
    """An envelope of this minute of the day, in the site's time."""
    moment = datetime.strptime(f"20260316{time}+0100", "%Y%m%d%H%M%z")
    return Envelope(sent=moment)


def status(broker: Broker, order: Order) -> str:
    found = of_accession(broker, order)
    return step_of(found[0])["ScheduledProcedureStepStatus"] if found else ""


# --- the table


@pytest.mark.parametrize("control", TABLE_0119)
def test_every_code_is_taken_and_its_meaning_is_in_the_archive(
    broker: Broker, control: str
) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, envelope=at("0800")))
    answer = send(broker.hl7, orm_o01(order, control=control, status="", envelope=at("0900")))
    assert answer.code == "AA"
    (newest,) = broker.archived(1)
    gone = {"CA", "OC", "CR", "DC", "OD", "DR", "XR", "HD", "OH", "HR"}
    changed = {"NW", "NA", "XO", "XX", "PA", "CH", "RO", "SC", "RL", "OE", "OR"}
    causes = {**dict.fromkeys(gone | changed, ""), "RP": "to be replaced", "RU": "to be replaced"}
    assert bool(of_accession(broker, order)) == (control not in gone)
    assert newest.cause == causes.get(control, "no change")


@pytest.mark.parametrize(
    ("control", "state", "shown"),
    [
        ("SC", "IP", "ARRIVED"),
        ("SC", "A", "ARRIVED"),
        ("SC", "SC", "SCHEDULED"),
        ("XO", "IP", "SCHEDULED"),
        ("NW", "IP", "SCHEDULED"),
        ("XO", "", "SCHEDULED"),
        ("XO", "CM", ""),
        ("SC", "CM", ""),
        ("NW", "CM", ""),
        ("XO", "CA", ""),
        ("SC", "DC", ""),
        ("SC", "HD", ""),
        ("PA", "CA", ""),
        ("RP", "DC", ""),
    ],
)
def test_the_status_of_the_order_counts_too(
    broker: Broker, control: str, state: str, shown: str
) -> None:
    order = new_order()
    accepted(
        broker.hl7,
        orm_o01(order, envelope=at("0800")),
        orm_o01(order, control=control, status=state, envelope=at("0900")),
    )
    assert status(broker, order) == shown


def test_what_is_held_is_on_no_list_till_it_is_released(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, envelope=at("0800")))
    accepted(broker.hl7, orm_o01(order, control="HD", status="", envelope=at("0900")))
    assert status(broker, order) == ""
    accepted(broker.hl7, orm_o01(order, control="RL", status="", envelope=at("1000")))
    assert status(broker, order) == "SCHEDULED"


def test_a_replace_pair_takes_the_old_order_off_and_brings_the_new_one(broker: Broker) -> None:
    old = new_order()
    new = new_order(patient=old.patient)
    accepted(broker.hl7, orm_o01(old, envelope=at("0800")))
    pair = orm_o01(old, new, control="RP", status="", envelope=at("0900"))
    head, _, second = pair.rpartition(b"ORC|RP")
    accepted(broker.hl7, head + b"ORC|RO" + second)
    assert status(broker, old) == ""
    assert status(broker, new) == "SCHEDULED"


def test_a_placer_number_cancels_every_order_that_has_it(broker: Broker) -> None:
    one = new_order(filler="")
    two = replace(new_order(filler=""), patient=one.patient, placer=one.placer)
    for order in (one, two):
        accepted(broker.hl7, orm_o01(order, envelope=at("0800")))
    head = b"MSH|^~\\&|PROBERIS|NORTH|B|R|20260316090000||ORM^O01|GROUP|P|2.3.1\r"
    accepted(broker.hl7, head + f"ORC|CA|{one.placer}\r".encode())
    assert (status(broker, one), status(broker, two)) == ("", "")
    nothing = send(broker.hl7, head.replace(b"GROUP", b"NONE") + b"ORC|CA\r")
    assert (nothing.code, b"|101" in nothing.raw or b"101&" in nothing.raw) == ("AE", True)


def test_a_hold_that_comes_before_its_order_keeps_it_off_the_list(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, control="HD", status="", envelope=at("0900")))
    accepted(broker.hl7, orm_o01(order, envelope=at("0800")))
    assert status(broker, order) == ""
    accepted(broker.hl7, orm_o01(order, control="RL", status="", envelope=at("1000")))
    assert status(broker, order) == "SCHEDULED"


@pytest.mark.parametrize("renamed", [False, True])
def test_an_order_that_was_cancelled_comes_back_for_the_right_patient(
    broker: Broker, *, renamed: bool
) -> None:
    wrong, other = new_order(), new_order()
    right = replace(wrong, patient=other.patient)
    if renamed:
        right = replace(right, accession=other.accession)
    accepted(broker.hl7, orm_o01(wrong, envelope=at("0800")))
    refused = send(broker.hl7, orm_o01(right, envelope=at("0900")))
    assert (refused.code, b"cancel the order under the wrong one" in refused.raw) == ("AR", True)
    accepted(broker.hl7, orm_o01(wrong, control="CA", status="", envelope=at("0901")))
    accepted(broker.hl7, orm_o01(right, envelope=at("0902")))
    assert [item["PatientID"] for item in of_accession(broker, right)] == [other.patient.patient_id]
    assert find(broker, patient_id=wrong.patient.patient_id) == []


def test_a_cancel_without_a_patient_reaches_its_order(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, envelope=at("0800")))
    head = "MSH|^~\\&|PROBERIS|NORTH|MWL|R|20260316100000||ORM^O01|"
    cancel = f"{head}{order.accession}|P|2.3\rORC|CA|{order.placer}\rOBR||{order.placer}\r"
    accepted(broker.hl7, cancel.encode())
    assert status(broker, order) == ""


# --- after the start


def said(ris: Sink, order: Order) -> list[Received]:
    return [each for each in list(ris.received) if each.field("OBR", 18) == order.accession]


def started(broker: Broker) -> tuple[Order, str]:
    order, uid = new_order(), new_uid()
    accepted(broker.hl7, orm_o01(order, envelope=at("0800")))
    assert broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW) == 0x0000
    return order, uid


@pytest.mark.parametrize(("control", "answer"), [("CA", "UC"), ("DC", "UD")])
def test_c34_and_s70_a_cancel_after_the_start_is_taken_and_the_ris_hears_that_it_came_too_late(
    broker: Broker, ris: Sink, control: str, answer: str
) -> None:
    order, uid = started(broker)
    cancel = orm_o01(order, control=control, status="", envelope=at("0940"))
    accepted(broker.hl7, cancel, cancel)
    until(lambda: len(said(ris, order)) == 2, "IP and the refusal")
    assert [each.field("ORC", 1) for each in said(ris, order)] == ["SC", answer]
    assert said(ris, order)[1].field("ORC", 5) == "IP"
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    until(lambda: said(ris, order)[-1].field("ORC", 5) == "CM", "CM")
    (newest,) = [each for each in broker.archived(2) if "after start" in each.cause][:1]
    assert newest.outcome == "applied"


# --- what a site may decide


def settled(broker: Broker, block: str) -> None:
    """Give the broker mappings of its own, with these settings for the source PROBERIS."""
    rules = few_mappings(broker.folder / "rules")
    head = "mapping: site\nextends: ihe-orders\naccept: {senders: ['PROBERIS|*']}\n"
    (rules / "site.yaml").write_text(f"{head}source: {block}\n")


@pytest.fixture(scope="module")
def strict() -> Iterator[Broker]:
    """A broker of a site that has decided otherwise everywhere."""
    broker = Broker(f"{CONFIG}mappings: rules\n".replace("processes: 2", "processes: 1"))
    settled(
        broker,
        "{patient_from: adt, missing_steps: cancel, groups: apply_good, after_start: refuse}",
    )
    with broker.started():
        yield broker


def test_a_cancel_after_the_start_may_be_refused(strict: Broker) -> None:
    order, _ = started(strict)
    answer = send(strict.hl7, orm_o01(order, control="CA", status="", envelope=at("0940")))
    assert answer.code == "AR"
    assert "206" in answer.error


def test_steps_that_an_update_leaves_out_may_be_cancelled(strict: Broker) -> None:
    both = new_order(Step(step_id="S1"), Step(step_id="S2"))
    accepted(strict.hl7, orm_o01(both, envelope=at("0800")))
    assert len(of_accession(strict, both)) == 2
    one = Order(**{**vars(both), "steps": both.steps[:1]})
    accepted(strict.hl7, orm_o01(one, control="XO", envelope=at("0900")))
    assert step_of(only(strict, both))["ScheduledProcedureStepID"] == "S1"


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_of_three_groups_the_good_ones_may_be_applied_and_the_bad_one_named(
    strict: Broker, bad: int
) -> None:
    first = new_order()
    orders = [first, new_order(patient=first.patient), new_order(patient=first.patient)]
    message = orm_o01(*orders)
    message = message.replace(f"|{orders[bad].accession}|".encode(), b"||", 1)
    answer = send(strict.hl7, message)
    assert answer.code == "AE"
    assert "in part" in answer.raw.decode()
    assert "ihe-orders.yaml:" in answer.error
    there = [bool(of_accession(strict, order)) for order in orders]
    assert there == [at != bad for at in range(3)]
    again = send(strict.hl7, orm_o01(*orders))
    assert again.code == "AA"
    assert all(of_accession(strict, order) for order in orders)


def test_every_bad_group_is_told_where_the_good_ones_are_applied(strict: Broker) -> None:
    good, stranger = new_order(), new_order()
    accepted(strict.hl7, orm_o01(stranger))
    unread = new_order(patient=good.patient, accession="A" * 17)
    wrong = replace(stranger, patient=good.patient)
    newer = Envelope(version="2.5.1")
    answer = send(strict.hl7, orm_o01(good, unread, wrong, envelope=newer))
    assert answer.code == "AE"
    errors = [line.split("|") for line in answer.raw.decode().split("\r") if line[:3] == "ERR"]
    assert [each[2] for each in errors] == ["OBR^2^18", "ORC^3"]
    assert [each[3].partition("^")[0] for each in errors] == ["102", "205"]
    assert only(strict, stranger)["PatientID"] == stranger.patient.patient_id
    only(strict, good)


def test_of_several_orders_that_of_another_patient_is_named(broker: Broker) -> None:
    good, stranger = new_order(), new_order()
    accepted(broker.hl7, orm_o01(stranger))
    answer = send(broker.hl7, orm_o01(good, replace(stranger, patient=good.patient)))
    assert answer.code == "AR"
    assert "ORC^2^^205" in answer.error
    assert of_accession(broker, good) == []


def test_c19_by_default_none_of_three_is_applied_and_the_bad_one_is_named(broker: Broker) -> None:
    first = new_order()
    orders = [first, new_order(patient=first.patient), new_order(patient=first.patient)]
    message = orm_o01(*orders).replace(f"|{orders[1].accession}|".encode(), b"||", 1)
    answer = send(broker.hl7, message)
    assert answer.code == "AE"
    assert "OBR^2" in answer.error
    assert find(broker, patient_id=first.patient.patient_id) == []


def test_an_order_may_not_correct_what_a_patient_message_said(strict: Broker) -> None:
    order = new_order()
    who = order.patient
    head = "MSH|^~\\&|ADT|NORTH|MWL|R|20260316070000||ADT^A04|"
    pid = f"PID|1||{who.patient_id}^^^{who.issuer}^PI||FROM^ADT"
    accepted(strict.hl7, f"{head}{order.accession}|P|2.3.1\r{pid}\r".encode())
    accepted(strict.hl7, orm_o01(order, envelope=at("0800")))
    assert only(strict, order)["PatientName"] == "FROM^ADT"


# --- time


def test_a_clock_that_is_years_ahead_makes_nothing_stale(broker: Broker) -> None:
    order = new_order()
    ahead = orm_o01(order, envelope=Envelope(sent=datetime(2099, 1, 1)))  # noqa: DTZ001
    accepted(broker.hl7, ahead)
    assert broker.archived(1)[0].cause == "MSH-7 is no time to go by"
    now = Envelope(sent=datetime.now(ZoneInfo("Europe/Berlin")))
    accepted(broker.hl7, orm_o01(order, control="CA", status="", envelope=now))
    assert status(broker, order) == ""


def test_a_late_message_is_taken_noted_and_counted(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, envelope=at("0900")))
    before = broker.metric("broker_orders_stale_total")
    accepted(broker.hl7, orm_o01(order, control="CA", status="", envelope=at("0800")))
    assert broker.archived(1)[0].cause == "stale"
    assert status(broker, order) == "SCHEDULED"
    until(lambda: broker.metric("broker_orders_stale_total") > before, "the count")


# --- new IDs under the same numbers


def test_new_procedure_and_step_ids_leave_no_dead_line(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, envelope=at("0800")))
    step = Step(step_id="NEW-STEP")
    changed = Order(**{**vars(order), "procedure_id": "NEW-RP", "steps": (step,)})
    accepted(broker.hl7, orm_o01(changed, control="XO", envelope=at("0900")))
    item = only(broker, order)
    assert item["RequestedProcedureID"] == "NEW-RP"
    assert step_of(item)["ScheduledProcedureStepID"] == "NEW-STEP"


# --- results


@pytest.mark.parametrize(("result", "listed"), [("F", False), ("P", False), ("I", True)])
def test_a_result_ends_its_order_where_no_scanner_does(
    broker: Broker, result: str, listed: bool
) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order, envelope=at("0800")))
    head = "MSH|^~\\&|REPORTING|NORTH|MWL|R|20260316120000||ORU^R01|"
    obr = ["OBR", "1", order.placer, order.filler, "CT^CT", *[""] * 20, result]
    accepted(broker.hl7, f"{head}{order.accession}|P|2.3.1\r{'|'.join(obr)}\r".encode())
    assert bool(of_accession(broker, order)) == listed


def test_a_result_does_not_end_an_exam_that_a_scanner_has_in_hand(broker: Broker) -> None:
    order, uid = started(broker)
    head = "MSH|^~\\&|REPORTING|NORTH|MWL|R|20260316120000||ORU^R01|"
    obr = ["OBR", "1", order.placer, order.filler, "CT^CT", *[""] * 20, "F"]
    accepted(broker.hl7, f"{head}{order.accession}|P|2.3.1\r{'|'.join(obr)}\r".encode())
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
