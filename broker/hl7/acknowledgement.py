"""What the sender is told, in original and enhanced mode; and reading what we are told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from broker.hl7.header import STANDARD, Header, Separators, read_header, trim_start
from broker.hl7.labels import ASCII, reply_codec
from broker.hl7.message import Syntax
from broker.hl7.refusal import BEFORE_2_7, CONDITIONS, HEADER_CONDITIONS, NotHL7, Refusal
from broker.hl7.writing import FieldValue, Line, Repeated, Verbatim, escape, write

Outcome = Literal["A", "E", "R"]
Mode = Literal["auto", "original", "enhanced"]
"""auto: MSH-15 and MSH-16 decide; original: they are ignored; enhanced: empty ones mean AL, NE."""

# HL7 table 0155: MSH-15/16 → (send on success, send on failure)
WANTED: Final[dict[str, tuple[bool, bool]]] = {
    "AL": (True, True),
    "NE": (False, False),
    "ER": (False, True),
    "SU": (True, False),
}
# Messages that carry an MSA; an answer to one of them would start an echo
RESPONSES: Final = frozenset({"ACK", "MCF", "ORR", "ORG", "ORI", "ORL", "RRI", "SRR", "OSR"})
MOST_ACCEPTANCES: Final = 256  # peers choose what is echoed
_MARK: Final = Verbatim("\x0b")  # never in an answer
_acceptances: dict[object, list[str]] = {}
OUR_NAME: Final = "BROKER"  # MSH-3 when there is no MSH-5 to answer as
Version: TypeAlias = tuple[int, ...]
STRUCTURED_ERRORS: Final = (2, 5)  # ERR-2 to ERR-8; before, all is in ERR-1
OLDEST_VERSION: Final = "2.3.1"  # MSH-12 when the sender gave none


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a peer answered: MSA-1, MSA-2 byte for byte as Latin-1, and its words if any.

    `text` is the peer's own and may quote the message: show it to people, do not log it.
    `condition` is the code of its error (table 0357), '' where it gives none.
    """

    code: str
    control_id: str
    text: str
    condition: str = ""


def is_acknowledgement(header: Header) -> bool:
    """Whether the message is itself an answer, which must never be answered."""
    return header.message_type in RESPONSES


def answers(
    header: Header | None,
    refusal: Refusal | None,
    *,
    stored: bool,
    control_ids: Iterator[str],
    now: datetime,
    mode: Mode = "auto",
    note: str = "",
) -> list[bytes]:
    """Return the payloads to send, in order (HL7 v2 ch. 2 and table 0155); [] is silence.

    `stored` says that the message is safe with us, whatever it was worth; each answer takes one of
    `control_ids` for its own MSH-10. A `note` tells with AA what the sender should know of it.
    Raises ValueError for success that was not stored.
    """
    if refusal is None and not stored:
        raise ValueError("nothing was stored and nothing refused: there is no true answer")
    if header is not None and is_acknowledgement(header):
        return []
    wanted = _conditions(header, mode)
    codes = [_application_code(refusal)] if wanted is None else _codes(*wanted, refusal, stored)
    return [
        acknowledge(
            header,
            "A" if code.endswith("A") else "E" if code.endswith("E") else "R",
            accept=code.startswith("C"),
            errors=() if code == "CA" or refusal is None else (refusal, *refusal.others),
            control_id=next(control_ids),
            now=now,
            note=note if code == "AA" else "",
        )
        for code in codes
    ]


def _conditions(header: Header | None, mode: Mode) -> tuple[str, str] | None:
    """MSH-15 and MSH-16 as they count; None is original mode: one application answer."""
    if header is None or mode == "original":
        return None
    if header.accept_ack or header.application_ack:
        # an empty partner of a valued field means NE
        return header.accept_ack or "NE", header.application_ack or "NE"
    return ("AL", "NE") if mode == "enhanced" else None


def _codes(accept: str, application: str, refusal: Refusal | None, stored: bool) -> list[str]:
    verdict = _application_code(refusal)
    spoken = _wanted(application, verdict)
    taken = _accept_code(refusal, stored, spoken)
    codes = [taken] if _wanted(accept, taken) else []
    if codes and taken != "CA":
        return codes  # not taken in, so no application will speak about it
    return [*codes, verdict] if spoken else codes


def _wanted(condition: str, code: str) -> bool:
    # an unknown value is answered, since silence would hang the sender
    on_success, on_failure = WANTED.get(condition, (True, True))
    return on_success if code.endswith("A") else on_failure


def _application_code(refusal: Refusal | None) -> str:
    return refusal.acknowledgement if refusal else "AA"


def _accept_code(refusal: Refusal | None, stored: bool, spoken: bool) -> str:
    """Whether the message is taken in: refused content is, if the application will say so."""
    if refusal is None:
        return "CA"
    if refusal.code in HEADER_CONDITIONS:
        return "CR"
    return "CA" if stored and spoken else "CE"


def acknowledge(
    header: Header | None,
    outcome: Outcome,
    *,
    accept: bool = False,
    errors: Sequence[Refusal] = (),
    control_id: str,
    now: datetime,
    note: str = "",
) -> bytes:
    """Return one ACK payload: AA/AE/AR, or CA/CE/CR for `accept`.

    A `note` with success stands in MSA-3, from 2.5 on in an ERR of severity I too.

    What is echoed of the header comes back byte for byte; our own words are written in the
    character set of MSH-18. Without a header the answer is addressed to nobody, with our own MSH.
    """
    if header is not None and header.control_id and not errors and not note:
        parts = _acceptance(header, ("C" if accept else "A") + outcome, now)
        if len(parts) == 4:
            sent, own = _sent(now), escape(control_id, header.separators)
            text = f"{parts[0]}{sent}{parts[1]}{own}{parts[2]}{header.control_id}{parts[3]}"
            return text.encode("latin-1", "replace").translate(None, b"\x0b\x1c")
    separators = header.separators if header else STANDARD
    codec = reply_codec(header.charsets) if header else None
    words = _Words(separators, codec or ASCII)
    version = _version(header)
    lines: list[Line] = [
        ("MSH", _msh(header, control_id, now, labelled=codec is not None)),
        ("MSA", _msa(header, ("C" if accept else "A") + outcome, errors, words, version)),
        *_err(errors, words, version),
    ]
    if note and not errors:
        lines = [*lines[:-1], *_noted(lines[-1], words(note), version)]
    # what is echoed may hold the bytes of MLLP itself, and they would end our block
    return write(lines, separators).encode("latin-1", "replace").translate(None, b"\x0b\x1c")


def _acceptance(header: Header, code: str, now: datetime) -> list[str]:
    """Give what stands before, between and after the three that differ from answer to answer.

    More parts than four: what is echoed holds the mark itself. A sender's headers are alike, and
    writing the whole answer each time takes 15 µs, this 4.
    """
    fields = header.fields
    echoed = fields[1:6] + fields[10:12] + fields[17:18]  # MSH-2 to 6, 11, 12 and 18
    key = (echoed, header.separators.field, header.trigger, header.version, header.charsets, code)
    parts = _acceptances.get(key)
    if parts is None:
        labelled = reply_codec(header.charsets) is not None
        written = _msh(header, _MARK, now, labelled=labelled)
        lines: list[Line] = [
            ("MSH", {**written, 7: _MARK, 10: _MARK}),
            ("MSA", {1: code, 2: _MARK}),
        ]
        parts = write(lines, header.separators).split(_MARK)
        if len(_acceptances) >= MOST_ACCEPTANCES:
            _acceptances.clear()
        _acceptances[key] = parts
    return parts


def _sent(now: datetime) -> str:
    """Give MSH-7 with its offset: %Y%m%d%H%M%S%z, in two thirds of the time."""
    said = now.isoformat(timespec="seconds").replace(":", "")
    return said[:10].replace("-", "") + said[11:]


class _Words:
    """Our own words, escaped and encoded, carried as Latin-1 beside the sender's bytes."""

    def __init__(self, separators: Separators, codec: str) -> None:
        self._separators = separators
        self._codec = codec

    def __call__(self, text: str) -> Verbatim:
        escaped = escape(text, self._separators)
        return Verbatim(escaped.encode(self._codec, "replace").decode("latin-1"))


def _msh(
    header: Header | None, control_id: str, now: datetime, *, labelled: bool
) -> dict[int, FieldValue]:
    sent = _sent(now)
    if header is None:
        return {
            3: OUR_NAME,
            7: sent,
            9: "ACK",
            10: control_id,
            11: "P",
            12: OLDEST_VERSION,
        }
    return {
        3: Verbatim(header.field(5)),
        4: Verbatim(header.field(6)),
        5: Verbatim(header.field(3)),
        6: Verbatim(header.field(4)),
        7: sent,
        9: _message_type(header),
        10: control_id,
        11: Verbatim(header.field(11) or "P"),
        12: Verbatim(header.field(12) or OLDEST_VERSION),
        # a character set that nobody knows is not one to answer in
        18: Verbatim(header.field(18) if labelled else ""),
    }


def _message_type(header: Header) -> FieldValue:
    if _version(header) < (2, 4) or not header.trigger:
        return "ACK"
    return ["ACK", Verbatim(header.trigger), "ACK"]


def _msa(
    header: Header | None, code: str, errors: Sequence[Refusal], words: _Words, version: Version
) -> dict[int, FieldValue]:
    msa: dict[int, FieldValue] = {1: code, 2: Verbatim(header.control_id if header else "")}
    if errors:
        msa[3] = words(errors[0].summary)
        if version < STRUCTURED_ERRORS:  # MSA-6 was replaced by ERR-3
            msa[6] = [*_condition(errors[0], version)]
    return msa


def _noted(msa: Line, note: Verbatim, version: Version) -> list[Line]:
    """Tell what is no error: its code is 0, message accepted."""
    name, fields = msa
    told: list[Line] = [(name, {**fields, 3: note})]
    if version >= STRUCTURED_ERRORS:
        told.append(("ERR", {3: ["0", "Message accepted", "HL70357"], 4: "I", 8: note}))
    return told


def _err(errors: Sequence[Refusal], words: _Words, version: Version) -> list[Line]:
    if not errors:
        return []
    if version < STRUCTURED_ERRORS:
        return [("ERR", {1: Repeated(_error_location(error, words, version) for error in errors)})]
    return [
        (
            "ERR",
            {
                2: _erl(error),
                3: [*_condition(error, version)],
                4: "E",
                7: words(error.rule),
                8: words(error.sentence),
            },
        )
        for error in errors
    ]


def _error_location(error: Refusal, words: _Words, version: Version) -> list[str | list[str]]:
    """ERR-1 up to 2.4: segment^sequence^field^code&text&HL70357&rule&our sentence&L.

    These versions have no field for the remedy; the code's own alternate (CE-4 to CE-6) holds it.
    """
    place = error.location
    where: list[str | list[str]] = ["", "", ""]
    if place is not None:
        where = [place.segment, str(place.sequence), str(place.field or "")]
    said: list[str] = [words(error.rule), words(error.sentence), "L"]
    return [*where, [*_condition(error, version), *said]]


def _erl(error: Refusal) -> list[str | list[str]]:
    """ERR-2 from 2.5: segment^sequence^field^repetition^component."""
    place = error.location
    if place is None:
        return []
    numbers = (place.sequence, place.field, place.repetition, place.component)
    return [place.segment, *(str(number or "") for number in numbers)]


def _condition(error: Refusal, version: Version) -> list[str]:
    code = error.code if version >= (2, 7) else BEFORE_2_7.get(error.code, error.code)
    return [code, CONDITIONS.get(code, ""), "HL70357"]


def as_told(refusal: Refusal | None, header: Header | None) -> Refusal | None:
    """The refusal with the condition that the sender's version has for it: what we say, we keep."""
    if refusal is None:
        return None
    code = _condition(refusal, _version(header))[0]
    return Refusal(
        refusal.text,
        code=code,
        location=refusal.location,
        remedy=refusal.remedy,
        rule=refusal.rule,
        acknowledgement=refusal.acknowledgement,
        others=refusal.others,
    )


def _version(header: Header | None) -> Version:
    numbers = re.match(r"(\d{1,3})\.(\d{1,3})", header.version) if header else None
    return (int(numbers[1]), int(numbers[2])) if numbers else (2, 3)


def read_acknowledgement(raw: bytes) -> Acknowledgement:
    """Read a peer's answer. Raises NotHL7 when it is no HL7 or has no MSA."""
    separators = read_header(raw).separators
    text = trim_start(raw).decode("latin-1")
    segments = [line.split(separators.field) for line in re.split(r"[\r\n]+", text)]
    msa = next((fields for fields in segments if fields[0].strip().upper() == "MSA"), None)
    if msa is None:
        raise NotHL7("answer has no MSA segment", remedy="the peer must answer with an ACK")
    words = _nth(msa, 3) or _error_words(segments, separators)
    meant = Syntax(separators, "latin-1").unescape(words)
    condition = _error_code(segments, msa, separators)
    return Acknowledgement(_nth(msa, 1).strip().upper(), _nth(msa, 2), _readable(meant), condition)


def _error_code(
    segments: Sequence[Sequence[str]], msa: Sequence[str], separators: Separators
) -> str:
    """ERR-3.1; before 2.5 MSA-6.1, or what stands in ERR-1.4.1."""
    for fields in segments:
        if fields[0].strip().upper() == "ERR":
            parts = _nth(fields, 1).split(separators.component)
            before = _nth(parts, 3).split(separators.subcomponent or separators.component)[0]
            said = _nth(fields, 3).split(separators.component)[0] or before
            if said:
                return _word(said)
    return _word(_nth(msa, 6).split(separators.component)[0])


def _word(said: str) -> str:
    """A code as a log and a table can bear it, '' of what is none."""
    return said.strip() if re.fullmatch(r"[!-~]{1,20}", said.strip()) else ""


def _error_words(segments: Sequence[Sequence[str]], separators: Separators) -> str:
    for fields in segments:
        if fields[0].strip().upper() == "ERR":
            condition = _nth(fields, 3).split(separators.component)
            return _nth(fields, 8) or _nth(fields, 7) or _nth(condition, 1) or _nth(fields, 1)
    return ""


def _nth(fields: Sequence[str], number: int) -> str:
    return fields[number] if number < len(fields) else ""


def _readable(text: str) -> str:
    try:  # most peers that write more than ASCII write UTF-8
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
