"""HL7 types with components to DICOM: codes, issuers, addresses, telephone numbers, parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.hl7.message import NULL, Repetition
from broker.mapping.values.evaluation import Evaluation, Value

NO_PARTS = ("",) * 6
UNIVERSAL_TYPES = {"DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500"}
CODE_VALUE_LENGTH = 16  # SH; what is longer is a Long Code Value (PS3.3 table 8.8-1)
CODED = frozenset({"CE", "CWE", "CNE", "CM", "CM_SPD", "IS", "ID", "ST"})


ICD_10, ICD_9 = "I10", "I9"
SCHEMES = {
    **dict.fromkeys(("ICD10", "ICD-10", "I10G", "ICD10GM", "ICD-10-GM", "ICD10WHO"), ICD_10),
    **dict.fromkeys(("ICD9", "ICD-9"), ICD_9),
    **dict.fromkeys(("ICD10CM", "ICD-10-CM", "I10CM"), "I10C"),
    **dict.fromkeys(("ICD9CM", "ICD-9-CM", "I9CM"), "I9C"),
    **dict.fromkeys(("ICD10PCS", "ICD-10-PCS"), "I10P"),
    **dict.fromkeys(("SNOMED", "SNOMEDCT", "SNOMED-CT"), "SCT"),
    "LOINC": "LN",
}
"""Coding systems as senders write them, and their designators in DICOM (PS3.16 section 8)."""


def scheme(_: Evaluation, text: str) -> str:
    return SCHEMES.get(text.strip().upper(), text.strip())


def code(evaluation: Evaluation, repetitions: Sequence[Repetition], *unsaid: str) -> Value:
    return _codes(evaluation, repetitions, (1, 2, 3), unsaid)


def alternate_code(
    evaluation: Evaluation, repetitions: Sequence[Repetition], *unsaid: str
) -> Value:
    return _codes(evaluation, repetitions, (4, 5, 6), unsaid)


def _codes(
    evaluation: Evaluation,
    repetitions: Sequence[Repetition],
    places: tuple[int, int, int],
    unsaid: tuple[str, ...],
) -> list[dict[str, Any]]:
    items = []
    for repetition in repetitions:
        components = [*repetition.components(), "", "", "", "", "", ""]
        value, meaning, designator = (_said(components[place - 1]) for place in places)
        if not value:
            continue  # a text without a code is a description, never a code item
        item = {"CodeValue" if len(value) <= CODE_VALUE_LENGTH else "LongCodeValue": value}
        designator = scheme(evaluation, designator) or (unsaid[0] if unsaid else "")
        if designator:
            item["CodingSchemeDesignator"] = designator
        elif len(value) <= CODE_VALUE_LENGTH:
            evaluation.warn("has a code without a coding scheme")
            continue
        items.append(item | {"CodeMeaning": meaning or value})
    return items


def issuer(_: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    components = repetitions[0].components()
    if len(components) == 1:  # nearly every number of a hospital
        return []
    namespace, universal, kind = [*components, "", "", ""][1:4]
    return _issuer(_said(namespace), _said(universal), _said(kind))


def authority(_: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    namespace, universal, kind = [*repetitions[0].subcomponents(4), "", ""][:3]
    return _issuer(_said(namespace), _said(universal), _said(kind))


def qualifiers(_: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    repetition = repetitions[0]
    items = _issuer("", _said(repetition.text(4, 2)), _said(repetition.text(4, 3)))
    identifier_type = _said(repetition.text(5))
    if items and identifier_type:
        items[0]["IdentifierTypeCode"] = identifier_type
    return items


def _issuer(namespace: str, universal: str, kind: str) -> list[dict[str, Any]]:
    """One item of the HL7v2 Hierarchic Designator macro, or none."""
    item: dict[str, Any] = {}
    if namespace:
        item["LocalNamespaceEntityID"] = namespace
    if universal and kind.upper() in UNIVERSAL_TYPES:
        item["UniversalEntityID"] = universal
        item["UniversalEntityIDType"] = kind.upper()
    return [item] if item else []


def _said(text: str) -> str:
    return text.strip() if text and text != NULL else ""


def part(
    _: Evaluation, repetitions: Sequence[Repetition], component: int, subcomponent: int = 0
) -> Value:
    if len(repetitions) == 1:  # nearly always
        only = repetitions[0].text(component, subcomponent)
        return [only] if only else []
    texts = [repetition.text(component, subcomponent) for repetition in repetitions]
    return [text for text in texts if text]


def address(_: Evaluation, repetitions: Sequence[Repetition]) -> str:
    """Street, other designation, postal code and town, state, country: as an envelope has them."""
    components = [*repetitions[0].leading(), *NO_PARTS]
    street, other, town, state, postcode, country = components[:6]
    parts = (street, other, postcode, town, state, country)
    return " ".join([text for text in map(_said, parts) if text])


def phone(_: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    """XTN-1 as it is dialled, else country, area and number, else what has no format (XTN-12)."""
    return [number for number in map(_number, repetitions) if number]


def _number(repetition: Repetition) -> str:
    said = repetition.components()
    if dialled := _said(said[0]):
        return dialled
    components = [_said(text) for text in said] + [""] * 12
    pieces = " ".join(part for part in components[4:7] if part)
    return pieces or components[11]


def either(_: Evaluation, repetitions: Sequence[Repetition], *components: int) -> Value:
    """Of each repetition the first of these components that says something."""
    texts = (
        next((text for text in (_said(each.text(n, 1)) for n in components) if text), "")
        for each in repetitions
    )
    return [text for text in texts if text]


def join(_: Evaluation, repetitions: Sequence[Repetition], separator: str = " ") -> str:
    """Of components with subcomponents the first: in addresses and locations what people say."""
    repetition = repetitions[0]
    texts = repetition.components()
    if "&" in repetition.raw or "\\" in repetition.raw:
        texts = [repetition.text(place, 1) for place in range(1, len(texts) + 1)]
    return separator.join([text for text in map(_said, texts) if text])
