"""What a VR does not allow is named, as pydicom would; never the value."""

from __future__ import annotations

import pytest
from pydicom.valuerep import VALIDATORS

from broker.dicom.wellformed import FORMS, Odd, is_uid, odd_values

VALUES = (
    *("20260316", "20261316", "2026.03.16", "2026", "093512", "0935", "09", "093512.1234567"),
    *("246060", "CT", "ct", "IN PROGRESS", "IN_PROGRESS", "A-B", "1.2.3", "1.02.3", "1.2.", "0.1"),
    *("-5", "+5", "5.5", "1e3", ".5", "five", "045Y", "45Y", "CT 1", "ü"),
)


@pytest.mark.parametrize("vr", sorted(FORMS))
@pytest.mark.parametrize("value", VALUES)
def test_every_form_is_that_of_pydicom(vr: str, value: str) -> None:
    allowed, _ = VALIDATORS[vr](vr, value)
    assert bool(FORMS[vr].fullmatch(value)) == allowed


def test_what_is_wrong_is_named_with_its_place_and_whether_it_is_too_long() -> None:
    said = {
        "PatientName": "A" * 64 + "=" + "B" * 65,
        "StudyID": "x" * 17,
        "Modality": "ct",
        "PatientSex": "",
        "PerformedProcedureStepStartDate": "20260316",
        "PerformedProcedureStepStartTime": "09:35",
        "PatientAge": "045Y",
        "PatientWeight": "70.5",
        "SeriesNumber": "1",
        "PerformedStationAETitle": "CT1",
        "CommentsOnThePerformedProcedureStep": "x" * 1025,
        "PerformedSeriesSequence": [{"SeriesInstanceUID": "1.2."}, {"ProtocolName": "Kopf"}],
        "ReferencedImageSequence": [{"ReferencedSOPInstanceUID": "x"}],
    }
    assert list(odd_values(said, {"ReferencedImageSequence"})) == [
        Odd("PatientName", True),
        Odd("StudyID", True),
        Odd("Modality", False),
        Odd("PerformedProcedureStepStartTime", False),
        Odd("CommentsOnThePerformedProcedureStep", True),
        Odd("PerformedSeriesSequence.SeriesInstanceUID", False),
    ]


def test_a_uid_has_at_most_64_characters_and_no_leading_zeros() -> None:
    assert [is_uid(text) for text in ("1.2", "1." + "2" * 62)] == [True, True]
    assert not any(is_uid(text) for text in ("", "1." + "2" * 63, "1.02", "1..2", "a"))
