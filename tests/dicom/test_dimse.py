"""Command sets, judged by pydicom."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom.filereader import read_dataset

from broker.dicom.dimse import Assembler, Cancel, DimseRequest, Response, encode_response
from broker.dicom.pdu import Pdv, data_pdus, data_pdus_of_all
from tests.dicom.requestor import MPPS, WORKLIST, command

SYNTAX = "1.2.840.10008.1.2"
CONTEXTS = {3: (WORKLIST, SYNTAX), 5: (MPPS, SYNTAX)}


def take(context_id: int, **values: Any) -> DimseRequest | Cancel | None:
    assembler = Assembler(CONTEXTS, {"": 1000})
    return assembler.receive(Pdv(context_id, True, True, command(**values)))


def request(**changes: Any) -> DimseRequest:
    values = {
        "kind": "C-FIND",
        "message_id": 7,
        "sop_class": WORKLIST,
        "sop_instance": "",
        "priority": 0,
        "dataset": b"",
        "context_id": 3,
        "transfer_syntax": SYNTAX,
        "abstract_syntax": WORKLIST,
    }
    return DimseRequest(**{**values, **changes})


def response(asked: DimseRequest, answer: Response) -> dict[str, Any]:
    """The command set by keyword, as pydicom reads it; its group length is checked here."""
    data = encode_response(asked, answer)
    elements = read_dataset(BytesIO(data), True, True)
    assert elements[0x00000000].value == len(data) - 12
    return {e.keyword: e.value for e in elements if e.keyword != "CommandGroupLength"}


def test_a_pending_response_says_that_a_data_set_follows() -> None:
    """And which request it answers."""
    assert response(request(), Response(0xFF00, b"")) == {
        "AffectedSOPClassUID": WORKLIST,
        "CommandField": 0x8020,
        "MessageIDBeingRespondedTo": 7,
        "CommandDataSetType": 1,
        "Status": 0xFF00,
    }


def test_a_request_without_message_id_is_answered_as_zero() -> None:
    """Silence would be the alternative."""
    said = response(request(message_id=None), Response(0))
    assert said["MessageIDBeingRespondedTo"] == 0
    assert said["CommandDataSetType"] == 0x0101


def test_a_failure_carries_what_helps_to_find_its_cause() -> None:
    """Error Comment of at most 64 characters, Error ID, tags and the instance (PS3.7 Annex C)."""
    asked = request(kind="N-SET", sop_class=MPPS, sop_instance="1.2.3")
    failure = Response(
        0x0110,
        error_comment="é" + "x" * 100,
        error_id=0xA710,
        offending=(0x00400252,),
        attribute_list=(0x00400252, 0x00400250),
    )
    said = response(asked, failure)
    assert said["CommandField"] == 0x8120
    assert said["AffectedSOPInstanceUID"] == "1.2.3"
    assert said["ErrorComment"] == "?" + "x" * 63
    assert said["ErrorID"] == 0xA710
    assert said["OffendingElement"] == 0x00400252
    assert said["AttributeIdentifierList"] == [0x00400252, 0x00400250]


def test_an_instance_that_we_gave_is_told() -> None:
    """N-CREATE without a SOP Instance UID."""
    asked = request(kind="N-CREATE", sop_class=MPPS)
    assert response(asked, Response(0, sop_instance="1.2.4"))["AffectedSOPInstanceUID"] == "1.2.4"


def test_the_requested_instance_of_an_n_service_is_read() -> None:
    """N-SET and N-GET have their own elements for class and instance."""
    got = take(
        5,
        RequestedSOPClassUID=MPPS,
        CommandField=0x0110,
        MessageID=9,
        CommandDataSetType=0x0101,
        RequestedSOPInstanceUID="1.2.3",
        AttributeIdentifierList=[0x00400252, 0x00400250],
    )
    assert got == request(
        kind="N-GET",
        message_id=9,
        sop_class=MPPS,
        sop_instance="1.2.3",
        dataset=None,
        context_id=5,
        abstract_syntax=MPPS,
        attribute_list=(0x00400252, 0x00400250),
    )


def test_a_missing_class_is_that_of_its_context() -> None:
    """Nothing else can be meant."""
    got = take(3, CommandField=0x0020, MessageID=1, CommandDataSetType=0x0101)
    assert isinstance(got, DimseRequest)
    assert got.sop_class == WORKLIST


@pytest.mark.parametrize(("field", "waits"), [(0x0020, True), (0x0030, False)])
def test_a_missing_data_set_type_is_what_is_usual(field: int, waits: bool) -> None:
    """A C-FIND has an identifier, a C-ECHO has nothing."""
    assert (take(3, CommandField=field, MessageID=1) is None) == waits


def test_a_cancel_is_no_request() -> None:
    """It names the message that is meant."""
    got = take(3, CommandField=0x0FFF, MessageIDBeingRespondedTo=4, CommandDataSetType=0x0101)
    assert got == Cancel(4)


@pytest.mark.parametrize("max_pdu", [0, 20, 64, 65_536])
def test_responses_that_go_out_together_are_what_each_would_be(max_pdu: int) -> None:
    datasets = [b"", b"ab", b"x" * 100, b"y" * 70_000]
    together = data_pdus_of_all(3, b"command!" * 10, datasets, max_pdu)
    assert together == b"".join(data_pdus(3, b"command!" * 10, d, max_pdu) for d in datasets)
