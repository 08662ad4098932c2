"""What hl7apy lets pass: segments that no version has, dates and numbers that are none."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

from hl7apy import load_library

from broker.hl7.message import NULL, Message, Segment
from broker.hl7.refusal import Location, Refusal

VERSIONS: Final = frozenset(
    (
        *("2.0", "2.0D", "2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6"),
        *("2.7", "2.7.1", "2.8", "2.8.1", "2.8.2", "2.9", "2.9.1"),
    )
)
"""HL7 table 0104."""
_CLOCK: Final = r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,4})?)?)?"
_ZONE: Final = r"([+-]\d{4})?"
_STAMP: Final = re.compile(rf"\d{{4}}((0[1-9]|1[0-2])([0-3]\d({_CLOCK})?)?)?{_ZONE}", re.ASCII)
FORMATS: Final[dict[str, tuple[re.Pattern[str], str]]] = {
    "TS": (_STAMP, "a time stamp YYYY[MM[DD[HHMM[SS]]]]"),
    "DTM": (_STAMP, "a time stamp YYYY[MM[DD[HHMM[SS]]]]"),
    "DT": (re.compile(r"\d{4}((0[1-9]|1[0-2])([0-3]\d)?)?", re.ASCII), "a date YYYY[MM[DD]]"),
    "TM": (re.compile(_CLOCK + _ZONE, re.ASCII), "a time HHMM[SS]"),
    "NM": (re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII), "a number"),
    "SI": (re.compile(r"\d{1,4}", re.ASCII), "a whole number"),
}
NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
REMEDY: Final = "mend the message, or set 'validate: lenient' for this source"


def refuse_unknown_version(message: Message) -> None:
    """Refuse a version that HL7 never had. Raises Refusal AR 203."""
    header = message.first("MSH")
    version = header.repetitions(12)[0].text(1).strip() if header and header.field(12) else ""
    if version not in VERSIONS:
        raise Refusal(
            "is no version of HL7",
            code="203",
            location=Location("MSH", 1, 12),
            remedy=REMEDY,
        )


def ill_formed(message: Message, version: str) -> Iterator[Refusal]:
    """Give each segment that the version lacks, and each field that its data type cannot hold.

    Raises UnsupportedVersion where hl7apy does not know the version.
    """
    library = load_library(version)
    for number, segment in enumerate(message.segments, 1):
        if segment.name not in library.SEGMENTS and not segment.name.startswith("Z"):
            known = NAME.fullmatch(segment.name)  # what is no name may be a patient's
            place = Location(segment.name, segment.sequence) if known else None
            fact = f"segment {number} of the message is none of HL7 {version}"
            yield Refusal(fact, code="100", location=place, remedy=REMEDY)
        else:
            yield from _ill_formed_fields(segment, library)


def _ill_formed_fields(segment: Segment, library: ModuleType) -> Iterator[Refusal]:
    fields: Any = library.FIELDS
    for number in range(1, len(segment.fields())):
        kind = fields.get(f"{segment.name}_{number}", ("", "", ""))[2]
        if kind not in FORMATS or (segment.name == "MSH" and number <= 2):
            continue
        pattern, wanted = FORMATS[kind]
        for repetition in segment.repetitions(number):
            text = repetition.text(1).strip()
            if text and text != NULL and not (pattern.fullmatch(text) and _is_a_day(kind, text)):
                place = Location(segment.name, segment.sequence, number)
                yield Refusal(f"is not {wanted}", code="102", location=place, remedy=REMEDY)
                break


def _is_a_day(kind: str, text: str) -> bool:
    if kind not in ("TS", "DTM", "DT") or not text[:8].isdigit() or len(text) < 8:
        return True
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    return year > 0 and 1 <= day <= monthrange(year, month)[1]
