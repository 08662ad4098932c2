"""A decoded message: segments, fields, repetitions, components, split where somebody looks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from broker.hl7.header import Separators, read_separators, trim_start
from broker.hl7.refusal import Location, NotHL7, Refusal

NULL: Final = (
    '""'  # HL7 null: "erase what you have", as against empty: "unchanged" (HL7 2.5 §2.5.3)
)
SEGMENT_LIMIT: Final = 5_000
REPETITION_LIMIT: Final = 100  # used per field; a peer chooses how many it sends

_BLANK: Final = " \t\n\x0b\x0c\x00\ufeff"
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
        return _escapes(self.escape).sub(self._meant, text)

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
    """One repetition of a field."""

    __slots__ = ("_syntax", "index", "raw")

    def __init__(self, raw: str, index: int, syntax: Syntax) -> None:
        """`raw` is as sent (escapes and all), `index` counts from 1."""
        self.raw = raw
        self.index = index
        self._syntax = syntax

    def __repr__(self) -> str:
        """Say where, never what: representations end up in logs."""
        return f"<Repetition {self.index}, {len(self.raw)} characters>"

    def text(self, component: int = 0, subcomponent: int = 0) -> str:
        """Return the unescaped text, '' when absent, NULL for HL7 null; 0 takes the whole."""
        part = self.raw
        if component:
            part = _nth(part, self._syntax.component, component)
            if subcomponent:
                part = _nth(part, self._syntax.subcomponent, subcomponent)
        return self._syntax.unescape(part)

    def components(self) -> list[str]:
        """Return the unescaped components, [''] when empty."""
        return [self._syntax.unescape(part) for part in self.raw.split(self._syntax.component)]

    def subcomponents(self, component: int) -> list[str]:
        """Return the unescaped subcomponents of a component, [''] when empty."""
        part = _nth(self.raw, self._syntax.component, component)
        return [self._syntax.unescape(piece) for piece in part.split(self._syntax.subcomponent)]


def _nth(text: str, separator: str, number: int) -> str:
    if number == 1:
        return text.partition(separator)[0]
    parts = text.split(separator, number)
    return parts[number - 1] if number <= len(parts) else ""


class Segment:
    """One segment; its fields are split when first asked for."""

    __slots__ = ("_fields", "_syntax", "name", "raw", "sequence")

    def __init__(self, raw: str, name: str, sequence: int, syntax: Syntax) -> None:
        """`sequence` is the occurrence of this name in the message, from 1."""
        self.raw = raw
        self.name = name
        self.sequence = sequence
        self._syntax = syntax
        self._fields: list[str] | None = None

    def __repr__(self) -> str:
        """Say where, never what: representations end up in logs."""
        return f"<Segment {self.name}[{self.sequence}]>"

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
        """Return the repetitions of a field, [] when it is empty or absent; at most 100."""
        field = self.field(number)
        if not field:
            return []
        separator = self._syntax.repetition
        if separator not in field or (self.name == "MSH" and number <= 2):
            return [Repetition(field, 1, self._syntax)]
        parts = field.split(separator, REPETITION_LIMIT)[:REPETITION_LIMIT]
        return [Repetition(part, index, self._syntax) for index, part in enumerate(parts, 1)]


class Segments:
    """Segments that can be asked for by name: what a Message and a Group have in common."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        """Keep the order as sent."""
        self.segments = tuple(segments)
        self._named: dict[str, list[Segment]] = {}
        for segment in self.segments:
            self._named.setdefault(segment.name, []).append(segment)

    def all(self, name: str) -> list[Segment]:
        """Return every segment of that name, as sent."""
        return self._named.get(name, [])

    def first(self, name: str) -> Segment | None:
        """Return the first segment of that name."""
        named = self._named.get(name)
        return named[0] if named else None


class Message(Segments):
    """A whole message."""

    def __init__(self, segments: Sequence[Segment], syntax: Syntax) -> None:
        """Made by `parse`."""
        super().__init__(segments)
        self.separators = syntax.separators
        self.codec = syntax.codec


class Group(Segments):
    """One order: the segments before the first ORC, then its own; `index` counts from 1."""

    def __init__(self, index: int, segments: Sequence[Segment]) -> None:
        """Made by `groups`."""
        super().__init__(segments)
        self.index = index


def parse(text: str, codec: str = "utf-8") -> Message:
    """Split decoded text into segments.

    Raises NotHL7 without MSH, Refusal beyond 5,000 segments or for a fragment (MSH-14, DSC-1).
    """
    text = text.lstrip(_BLANK + "\r")
    if text[:3].upper() != "MSH" or len(text) < 4 or text[3].isalnum() or text[3].isspace():
        raise NotHL7("message does not start with MSH and a field separator")
    syntax = Syntax(read_separators(text), codec)
    counts: dict[str, int] = {}
    segments: list[Segment] = []
    for line in _lines(text, syntax.field):
        name = line.partition(syntax.field)[0].strip().upper()
        counts[name] = counts.get(name, 0) + 1
        segments.append(Segment(line, name, counts[name], syntax))
    message = Message(segments, syntax)
    _refuse_fragment(message)
    return message


def _lines(text: str, field: str) -> Iterator[str]:
    if "\n" in text:
        text = _with_carriage_returns(text, field)
    if text.count("\r") > SEGMENT_LIMIT * 2:  # blank lines do not count, but neither are they free
        raise _too_many()
    found = 0
    for line in text.split("\r"):
        stripped = line.lstrip(_BLANK).rstrip(_TAIL)
        if stripped:
            found += 1
            if found > SEGMENT_LIMIT:
                raise _too_many()
            yield stripped


def _with_carriage_returns(text: str, field: str) -> str:
    """Turn line feeds that end segments into CR: all, or beside CRs those before a segment name."""
    if "\r" not in text:
        return text.replace("\n", "\r")
    return re.sub(rf"\r?\n(?=[A-Z][A-Z0-9]{{2}}{re.escape(field)})", "\r", text)


def _too_many() -> Refusal:
    return Refusal(f"more than {SEGMENT_LIMIT} segments", code="100", remedy="split the message")


def _refuse_fragment(message: Message) -> None:
    # a fragment taken for a whole order would be half an order; IHE forbids continuation here
    for name, number in (("MSH", 14), ("DSC", 1)):
        segment = message.first(name)
        if segment is not None and segment.field(number) not in ("", NULL):
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
    Raises Refusal AE 100 for a second patient, AE 102 or 205 for IPC that do not fit together.
    """
    _refuse_second_patient(message)
    header, orders = _orders(message.segments)
    for own in orders:
        _refuse_discord([segment for segment in own if segment.name == "IPC"])
    closing = _closing(message.segments) if len(orders) > 1 else []
    return [
        Group(index, [*header, *own, *_inherited(own, closing)])
        for index, own in enumerate(orders, 1)
    ]


def _refuse_second_patient(message: Message) -> None:
    # an order message has one patient group; the second one's orders would go to the first one
    patients = [pid for pid in message.all("PID") if pid.field(3)]
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
    ids = [_identifier(step, 4) for step in steps]
    for at, step in enumerate(steps):
        if ids[at] and ids[at] in ids[:at]:
            raise Refusal(
                "two steps have one scheduled procedure step ID",
                code="205",
                acknowledgement="AE",
                location=Location("IPC", step.sequence, 4),
                remedy="send an ID of its own for each step",
            )


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
            orders.append([*_before_request(orders[-1]), segment])
        else:
            orders[-1].append(segment)
    return header, orders


def _before_request(order: Sequence[Segment]) -> list[Segment]:
    names = [segment.name for segment in order]
    return list(order[: names.index("OBR")])


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


def batch(raw: bytes) -> list[bytes]:
    """Return the messages of one block: wrappers (FHS, BHS) are taken off, each MSH starts one.

    Raises Refusal AR 200 for a wrapper without a message.
    """
    start = trim_start(raw)
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
    if not messages:
        raise Refusal("batch holds no message", code="200", remedy="send the messages one by one")
    return [end.join(lines) + end for lines in messages]
