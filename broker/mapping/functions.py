"""The functions of mapping expressions: one table, each with one line and a tested example."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.hl7.message import NULL, Repetition
from broker.mapping.evaluation import Evaluation, Value
from broker.mapping.names import (
    CLINICIAN,
    NESTED_CLINICIAN,
    PERSON,
    clinician_name,
    clinician_parts,
    nested_clinician_name,
    person_name,
    person_parts,
)
from broker.mapping.timestamps import date_of, time_of, to_zone
from broker.worklist.changes import FILLS_GAPS

UNIVERSAL_TYPES = {"DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500"}
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
CODE_VALUE_LENGTH = 16  # SH; what is longer is a Long Code Value (PS3.3 table 8.8-1)


@dataclass(frozen=True)
class Table:
    """A lookup table: rows by key, and what a miss gives ('' is absent, None no default)."""

    name: str
    rows: dict[str, str]
    default: str | None = None
    folded: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """A function of the expression language.

    `takes` is what it is given: 'text' (each text of the value), 'field' (whole repetitions with
    their components), 'value' (everything, absent values too). `types` are the HL7 data types that
    it understands, none for any.
    """

    name: str
    call: Callable[..., Value]
    takes: str
    summary: str
    example: str
    arguments: tuple[int, int] = (0, 0)
    types: frozenset[str] = frozenset()
    names_table: bool = False
    numbers: bool = False


def lookup(evaluation: Evaluation, text: str, table: Table, *default: str) -> str:
    """The table's value; a miss gives the default, with its rank, or nothing and a warning."""
    found = table.rows.get(text)
    if found is None:
        found = table.folded.get(text.strip().upper())
    if found is not None:
        return found
    fallback = default[0] if default else table.default
    if fallback is None:
        evaluation.warn(f"is not in table '{table.name}'")
        return ""
    evaluation.rank = FILLS_GAPS
    return fallback


def date(evaluation: Evaluation, text: str) -> str:
    """A complete and possible day as YYYYMMDD; everything else is absent: no day is invented."""
    day = date_of(text)
    if not day:
        evaluation.warn("is not a complete date")
    return day


def time(evaluation: Evaluation, text: str, *unknown: str) -> str:
    moment = time_of(text)
    if moment or not unknown or not date_of(text):
        return moment
    evaluation.rank = FILLS_GAPS
    return unknown[0]


def local(evaluation: Evaluation, text: str) -> str:
    moved = to_zone(text, evaluation.message_zone, evaluation.site_zone)
    if not moved:
        evaluation.warn("is not a date and time")
    return moved


def code(evaluation: Evaluation, repetitions: Sequence[Repetition], *scheme: str) -> Value:
    return _codes(evaluation, repetitions, (1, 2, 3), scheme)


def alternate_code(
    evaluation: Evaluation, repetitions: Sequence[Repetition], *scheme: str
) -> Value:
    return _codes(evaluation, repetitions, (4, 5, 6), scheme)


def _codes(
    evaluation: Evaluation,
    repetitions: Sequence[Repetition],
    places: tuple[int, int, int],
    scheme: tuple[str, ...],
) -> list[dict[str, Any]]:
    items = []
    for repetition in repetitions:
        components = [*repetition.components(), "", "", "", "", "", ""]
        value, meaning, designator = (_said(components[place - 1]) for place in places)
        if not value:
            continue  # a text without a code is a description, never a code item
        item = {"CodeValue" if len(value) <= CODE_VALUE_LENGTH else "LongCodeValue": value}
        designator = designator or (scheme[0] if scheme else "")
        if designator:
            item["CodingSchemeDesignator"] = designator
        elif len(value) <= CODE_VALUE_LENGTH:
            evaluation.warn("has a code without a coding scheme")
            continue
        items.append(item | {"CodeMeaning": meaning or value})
    return items


def issuer(_: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    repetition = repetitions[0]
    components = [*repetition.components(), "", "", "", ""]
    return _issuer(*(_said(component) for component in components[1:4]))


def authority(_: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    repetition = repetitions[0]
    parts = [*repetition.subcomponents(4), "", "", ""]
    return _issuer(*(_said(part) for part in parts[:3]))


def qualifiers(_: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    repetition = repetitions[0]
    items = _issuer("", *(_said(repetition.text(4, part)) for part in (2, 3)))
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
    return "" if text == NULL else text.strip()


def part(_: Evaluation, repetitions: Sequence[Repetition], component: str, *sub: str) -> Value:
    texts = (
        repetition.text(int(component), int(sub[0]) if sub else 0) for repetition in repetitions
    )
    return [text for text in texts if text]


def uid(evaluation: Evaluation, text: str) -> str:
    text = text.strip()
    if len(text) <= 64 and UID.fullmatch(text):
        return text
    evaluation.warn("is not a valid UID")
    return ""


def derived(evaluation: Evaluation, text: str, prefix: str = "") -> str:
    """Sixteen characters at most, the same for the same issuer and text for ever."""
    digest = hashlib.sha256(f"{evaluation.issuer}\x1f{text}".encode()).hexdigest().upper()
    evaluation.rank = FILLS_GAPS
    return (prefix + digest)[:16]


def default(evaluation: Evaluation, value: Value, text: str) -> Value:
    if value:
        return value
    evaluation.rank = FILLS_GAPS
    return text


def join(_: Evaluation, repetitions: Sequence[Repetition], separator: str = " ") -> str:
    """Of components with subcomponents the first: in addresses and locations what people say."""
    repetition = repetitions[0]
    places = range(1, len(repetition.components()) + 1)
    parts = (_said(repetition.text(place, 1)) for place in places)
    return separator.join(text for text in parts if text)


def digits(_: Evaluation, text: str) -> str:
    return re.sub(r"\D", "", text)


def replace(_: Evaluation, text: str, old: str, new: str) -> str:
    return text.replace(old, new)


def left(_: Evaluation, text: str, length: str) -> str:
    return text[: int(length)]


def right(_: Evaluation, text: str, length: str) -> str:
    return text[-int(length) :]


def first(_: Evaluation, value: Value) -> Value:
    return value[0] if isinstance(value, list) and value else value


def _text(
    name: str,
    call: Callable[..., Value],
    summary: str,
    example: str,
    arguments: tuple[int, int] = (0, 0),
    *,
    names_table: bool = False,
    numbers: bool = False,
) -> Function:
    kind = frozenset[str]()
    return Function(name, call, "text", summary, example, arguments, kind, names_table, numbers)


def _field(
    name: str,
    call: Callable[..., Value],
    summary: str,
    types: frozenset[str] = frozenset(),
    arguments: tuple[int, int] = (0, 0),
    *,
    numbers: bool = False,
) -> Function:
    return Function(name, call, "field", summary, "", arguments, types, numbers=numbers)


def _value(
    name: str, call: Callable[..., Value], summary: str, example: str, count: int = 0
) -> Function:
    return Function(name, call, "value", summary, example, (count, count))


CODED = frozenset({"CE", "CWE", "CNE", "CM", "CM_SPD"})
LIST = (
    _text("trim", lambda _, text: text.strip(), "Without spaces around it.", "' a ' | trim → a"),
    _text("upper", lambda _, text: text.upper(), "In capitals.", "'ct' | upper → CT"),
    _text("lower", lambda _, text: text.lower(), "In small letters.", "'CT' | lower → ct"),
    _text("left", left, "The first n characters.", "'abc' | left(2) → ab", (1, 1), numbers=True),
    _text("right", right, "The last n characters.", "'abc' | right(2) → bc", (1, 1), numbers=True),
    _text(
        "replace",
        replace,
        "Every occurrence of one text by another.",
        "'a/b' | replace('/', '-') → a-b",
        (2, 2),
    ),
    _text("digits", digits, "Only the digits.", "'0316-42' | digits → 031642"),
    _value(
        "default", default, "This text for nothing; it only fills gaps.", "'' | default(X) → X", 1
    ),
    _value("first", first, "The first of several values.", "'a' | first → a"),
    _text(
        "lookup",
        lookup,
        "The row of a table; a second argument replaces the table's default.",
        "'W' | lookup(sex) → F",
        (1, 2),
        names_table=True,
    ),
    _text(
        "date",
        date,
        "The day of a time stamp; an incomplete one is absent.",
        "'202603160930' | date → 20260316",
    ),
    _text(
        "time",
        time,
        "The time of a time stamp; the argument stands for a day without a time.",
        "'202603160930' | time → 093000",
        (0, 1),
    ),
    _text(
        "local",
        local,
        "A time stamp with an offset as the site's own time.",
        "'20260317084500+0100' | local → 20260317084500",
    ),
    _text("uid", uid, "A valid UID, or absent.", "'1.2.840.1' | uid → 1.2.840.1"),
    _text(
        "derived",
        derived,
        "A stable identifier of 16 characters from issuer and text; the argument is its prefix.",
        "'P1' | derived(G) → G",
        (0, 1),
    ),
    _field(
        "person", person_name, "XPN to PN; I and P repetitions become groups of their own.", PERSON
    ),
    _field("clinician", clinician_name, "XCN (id^family^given…) to PN.", CLINICIAN),
    _field(
        "nested_clinician",
        nested_clinician_name,
        "NDL-1 (id&family&given…) to PN.",
        NESTED_CLINICIAN,
    ),
    _field(
        "code",
        code,
        "CE/CWE 1-3 to code items; the argument is the scheme where none is said.",
        CODED,
        (0, 1),
    ),
    _field("alternate_code", alternate_code, "CE/CWE 4-6 to code items.", CODED, (0, 1)),
    _field("issuer", issuer, "EI 2-4 to an issuer item.", frozenset({"EI"})),
    _field("authority", authority, "CX-4 to an issuer item.", frozenset({"CX"})),
    _field(
        "qualifiers",
        qualifiers,
        "CX-4 and CX-5 to an Issuer of Patient ID Qualifiers item.",
        frozenset({"CX"}),
    ),
    _field(
        "part",
        part,
        "A component (and subcomponent) of the repetitions chosen.",
        frozenset(),
        (1, 2),
        numbers=True,
    ),
    _field(
        "join",
        join,
        "All components that are there, the argument between them.",
        frozenset(),
        (0, 1),
    ),
    _text("xpn", person_parts, "PN to XPN, for messages that go out.", ""),
    _text("xcn", clinician_parts, "PN to XCN, for messages that go out.", ""),
)
TABLE: dict[str, Function] = {function.name: function for function in LIST}
