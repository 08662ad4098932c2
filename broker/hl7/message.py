"""A decoded message: segments, fields, repetitions, components, split where somebody looks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from broker.hl7.header import STANDARD, Separators, read_separators, trim_start
from broker.hl7.refusal import Location, NotHL7, Refusal

NULL: Final = (
    '""'  # HL7 null: "erase what you have", as against empty: "unchanged" (HL7 2.5 §2.5.3)
)
SEGMENT_LIMIT: Final = 5_000
FIELD_LIMIT: Final = 2_000  # of one segment; no table of HL7 has 100
ORDER_LIMIT: Final = 500  # of one message, or patients: others wait while it is worked on
SHARED_LIMIT: Final = 20_000  # orders times the segments that all of them share
ESCAPE_LIMIT: Final = 10_000  # read in one field; whatever follows is longer than any attribute
BATCH_LIMIT: Final = 5_000  # messages of one block, all answered in one go
REPETITION_LIMIT: Final = 100  # used per field; a peer chooses how many it sends

_BLANK: Final = " \t\n\x0b\x0c\x00\ufeff"
_BEGINNING: Final = 8
"""Characters that say how a message is delimited: MSH, MSH-1 and the four of MSH-2."""
_TAIL: Final = "\n\x0c\x00\x1c"
_BATCH_SEGMENT: Final = re.compile(rb"(?:FHS|BHS|BTS|FTS)\W")


class Syntax:
    """The delimiters of one message and the way back from its escapes."""

    __slots__ = (
        "codec",
        "component",
        "escape",
        "field",
        "repetition",
        "separators",
        "subcomponent",
    )

    def __init__(self, separators: Separators, codec: str) -> None:
        """`codec` is the Python name of the character set that \\Xdd..\\ bytes are in."""
        self.separators = separators
        self.codec = codec
        self.field = separators.field
        self.component = separators.component
        self.repetition = separators.repetition
        self.escape = separators.escape
        self.subcomponent = separators.subcomponent

    def unescape(self, text: str) -> str:
        """Return the text that was meant; what is no escape (`C:\\x`) stays as it is."""
        if self.escape not in text:
            return text
        return _escapes(self.escape).sub(self._meant, text, count=ESCAPE_LIMIT)

    def _meant(self, match: re.Match[str]) -> str:
        body = match.group(0)[1:-1]
        kind = body[0]
        if kind == "X":
            return self._hexadecimal(body)
        if kind == ".":
            return _formatting(body)
        return {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent,
            "R": self.repetition,
            "E": self.escape,
        }.get(body, "")  # H, N, C.., M..: highlighting and shifts mean nothing in an attribute

    def _hexadecimal(self, body: str) -> str:
        # neighbours are one run of bytes: \XC3\\XBC\ is one UTF-8 character
        sent = bytes.fromhex(body.replace("X", "").replace(self.escape, ""))
        for codec in (self.codec, "windows-1252"):
            try:
                return sent.decode(codec)
            except UnicodeDecodeError:
                continue
        return sent.decode("latin-1")


@lru_cache(maxsize=32)
def _escapes(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    hexadecimal = f"(?:{e}X(?:[0-9A-Fa-f]{{2}})+{e})+"
    formatting = rf"{e}\.[a-z]{{2}}\s?[+-]?\d{{0,3}}{e}"
    shift = f"{e}(?:C[0-9A-F]{{4}}|M[0-9A-F]{{4}}(?:[0-9A-F]{{2}})?){e}"
    return re.compile(f"{hexadecimal}|{e}[FSTREHN]{e}|{formatting}|{shift}")


def _formatting(body: str) -> str:
    # FT commands, HL7 v2 ch. 2: only those that separate text leave a trace
    return {".br": "\n", ".sp": "\n", ".ce": "\n", ".sk": " "}.get(body[:3], "")


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


ORDER_NUMBERS: Final = (2, 3)
"""Of ORC and of OBR alike: placer and filler order number."""


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


def parse(text: str, codec: str = "utf-8") -> Message:
    """Split decoded text into segments.

    Raises NotHL7 without MSH, Refusal beyond 5,000 segments or 2,000 fields of one, and for a
    fragment (MSH-14, DSC-1).
    """
    text = text.lstrip(_BLANK + "\r")
    if text[:3].upper() != "MSH" or len(text) < 4 or text[3].isalnum() or text[3].isspace():
        raise NotHL7("message does not start with MSH and a field separator")
    syntax = _syntax(text[:_BEGINNING], codec)
    field = syntax.field
    named: Named = {}
    segments: list[Segment] = []
    for line in _lines(text, field):
        name = line[: line.find(field)] if field in line else line
        if not (len(name) == 3 and name.isalnum() and name.isupper()):
            name = name.strip().upper()
        same = named.get(name)
        if same is None:
            same = named[name] = []
        if len(line) > FIELD_LIMIT and line.count(field) > FIELD_LIMIT:
            raise _too_many("fields", FIELD_LIMIT, Location(name[:3], len(same) + 1))
        segment = Segment(line, name, len(same) + 1, syntax)
        same.append(segment)
        segments.append(segment)
    message = Message(segments, named, syntax)
    _refuse_fragment(message)
    return message


@lru_cache(maxsize=64)
def _syntax(beginning: str, codec: str) -> Syntax:
    separators = read_separators(beginning)
    return Syntax(STANDARD if separators == STANDARD else separators, codec)


def _lines(text: str, field: str) -> list[str]:
    if "\n" in text:
        text = _with_carriage_returns(text, field)
    if text.count("\r") > SEGMENT_LIMIT * 2:  # blank lines do not count, but neither are they free
        raise _too_many("segments", SEGMENT_LIMIT)
    stripped = [line.lstrip(_BLANK).rstrip(_TAIL) for line in text.split("\r")]
    lines = [line for line in stripped if line]
    if len(lines) > SEGMENT_LIMIT:
        raise _too_many("segments", SEGMENT_LIMIT)
    return lines


def _with_carriage_returns(text: str, field: str) -> str:
    """Turn line feeds that end segments into CR: all, or beside CRs those before a segment name."""
    if "\r" not in text:
        return text.replace("\n", "\r")
    return re.sub(rf"\r?\n(?=[A-Z][A-Z0-9]{{2}}{re.escape(field)})", "\r", text)


def _too_many(what: str, limit: int, location: Location | None = None) -> Refusal:
    return Refusal(
        f"more than {limit} {what}", code="100", location=location, remedy="split the message"
    )


def _refuse_fragment(message: Message) -> None:
    # a fragment taken for a whole order would be half an order; IHE forbids continuation here
    for name, number in (("MSH", 14), ("DSC", 1), ("ADD", 0)):
        segment = message.first(name)
        if segment is not None and (not number or segment.field(number) not in ("", NULL)):
            raise Refusal(
                "continuation of a message in parts is not supported",
                code="200",
                location=Location(name, segment.sequence, number),
                remedy="send the whole message at once",
            )


def groups(message: Message) -> list[Group]:
    """Return the orders of a message: each ORC up to the next.

    A further OBR under one ORC is an order of its own that shares that ORC; without any ORC each
    OBR starts an order. Z segments at the very end belong to all orders that lack that name.
    Raises Refusal AE 100 for a second patient or more than 500 orders, AE 102 or 205 for IPC that
    do not fit together.
    """
    _refuse_second_patient(message)
    named = message.named
    if _several(named, "ORC") or _several(named, "OBR") or _several(named, "IPC"):
        return _parted(message)
    alone = "ORC" in named or "OBR" in named  # nearly every message has one order
    return [Group(1, message.segments, named)] if alone else []


def _several(named: Named, name: str) -> bool:
    return len(named.get(name, ())) > 1


def _parted(message: Message) -> list[Group]:
    header, orders = _orders(message.segments)
    _refuse_too_many("orders", "ORC" if "ORC" in message.named else "OBR", header, len(orders))
    for own in orders:
        _refuse_discord([segment for segment in own if segment.name == "IPC"])
    closing = _closing(message.segments) if len(orders) > 1 else []
    return [
        Group(index, [*header, *own, *_inherited(own, closing)])
        for index, own in enumerate(orders, 1)
    ]


def _refuse_too_many(what: str, starter: str, shared: Sequence[Segment], count: int) -> None:
    if count > ORDER_LIMIT:
        raise _too_many(what, ORDER_LIMIT, Location(starter, ORDER_LIMIT + 1))
    if count * len(shared) > SHARED_LIMIT:
        most = SHARED_LIMIT // count
        raise _too_many(f"segments before {count} {what}", most, Location(starter))


def by_patient(message: Message) -> list[Group]:
    """Return the patients of a message: the segments before the first PID, then each PID's own.

    A40 repeats PID and MRG; what stands behind the pair (PV1) is of that patient. Raises Refusal AE
    100 for more than 500 patients.
    """
    header: list[Segment] = []
    patients: list[list[Segment]] = []
    for segment in message.segments:
        if segment.name == "PID":
            patients.append([])
        (patients[-1] if patients else header).append(segment)
    _refuse_too_many("patients", "PID", header, len(patients))
    return [Group(index, [*header, *own]) for index, own in enumerate(patients, 1)]


def _refuse_second_patient(message: Message) -> None:
    # an order message has one patient group; the second one's orders would go to the first one
    patients = message.all("PID")
    if len(patients) < 2:
        return
    patients = [pid for pid in patients if pid.field(3)]
    for other in patients[1:]:
        if other.field(3) != patients[0].field(3):
            raise Refusal(
                "a second patient in one order message",
                code="100",
                location=Location("PID", other.sequence, 3),
                remedy="send one message for each patient",
            )


def _refuse_discord(steps: Sequence[Segment]) -> None:
    # the IPC of one order are steps of one requested procedure and study (IHE RAD-4)
    for step in steps[1:]:
        for number in (1, 2, 3):
            if _identifier(step, number) != _identifier(steps[0], number):
                raise Refusal(
                    "the IPC segments of one order name different procedures",
                    code="102",
                    location=Location("IPC", step.sequence, number),
                    remedy="send an ORC and OBR for each requested procedure",
                )
    given: set[str] = set()
    for step in steps:
        step_id = _identifier(step, 4)
        if step_id in given:
            raise Refusal(
                "two steps have one scheduled procedure step ID",
                code="205",
                acknowledgement="AE",
                location=Location("IPC", step.sequence, 4),
                remedy="send an ID of its own for each step",
            )
        if step_id:
            given.add(step_id)


def _identifier(segment: Segment, number: int) -> str:
    return next((each.text(1).strip() for each in segment.repetitions(number)), "")


def _orders(segments: Sequence[Segment]) -> tuple[list[Segment], list[list[Segment]]]:
    starter = "ORC" if any(segment.name == "ORC" for segment in segments) else "OBR"
    header: list[Segment] = []
    orders: list[list[Segment]] = []
    for segment in segments:
        if segment.name == starter:
            orders.append([segment])
        elif not orders:
            header.append(segment)
        elif segment.name == "OBR" and any(own.name == "OBR" for own in orders[-1]):
            orders.append([*_shared(orders[-1], segment), segment])
        else:
            orders[-1].append(segment)
    return header, orders


def _shared(order: Sequence[Segment], request: Segment) -> list[Segment]:
    """What stands before the OBR of an order, as the ORC of one more OBR."""
    names = [segment.name for segment in order]
    shared = order[: names.index("OBR")]
    return [_numbered(each, request) if each.name == "ORC" else each for each in shared]


def _numbered(control: Segment, request: Segment) -> Segment:
    """The ORC of an OBR that has order numbers of its own (OBR-2, OBR-3) with those."""
    said = {n: request.field(n) for n in ORDER_NUMBERS if request.field(n) not in ("", NULL)}
    if all(control.field(n) == number for n, number in said.items()):
        return control
    fields = [*control.fields(), *[""] * len(ORDER_NUMBERS)]
    for n, number in said.items():
        fields[n] = number
    return control.with_fields(fields)


def _closing(segments: Sequence[Segment]) -> list[Segment]:
    closing: list[Segment] = []
    for segment in reversed(segments):
        if not segment.name.startswith("Z"):
            break
        closing.insert(0, segment)
    return closing


def _inherited(own: Sequence[Segment], closing: Sequence[Segment]) -> list[Segment]:
    names = {segment.name for segment in own}
    return [segment for segment in closing if segment.name not in names]


def said_count(raw: bytes) -> int | None:
    """Return how many messages the trailers (BTS-1) say that a block holds, None if they do not."""
    counts = re.findall(rb"[\r\n]BTS\W(\d{1,9})(?!\d)", raw)
    return sum(map(int, counts)) if counts else None


def batch(raw: bytes) -> list[bytes]:
    """Return the messages of one block: wrappers (FHS, BHS) are taken off, each MSH starts one.

    Raises Refusal AR 200 for a wrapper without a message, AR 207 for more than 5,000 of them.
    """
    start = trim_start(raw)
    if start.startswith(b"MSH") and start.find(b"MSH", 3) < 0:
        return [raw]  # nearly every block: found thrice as fast as by a pattern
    wrapped = bool(_BATCH_SEGMENT.match(start))
    if not wrapped and not re.search(rb"[\r\n]MSH\W", start):
        return [raw]
    end = b"\r" if b"\r" in start else b"\n"
    messages: list[list[bytes]] = []
    for line in start.split(end):
        bare = line.lstrip(b"\n \t\x00")
        if re.match(rb"MSH\W", bare):
            messages.append([bare])
        elif messages and bare and not _BATCH_SEGMENT.match(bare):
            messages[-1].append(line)
    if len(messages) > BATCH_LIMIT:
        raise Refusal(
            f"batch holds more than {BATCH_LIMIT} messages",
            code="207",
            remedy="send several batches, or the messages one by one",
        )
    if not messages:
        raise Refusal("batch holds no message", code="200", remedy="send the messages one by one")
    return [end.join(lines) + end for lines in messages]
