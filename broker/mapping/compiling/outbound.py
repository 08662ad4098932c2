"""Events to HL7 messages: an outbound mapping names fields and where each comes from."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from pydicom.datadict import keyword_dict

from broker.hl7.labels import UNTRANSPORTABLE, chosen, codec_of
from broker.hl7.message import NULL
from broker.hl7.writing import Component, FieldValue, Line, Repeated, write, written
from broker.mapping.compiling.compiler import Compiler
from broker.mapping.compiling.tabulating import add_tables
from broker.mapping.files.overlaying import Layered
from broker.mapping.files.rules import OutboundFile
from broker.mapping.language.syntax import Name
from broker.mapping.standards.dictionaries import path_mistake
from broker.mapping.text.nodes import Node
from broker.mapping.values.evaluation import Closure, Evaluation, Value, one

OUTBOUND_NAMES = frozenset({"now", "today", "control_id"})
FIELD = re.compile(
    r"([A-Z][A-Z0-9]{2}(?:\[[1-9]\d?\])?)-([1-9]\d?)(?:\.([1-9]\d?))?(?:\.([1-9]\d?))?"
)
"""As ORC-5, ORC-2.1 or, of the second OBX, OBX[2]-5."""
KEYWORDS = frozenset(keyword_dict) | {
    "OrderControl",
    "NumberOfPerformedSeries",
    "NumberOfPerformedInstances",
    "PerformedProcedureStepSOPInstanceUID",
    "PerformedProtocolCodeValues",
}
"""Those of DICOM, and ours for what DICOM has no word for."""


@dataclass(frozen=True, slots=True)
class Place:
    """A field of the message: numbers count from 1, 0 means the whole; segment is OBX or OBX[2]."""

    segment: str
    field: int
    component: int = 0
    subcomponent: int = 0


@dataclass(frozen=True, slots=True)
class Filled:
    """One line of an outbound mapping."""

    place: Place
    read: Closure | None
    constant: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment: the lines of each field that an event has a say in, `constant` the other fields.

    These are two thirds of a status message, and written once for all.
    """

    segment: str
    lines: tuple[Filled, ...]
    constant: Mapping[int, FieldValue]

    def of(self, evaluation: Evaluation) -> dict[int, FieldValue]:
        """Give the fields, {} where the event says nothing of the segment."""
        fields: dict[int, list[Component] | Repeated] = {}
        said = False
        for line in self.lines:
            value = line.constant if line.read is None else line.read(evaluation)
            if value and value != NULL:
                said = said or line.read is not None
                _put(fields, line.place, value)
        return {**self.constant, **fields} if said or self.segment == "MSH" else {}


@dataclass(frozen=True, slots=True)
class Outbound:
    """A compiled mapping of events to messages."""

    name: str
    message: tuple[str, ...]
    version: str
    fields: tuple[Filled, ...]
    parts: tuple[Part, ...]
    codec: str
    """The character set of its MSH-18."""

    @property
    def signature(self) -> tuple[str, str, str]:
        """Give MSH-3, MSH-4 and type of every message, '' for what differs from one to another."""
        return self._constant(3), self._constant(4), "^".join(self.message[:2])

    def encoded(self, text: str) -> bytes:
        """Write a message in its character set; what that lacks in plain letters."""
        try:
            return text.encode(self.codec)
        except UnicodeEncodeError:
            return "".join(_letter(each, self.codec) for each in text).encode(self.codec)

    def _constant(self, field: int) -> str:
        return _constant(self.fields, field)

    def render(
        self,
        event: Mapping[str, Any],
        *,
        control_id: str,
        now: datetime,
        sent: datetime | None = None,
    ) -> str:
        """The HL7 text of an event given by DICOM keyword; the same arguments give the same text.

        MSH-7, 9, 10 and 12 come from here. A segment of which the event says nothing is left out.
        `sent` is for MSH-7 where that is later than what is told of.
        """
        stamp = now.strftime("%Y%m%d%H%M%S")
        evaluation = Evaluation(
            names={"now": stamp, "today": stamp[:8], "control_id": control_id},
            attributes=dict(event),
        )
        segments = {part.segment: part.of(evaluation) for part in self.parts}
        moment = sent.strftime("%Y%m%d%H%M%S") if sent else stamp
        header = {7: [moment], 9: list(self.message), 10: [control_id], 12: [self.version]}
        segments["MSH"] = {11: ["P"], **segments["MSH"], **header}  # type: ignore[dict-item] # str
        return write(list(_numbered((name, f) for name, f in segments.items() if f)))


def _constant(lines: Iterable[Filled], field: int) -> str:
    """Give what every message says in a field of MSH."""
    place = Place("MSH", field)
    return next((each.constant for each in lines if each.place == place), "")


def _parts(lines: Iterable[Filled]) -> Iterator[Part]:
    """Sort the lines by segment, MSH first, and write the fields that no event has a say in."""
    sorted_: dict[str, dict[int, list[Filled]]] = {"MSH": {}}
    for line in lines:
        fields = sorted_.setdefault(line.place.segment, {})
        fields.setdefault(line.place.field, []).append(line)
    for segment, fields in sorted_.items():
        constant: dict[int, list[Component] | Repeated] = {}
        for line in chain(*fields.values()):
            fixed = all(each.read is None for each in fields[line.place.field])
            if fixed and line.constant and line.constant != NULL:
                _put(constant, line.place, line.constant)
        reading = (f for f in fields.values() if any(each.read for each in f))
        once = {number: written(value) for number, value in constant.items()}
        yield Part(segment, tuple(chain(*reading)), once)


def _numbered(lines: Iterable[tuple[str, Mapping[int, FieldValue]]]) -> Iterator[Line]:
    """Count segments that come several times and have a set ID: some may have been left out."""
    counts = Counter[str]()
    for name, fields in lines:
        kind, repeats, _ = name.partition("[")
        counts[kind] += 1
        if repeats and written(fields.get(1, "")).isdigit():
            fields = {**fields, 1: [str(counts[kind])]}
        yield kind, fields


def _letter(letter: str, codec: str) -> str:
    """Give a letter that a character set has, in the place of one that it lacks."""
    plainer: list[str] = list(unicodedata.normalize("NFKD", letter))
    for each in [letter, *plainer]:
        with suppress(UnicodeEncodeError):
            each.encode(codec)
            return each
    return "?"


def _put(fields: dict[int, list[Component] | Repeated], place: Place, value: Any) -> None:
    if isinstance(value, Repeated):
        if not (place.component or place.subcomponent):
            fields[place.field] = value
            return
        value = one(list(value))
    components = fields.setdefault(place.field, [])
    if isinstance(components, Repeated):
        return
    if not place.component:
        components[:] = [str(each) for each in value] if isinstance(value, list) else [str(value)]
        return
    text = str(value[0] if isinstance(value, list) else value)
    components.extend([""] * (place.component - len(components)))
    if not place.subcomponent:
        components[place.component - 1] = text
        return
    held = components[place.component - 1]
    parts = held if isinstance(held, list) else [held]
    parts.extend([""] * (place.subcomponent - len(parts)))
    parts[place.subcomponent - 1] = text
    components[place.component - 1] = parts


def compile_outbound(file: OutboundFile, layered: Layered) -> tuple[Outbound, Compiler]:
    """The mapping, and the compiler with its complaints; useless when there are any."""
    root = layered.root
    compiler = Compiler(root, layered.versions, OUTBOUND_NAMES, [*layered.complaints])
    add_tables(compiler, file.tables)
    message = tuple(file.message.split("^"))
    if not (all(message) and len(message) in (2, 3)):
        hint = "as ORM^O01, from 2.5 on with its structure as OMI^O23^OMI_O23"
        complaint = root.at(["message"]).complaint("is not a message type", hint)
        compiler.complaints.append(complaint)
    fields = []
    scope = compiler.scope(KEYWORDS)
    for key, rule in file.fields.items():
        place = _place(compiler, root.at(["fields"]), key)
        node = root.at(["fields", key])
        if (rule.from_ is None) == (rule.const is None):
            compiler.complaints.append(node.complaint("needs one source: 'from' or 'const'"))
        elif rule.from_ is None:
            fields.append(Filled(place, None, rule.const or ""))
        else:
            closure, tree = compiler.expression(node.at(["from"]), scope)
            fields.append(Filled(place, _repeating(closure) if isinstance(tree, Name) else closure))
    for line in fields:
        if line.place == Place("MSH", 18):
            _judge_charset(compiler, root.at(["fields", "MSH-18"]), line.constant)
    codecs = map(codec_of, _constant(fields, 18).split("~"))
    codec = chosen(filter(None, codecs)) or "utf-8"
    parts = tuple(_parts(fields))
    outbound = Outbound(file.mapping, message, file.version, tuple(fields), parts, codec)
    return outbound, compiler


def _repeating(closure: Closure) -> Closure:
    """Give the values of one attribute, where it has several, as the repetitions of a field."""

    def read(evaluation: Evaluation) -> Value:
        value = closure(evaluation)
        return Repeated(value) if isinstance(value, list) else value

    return read


def _judge_charset(compiler: Compiler, node: Node, said: str) -> None:
    for label in filter(None, said.split("~")):
        if codec_of(label) in (None, UNTRANSPORTABLE):
            hint = "one of table 0211, as UNICODE UTF-8 or 8859/1"
            compiler.complaints.append(
                node.complaint(f"'{label}' is no character set to send", hint)
            )


def _place(compiler: Compiler, fields: Node, key: str) -> Place:
    match = FIELD.fullmatch(key)
    if match is None:
        hint = "write segment-field, as ORC-5, ORC-2.1 or OBX[2]-5"
        compiler.complaints.append(fields.key_complaint(key, f"'{key}' is not a field", hint))
        return Place("ZZZ", 1)
    segment, *numbers = match.groups()
    field, component, subcomponent = (int(number or 0) for number in numbers)
    version = compiler.versions_of[fields.key_source(key).name]
    wrong = path_mistake(version, segment[:3], field, component, subcomponent)
    if wrong:
        compiler.complaints.append(fields.key_complaint(key, *wrong))
    return Place(segment, field, component, subcomponent)
