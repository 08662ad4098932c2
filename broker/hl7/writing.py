"""Segments out of plain values: escaped, trimmed, CR at the end of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from broker.hl7.header import STANDARD, Separators

Component: TypeAlias = str | list[str]  # a list holds subcomponents


class Repeated(tuple["str | list[Component]", ...]):
    """The repetitions of one field."""

    __slots__ = ()


class Verbatim(str):
    """Text that is HL7 already (echoed or escaped before) and is written as it is."""

    __slots__ = ()


FieldValue: TypeAlias = "str | list[Component] | Repeated"  # a list holds components
Line: TypeAlias = tuple[str, Mapping[int, FieldValue]]

_SPECIAL: Final = re.compile(r"[\x00-\x1f\x7f|^~\\&]")
"""What stands in no field as it is, with the usual separators."""
_CONTROL: Final = re.compile(r"\r\n|[\x00-\x1f\x7f]")


def write(lines: Sequence[Line], separators: Separators = STANDARD) -> str:
    """Return the message text; MSH-1 and MSH-2 are added, empty ends are trimmed.

    Raises ValueError when the first line is not MSH: that is our own bug.
    """
    if not lines or lines[0][0] != "MSH":
        raise ValueError("a message starts with MSH")
    return "".join(_segment(name, fields, separators) + "\r" for name, fields in lines)


def written(value: FieldValue, separators: Separators = STANDARD) -> Verbatim:
    """Return one field as it stands in a message, for many messages that say the same there."""
    return value if isinstance(value, Verbatim) else Verbatim(_field(value, separators))


def escape(text: str, separators: Separators = STANDARD) -> str:
    """Return text that means the same inside a field.

    Line ends become \\.br\\, other control characters \\Xdd\\: they would end segments or blocks.
    """
    if isinstance(text, Verbatim) or text.isalnum() or not text:
        return text
    if separators is STANDARD and not _SPECIAL.search(text):
        return text
    mark = separators.escape
    text = text.replace(mark, f"{mark}E{mark}")  # first, since the others bring it in
    for letter, separator in (
        ("F", separators.field),
        ("S", separators.component),
        ("R", separators.repetition),
        ("T", separators.subcomponent),
    ):
        if separator in text:
            text = text.replace(separator, f"{mark}{letter}{mark}")
    return _CONTROL.sub(lambda match: f"{mark}{_control(match[0])}{mark}", text)


def _control(character: str) -> str:
    return ".br" if character in ("\r\n", "\n", "\r") else f"X{ord(character):02X}"


def _segment(name: str, fields: Mapping[int, FieldValue], separators: Separators) -> str:
    parts = [name]
    first, place = 1, 1
    if name == "MSH":  # MSH-1 is a separator, MSH-2 names the others
        parts = [name, separators.encoding]
        first, place = 3, 2
    said = {number: value for number, value in fields.items() if value and number >= first}
    parts += [""] * (max(said, default=0) + 1 - first)
    for number, value in said.items():
        if isinstance(value, Verbatim):  # nearly always
            parts[number - first + place] = value
        else:
            parts[number - first + place] = _field(value, separators)
    return _trimmed(parts, separators.field)


def _field(value: FieldValue, separators: Separators) -> str:
    if isinstance(value, Repeated):
        return _trimmed([_repetition(one, separators) for one in value], separators.repetition)
    return _repetition(value, separators)


def _repetition(value: str | list[Component], separators: Separators) -> str:
    if isinstance(value, str):
        return escape(value, separators)
    parts = [
        escape(one, separators) if isinstance(one, str) else _component(one, separators)
        for one in value
    ]
    return parts[0] if len(parts) == 1 else _trimmed(parts, separators.component)


def _component(value: list[str], separators: Separators) -> str:
    return _trimmed([escape(one, separators) for one in value], separators.subcomponent)


def _trimmed(parts: list[str], separator: str) -> str:
    while parts and not parts[-1]:
        parts.pop()
    return separator.join(parts)
