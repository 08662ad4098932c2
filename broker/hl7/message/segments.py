"""Segments, fields, repetitions, components: split where somebody looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.hl7.message.syntax import Syntax

NULL: Final = (
    '""'  # HL7 null: "erase what you have", as against empty: "unchanged" (HL7 2.5 §2.5.3)
)
REPETITION_LIMIT: Final = 100  # used per field; a peer chooses how many it sends


class Repetition:
    """One repetition of a field; its components are split when first asked for."""

    __slots__ = ("_parts", "_syntax", "index", "raw")

    def __init__(self, raw: str, index: int, syntax: Syntax) -> None:
        """`raw` is as sent (escapes and all), `index` counts from 1."""
        self.raw = raw
        self.index = index
        self._syntax = syntax
        self._parts: list[str] | None = None

    def __repr__(self) -> str:
        """Say where, never what: representations end up in logs."""
        return f"<Repetition {self.index}, {len(self.raw)} characters>"

    def text(self, component: int = 0, subcomponent: int = 0) -> str:
        """Return the unescaped text, '' when absent, NULL for HL7 null; 0 takes the whole."""
        syntax = self._syntax
        part = self.raw
        if component:
            parts = self._parts
            if parts is None:
                parts = self._parts = part.split(syntax.component)
            part = parts[component - 1] if component <= len(parts) else ""
            if subcomponent:
                part = _nth(part, syntax.subcomponent, subcomponent)
        return syntax.unescape(part) if syntax.escape in part else part

    def components(self) -> list[str]:
        """Return the unescaped components, [''] when empty; the list is for reading."""
        syntax = self._syntax
        parts = self._parts
        if parts is None:
            parts = self._parts = self.raw.split(syntax.component)
        return [*map(syntax.unescape, parts)] if syntax.escape in self.raw else parts

    def leading(self) -> list[str]:
        """Return of each component its first subcomponent, unescaped; the list is for reading."""
        syntax = self._syntax
        if syntax.subcomponent not in self.raw:
            return self.components()
        return [
            self.text(place, 1) for place in range(1, len(self.raw.split(syntax.component)) + 1)
        ]

    def subcomponents(self, component: int) -> list[str]:
        """Return the unescaped subcomponents of a component, [''] when empty."""
        syntax = self._syntax
        part = _nth(self.raw, syntax.component, component)
        pieces = part.split(syntax.subcomponent)
        return [*map(syntax.unescape, pieces)] if syntax.escape in part else pieces


def _nth(text: str, separator: str, number: int) -> str:
    parts = text.split(separator, number)
    return parts[number - 1] if number <= len(parts) else ""


class Segment:
    """One segment; its fields are split when first asked for."""

    __slots__ = ("_fields", "_repetitions", "_syntax", "name", "raw", "sequence")

    def __init__(self, raw: str, name: str, sequence: int, syntax: Syntax) -> None:
        """`sequence` is the occurrence of this name in the message, from 1."""
        self.raw = raw
        self.name = name
        self.sequence = sequence
        self._syntax = syntax
        self._fields: list[str] | None = None
        self._repetitions: dict[int, list[Repetition]] = {}

    def __repr__(self) -> str:
        """Say where, never what: representations end up in logs."""
        return f"<Segment {self.name}[{self.sequence}]>"

    def with_fields(self, fields: Sequence[str]) -> Segment:
        """Return a segment in the place of this one, with other fields; at 0 stands the name."""
        return Segment(self._syntax.field.join(fields), self.name, self.sequence, self._syntax)

    def field(self, number: int) -> str:
        """Return the field as sent, '' when absent; MSH-1 is the separator."""
        fields = self._fields or self.fields()
        return fields[number] if 0 < number < len(fields) else ""

    def fields(self) -> list[str]:
        """Return the fields as sent by their numbers; what stands at 0 is the name."""
        if self._fields is None:
            self._fields = self.raw.split(self._syntax.field)
            if self.name == "MSH":
                self._fields.insert(1, self._syntax.field)
        return self._fields

    def repetitions(self, number: int) -> list[Repetition]:
        """Return the repetitions of a field, [] when it is empty or absent; at most 100.

        They are kept: the list is for reading.
        """
        found = self._repetitions.get(number)
        if found is None:
            found = self._repetitions[number] = self._split(number)
        return found

    def _split(self, number: int) -> list[Repetition]:
        fields = self._fields or self.fields()
        field = fields[number] if 0 < number < len(fields) else ""
        if not field:
            return []
        syntax = self._syntax
        separator = syntax.repetition
        if separator not in field or (self.name == "MSH" and number <= 2):
            return [Repetition(field, 1, syntax)]
        parts = field.split(separator, REPETITION_LIMIT)[:REPETITION_LIMIT]
        return [Repetition(part, index, syntax) for index, part in enumerate(parts, 1)]


Named = dict[str, list[Segment]]


def _by_name(segments: Sequence[Segment]) -> Named:
    named: Named = {}
    for segment in segments:
        named.setdefault(segment.name, []).append(segment)
    return named


class Segments:
    """Segments that can be asked for by name: what a Message and a Group have in common."""

    __slots__ = ("named", "segments")

    def __init__(self, segments: Sequence[Segment], named: Named | None = None) -> None:
        """Keep the order as sent; `named` are the same segments by name, when that is known."""
        self.segments = tuple(segments)
        self.named: Named = _by_name(segments) if named is None else named

    def all(self, name: str) -> list[Segment]:
        """Return every segment of that name, as sent."""
        return self.named.get(name, [])

    def first(self, name: str) -> Segment | None:
        """Return the first segment of that name."""
        named = self.named.get(name)
        return named[0] if named else None


class Message(Segments):
    """A whole message."""

    __slots__ = ("codec", "separators")

    def __init__(self, segments: Sequence[Segment], named: Named, syntax: Syntax) -> None:
        """Made by `parse`."""
        super().__init__(segments, named)
        self.separators = syntax.separators
        self.codec = syntax.codec


class Group(Segments):
    """One order: the segments before the first ORC, then its own; `index` counts from 1."""

    __slots__ = ("index",)

    def __init__(self, index: int, segments: Sequence[Segment], named: Named | None = None) -> None:
        """Made by `groups`."""
        super().__init__(segments, named)
        self.index = index
