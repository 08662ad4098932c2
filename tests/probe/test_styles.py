"""The ways in which scanners ask: what each sends where nobody says anything but who."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from broker.dicom.association import Acceptor, RequestReceived
from broker.dicom.dimse import SUCCESS, DimseRequest, Response
from broker.dicom.identifier import decode
from broker.probe.address import Address
from broker.probe.scanner import STEP, Scanner, to_dataset, to_values
from broker.probe.styles import STYLES, Wish

WISH = Wish("CT1", "20260316", accession="A1", patient_name="MU*")


def said(style: str) -> dict[str, Any]:
    """The keys that have a value, those of the step among them."""
    keys = to_values(to_dataset(STYLES[style].keys(WISH)))
    step = (keys.pop(STEP, None) or [{}])[0]
    return {k: v for k, v in {**keys, **step}.items() if v and not isinstance(v[0], dict)}


@pytest.mark.parametrize(
    ("style", "keys"),
    [
        ("present-day", {"AccessionNumber": "A1", "PatientName": "MU*"}),
        (
            "own-room",
            {
                "Modality": "CT",
                "ScheduledStationAETitle": "CT1",
                "ScheduledProcedureStepStartDate": "20260316",
            },
        ),
        ("own-modality", {"Modality": "CT"}),
        ("everything", {}),
        ("full-list", {}),
        ("radiography", {"Modality": "CR", "ScheduledProcedureStepStartDate": "20260316"}),
        ("cr-defaults", {"Modality": "CR", "ScheduledProcedureStepStartDate": "20260316"}),
        ("cr-dx", {"Modality": ["CR", "DX"], "ScheduledProcedureStepStartDate": "20260316"}),
        ("from-today", {"ScheduledProcedureStepStartDate": "20260316-"}),
        ("barcode", {"AccessionNumber": "A1"}),
        ("one-patient", {"PatientName": "MU*"}),
        (
            "retrieve-habit",
            {"QueryRetrieveLevel": "WORKLIST", "AccessionNumber": "A1", "PatientName": "MU*"},
        ),
        (
            "ultrasound",
            {"ScheduledStationAETitle": "CT1", "ScheduledProcedureStepStartDate": "20260316"},
        ),
    ],
)
def test_a_style_asks_for_what_it_says(style: str, keys: dict[str, Any]) -> None:
    assert said(style) == keys


def test_a_style_may_send_no_step_or_an_empty_one() -> None:
    assert STEP not in STYLES["no-step"].keys(WISH)
    assert STYLES["empty-step"].keys(WISH)[STEP] == [{}]
    assert "RequestedContrastAgent" in STYLES["contrast"].keys(WISH)[STEP][0]


def test_a_style_leaves_the_next_one_as_it_was() -> None:
    for style in STYLES.values():
        style.keys(Wish("X", "20000101", modality="US", patient_name="X"))
    assert said("everything") == {}


def sent(style: str) -> DimseRequest:
    """The query that a style puts on the wire; nothing is on the list of the one who answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        received = pool.submit(serve_one, listener)
        manner = STYLES[style].manner
        scanner = Scanner(Address(*listener.getsockname()), calling="CT1", manner=manner)
        assert scanner.find(STYLES[style].keys(WISH)) == []
        return received.result()


def serve_one(listener: socket.socket) -> DimseRequest:
    acceptor, requests = Acceptor(lambda _: None), list[DimseRequest]()
    peer, _ = listener.accept()
    with peer:
        while data := peer.recv(65536):
            for event in acceptor.receive(data):
                peer.sendall(event.reply)
                if isinstance(event, RequestReceived):
                    requests.append(event.request)
                    peer.sendall(acceptor.respond(event.request, Response(SUCCESS)))
    return requests[0]


def test_a_style_without_message_id_sends_none() -> None:
    assert sent("no-message-id").message_id is None
    assert sent("barcode").message_id == 1


def test_a_style_with_private_keys_sends_some_beside_the_others() -> None:
    for style, private in (("private-keys", True), ("present-day", False)):
        request = sent(style)
        identifier = decode(request.dataset or b"", request.transfer_syntax)
        assert identifier.unknown is private
        assert identifier.keys["AccessionNumber"] == "A1"
