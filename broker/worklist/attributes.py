"""Table K.6-1 of PS3.4: what a Modality Worklist item may hold, and where we keep it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from broker.worklist.changes import Attributes

STEPS = "ScheduledProcedureStepSequence"


class Kept(StrEnum):
    """The record that keeps an attribute."""

    PATIENT = "patient"
    ORDER = "order"
    PROCEDURE = "procedure"
    STEP = "step"


class Row(NamedTuple):
    """One row: matching R(equired), O(ptional) or '-', and the return key type."""

    kept: Kept
    matching: str
    returned: str


def _rows(kept: Kept, table: str) -> dict[str, Row]:
    rows = (line.split() for line in table.strip().splitlines())
    return {keyword: Row(kept, matching, returned) for keyword, matching, returned in rows}


ROWS: dict[str, Row] = {
    **_rows(
        Kept.STEP,
        """
        ScheduledStationAETitle R 1
        ScheduledProcedureStepStartDate R 1
        ScheduledProcedureStepStartTime R 1
        Modality R 1
        ScheduledPerformingPhysicianName R 2
        ScheduledProcedureStepDescription O 1C
        ScheduledProtocolCodeSequence O 1C
        ScheduledStationName O 2
        ScheduledProcedureStepLocation O 2
        PreMedication O 2C
        ScheduledProcedureStepID O 1
        RequestedContrastAgent O 2C
        ScheduledProcedureStepStatus O 3
        CommentsOnTheScheduledProcedureStep O 3
        """,
    ),
    **_rows(
        Kept.PROCEDURE,
        """
        RequestedProcedureID O 1
        RequestedProcedureDescription O 1C
        RequestedProcedureCodeSequence O 1C
        StudyInstanceUID O 1
        StudyDate O 3
        StudyTime O 3
        ReferencedStudySequence O 2
        RequestedProcedurePriority O 2
        PatientTransportArrangements O 2
        ReasonForTheRequestedProcedure O 3
        ReasonForRequestedProcedureCodeSequence O 3
        RequestedProcedureComments O 3
        RequestedProcedureLocation O 3
        NamesOfIntendedRecipientsOfResults O 3
        """,
    ),
    # By K.6-1 these belong to the Imaging Service Request. They are kept with the procedure because
    # each ORC group of one accession has order numbers of its own, and the way back needs them.
    **_rows(
        Kept.PROCEDURE,
        """
        PlacerOrderNumberImagingServiceRequest O 3
        FillerOrderNumberImagingServiceRequest O 3
        OrderPlacerIdentifierSequence O 3
        OrderFillerIdentifierSequence O 3
        """,
    ),
    **_rows(
        Kept.ORDER,
        """
        AccessionNumber O 2
        IssuerOfAccessionNumberSequence O 3
        RequestingPhysician O 2
        RequestingPhysicianIdentificationSequence O 3
        ReferringPhysicianName O 2
        ReferringPhysicianIdentificationSequence O 3
        RequestingService O 3
        ImagingServiceRequestComments O 3
        IssueDateOfImagingServiceRequest O 3
        IssueTimeOfImagingServiceRequest O 3
        OrderEnteredBy O 3
        OrderEntererLocation O 3
        OrderCallbackPhoneNumber O 3
        InstitutionName O 3
        InstitutionAddress O 3
        InstitutionCodeSequence O 3
        InstitutionalDepartmentName O 3
        AdmissionID O 2
        IssuerOfAdmissionIDSequence O 3
        CurrentPatientLocation O 2
        ReferencedPatientSequence O 2
        PatientInstitutionResidence O 3
        VisitComments O 3
        RouteOfAdmissions O 3
        AdmittingDate O 3
        AdmittingTime O 3
        AdmittingDiagnosesDescription O 3
        AdmittingDiagnosesCodeSequence O 3
        PatientState O 2
        PregnancyStatus O 2
        MedicalAlerts O 2
        Allergies O 2
        SpecialNeeds O 2
        LastMenstrualDate O 3
        PertinentDocumentsSequence - 3
        PatientWeight O 2
        PatientSize O 3
        PatientAge O 3
        """,
    ),
    **_rows(
        Kept.PATIENT,
        """
        PatientName R 1
        PatientID R 1
        IssuerOfPatientID O 3
        IssuerOfPatientIDQualifiersSequence O 3
        TypeOfPatientID O 3
        OtherPatientIDsSequence O 3
        OtherPatientNames O 3
        PatientBirthName O 3
        PatientMotherBirthName O 3
        PatientBirthDate O 2
        PatientBirthTime O 3
        PatientSex O 2
        PatientSexNeutered O 3
        PatientAddress O 3
        PatientTelephoneNumbers O 3
        PatientPrimaryLanguageCodeSequence O 3
        PatientReligiousPreference O 3
        EthnicGroup O 3
        Occupation O 3
        CountryOfResidence O 3
        PatientComments O 3
        MilitaryRank O 3
        BranchOfService O 3
        SmokingStatus O 3
        AdditionalPatientHistory O 3
        ResponsiblePerson O 3
        ResponsiblePersonRole O 3
        ConfidentialityConstraintOnPatientDataDescription O 2
        """,
    ),
}

MATCHED = frozenset(keyword for keyword, row in ROWS.items() if row.matching == "R") | {
    "AccessionNumber",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "RequestedProcedureID",
    "ScheduledProcedureStepID",
    "ScheduledProcedureStepStatus",
}
"""Keys that we match; other optional keys are return keys only (PS3.4 K.2.2.1.1.2)."""


def part(attributes: Attributes, kept: Kept) -> Attributes:
    """Pick what one record keeps; an attribute outside the table stays with the order."""
    return {
        keyword: value
        for keyword, value in attributes.items()
        if keyword != STEPS and keeper(keyword) is kept
    }


def keeper(keyword: str) -> Kept:
    """Name the record that keeps an attribute."""
    row = ROWS.get(keyword)
    return row.kept if row else Kept.ORDER


def steps_of(attributes: Attributes) -> Iterator[Attributes]:
    """Give the Scheduled Procedure Step items of a message's attributes."""
    yield from attributes.get(STEPS) or ()
