"""The MSH line, read as Latin-1 before anything is decoded: who sends what, and how to answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from broker.hl7.labels import ASCII, reply_codec
from broker.hl7.refusal import NotHL7

BOM: Final = b"\xef\xbb\xbf"
BLANK: Final = b" \t\r\n\x00\x0c"  # what peers put between the start byte and MSH
_START: Final = re.compile(rb"[Mm][Ss][Hh]([^\w\s\x00-\x1f\x7f-\xff])")
BEGINNING: Final = 8  # MSH, MSH-1 and the four of MSH-2
_NO_FIELDS: Final = ("",) * 18
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


@dataclass(slots=True)  # frozen ones are slow to make, and every message has one
class Header:
    """MSH in the sender's own bytes (Latin-1), so that what is echoed is echoed byte for byte.

    Applications and facilities are the first component (the namespace), decoded by MSH-18 as they
    are names that people write in mappings; `field(n)` is the whole field, escapes and all. One
    beyond 16 KiB `is_cut`: enough to be answered, not to be believed.
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
    is_cut: bool = False

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
    if not f"{field}{separators.encoding}".isprintable():
        raise NotHL7("MSH-2 has a control character as a separator", remedy="mend MSH-2")
    if len({field, component, repetition, escape, subcomponent}) < 5:
        raise NotHL7("MSH-1 and MSH-2 use one character for two separators", remedy="mend MSH-2")
    return separators


def read_header(raw: bytes) -> Header:
    """Read the MSH line only. Raises NotHL7 when the bytes do not start with one."""
    line, is_cut = _header_line(raw)
    separators = _separators(line[:BEGINNING])
    fields = tuple(line.split(separators.field))
    said, component = (*fields, *_NO_FIELDS), separators.component
    firsts = [
        text.split(component, 1)[0].strip() if component in text else text.strip()
        for text in (*said[2:7], *said[10:12], *said[14:16])
    ]
    charsets = said[17].strip()
    labels = [part.strip() for part in charsets.split(separators.repetition)] if charsets else []
    if not line.isascii():
        firsts[:4] = [_named(name, tuple(labels)) for name in firsts[:4]]
    from_application, from_facility, to_application, to_facility, sent, *others = firsts
    processing_id, version, accept_ack, application_ack = others
    kind = [each.strip().upper() for each in said[8].split(component)]
    return Header(
        separators,
        from_application,
        from_facility,
        to_application,
        to_facility,
        sent,
        kind[0],
        kind[1] if len(kind) > 1 else "",
        kind[2] if len(kind) > 2 else "",
        said[9],
        processing_id,
        version,
        said[13].strip(),
        accept_ack.upper(),
        application_ack.upper(),
        tuple(labels),
        fields,
        is_cut,
    )


def _named(name: str, labels: tuple[str, ...]) -> str:
    for codec in (reply_codec(labels) or ASCII, "utf-8", "windows-1252"):
        try:
            return name.encode("latin-1").decode(codec)
        except UnicodeDecodeError:
            continue
    return name


@lru_cache(maxsize=64)
def _separators(beginning: str) -> Separators:
    return read_separators(beginning)


def _header_line(raw: bytes) -> tuple[str, bool]:
    start = trim_start(raw[: _LONGEST_LINE + 64])
    if not _START.match(start):
        if b"\x00" in start[:8]:
            raise NotHL7("block is UTF-16 or binary", remedy="send an 8-bit character set")
        raise NotHL7("block does not start with MSH and a field separator")
    line = start.partition(b"\r")[0].partition(b"\n")[0]
    return line[:_LONGEST_LINE].decode("latin-1"), len(line) > _LONGEST_LINE
