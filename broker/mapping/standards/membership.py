"""Where an attribute may stand: the modules of a worklist item, and the items of its sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from broker.worklist.attributes import OWN, ROWS, STEPS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ISSUER: Final = frozenset({"LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType"})
CODE: Final = _words(
    """
    CodeValue CodingSchemeDesignator CodingSchemeVersion CodeMeaning LongCodeValue URNCodeValue
    EquivalentCodeSequence ContextIdentifier ContextUID MappingResource MappingResourceUID
    MappingResourceName ContextGroupVersion ContextGroupExtensionFlag
    ContextGroupLocalVersion ContextGroupExtensionCreatorUID
    """
)
PERSON: Final = _words(
    """
    PersonIdentificationCodeSequence PersonAddress PersonTelephoneNumbers PersonTelecomInformation
    InstitutionName InstitutionAddress InstitutionCodeSequence InstitutionalDepartmentName
    InstitutionalDepartmentTypeCodeSequence
    """
)
REFERENCE: Final = frozenset({"ReferencedSOPClassUID", "ReferencedSOPInstanceUID"})
QUALIFIERS: Final = _words(
    """
    UniversalEntityID UniversalEntityIDType IdentifierTypeCode AssigningFacilitySequence
    AssigningJurisdictionCodeSequence AssigningAgencyOrDepartmentCodeSequence
    """
)
ITEMS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(
        (
            "AssigningFacilitySequence",
            "IssuerOfAccessionNumberSequence",
            "IssuerOfAdmissionIDSequence",
            "IssuerOfServiceEpisodeIDSequence",
            "OrderFillerIdentifierSequence",
            "OrderPlacerIdentifierSequence",
        ),
        ISSUER,
    ),
    **dict.fromkeys(
        (
            "ReferringPhysicianIdentificationSequence",
            "RequestingPhysicianIdentificationSequence",
            "ScheduledPerformingPhysicianIdentificationSequence",
            "ConsultingPhysicianIdentificationSequence",
            "IntendedRecipientsOfResultsIdentificationSequence",
        ),
        PERSON,
    ),
    "IssuerOfPatientIDQualifiersSequence": QUALIFIERS,
    "OtherPatientIDsSequence": _words(
        """
        PatientID TypeOfPatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence
        """
    ),
    "ReferencedStudySequence": REFERENCE,
    "ReferencedPatientSequence": REFERENCE,
    "PertinentDocumentsSequence": REFERENCE
    | {"PurposeOfReferenceCodeSequence", "DocumentTitle", "HL7InstanceIdentifier", "RetrieveURI"},
    "PatientPrimaryLanguageCodeSequence": CODE | {"PatientPrimaryLanguageModifierCodeSequence"},
    "ScheduledProtocolCodeSequence": CODE | {"ProtocolContextSequence"},
}
"""What the items of a sequence hold (PS3.3 8.8, 10.1, 10.14 to 10.16, C.2 to C.4)."""
MODULES: Final = _words(
    """
    AdditionalPatientHistory AdmittingDiagnosesCodeSequence AdmittingDiagnosesDescription
    BreedRegistrationSequence ConfidentialityCode ConsultingPhysicianIdentificationSequence
    ConsultingPhysicianName CountryOfResidence DischargeDiagnosisDescription
    EthnicGroupCodeSequence ExpectedCompletionDateTime HumanPerformerCodeSequence
    IntendedRecipientsOfResultsIdentificationSequence InsurancePlanIdentification
    IssuerOfServiceEpisodeIDSequence MedicalRecordLocator 
    OtherPatientIDs PatientAlternativeCalendar PatientBirthDateInAlternativeCalendar
    PatientBreedCodeSequence PatientBreedDescription PatientClinicalTrialParticipationSequence
    PatientDeathDateInAlternativeCalendar 
    PatientInsurancePlanCodeSequence PatientPrimaryLanguageModifierCodeSequence
    PatientSizeCodeSequence PatientSpeciesCodeSequence PatientSpeciesDescription
    PatientTelecomInformation PlacerOrderNumberProcedure
    FillerOrderNumberProcedure QualityControlSubject
    ReasonForStudy ReasonForVisit ReasonForVisitCodeSequence RegionOfResidence
    ReferencedVisitSequence ReferringPhysicianAddress ReferringPhysicianIdentificationSequence
    ReferringPhysicianTelephoneNumbers RequestingPhysicianIdentificationSequence
    RequestingServiceCodeSequence ResponsibleOrganization
    ScheduledPatientInstitutionResidence ScheduledProcedureStepEndDate
    ScheduledProcedureStepEndTime ScheduledProcedureStepModificationDateTime
    ScheduledSpecimenSequence
    ScheduledPerformingPhysicianIdentificationSequence ServiceEpisodeDescription ServiceEpisodeID
    SpecimenAccessionNumber
    StrainDescription StudyDescription StudyID StudyPriorityID StudyStatusID
    TimezoneOffsetFromUTC VisitStatusID WorklistLabel SpecificCharacterSet
    InstitutionalDepartmentTypeCodeSequence
    """
)
"""Patient, visit, request and step attributes beyond Table K.6-1 (PS3.3 C.2, C.3, C.4.10 to 12)."""


def misplaced(keyword: str, parents: Sequence[str]) -> tuple[str, str, str] | None:
    """Fact, hint and severity when an attribute has no place under these sequences."""
    inside = parents[-1] if parents else ""
    if inside in ("", STEPS):
        return _outside(keyword)
    members = ITEMS.get(inside) or (CODE if inside.endswith("CodeSequence") else None)
    if members is None or keyword in members:
        return None
    shown = ", ".join(sorted(members)[:4])
    more = " …" if len(members) > 4 else ""
    return f"{keyword} has no place in {inside}", f"its items hold {shown}{more}", "error"


def _outside(keyword: str) -> tuple[str, str, str] | None:
    if keyword in ROWS or keyword in OWN or keyword == STEPS:
        return None
    if keyword in MODULES:
        return f"{keyword} is not in Table K.6-1 (PS3.4)", "few scanners will ask for it", "warning"
    fact = f"{keyword} belongs to no worklist item"
    return fact, "a worklist tells of patient, visit, request and step, never of images", "error"
