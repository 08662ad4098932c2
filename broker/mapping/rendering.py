"""Events to HL7 messages: an outbound mapping names fields and where each comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.datadict import keyword_dict

from broker.hl7.message import NULL
from broker.hl7.writing import Component, Line, write
from broker.mapping.compiling import Compiler
from broker.mapping.dictionaries import path_mistake
from broker.mapping.document import Node
from broker.mapping.evaluation import Closure, Evaluation
from broker.mapping.overlaying import Layered
from broker.mapping.rules import OutboundFile

OUTBOUND_NAMES = frozenset({"now", "today", "control_id"})
FIELD = re.compile(
    r"([A-Z][A-Z0-9]{2}(?:\[[1-9]\d?\])?)-([1-9]\d?)(?:\.([1-9]\d?))?(?:\.([1-9]\d?))?"
)
"""As ORC-5, ORC-2.1 or, of the second OBX, OBX[2]-5."""
KEYWORDS = frozenset(keyword_dict)


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
class Outbound:
    """A compiled mapping of events to messages."""

    name: str
    message: tuple[str, ...]
    version: str
    fields: tuple[Filled, ...]

    def render(self, event: Mapping[str, Any], *, control_id: str, now: datetime) -> str:
        """The HL7 text of an event given by DICOM keyword; the same arguments give the same text.

        MSH-7, 9, 10 and 12 come from here. A segment of which the event says nothing is left out.
        """
        stamp = now.strftime("%Y%m%d%H%M%S")
        evaluation = Evaluation(
            names={"now": stamp, "today": stamp[:8], "control_id": control_id},
            attributes=dict(event),
        )
        segments: dict[str, dict[int, list[Component]]] = {"MSH": {}}
        said = {"MSH"}
        for line in self.fields:
            value = line.constant if line.read is None else line.read(evaluation)
            if not value or value == NULL:
                continue
            if line.read is not None:
                said.add(line.place.segment)
            _put(segments.setdefault(line.place.segment, {}), line.place, value)
        header = {7: [stamp], 9: list(self.message), 10: [control_id], 12: [self.version]}
        segments["MSH"] = {11: ["P"], **segments["MSH"], **header}  # type: ignore[dict-item] # str
        lines: list[Line] = [
            (name[:3], fields) for name, fields in segments.items() if name in said
        ]
        return write(lines)


def _put(fields: dict[int, list[Component]], place: Place, value: Any) -> None:
    components = fields.setdefault(place.field, [])
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
    compiler = Compiler(root, layered.versions, OUTBOUND_NAMES, [*layered.warnings])
    compiler.add_tables(file.tables)
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
            closure, _ = compiler.expression(node.at(["from"]), scope)
            fields.append(Filled(place, closure))
    outbound = Outbound(file.mapping, message, file.version, tuple(fields))
    return outbound, compiler


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
