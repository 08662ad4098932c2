"""What the sender is told, in original and enhanced mode; and reading what we are told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from broker.hl7.header import STANDARD, Header, Separators, read_header, trim_start
from broker.hl7.message import Syntax
from broker.hl7.refusal import CONDITIONS, HEADER_CONDITIONS, TEXT_LIMIT, NotHL7, Refusal
from broker.hl7.writing import FieldValue, Line, Repeated, Verbatim, escape, write

Outcome = Literal["A", "E", "R"]

# HL7 table 0155: MSH-15/16 → (send on success, send on failure)
WANTED: Final[dict[str, tuple[bool, bool]]] = {
    "AL": (True, True),
    "NE": (False, False),
    "ER": (False, True),
    "SU": (True, False),
}
# Messages that carry an MSA; an answer to one of them would start an echo
RESPONSES: Final = frozenset({"ACK", "MCF", "ORR", "ORG", "ORI", "ORL", "RRI", "SRR", "OSR"})
OUR_NAME: Final = "BROKER"  # MSH-3 when there is no MSH-5 to answer as
OLDEST_VERSION: Final = "2.3.1"  # MSH-12 when the sender gave none


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a peer answered: MSA-1, MSA-2 byte for byte as Latin-1, and its words if any.

    `text` is the peer's own and may quote the message: show it to people, do not log it.
    """

    code: str
    control_id: str
    text: str


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
    codec: str = "ascii",
) -> list[bytes]:
    """Return the payloads to send, in order (HL7 v2 ch. 2; standards §4.2); [] is silence.

    `stored` says that the message is safe with us, whatever it was worth; each answer takes one of
    `control_ids` for its own MSH-10. Raises ValueError for success that was not stored.
    """
    if refusal is None and not stored:
        raise ValueError("nothing was stored and nothing refused: there is no true answer")
    if header is not None and is_acknowledgement(header):
        return []
    codes = [_application_code(refusal)] if header is None else _codes(header, refusal, stored)
    return [
        acknowledge(
            header,
            "A" if code.endswith("A") else "E" if code.endswith("E") else "R",
            accept=code.startswith("C"),
            errors=() if code == "CA" or refusal is None else (refusal,),
            control_id=next(control_ids),
            now=now,
            codec=codec,
        )
        for code in codes
    ]


def _codes(header: Header, refusal: Refusal | None, stored: bool) -> list[str]:
    application = _application_code(refusal)
    if not header.accept_ack and not header.application_ack:
        return [application]
    accept = _accept_code(refusal, stored)
    codes = [accept] if _wanted(header.accept_ack, accept) else []
    if codes and accept != "CA":
        return codes  # not taken in, so no application will speak about it
    if _wanted(header.application_ack, application):
        codes.append(application)
    return codes


def _wanted(condition: str, code: str) -> bool:
    # an empty partner of a valued field means NE; an unknown value is answered, since silence would
    # hang the sender
    on_success, on_failure = WANTED.get(condition or "NE", (True, True))
    return on_success if code.endswith("A") else on_failure


def _application_code(refusal: Refusal | None) -> str:
    return refusal.acknowledgement if refusal else "AA"


def _accept_code(refusal: Refusal | None, stored: bool) -> str:
    if refusal is not None and refusal.code in HEADER_CONDITIONS:
        return "CR"
    return "CA" if stored else "CE"


def acknowledge(
    header: Header | None,
    outcome: Outcome,
    *,
    accept: bool = False,
    errors: Sequence[Refusal] = (),
    control_id: str,
    now: datetime,
    codec: str = "ascii",
) -> bytes:
    """Return one ACK payload: AA/AE/AR, or CA/CE/CR for `accept`.

    What is echoed of the header comes back byte for byte; our own words are written in `codec`.
    Without a header the answer is addressed to nobody, with our own MSH.
    """
    separators = header.separators if header else STANDARD
    words = _Words(separators, codec)
    modern = _version(header) >= (2, 5)
    lines: list[Line] = [
        ("MSH", _msh(header, control_id, now)),
        ("MSA", _msa(header, ("C" if accept else "A") + outcome, errors, words, modern)),
        *_err(errors, words, modern),
    ]
    return write(lines, separators).encode("latin-1", "replace")


class _Words:
    """Our own words, escaped and encoded, carried as Latin-1 beside the sender's bytes."""

    def __init__(self, separators: Separators, codec: str) -> None:
        self._separators = separators
        self._codec = codec

    def __call__(self, text: str) -> Verbatim:
        escaped = escape(text[:TEXT_LIMIT], self._separators)
        return Verbatim(escaped.encode(self._codec, "replace").decode("latin-1"))


def _msh(header: Header | None, control_id: str, now: datetime) -> dict[int, FieldValue]:
    sent = now.strftime("%Y%m%d%H%M%S%z")
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
        18: Verbatim(header.field(18)),
    }


def _message_type(header: Header) -> FieldValue:
    if _version(header) < (2, 4) or not header.trigger:
        return "ACK"
    return ["ACK", Verbatim(header.trigger), "ACK"]


def _msa(
    header: Header | None, code: str, errors: Sequence[Refusal], words: _Words, modern: bool
) -> dict[int, FieldValue]:
    msa: dict[int, FieldValue] = {1: code, 2: Verbatim(header.control_id if header else "")}
    if errors:
        msa[3] = words(errors[0].text)
        if not modern:  # MSA-6 was replaced by ERR-3
            msa[6] = _condition(errors[0])
    return msa


def _err(errors: Sequence[Refusal], words: _Words, modern: bool) -> list[Line]:
    if not errors:
        return []
    if not modern:
        return [("ERR", {1: Repeated(_error_location(error) for error in errors)})]
    return [
        (
            "ERR",
            {
                2: _erl(error),
                3: _condition(error),
                4: "E",
                7: words(error.remedy),
                8: words(error.text),
            },
        )
        for error in errors
    ]


def _error_location(error: Refusal) -> list[str | list[str]]:
    """ERR-1 up to 2.4: segment^sequence^field^code&text&HL70357."""
    place = error.location
    where: list[str | list[str]] = ["", "", ""]
    if place is not None:
        where = [place.segment, str(place.sequence), str(place.field or "")]
    return [*where, [error.code, CONDITIONS.get(error.code, ""), "HL70357"]]


def _erl(error: Refusal) -> list[str | list[str]]:
    """ERR-2 from 2.5: segment^sequence^field^repetition^component."""
    place = error.location
    if place is None:
        return []
    numbers = (place.sequence, place.field, place.repetition, place.component)
    return [place.segment, *(str(number or "") for number in numbers)]


def _condition(error: Refusal) -> list[str | list[str]]:
    return [error.code, CONDITIONS.get(error.code, ""), "HL70357"]


def _version(header: Header | None) -> tuple[int, ...]:
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
    return Acknowledgement(_nth(msa, 1).strip().upper(), _nth(msa, 2), _readable(meant))


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
