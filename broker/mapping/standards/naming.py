"""A message as a tree with the names that hl7apy's tables give to its fields and components."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from hl7apy import SUPPORTED_LIBRARIES

from broker.hl7.message import Message, Repetition, Segment
from broker.mapping.standards.dictionaries import VARIES, field_entry

DEFAULT_VERSION: Final = "2.5.1"


@dataclass(frozen=True)
class Named:
    """One valued place: `path` as a mapping says it, its name, its text ('' when it has parts).

    Holds patient data: for the person who asked for the message.
    """

    path: str
    name: str
    text: str = field(repr=False)
    parts: tuple[Named, ...] = field(default=(), repr=False)


def version_for(said: str) -> str:
    """Give the version whose names to use: the one said, else the newest before it, else 2.5.1."""
    if said in SUPPORTED_LIBRARIES:
        return said
    older = [known for known in SUPPORTED_LIBRARIES if _numbers(known) < _numbers(said)]
    return max(older, key=_numbers) if older else DEFAULT_VERSION


def named(message: Message, version: str) -> Iterator[Named]:
    """Give each segment with its valued fields, named as of `version_for`."""
    for segment in message.segments:
        again = f"[{segment.sequence}]" if segment.sequence > 1 else ""
        place = f"{segment.name}{again}"
        yield Named(place, "", "", tuple(_fields(segment, place, version)))


def _fields(segment: Segment, place: str, version: str) -> Iterator[Named]:
    for number in range(1, len(segment.fields())):
        entry = field_entry(version, segment.name, number)
        for repetition in segment.repetitions(number):
            if not repetition.raw:
                continue
            again = f"[{repetition.index}]" if repetition.index > 1 else ""
            path = f"{place}-{number}{again}"
            is_header = segment.name == "MSH" and number <= 2
            yield _field(repetition, path, entry, whole=is_header)


def _field(repetition: Repetition, path: str, entry: Any, *, whole: bool) -> Named:
    name = _name(entry)
    components = repetition.components()
    if whole:
        return Named(path, name, repetition.raw)
    if len(components) == 1 and len(repetition.subcomponents(1)) == 1:
        return Named(path, name, components[0])
    parts = (
        _component(repetition, number, path, _child(entry, number))
        for number, text in enumerate(components, 1)
        if text
    )
    return Named(path, name, "", tuple(parts))


def _component(repetition: Repetition, number: int, path: str, entry: Any) -> Named:
    place, pieces = f"{path}.{number}", repetition.subcomponents(number)
    if len(pieces) == 1:
        return Named(place, _name(entry), pieces[0])
    parts = (
        Named(f"{place}.{at}", _name(_child(entry, at)), piece)
        for at, piece in enumerate(pieces, 1)
        if piece
    )
    return Named(place, _name(entry), "", tuple(parts))


def _child(entry: Any, number: int) -> Any:
    """hl7apy's entry of a part: the part numbers are the positions."""
    if entry is None or entry[2] in VARIES or not entry[1] or number > len(entry[1]):
        return None
    return entry[1][number - 1][1]


def _name(entry: Any) -> str:
    return str(entry[3] or "").replace("_", " ").lower() if entry else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
