"""What an MPPS must say and may not say: PS3.4 Table F.7.2-1, asked of N-CREATE, N-SET and end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from broker.worklist.changes import Attributes


class Wrong(StrEnum):
    """What can be wrong with an attribute, in words for logs and Error Comments."""

    INSTANCE = "is no UID"
    FORBIDDEN = "may not be set"
    NOT_CREATED = "was not created"
    MISSING = "is missing"
    EMPTY = "is empty"
    INVALID = "is not valid"
    TOO_LONG = "is too long"


class Fault(NamedTuple):
    """One attribute that the table or its value representation does not allow so; never a value.

    `attribute` is a keyword, behind those of the sequences that it is in.
    """

    attribute: str
    wrong: Wrong

    @property
    def keyword(self) -> str:
        """The attribute without the sequences that it is in."""
        return self.attribute.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.attribute} {self.wrong}"


class Need(NamedTuple):
    """One line of the table: types of an SCU's N-CREATE and N-SET, and of the final state.

    '-' is not allowed, '' is not asked for. `items` are the lines of a sequence's items.
    """

    create: str
    set: str
    final: str = ""
    items: Mapping[str, Need] = {}


_ONCE_1, _ONCE_2, _ONCE_3 = Need("1", "-"), Need("2", "-"), Need("3", "-")
_REFERENCE = {"ReferencedSOPClassUID": Need("1", "1"), "ReferencedSOPInstanceUID": Need("1", "1")}
_CODE = {"CodeMeaning": Need("1", "1")}
_SCHEDULED = {
    "StudyInstanceUID": _ONCE_1,
    "ReferencedStudySequence": Need("2", "-", "", _REFERENCE),
    "AccessionNumber": _ONCE_2,
    "RequestedProcedureID": _ONCE_2,
    "RequestedProcedureDescription": _ONCE_2,
    "ScheduledProcedureStepID": _ONCE_2,
    "ScheduledProcedureStepDescription": _ONCE_2,
    "ScheduledProtocolCodeSequence": Need("2", "-", "", _CODE),
}
_PERFORMED = {
    "PerformingPhysicianName": Need("2", "2"),
    "OperatorsName": Need("2", "2"),
    "SeriesDescription": Need("2", "2"),
    "RetrieveAETitle": Need("2", "2"),
    "ProtocolName": Need("1", "1"),
    "SeriesInstanceUID": Need("1", "1"),
    # The references inside are counted in thousands; what is in them is the archive's business.
    "ReferencedImageSequence": Need("2", "2"),
    "ReferencedNonImageCompositeSOPInstanceSequence": Need("2", "2"),
}
NEEDS: Final[Mapping[str, Need]] = {
    "ScheduledStepAttributesSequence": Need("1", "-", "", _SCHEDULED),
    "PatientName": _ONCE_2,
    "PatientID": _ONCE_2,
    "PatientBirthDate": _ONCE_2,
    "PatientSex": _ONCE_2,
    "ReferencedPatientSequence": _ONCE_2,
    "IssuerOfPatientID": _ONCE_3,
    "IssuerOfPatientIDQualifiersSequence": _ONCE_3,
    "OtherPatientIDsSequence": _ONCE_3,
    "AdmissionID": _ONCE_3,
    "IssuerOfAdmissionIDSequence": _ONCE_3,
    "ServiceEpisodeID": _ONCE_3,
    "ServiceEpisodeDescription": _ONCE_3,
    "IssuerOfServiceEpisodeIDSequence": _ONCE_3,
    "PerformedProcedureStepID": _ONCE_1,
    "PerformedStationAETitle": _ONCE_1,
    "PerformedStationName": _ONCE_2,
    "PerformedLocation": _ONCE_2,
    "PerformedProcedureStepStartDate": _ONCE_1,
    "PerformedProcedureStepStartTime": _ONCE_1,
    "PerformedProcedureStepStatus": Need("1", "3", "1"),
    "PerformedProcedureStepDescription": Need("2", "3"),
    "PerformedProcedureTypeDescription": Need("2", "3"),
    "ProcedureCodeSequence": Need("2", "3", "", _CODE),
    "PerformedProtocolCodeSequence": Need("2", "3", "", _CODE),
    "PerformedProcedureStepEndDate": Need("2", "3", "1"),
    "PerformedProcedureStepEndTime": Need("2", "3", "1"),
    "PerformedProcedureStepDiscontinuationReasonCodeSequence": Need("3", "3", "", _CODE),
    "ReasonForPerformedProcedureCodeSequence": Need("3", "3", "", _CODE),
    "CommentsOnThePerformedProcedureStep": Need("3", "3"),
    "Modality": _ONCE_1,
    "StudyID": _ONCE_2,
    "PerformedSeriesSequence": Need("2", "3", "1", _PERFORMED),
}
"""What is not in it is of type 3 in both."""
_ANY: Final = Need("3", "3")
_CREATED: Final = {keyword: need.create for keyword, need in NEEDS.items() if need.create != "3"}
_SEQUENCES: Final = [keyword for keyword, need in NEEDS.items() if need.items]
_FINAL: Final = [keyword for keyword, need in NEEDS.items() if need.final]


def faults_of_create(said: Attributes) -> Iterator[Fault]:
    """Name what an N-CREATE lacks: attributes of type 1 and 2, values of type 1."""
    for keyword, need in _CREATED.items():
        if not said.get(keyword):
            yield from _lacking(said, keyword, need)
    yield from _of_items(said, "create")


def faults_of_set(stored: Attributes, said: Attributes) -> Iterator[Fault]:
    """Name what an N-SET must not say, and what the items of its sequences lack."""
    for keyword in said:
        if is_fixed(keyword):
            yield Fault(keyword, Wrong.FORBIDDEN)
        elif keyword not in stored:
            yield Fault(keyword, Wrong.NOT_CREATED)
    yield from _of_items({k: v for k, v in said.items() if not is_fixed(k)}, "set")


def faults_of_end(merged: Attributes) -> Iterator[Fault]:
    """Name what a step that ends has never been given a value of."""
    for keyword in _FINAL:
        if not merged.get(keyword):
            yield Fault(keyword, Wrong.EMPTY)


def is_fixed(keyword: str) -> bool:
    """Tell whether an attribute is that of the N-CREATE for good."""
    return NEEDS.get(keyword, _ANY).set == "-"


def ends_with(keyword: str) -> bool:
    """Tell whether an attribute must have a value in the end."""
    return NEEDS.get(keyword, _ANY).final == "1"


def _of_items(said: Attributes, service: str) -> Iterator[Fault]:
    for keyword in _SEQUENCES:
        if keyword in said:
            yield from _of_sequence(said[keyword], keyword, NEEDS[keyword].items, service)


def _of_sequence(
    items: Any, place: str, needs: Mapping[str, Need], service: str
) -> Iterator[Fault]:
    """Each fault once: of a thousand series without a protocol name one is enough."""
    seen: dict[Fault, None] = {}
    for item in items if isinstance(items, list) else ():
        for keyword, need in needs.items():
            where = f"{place}.{keyword}"
            if not item.get(keyword):
                for fault in _lacking(item, keyword, getattr(need, service)):
                    seen[Fault(where, fault.wrong)] = None
            if need.items and keyword in item:
                seen |= dict.fromkeys(_of_sequence(item[keyword], where, need.items, service))
    yield from seen


def _lacking(said: Attributes, keyword: str, need: str) -> Iterator[Fault]:
    if need in ("1", "2") and keyword not in said:
        yield Fault(keyword, Wrong.MISSING)
    elif need == "1" and not said[keyword]:
        yield Fault(keyword, Wrong.EMPTY)
