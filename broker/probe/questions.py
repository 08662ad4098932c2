"""What the pretend scanner asks of a worklist and says of a performed step, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydicom.uid import generate_uid

from broker.probe.datasets import Attributes

STEP = "ScheduledProcedureStepSequence"
_CODE = {"CodeValue": "", "CodingSchemeDesignator": "", "CodeMeaning": ""}
_REFERENCE = {"ReferencedSOPClassUID": "", "ReferencedSOPInstanceUID": ""}

# What a present-day scanner asks to have back; every entry an empty (universal) key.
RETURN_KEYS: Attributes = {
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "PatientName": "",
    "PatientID": "",
    "IssuerOfPatientID": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "PatientWeight": "",
    "MedicalAlerts": "",
    "Allergies": "",
    "PregnancyStatus": "",
    "StudyInstanceUID": "",
    "RequestingPhysician": "",
    "RequestedProcedureDescription": "",
    "RequestedProcedureCodeSequence": [_CODE],
    "ReferencedStudySequence": [_REFERENCE],
    "AdmissionID": "",
    "CurrentPatientLocation": "",
    "RequestedProcedureID": "",
    "RequestedProcedurePriority": "",
    "PatientTransportArrangements": "",
    "PlacerOrderNumberImagingServiceRequest": "",
    "FillerOrderNumberImagingServiceRequest": "",
    STEP: [
        {
            "Modality": "",
            "ScheduledStationAETitle": "",
            "ScheduledProcedureStepStartDate": "",
            "ScheduledProcedureStepStartTime": "",
            "ScheduledPerformingPhysicianName": "",
            "ScheduledProcedureStepDescription": "",
            "ScheduledProtocolCodeSequence": [_CODE],
            "ScheduledProcedureStepID": "",
            "ScheduledStationName": "",
            "ScheduledProcedureStepLocation": "",
            "ScheduledProcedureStepStatus": "",
        }
    ],
}


def worklist_keys(
    *,
    modality: str = "",
    date: str = "",
    patient_id: str = "",
    patient_name: str = "",
    accession: str = "",
    station_ae: str = "",
    return_keys: Attributes = RETURN_KEYS,
) -> Attributes:
    """A worklist identifier: the return keys with the given ones as matching keys.

    `date` is a DA or a DA range (20260316-20260318).
    """
    keys = dict(return_keys)
    step = dict(keys.get(STEP, [{}])[0])
    wanted = {"PatientID": patient_id, "PatientName": patient_name, "AccessionNumber": accession}
    wanted_step = {
        "Modality": modality,
        "ScheduledProcedureStepStartDate": date,
        "ScheduledStationAETitle": station_ae,
    }
    keys.update({keyword: text for keyword, text in wanted.items() if text})
    step.update({keyword: text for keyword, text in wanted_step.items() if text})
    keys[STEP] = [step]
    return keys


def started_step(item: Attributes, *, station_ae: str, now: datetime) -> Attributes:
    """The N-CREATE attributes for one worklist item (PS3.4 Table F.7.2-1), type 2 empty."""
    step: Attributes = (item.get(STEP) or [{}])[0]
    copied = {keyword: item.get(keyword, "") for keyword in _FROM_ITEM}
    scheduled = {keyword: item.get(keyword, "") for keyword in _REQUEST}
    scheduled |= {keyword: step.get(keyword, "") for keyword in _SCHEDULED}
    scheduled["ScheduledProtocolCodeSequence"] = step.get("ScheduledProtocolCodeSequence", [])
    scheduled["ReferencedStudySequence"] = item.get("ReferencedStudySequence", [])
    return {
        **copied,
        "ScheduledStepAttributesSequence": [scheduled],
        "ReferencedPatientSequence": [],
        "PerformedProcedureStepID": step.get("ScheduledProcedureStepID", "") or "PPS1",
        "PerformedStationAETitle": station_ae,
        "PerformedStationName": step.get("ScheduledStationName", ""),
        "PerformedLocation": step.get("ScheduledProcedureStepLocation", ""),
        "PerformedProcedureStepStartDate": f"{now:%Y%m%d}",
        "PerformedProcedureStepStartTime": f"{now:%H%M%S}",
        "PerformedProcedureStepEndDate": "",
        "PerformedProcedureStepEndTime": "",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepDescription": step.get("ScheduledProcedureStepDescription", ""),
        "PerformedProcedureTypeDescription": "",
        "PerformedProcedureStepDiscontinuationReasonCodeSequence": [],
        "ProcedureCodeSequence": item.get("RequestedProcedureCodeSequence", []),
        "PerformedProtocolCodeSequence": step.get("ScheduledProtocolCodeSequence", []),
        "PerformedSeriesSequence": [],
        "Modality": step.get("Modality", "") or "OT",
        "StudyID": item.get("RequestedProcedureID", ""),
    }


_FROM_ITEM = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_REQUEST = (
    "StudyInstanceUID",
    "AccessionNumber",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
)
_SCHEDULED = ("ScheduledProcedureStepID", "ScheduledProcedureStepDescription")


def ended_step(status: str, *, uid: str, now: datetime) -> Attributes:
    """The N-SET attributes that end a step; the final state demands a series, even an empty one."""
    series = {
        "PerformingPhysicianName": "",
        "OperatorsName": "PROBE^OPERATOR",
        "SeriesDescription": "",
        "RetrieveAETitle": "",
        "ProtocolName": "PROBE",
        "SeriesInstanceUID": str(generate_uid(entropy_srcs=[uid, "series"])),
        "ReferencedImageSequence": [],
        "ReferencedNonImageCompositeSOPInstanceSequence": [],
    }
    return {
        "PerformedProcedureStepStatus": status,
        "PerformedProcedureStepEndDate": f"{now:%Y%m%d}",
        "PerformedProcedureStepEndTime": f"{now:%H%M%S}",
        "PerformedSeriesSequence": [series],
    }


def discontinued_step(*, uid: str, now: datetime, reason: str) -> Attributes:
    """The N-SET attributes that end a step early; `reason` is a DCM code of CID 9300."""
    meaning = _REASONS.get(reason, "Discontinued")
    code = {"CodeValue": reason, "CodingSchemeDesignator": "DCM", "CodeMeaning": meaning}
    return {
        **ended_step("DISCONTINUED", uid=uid, now=now),
        "PerformedProcedureStepDiscontinuationReasonCodeSequence": [code],
    }


_REASONS: Mapping[str, str] = {
    "110500": "Doctor canceled procedure",
    "110501": "Equipment failure",
    "110505": "Patient refused to continue procedure",
    "110513": "Discontinued for unspecified reason",
    "110514": "Incorrect worklist entry selected",
}
