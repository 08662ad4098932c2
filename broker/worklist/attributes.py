"""Table K.6-1 of PS3.4: what a Modality Worklist item may hold, and where we keep it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from broker.worklist.changes import Attributes

STEPS = "ScheduledProcedureStepSequence"
STATUS = "ScheduledProcedureStepStatus"
START = ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")
START_DATE, START_TIME = START


class Kept(StrEnum):
    """The record that keeps an attribute."""

    PATIENT = "patient"
    ORDER = "order"
    PROCEDURE = "procedure"
    STEP = "step"


class Row(NamedTuple):
    """One row: the type of matching key, and of return key.

    R is required, O optional; an o is optional and not matched here: it is free text, or hardly
    ever known, so that a scanner that fills it from habit would get an empty list. '-' is no key.
    """

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
        PreMedication o 2C
        ScheduledProcedureStepID O 1
        RequestedContrastAgent o 2C
        ScheduledProcedureStepStatus O 3
        CommentsOnTheScheduledProcedureStep o 3
        ReferencedDefinedProtocolSequence o 3
        ReferencedPerformedProtocolSequence o 3
        """,
    ),
    **_rows(
        Kept.PROCEDURE,
        """
        RequestedProcedureID O 1
        RequestedProcedureDescription O 1C
        RequestedProcedureCodeSequence O 1C
        StudyInstanceUID O 1
        StudyDate o 3
        StudyTime o 3
        ReferencedStudySequence o 2
        RequestedProcedurePriority O 2
        PatientTransportArrangements o 2
        ReasonForTheRequestedProcedure o 3
        ReasonForRequestedProcedureCodeSequence o 3
        RequestedProcedureComments o 3
        RequestedProcedureLocation o 3
        NamesOfIntendedRecipientsOfResults o 3
        WorklistLabel O 3
        ScheduledSpecimenSequence o 3
        BarcodeValue O 3
        HL7StructuredDocumentReferenceSequence - 1C
        """,
    ),
    # By K.6-1 these belong to the Imaging Service Request. They are kept with the procedure because
    # each ORC group of one accession has order numbers of its own, and the way back needs them.
    **_rows(
        Kept.PROCEDURE,
        """
        PlacerOrderNumberImagingServiceRequest O 3
        FillerOrderNumberImagingServiceRequest O 3
        OrderPlacerIdentifierSequence o 3
        OrderFillerIdentifierSequence o 3
        """,
    ),
    **_rows(
        Kept.ORDER,
        """
        AccessionNumber O 2
        IssuerOfAccessionNumberSequence O 3
        RequestingPhysician O 2
        RequestingPhysicianIdentificationSequence o 3
        ReferringPhysicianName O 2
        ReferringPhysicianIdentificationSequence o 3
        RequestingService O 3
        ImagingServiceRequestComments o 3
        IssueDateOfImagingServiceRequest o 3
        IssueTimeOfImagingServiceRequest o 3
        OrderEnteredBy o 3
        OrderEntererLocation o 3
        OrderCallbackPhoneNumber o 3
        InstitutionName o 3
        InstitutionAddress o 3
        InstitutionCodeSequence o 3
        InstitutionalDepartmentName o 3
        AdmissionID O 2
        IssuerOfAdmissionIDSequence O 3
        CurrentPatientLocation O 2
        ReferencedPatientSequence o 2
        PatientInstitutionResidence o 3
        VisitComments o 3
        RouteOfAdmissions o 3
        AdmittingDate o 3
        AdmittingTime o 3
        AdmittingDiagnosesDescription o 3
        AdmittingDiagnosesCodeSequence o 3
        PatientState o 2
        PregnancyStatus o 2
        MedicalAlerts o 2
        Allergies o 2
        SpecialNeeds o 2
        LastMenstrualDate o 3
        PertinentDocumentsSequence - 3
        PatientWeight o 2
        PatientSize o 3
        PatientAge o 3
        """,
    ),
    **_rows(
        Kept.PATIENT,
        """
        PatientName R 1
        PatientID R 1
        IssuerOfPatientID O 3
        IssuerOfPatientIDQualifiersSequence o 3
        TypeOfPatientID o 3
        OtherPatientIDsSequence O 3
        OtherPatientNames o 3
        PatientBirthName o 3
        PatientMotherBirthName o 3
        PatientBirthDate O 2
        PatientBirthTime o 3
        PatientSex O 2
        PatientSexNeutered o 3
        PatientAddress o 3
        PatientTelephoneNumbers o 3
        PatientPrimaryLanguageCodeSequence o 3
        PatientReligiousPreference o 3
        EthnicGroup o 3
        Occupation o 3
        CountryOfResidence o 3
        PatientComments o 3
        MilitaryRank o 3
        BranchOfService o 3
        SmokingStatus o 3
        AdditionalPatientHistory o 3
        ResponsiblePerson o 3
        ResponsiblePersonRole o 3
        ConfidentialityConstraintOnPatientDataDescription o 2
        """,
    ),
}

OWN: dict[str, tuple[Kept, str]] = {
    "PlacerAppointmentID": (Kept.PROCEDURE, "LO"),
    "FillerAppointmentID": (Kept.PROCEDURE, "LO"),
    "PriorPatientIDsSequence": (Kept.PATIENT, "SQ"),
    "ReplacedOrdersSequence": (Kept.PROCEDURE, "SQ"),
    "OrderControl": (Kept.PROCEDURE, "CS"),
}
"""Words of HL7 that lead to records and that DICOM has no keyword for; no scanner can ask for them.

SCH-1, SCH-2, MRG-1, ORC-8, ORC-1 of what a RIS is told; with the record that keeps
them and the VR.
"""

_KEEPERS: dict[str, Kept | None] = {keyword: row.kept for keyword, row in ROWS.items()}
_KEEPERS |= {keyword: kept for keyword, (kept, _) in OWN.items()}
_KEEPERS[STEPS] = None  # steps are records of their own

MATCHED = frozenset(keyword for keyword, row in ROWS.items() if row.matching in "RO")
"""Keys that we match; other optional keys are return keys only (PS3.4 K.2.2.1.1.2)."""

TYPE_1 = tuple(keyword for keyword, row in ROWS.items() if row.returned == "1")
"""Return keys that no answer may leave empty."""

RANKED = frozenset(
    {
        "PatientID",
        "IssuerOfPatientID",
        "IssuerOfPatientIDQualifiersSequence",
        "AccessionNumber",
        "IssuerOfAccessionNumberSequence",
        "PlacerOrderNumberImagingServiceRequest",
        "OrderPlacerIdentifierSequence",
        "FillerOrderNumberImagingServiceRequest",
        "OrderFillerIdentifierSequence",
        "PlacerAppointmentID",
        "FillerAppointmentID",
        "RequestedProcedureID",
        "StudyInstanceUID",
        "ScheduledProcedureStepID",
        "AdmissionID",
        "IssuerOfAdmissionIDSequence",
    }
)
"""Identifiers: what a poorer place of a message says never takes the place of a better one.

Of all else (times, modality, descriptions, codes …) the newest word counts wherever it stands.
"""


def part(attributes: Attributes, kept: Kept) -> Attributes:
    """Pick what one record keeps; an attribute outside the table stays with the order."""
    return {keyword: attributes[keyword] for keyword in _kept(kept, tuple(attributes))}


def kept_apart(attributes: Attributes) -> tuple[str, ...]:
    """Name what is said of a request and kept with its steps, or nowhere."""
    return _kept_apart(tuple(attributes))


@lru_cache(maxsize=1024)  # the orders of a hospital say the same things
def _kept(kept: Kept | None, keywords: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in keywords if _KEEPERS.get(each, Kept.ORDER) is kept)


@lru_cache(maxsize=1024)
def _kept_apart(keywords: tuple[str, ...]) -> tuple[str, ...]:
    return (*_kept(None, keywords), *_kept(Kept.STEP, keywords))


def keeper(keyword: str) -> Kept:
    """Name the record that keeps an attribute."""
    return _KEEPERS.get(keyword, Kept.ORDER) or Kept.ORDER


def steps_of(attributes: Attributes) -> Iterator[Attributes]:
    """Give the Scheduled Procedure Step items of a message's attributes."""
    yield from attributes.get(STEPS) or ()
