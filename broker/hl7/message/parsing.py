"""Decoded text to a message: where segments end, and what is none."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from broker.hl7.header import BEGINNING, STANDARD, read_separators
from broker.hl7.message.segments import NULL, Message, Named, Segment
from broker.hl7.message.syntax import Syntax
from broker.hl7.refusal import Location, NotHL7, Refusal, too_many

SEGMENT_LIMIT: Final = 5_000
FIELD_LIMIT: Final = 2_000  # of one segment; no table of HL7 has 100

_BLANK: Final = " \t\n\x0b\x0c\x00\ufeff"
_TAIL: Final = "\n\x0c\x00\x1c"


def parse(text: str, codec: str = "utf-8") -> Message:
    """Split decoded text into segments.

    Raises NotHL7 without MSH, Refusal beyond 5,000 segments or 2,000 fields of one, and for a
    fragment (MSH-14, DSC-1).
    """
    text = text.lstrip(_BLANK + "\r")
    if text[:3].upper() != "MSH" or len(text) < 4 or text[3].isalnum() or text[3].isspace():
        raise NotHL7("message does not start with MSH and a field separator")
    syntax = _syntax(text[:BEGINNING], codec)
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
            raise too_many("fields", FIELD_LIMIT, Location(name[:3], len(same) + 1))
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
        raise too_many("segments", SEGMENT_LIMIT)
    stripped = [line.lstrip(_BLANK).rstrip(_TAIL) for line in text.split("\r")]
    lines = [line for line in stripped if line]
    if len(lines) > SEGMENT_LIMIT:
        raise too_many("segments", SEGMENT_LIMIT)
    return lines


def _with_carriage_returns(text: str, field: str) -> str:
    """Turn line feeds that end segments into CR: all, or beside CRs those before a segment name."""
    if "\r" not in text:
        return text.replace("\n", "\r")
    return re.sub(rf"\r?\n(?=[A-Z][A-Z0-9]{{2}}{re.escape(field)})", "\r", text)


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
