"""The scanner against pynetdicom's server: what it asks, reports and says to silence."""

from __future__ import annotations

import socket
import threading
import time
from datetime import datetime
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider

from broker.probe.address import Address, Unreachable
from broker.probe.scanner import (
    STEP,
    VERIFICATION,
    QueryFailed,
    Scanner,
    new_uid,
    to_dataset,
    to_values,
    worklist_keys,
)

NOW = datetime(2026, 3, 16, 9, 31, 5)  # noqa: DTZ001 - DICOM local time


@pytest.fixture
def scanner(peer: Any) -> Scanner:
    return Scanner(peer.address, calling="CT1", deadline_s=5)


def test_an_echo_is_answered_with_success(scanner: Scanner) -> None:
    assert scanner.echo() == 0x0000


def test_found_items_are_plain_values(scanner: Scanner, item: dict[str, Any]) -> None:
    assert scanner.find(worklist_keys()) == [item]


def test_a_query_carries_matching_keys_beside_the_return_keys(peer: Any, scanner: Scanner) -> None:
    keys = worklist_keys(modality="CT", date="20260316-20260317", patient_name="MÜ*", accession="A")
    scanner.find(keys)
    asked = to_values(peer.identifiers[0])
    assert asked["PatientName"] == "MÜ*"
    assert asked["AccessionNumber"] == "A"
    assert asked["SpecificCharacterSet"] == "ISO_IR 192"
    assert asked[STEP][0]["Modality"] == "CT"
    assert asked[STEP][0]["ScheduledProcedureStepStartDate"] == "20260316-20260317"
    assert asked["StudyInstanceUID"] == ""


def test_asking_leaves_the_return_keys_as_they_were() -> None:
    worklist_keys(modality="CT", patient_id="P1")
    assert worklist_keys()[STEP][0]["Modality"] == ""
    assert worklist_keys()["PatientID"] == ""


def test_an_empty_list_is_no_failure(peer: Any, scanner: Scanner) -> None:
    peer.items = []
    assert scanner.find(worklist_keys()) == []


def test_a_failed_query_says_status_and_comment(peer: Any, scanner: Scanner) -> None:
    peer.items, peer.end = [], 0xA700
    with pytest.raises(QueryFailed, match=r"0xA700 \(store away\)") as failed:
        scanner.find(worklist_keys())
    assert failed.value.status == 0xA700


def test_a_started_step_repeats_the_item(peer: Any, scanner: Scanner, item: dict[str, Any]) -> None:
    uid = new_uid()
    assert scanner.mpps_start(item, uid=uid, now=NOW) == 0x0000
    created = to_values(peer.created[uid])
    assert created["PerformedProcedureStepStatus"] == "IN PROGRESS"
    assert created["PerformedProcedureStepStartTime"] == "093105"
    assert created["PerformedStationAETitle"] == "CT1"
    assert created["PatientName"] == "Müller^Jörg"
    scheduled = created["ScheduledStepAttributesSequence"][0]
    assert scheduled["StudyInstanceUID"] == "1.2.3"
    assert scheduled["ScheduledProcedureStepID"] == "SPS1"
    assert scheduled["AccessionNumber"] == "ACC1"


def test_a_step_starts_once(scanner: Scanner, item: dict[str, Any]) -> None:
    uid = new_uid()
    scanner.mpps_start(item, uid=uid, now=NOW)
    assert scanner.mpps_start(item, uid=uid, now=NOW) == 0x0111


def test_a_completed_step_has_what_the_final_state_needs(
    peer: Any, scanner: Scanner, item: dict[str, Any]
) -> None:
    uid = new_uid()
    scanner.mpps_start(item, uid=uid, now=NOW)
    assert scanner.mpps_complete(uid, now=NOW) == 0x0000
    ended = to_values(peer.changed[0][1])
    assert ended["PerformedProcedureStepStatus"] == "COMPLETED"
    assert ended["PerformedProcedureStepEndDate"] == "20260316"
    assert ended["PerformedSeriesSequence"][0]["ProtocolName"]


def test_a_finished_step_refuses_with_error_id_and_comment(
    scanner: Scanner, item: dict[str, Any]
) -> None:
    uid = new_uid()
    scanner.mpps_start(item, uid=uid, now=NOW)
    scanner.mpps_complete(uid, now=NOW)
    status = scanner.mpps_complete(uid, now=NOW)
    assert (status, status.error_id) == (0x0110, 0xA710)
    assert "no longer be updated" in status.comment


def test_a_discontinued_step_says_why(peer: Any, scanner: Scanner, item: dict[str, Any]) -> None:
    uid = new_uid()
    scanner.mpps_start(item, uid=uid, now=NOW)
    assert scanner.mpps_discontinue(uid, now=NOW, reason="110514") == 0x0000
    ended = to_values(peer.changed[0][1])
    reason = ended["PerformedProcedureStepDiscontinuationReasonCodeSequence"][0]
    assert reason["CodeMeaning"] == "Incorrect worklist entry selected"


def test_an_unknown_step_cannot_be_set(scanner: Scanner) -> None:
    assert scanner.mpps_complete("1.2.3.4", now=NOW) == 0x0112


def test_nobody_listening_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        to = Address("127.0.0.1", closed.getsockname()[1])
    with pytest.raises(Unreachable, match="cannot connect"):
        Scanner(to, deadline_s=2).echo()


def test_a_silent_peer_is_left_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        to = Address("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(Unreachable, match="did not accept the association"):
            Scanner(to, deadline_s=0.3).echo()


def test_a_rejected_association_says_which_titles_were_used(peer: Any) -> None:
    ae = AE("OTHER")
    ae.require_called_aet = True
    ae.add_supported_context(VERIFICATION)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        to = Address("127.0.0.1", server.server_address[1])
        with pytest.raises(Unreachable, match=r"rejected .* \(called 'NOBODY', calling 'PROBE'\)"):
            Scanner(to, called="NOBODY", deadline_s=2).echo()
    finally:
        server.shutdown()


def test_a_name_that_is_no_keyword_is_refused() -> None:
    with pytest.raises(ValueError, match="AcessionNumber"):
        to_dataset({"AcessionNumber": "1"})


def test_an_answer_that_comes_before_pynetdicom_has_paused_is_not_lost(
    scanner: Scanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread goes on where it said that it is paused, while the asker is held up."""

    class HeldUp(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            passed = super().wait(timeout)
            time.sleep(0.2)
            return passed

    usual = Association.__init__

    def held_up(self: Association, ae: AE, mode: str) -> None:
        usual(self, ae, mode)
        if mode == "requestor":
            self._reactor_checkpoint = HeldUp()
            self._reactor_checkpoint.set()

    sends, echo = DIMSEServiceProvider.send_msg, Association.send_c_echo

    def echo_later(self: Association) -> Any:
        time.sleep(0.1)  # that thread is on its round
        return echo(self)

    def sent_slowly(self: DIMSEServiceProvider, *what: Any) -> None:
        sends(self, *what)
        if self.assoc.is_requestor:
            time.sleep(0.5)

    monkeypatch.setattr(Association, "__init__", held_up)
    monkeypatch.setattr(Association, "send_c_echo", echo_later)
    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", sent_slowly)
    assert scanner.echo() == 0x0000
