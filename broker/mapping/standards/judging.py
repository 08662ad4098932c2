"""hl7apy as the judge of whole messages: slow and thorough, for strict sources and examples."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from hl7apy import load_library
from hl7apy.exceptions import (
    ChildNotFound,
    HL7apyException,
    InvalidName,
    UnsupportedVersion,
)
from hl7apy.parser import parse_message

from broker.hl7.message import Message, Segment
from broker.hl7.refusal import Location, Refusal
from broker.mapping.standards.formats import ill_formed, refuse_unknown_version

MISSING: Final = re.compile(r"Missing required child (\w+)\.(\w+)")
TOO_MANY: Final = re.compile(r"Child limit exceeded (\w+)\.(\w+)")
WRONG_FIELD: Final = re.compile(r"<Field (\w{3}_\d+)")
FIELD: Final = re.compile(r"([A-Z][A-Z0-9]{2})_(\d{1,3})")
STRANGE: Final = re.compile(r"Invalid children detected for <Segment (\w{3})>")
SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
REMEDY: Final = "mend the message, or set 'validate: lenient' for this source"
MOST_PARTS: Final = 20_000
"""Fields, components and repetitions that are judged: hl7apy takes about 60 µs for each."""
MOST_ERRORS: Final = 100
HL7APY_BREAKS: Final = (AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""What hl7apy 1.3.5 raises of its own over structures that it does not know."""


def judged(text: str) -> tuple[str, ...]:
    """What hl7apy has against a message of CR-ended segments; nothing when it is valid."""
    try:
        return _errors(text)
    except HL7apyException as error:
        return (f"cannot be parsed: {type(error).__name__}",)


def refuse_invalid(message: Message) -> None:
    """Refuse a message with everything that hl7apy has against it, each at its place.

    A structure, or a version of HL7, that hl7apy does not know has no judge and passes. Raises
    Refusal AE, AR 203 for what is no version at all.
    """
    text = "".join(f"{segment.raw}\r" for segment in message.segments)
    separators = message.separators
    parts = sum(text.count(each) for each in separators.field + separators.encoding)
    if parts > MOST_PARTS:
        raise Refusal(
            f"more than {MOST_PARTS} fields and components: too many for strict validation",
            code="102",
            remedy="send less, or set 'validate: lenient' for this source",
        )
    refuse_unknown_version(message)
    found = list(islice(_found(text, message), MOST_ERRORS))
    if found:
        first, *others = found
        first.others = tuple(others)
        raise first


def _found(text: str, message: Message) -> Iterator[Refusal]:
    with contextlib.suppress(UnsupportedVersion, *HL7APY_BREAKS):
        yield from ill_formed(message, message.segments[0].repetitions(12)[0].text(1).strip())
    try:
        errors = _errors(text)
    except (UnsupportedVersion, InvalidName, *HL7APY_BREAKS):
        return
    except HL7apyException as error:
        errors = (f"cannot be parsed: {type(error).__name__}",)
    yield from _refusals(errors[:MOST_ERRORS], message)


def _errors(text: str) -> tuple[str, ...]:
    """Raise HL7apyException for what cannot even be parsed."""
    message = parse_message(text)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        with contextlib.suppress(HL7apyException):  # it raises the first; the report has them all
            message.validate(report_file=str(report))
        lines = report.read_text(encoding="utf-8").splitlines()
    errors = (line.removeprefix("Error: ") for line in lines if line.startswith("Error: "))
    return tuple(error for error in errors if not _is_choice(error, str(message.version)))


def _is_choice(error: str, version: str) -> bool:
    """Of a choice (OBR or RQD or RXO …) hl7apy 1.3.5 wants all members, the standard one."""
    match = MISSING.match(error)
    if match is None:
        return False
    try:
        kind = load_library(version).get(match[1], "Group")[0]
    except ChildNotFound:
        return False
    return bool(kind == "choice")


def _refusals(errors: tuple[str, ...], message: Message) -> Iterator[Refusal]:
    """Each error with its condition of table 0357 and its place in this message."""
    seen: Counter[str] = Counter()
    for error in errors:
        seen[error] += 1
        code, location = _placed(error, message, seen[error])
        yield Refusal(f"hl7apy: {_plain(error)}", code=code, location=location, remedy=REMEDY)


def _plain(error: str) -> str:
    """An error in which hl7apy tells a segment's surplus fields as children without a name."""
    found = STRANGE.match(error)
    return f"{found[1]} has more fields than its version knows" if found else error


def _placed(error: str, message: Message, nth: int) -> tuple[str, Location | None]:
    """Code and place; of the same error about several segments `nth` tells which is meant."""
    missing, too_many = MISSING.match(error), TOO_MANY.match(error)
    found = missing or too_many
    if strange := STRANGE.match(error):
        of_that_name = message.all(strange[1])
        return "102", Location(strange[1], min(nth, max(len(of_that_name), 1)))
    if found is None:
        wrong = WRONG_FIELD.search(error)
        return "102", _field(wrong[1], message, nth) if wrong else None
    parent, child = found.groups()
    if FIELD.fullmatch(child) and SEGMENT.fullmatch(parent):
        return "101" if missing else "102", _field(child, message, nth, lacking=bool(missing))
    if FIELD.fullmatch(parent):  # a component of a field
        return "101" if missing else "102", _field(parent, message, nth)
    segment = child.rpartition("_")[2]  # ORM_O01_PATIENT is a group, PID a segment
    return "100", Location(segment) if SEGMENT.fullmatch(segment) else None


def _field(name: str, message: Message, nth: int, *, lacking: bool = False) -> Location | None:
    found = FIELD.fullmatch(name)
    if found is None:
        return None
    segment, number = found[1], int(found[2])
    guilty = [each for each in message.all(segment) if _lacks(each, number) or not lacking]
    sequence = guilty[min(nth, len(guilty)) - 1].sequence if guilty else 1
    return Location(segment, sequence, number)


def _lacks(segment: Segment, number: int) -> bool:
    return not segment.field(number)
