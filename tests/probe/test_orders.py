"""The synthetic orders are HL7 that python-hl7 and hl7apy read as meant."""

from __future__ import annotations

import hl7
import pytest
from hl7apy.parser import parse_message

from broker.probe.orders import Envelope, Order, Patient, Step, adt_a08, numbered, omi_o23, orm_o01

TWO_STEPS = Order(steps=(Step("SPS1", "CT", "CT1"), Step("SPS2", "MR", "MR1")))


@pytest.mark.parametrize(
    "message",
    [orm_o01(TWO_STEPS), omi_o23(TWO_STEPS), adt_a08(Patient())],
    ids=["ORM", "OMI", "ADT"],
)
def test_hl7apy_reads_every_message_kind(message: bytes) -> None:
    parsed = parse_message(message.decode(), find_groups=False)
    assert [child.name for child in parsed.children][:1] == ["MSH"]


def test_an_orm_has_a_group_per_step_and_its_zds_last() -> None:
    parsed = hl7.parse(orm_o01(TWO_STEPS).decode())
    assert [str(segment[0]) for segment in parsed] == [
        "MSH", "PID", "PV1", "ORC", "OBR", "ORC", "OBR", "ZDS",
    ]  # fmt: skip
    assert [str(obr[20]) for obr in parsed.segments("OBR")] == ["SPS1", "SPS2"]
    assert [str(obr[24]) for obr in parsed.segments("OBR")] == ["CT", "MR"]
    assert str(parsed.segment("OBR")[18]) == "ACC0001"


def test_orders_of_two_studies_have_a_zds_each() -> None:
    parsed = hl7.parse(orm_o01(numbered(1), numbered(2)).decode())
    uids = [str(zds[1]).split("^")[0] for zds in parsed.segments("ZDS")]
    assert uids == ["1.2.276.0.76.999.2.1", "1.2.276.0.76.999.2.2"]


def test_an_omi_has_an_ipc_per_step() -> None:
    parsed = hl7.parse(omi_o23(TWO_STEPS).decode())
    assert [str(ipc[4]) for ipc in parsed.segments("IPC")] == ["SPS1", "SPS2"]
    assert str(parsed.segment("MSH")[9]) == "OMI^O23^OMI_O23"


def test_control_and_status_are_as_asked() -> None:
    orc = hl7.parse(orm_o01(Order(), control="CA", status="CA").decode()).segment("ORC")
    assert (str(orc[1]), str(orc[5])) == ("CA", "CA")


def test_the_envelope_says_who_when_and_in_which_character_set() -> None:
    envelope = Envelope("C1", charset="8859/1", codec="latin-1", accept_ack="AL")
    message = orm_o01(Order(Patient(name="MÜLLER^JÖRG")), envelope=envelope)
    msh = hl7.parse(message.decode("latin-1")).segment("MSH")
    assert [str(msh[n]) for n in (3, 7, 10, 15, 18)] == [
        "PROBERIS", "20260316080000", "C1", "AL", "8859/1",
    ]  # fmt: skip
    assert "MÜLLER".encode("latin-1") in message


def test_every_envelope_has_a_control_id_of_its_own() -> None:
    assert len({Envelope().control_id for _ in range(100)}) == 100
