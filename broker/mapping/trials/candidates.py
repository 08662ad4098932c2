"""Where in a sample message an attribute may stand, by what it looks like: the likeliest first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broker.hl7.message import NULL, Message, Segment
from broker.mapping.trials.sketching import Sketch

# Where senders put them, and how likely; Z segments may hold anything.
NUMBERS = {
    **{"IPC-1": 4, "OBR-18": 3, "OBR-19": 3, "OBR-20": 3, "OBR-17": 2, "OBR-3": 1, "ORC-3": 1},
    **{"OBR-21": 1, "OBR-2": 0, "ORC-2": 0},
}
STATIONS = {"IPC-9": 4, "OBR-21": 3, "OBR-19": 2, "OBR-20": 2, "OBR-18": 2}
CODES = ("IPC", "OBR")
PLANNED = ("TQ1", "ORC", "OBR", "IPC", "PV1")
NOT_PLANNED = ("ORC-9", "ORC-15", "OBR-6", "OBR-22")
"""When the order was written, takes effect, was asked for, was reported on."""
SECTIONS = ("RAD", "IMG", "OTH")
"""Of HL7 table 0074: whose work it is, and not with which device."""
IN_Z = 2
LIKELY = 3
"""From here on a candidate is offered as a line; below, a person must choose."""

NUMBER = re.compile(r"(?=(.*\d){4})(?![\d.]*\.[\d.]*\.)[A-Za-z0-9./_-]{4,64}")  # no UID
NAMED_ACCESSION = re.compile(r"(?i)acc")
NAMED_NUMBER = re.compile(r"(?i)acc(n|no|ession)?[-_./]?\d[A-Za-z0-9./_-]{0,60}")
TITLE = re.compile(r"(?=.*[A-Z])(?=.*[\d_]|[A-Z]{4,})(?!(.*\d){4})[A-Z0-9_-]{3,16}")  # AE
STAMP = re.compile(r"(19|20)\d{6}(\d{4,6})?.*")
FIRST_WORD = re.compile(r"([A-Za-z]{2,})(?=[\s-])")  # of a text, not of a number
SHORT = 16


@dataclass(frozen=True)
class Candidate:
    """An expression that may give what is looked for, the field it reads, and what stands there."""

    path: str
    text: str
    likely: int = 0
    expression: str = ""

    @property
    def line(self) -> str:
        """What stands behind the keyword."""
        return self.expression or self.path


def numbers(sketch: Sketch, message: Message) -> list[Candidate]:
    """Texts that look like accession numbers, the likeliest first."""
    others = map(sketch.traced, ("PatientID", "AdmissionID"))
    taken = {each.value for each in others if each}
    found = []
    for each in (*_at(message, NUMBERS), *_in_z_segments(message)):
        if STAMP.fullmatch(each.text) or each.text in taken:
            continue
        if not (NUMBER.fullmatch(each.text) or NAMED_NUMBER.fullmatch(each.text)):
            continue
        if each.path.startswith("OBR-17") and not re.search("[A-Za-z]", each.text):
            continue  # by the standard a telephone number
        likely = each.likely + 2 * bool(NAMED_ACCESSION.match(each.text))
        likely += each.likely == IN_Z  # four digits at least, in a segment of the sender's own
        long = f"{{from: {each.path}, too_long: surrogate}}" if len(each.text) > SHORT else ""
        found.append(Candidate(each.path, _shape(each.text), likely, long))
    return sorted(found, key=lambda each: -each.likely)


def titles(sketch: Sketch, message: Message) -> list[Candidate]:
    """Texts that look like AE titles or rooms, the likeliest first."""
    said = {key.upper() for key in sketch.tables.get("modality", {})}
    found = [
        Candidate(each.path, _shape(each.text), each.likely + 1)
        for each in (*_at(message, STATIONS), *_in_z_segments(message))
        if TITLE.fullmatch(each.text)
        and not NAMED_NUMBER.fullmatch(each.text)
        and each.text.upper() not in said
    ]
    return sorted(found, key=lambda each: -each.likely)


def modalities(sketch: Sketch, message: Message) -> list[Candidate]:
    """Texts that the base's table of modalities has, or whose first word it has."""
    rows = {key.upper(): value for key, value in sketch.tables.get("modality", {}).items()}
    segments = [each for name in CODES for each in message.all(name)[:1]]
    found = []
    for each in (*(at for segment in segments for at in _in(segment)), *_in_z_segments(message)):
        word = FIRST_WORD.match(each.text)
        if rows.get(each.text.upper()):
            call, likely, shown = " | lookup(modality)", LIKELY + 1, each.text
        elif word and rows.get(word[0].upper()):
            call = " | extract('^[A-Za-z]+') | lookup(modality)"
            # A description may begin with any word: only a field of the sender's own is likely.
            likely = LIKELY if each.path.startswith("Z") else LIKELY - 1
            shown = f"begins with {word[0]}"
        else:
            continue
        found.append(Candidate(each.path, shown, likely, f"{each.path}{call}"))
    return sorted(found, key=lambda each: -each.likely)


def stamps(message: Message) -> list[Candidate]:
    """Days and times that an exam may be planned for, the most exact first."""
    segments = [each for name in PLANNED for each in message.all(name)[:1]]
    found = [
        Candidate(each.path, _shape(each.text), LIKELY - 1)
        for each in (*(at for segment in segments for at in _in(segment)), *_in_z_segments(message))
        if STAMP.fullmatch(each.text) and each.path not in NOT_PLANNED
    ]
    return sorted(found, key=lambda each: -len(each.text))


def unknown_code(sketch: Sketch, message: Message) -> Candidate | None:
    """A code where the modality is looked for that no row has; a section as RAD is none."""
    rows = {key.upper() for key in sketch.tables.get("modality", {})}
    said = (each for each in _at(message, {"IPC-5": 0, "OBR-24": 0}))
    code = next((each for each in said if each.text.upper() not in {*rows, *SECTIONS}), None)
    return code if code and len(code.text) <= SHORT else None


def _at(message: Message, places: Mapping[str, int]) -> Iterator[Candidate]:
    for place, likely in places.items():
        name, _, number = place.partition("-")
        text = text_of(message.first(name), int(number), 1)
        if text:
            whole = text_of(message.first(name), int(number), 2) == ""
            yield Candidate(place if whole else f"{place}.1", text, likely)


def _in_z_segments(message: Message) -> Iterator[Candidate]:
    for name in dict.fromkeys(segment.name for segment in message.segments):
        if name.startswith("Z") and name.isalnum() and len(name) == 3:
            yield from _in(message.all(name)[0])


def _in(segment: Segment) -> Iterator[Candidate]:
    """Every component of a segment's first repetitions."""
    separator = segment.raw[len(segment.name) : len(segment.name) + 1] or "|"
    number = 0
    while number < segment.raw.count(separator) + 1:
        number += 1
        for repetition in segment.repetitions(number)[:1]:
            components = repetition.components()
            for place, text in enumerate(components, 1):
                path = f"{segment.name}-{number}"
                named = path if len(components) == 1 else f"{path}.{place}"
                yield Candidate(named, text.strip(), IN_Z)


def text_of(segment: Segment | None, field: int, component: int) -> str:
    repetitions = segment.repetitions(field) if segment is not None else []
    text = repetitions[0].text(component, 1).strip() if repetitions else ""
    return "" if text == NULL else text


def _shape(text: str) -> str:
    """What a text looks like without saying it: letters A, digits 9."""
    return re.sub(r"\d", "9", re.sub(r"[^\W\d_]", "A", text))
