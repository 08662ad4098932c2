"""The MSH line, read as Latin-1 before anything is decoded: who sends what, and how to answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from broker.hl7.refusal import NotHL7

BOM: Final = b"\xef\xbb\xbf"
BLANK: Final = b" \t\r\n\x00\x0c"  # what peers put between the start byte and MSH
_START: Final = re.compile(rb"[Mm][Ss][Hh]([^\w\s\x00-\x1f\x7f-\xff])")
_LINE_END: Final = re.compile(rb"[\r\n]")
_LONGEST_LINE: Final = 16 * 1024  # an MSH beyond this is not a header but an attack


@dataclass(frozen=True, slots=True)
class Separators:
    """The five delimiters of one message, with the usual ones as default."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def encoding(self) -> str:
        """MSH-2 in its usual order."""
        return self.component + self.repetition + self.escape + self.subcomponent


STANDARD: Final = Separators()


@dataclass(frozen=True, slots=True)
class Header:
    """MSH in the sender's own bytes (Latin-1), so that what is echoed is echoed byte for byte.

    Applications and facilities are the first component (the namespace); `field(n)` is the whole
    field, escapes and all.
    """

    separators: Separators
    sending_application: str
    sending_facility: str
    receiving_application: str
    receiving_facility: str
    sent: str
    message_type: str
    trigger: str
    structure: str
    control_id: str
    processing_id: str
    version: str
    continuation: str
    accept_ack: str
    application_ack: str
    charsets: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def sender(self) -> str:
        """Return `APP|FAC`: the scope within which control ids and clocks are compared."""
        return f"{self.sending_application}|{self.sending_facility}"

    def field(self, number: int) -> str:
        """Return MSH-`number` as sent, '' when absent; MSH-1 is the separator itself."""
        if number == 1:
            return self.separators.field
        return self.fields[number - 1] if 0 < number <= len(self.fields) else ""


def trim_start(raw: bytes) -> bytes:
    """Drop what peers put before MSH inside the block: a byte order mark, blanks, NULs."""
    if raw[:1] in (b"M", b"F", b"B"):
        return raw
    return raw.lstrip(BLANK).removeprefix(BOM).lstrip(BLANK)


def read_separators(line: str) -> Separators:
    """Read MSH-1 and MSH-2 of a header line; a short MSH-2 is completed, a fifth (2.7) is ignored.

    Raises NotHL7 when one character would stand for two separators.
    """
    field = line[3]
    given = line[4:].split(field, 1)[0].split("\r", 1)[0]
    component, repetition, escape, subcomponent = (
        given[at] if at < len(given) else STANDARD.encoding[at] for at in range(4)
    )
    separators = Separators(field, component, repetition, escape, subcomponent)
    if len({field, component, repetition, escape, subcomponent}) < 5:
        raise NotHL7("MSH-1 and MSH-2 use one character for two separators", remedy="mend MSH-2")
    return separators


def read_header(raw: bytes) -> Header:
    """Read the MSH line only. Raises NotHL7 when the bytes do not start with one."""
    line = _header_line(raw)
    separators = read_separators(line)
    fields = tuple(line.split(separators.field))
    size = len(fields)

    def value(number: int) -> str:
        return fields[number - 1] if number <= size else ""

    def first(number: int) -> str:
        return value(number).split(separators.component, 1)[0].strip()

    kind = value(9).split(separators.component)
    charsets = value(18).strip()
    return Header(
        separators=separators,
        sending_application=first(3),
        sending_facility=first(4),
        receiving_application=first(5),
        receiving_facility=first(6),
        sent=first(7),
        message_type=kind[0].strip().upper(),
        trigger=kind[1].strip().upper() if len(kind) > 1 else "",
        structure=kind[2].strip().upper() if len(kind) > 2 else "",
        control_id=value(10),
        processing_id=first(11),
        version=first(12),
        continuation=value(14).strip(),
        accept_ack=first(15).upper(),
        application_ack=first(16).upper(),
        charsets=tuple(part.strip() for part in charsets.split(separators.repetition))
        if charsets
        else (),
        fields=fields,
    )


def _header_line(raw: bytes) -> str:
    start = trim_start(raw[: _LONGEST_LINE + 64])
    if not _START.match(start):
        if b"\x00" in start[:8]:
            raise NotHL7("block is UTF-16 or binary", remedy="send an 8-bit character set")
        raise NotHL7("block does not start with MSH and a field separator")
    end = _LINE_END.search(start)
    line = start[: end.start()] if end else start
    if len(line) > _LONGEST_LINE:
        raise NotHL7("MSH segment is longer than 16 KiB")
    return line.decode("latin-1")
