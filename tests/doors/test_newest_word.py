"""Over the wire: an exam that changes is on the right scanner's list at the newest time."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from broker.probe.orders import Order
from tests.doors.actors import Broker, accepted, new_order, of_accession, only, send, step_of

pytestmark = pytest.mark.peer("redis-server")

_TIMES = count(1)
EXAM = "CTH^CT head^L"


def message(order: Order, kind: str, *segments: str, version: str = "2.3.1") -> bytes:
    """A message of one patient that is newer than the one before."""
    nth = next(_TIMES)
    sent = f"20260316{8 + nth // 3600:02d}{nth // 60 % 60:02d}{nth % 60:02d}"
    number = f"{order.accession}{nth}"
    who = order.patient
    head = f"MSH|^~\\&|RIS|NORTH|MWL|R|{sent}||{kind}|{number}|P|{version}"
    pid = f"PID|1||{who.patient_id}^^^{who.issuer}^MR||{who.name}||19700101|F"
    return "\r".join([head, pid, *segments, ""]).encode()


def orm(
    order: Order,
    control: str,
    *,
    modality: str = "CT",
    exam: str = EXAM,
    orc_7: str = "",
    obr_27: str = "",
    obr_36: str = "",
    obr_44: str = "",
    ipc: str = "",
) -> bytes:
    """An order message; each time stands in the field it is named after."""
    orc = f"ORC|{control}|{order.placer}|{order.filler}||SC||^^^{orc_7}"
    obr = ["OBR", "1", order.placer, order.filler, exam, *[""] * 13]
    obr += [order.accession, order.procedure_id, order.steps[0].step_id, "", "", "", modality]
    obr += ["", "", f"^^^{obr_27}", *[""] * 8, obr_36, *[""] * 7, obr_44]
    more = [f"IPC|{order.accession}|{order.procedure_id}||{order.steps[0].step_id}|{ipc}"]
    return message(order, "ORM^O01", orc, "|".join(obr), *(more if ipc else ()))


def siu(order: Order, event: str, *, sch_11: str = "", ais_4: str = "", reason: str = "") -> bytes:
    sch = ["SCH", "", f"AP{order.accession}", "", "", "", "", reason, "", "", "", f"^^30^{sch_11}"]
    sch += [""] * (27 - len(sch)) + [order.filler]
    ais = [f"AIS|1|A|{EXAM}|{ais_4}"] if ais_4 else []
    return message(order, f"SIU^{event}", "|".join(sch), *ais, version="2.4")


def omg(order: Order, start: str) -> bytes:
    orc = f"ORC|NW|{order.placer}|{order.filler}||SC"
    obr = ["OBR", "1", order.placer, order.filler, EXAM, *[""] * 13]
    obr += [order.accession, order.procedure_id, order.steps[0].step_id, "", "", "", "CT"]
    tq1 = f"TQ1|1||||||{start}"
    return message(order, "OMG^O19", orc, tq1, "|".join(obr), version="2.5.1")


def step(broker: Broker, order: Order) -> dict[str, Any]:
    return step_of(only(broker, order))


def start(broker: Broker, order: Order) -> str:
    at = step(broker, order)
    return f"{at['ScheduledProcedureStepStartDate']} {at['ScheduledProcedureStepStartTime']}"


@pytest.mark.parametrize("control", ["NW", "XO"])
def test_another_modality_takes_the_exam_to_the_list_of_its_scanner(
    broker: Broker, control: str
) -> None:
    order = new_order()
    accepted(broker.hl7, orm(order, "NW", orc_7="202603161000"))
    assert step(broker, order)["ScheduledStationAETitle"] == "CT1"
    accepted(broker.hl7, orm(order, control, orc_7="202603161000", modality="MR"))
    at = step(broker, order)
    assert (at["Modality"], at["ScheduledStationAETitle"]) == ("MR", "MR1")


def test_another_procedure_takes_its_modality_and_scanner_along(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm(order, "NW", orc_7="202603161000", modality="", exam="70450^Head^C4"))
    accepted(broker.hl7, orm(order, "XO", modality="", exam="70553^Brain^C4"))
    at = step(broker, order)
    assert (at["Modality"], at["ScheduledStationAETitle"]) == ("MR", "MR1")


OLD, NEW = "202603161000", "202603171430"
BOOKED = {"ais_4": OLD}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ([("orm", "NW", {"orc_7": OLD})], ("orm", "XO", {"obr_27": NEW})),
        ([("orm", "NW", {"orc_7": OLD})], ("orm", "XO", {"obr_36": NEW})),
        ([("omg", "", {})], ("orm", "XO", {"orc_7": NEW})),
        ([("orm", "NW", {"orc_7": OLD})], ("siu", "S12", {"sch_11": NEW})),
        ([("orm", "NW", {}), ("siu", "S12", BOOKED)], ("siu", "S13", {"sch_11": NEW})),
        ([("orm", "NW", {}), ("siu", "S12", BOOKED)], ("siu", "S14", {"sch_11": NEW})),
        ([("orm", "NW", {}), ("siu", "S12", BOOKED)], ("orm", "XO", {"orc_7": NEW})),
    ],
)
def test_the_newest_time_counts_whichever_field_and_message_says_it(
    broker: Broker, first: list[Any], then: Any
) -> None:
    order = new_order()
    for kind, event, fields in (*first, then):
        if kind == "omg":
            accepted(broker.hl7, omg(order, OLD))
        elif kind == "siu":
            accepted(broker.hl7, siu(order, event, **fields))
        else:
            accepted(broker.hl7, orm(order, event, **fields))
    assert start(broker, order) == "20260317 143000"
    assert len(of_accession(broker, order)) == 1


def test_another_day_without_a_time_is_not_at_the_old_time(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm(order, "NW", orc_7=OLD), orm(order, "XO", orc_7="20260317"))
    assert start(broker, order) == "20260317 000000"


def test_another_exam_from_another_field_is_described_as_one(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm(order, "NW", orc_7=OLD, obr_44="MRH^MR head^L"))
    accepted(broker.hl7, orm(order, "XO", exam="CTA^CT abdomen^L"))
    item = only(broker, order)
    assert item["RequestedProcedureDescription"] == "CT abdomen"
    assert step_of(item)["ScheduledProcedureStepDescription"] == "CT abdomen"
    (code,) = item["RequestedProcedureCodeSequence"]
    assert code["CodeValue"] == "CTA"


def test_another_modality_from_another_field_counts(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm(order, "NW", orc_7=OLD, ipc="CT"), orm(order, "XO", modality="MR"))
    assert step(broker, order)["Modality"] == "MR"


def test_the_reason_of_an_appointment_does_not_replace_the_exam(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm(order, "NW", orc_7=OLD))
    accepted(broker.hl7, siu(order, "S12", sch_11=NEW, reason="ROUTINE^Routine visit"))
    assert only(broker, order)["RequestedProcedureDescription"] == "CT head"


def test_a_number_from_a_poorer_place_is_ignored_and_noted(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm(order, "NW", orc_7=OLD))
    other = (
        orm(order, "XO", orc_7=NEW)
        .replace(f"ORC|XO|{order.placer}|".encode(), b"ORC|XO||")
        .replace(f"OBR|1|{order.placer}|".encode(), f"OBR|1|X{order.placer}|".encode())
    )
    answer = send(broker.hl7, other)
    assert answer.code == "AA"
    assert "weaker source ignored: Placer" in broker.archived(1)[0].cause
    item = only(broker, order)
    assert item["PlacerOrderNumberImagingServiceRequest"] == order.placer
