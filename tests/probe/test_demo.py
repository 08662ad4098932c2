"""The demo's story: it holds when everything does, and names the hop where it does not.

The broker here is a stand-in, because only a stand-in can be made to fail hop by hop.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from broker.probe.address import Address
from broker.probe.demo import Step, round_trip
from broker.probe.orders import Envelope, Order
from broker.probe.ris import Answer, Sink, listening, send
from broker.probe.throwaway import NotReady, Running, log_tail, read_ready

STEP_ITEM = {"Modality": "CT", "ScheduledProcedureStepID": "SPS0001"}
LISTED: dict[str, Any] = {
    "AccessionNumber": Order().accession,
    "PatientName": Order().patient.name,
    "StudyInstanceUID": Order().study_uid,
    "ScheduledProcedureStepSequence": [STEP_ITEM],
}


@pytest.fixture
def orders_door() -> Iterator[Sink]:
    with listening() as door:
        yield door


@pytest.fixture
def broker(orders_door: Sink, peer: Any, sink: Sink) -> Running:
    """A pynetdicom server that tells the RIS what the scanner did, as the broker would."""
    peer.items = [LISTED]
    peer.on_report = lambda status: send(sink.address, [status_message(status)])
    return Running(orders_door.address, peer.address, 0, Path("/nonexistent"))


def status_message(status: str) -> bytes:
    code = {"IN PROGRESS": "IP", "COMPLETED": "CM"}[status]
    control_id = Envelope().control_id
    header = f"MSH|^~\\&|BROKER||||||ORM^O01|{control_id}|P|2.3.1"
    return f"{header}\rORC|SC|PL0001|FL0001||{code}\r".encode()


def played(broker: Running, ris: Sink) -> list[Step]:
    return list(round_trip(broker, ris, lambda: datetime(2026, 3, 16, 9), deadline_s=0.5))  # noqa: DTZ001


def test_every_hop_of_a_good_round_trip_holds(broker: Running, sink: Sink, peer: Any) -> None:
    peer.done_hides = True
    steps = played(broker, sink)
    assert [step.fault for step in steps] == [""] * 8
    assert "ORC|SC" in steps[4].shown.message
    assert steps[2].shown.items is not None
    assert steps[7].shown.items == []
    assert all(step.took_ms > 0 for step in steps[1:])


def test_a_refused_order_ends_the_story(broker: Running, sink: Sink, orders_door: Sink) -> None:
    orders_door.answer = Answer.AE
    steps = played(broker, sink)
    assert len(steps) == 2
    assert steps[-1].fault == "the order was answered AE, not AA"
    assert "MSA|AE|" in steps[-1].shown.message


def test_an_orders_door_that_is_not_there_ends_the_story(
    broker: Running, sink: Sink, orders_door: Sink
) -> None:
    orders_door.stop()
    assert "cannot connect" in played(broker, sink)[-1].fault


def test_an_order_that_is_not_listed_ends_the_story(broker: Running, sink: Sink, peer: Any) -> None:
    peer.items = []
    assert "the list has 0 lines" in played(broker, sink)[-1].fault


def test_another_patient_on_the_list_ends_the_story(broker: Running, sink: Sink, peer: Any) -> None:
    peer.items = [{**LISTED, "PatientName": "SOMEONE^ELSE"}]
    fault = played(broker, sink)[-1].fault
    assert "patient's name" in fault
    assert "ELSE" not in fault


def test_a_ris_that_hears_nothing_ends_the_story(broker: Running, sink: Sink, peer: Any) -> None:
    peer.on_report = None
    steps = played(broker, sink)
    assert steps[-1].title == "The RIS hears: in progress"
    assert "0 of 1 messages" in steps[-1].fault


def test_a_wrong_status_ends_the_story(broker: Running, sink: Sink, peer: Any) -> None:
    peer.on_report = lambda status: send(sink.address, [status_message("COMPLETED")])
    assert "('SC', 'CM', 'FL0001')" in played(broker, sink)[-1].fault


def test_a_finished_step_that_stays_listed_ends_the_story(broker: Running, sink: Sink) -> None:
    assert played(broker, sink)[-1].fault == "the finished step is still on the list"


def test_the_ready_line_says_where_the_doors_are() -> None:
    line = "ready hl7=127.0.0.1:41,127.0.0.1:42 dicom=127.0.0.1:43 console=127.0.0.1:44\n"
    running = read_ready(line, pid=1, log=Path("log"))
    assert running.hl7 == Address("127.0.0.1", 41)
    assert running.dicom == Address("127.0.0.1", 43)


def test_a_ready_line_without_a_door_is_not_ready() -> None:
    with pytest.raises(NotReady, match="ready hl7="):
        read_ready("ready hl7=127.0.0.1:41\n", pid=1, log=Path("log"))


def test_a_log_is_shown_by_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    assert log_tail(log).splitlines()[-1] == "line 99"
    assert "line 10\n" not in log_tail(log)
