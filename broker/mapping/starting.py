"""A mapping begun from a sample message: an overlay with what the sample suggests, as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from broker.hl7.header import Header
from broker.hl7.message import NULL, Message, Segment
from broker.mapping.examples import shown_refusal
from broker.mapping.showing import quoted
from broker.mapping.trying import Trial, unranked
from broker.mapping.updating import expectation
from broker.worklist.attributes import STEPS

ANY = "*"
WIDTH = 40
MOST = 6
"""Candidates that are named for one attribute."""

ACCESSION = ("AccessionNumber", "the accession number")
MODALITY = (f"{STEPS}/Modality", "the modality")
STATION = (f"{STEPS}/ScheduledStationAETitle", "the station's AE title")

# Terms of PS3.3 C.7.3.1.1.1 that are ordered; RAD, PETCT and the like are no modalities.
MODALITIES = frozenset(
    [
        *("BMD", "CR", "CT", "DX", "ECG", "ES", "IO", "MG", "MR", "NM", "OPG"),
        *("OPT", "OT", "PT", "PX", "RF", "RG", "SM", "US", "XA", "XC"),
    ]
)

# Where senders put them, the likely places first; Z segments may hold anything.
NUMBERS = ("IPC-1", "OBR-18", "OBR-19", "OBR-20", "OBR-3", "ORC-3", "OBR-2", "ORC-2")
STATIONS = ("IPC-9", "OBR-21", "OBR-20", "OBR-19", "OBR-18", "OBR-24", "ORC-21", "PV1-39")
CODES = ("IPC", "OBR", "ORC")

NUMBER = re.compile(r"(?=.*\d)(?![\d.]*\.[\d.]*\.)[A-Za-z0-9./_-]{3,16}")  # SH, and no UID
TITLE = re.compile(r"(?=.*[A-Z])[A-Z0-9_ -]{2,16}")  # AE
STAMP = re.compile(r"(19|20)\d{6}(\d{4,6})?.*")
OFFSET = re.compile(r".*[+-]\d{4}")

EXAMPLE = ("AccessionNumber", "PatientID", "IssuerOfPatientID", "RequestedProcedureDescription")
EXAMPLE_STEP = (
    "ScheduledProcedureStepID",
    "Modality",
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
)
"""What the example expects: what a worklist stands on, and no names."""


@dataclass(frozen=True)
class Candidate:
    """A path of the message that may hold what is looked for, and what stands there."""

    path: str
    text: str


def name_of(header: Header) -> str:
    """A name for the mapping of a sender: `ris-north`."""
    words = re.findall(r"[a-z0-9]+", header.sender.lower())
    return "-".join(words) or "site"


def sender_of(header: Header) -> tuple[str, str]:
    """The sender as `accept` names it; a part that a mapping cannot name is any."""
    return _named(header.sending_application), _named(header.sending_facility)


def starter(trial: Trial, name: str, base: str, message_file: str) -> str:
    """The overlay as YAML text. `trial` is the sample's under the base, which accepts it.

    `message_file` is where the example finds the sample, from the mapping's folder. Identifiers are
    shown as their shape (`AA99`), so that the mapping itself holds no patient's.
    """
    if trial.header is None or trial.message is None or trial.source is None:
        raise ValueError("a mapping begins from a message that was read")
    blocks = [
        _head(trial, trial.header, name, base),
        _source(trial, trial.header, trial.message),
        _attributes(trial, trial.message),
        _tables(trial.message),
        _examples(trial, message_file),
    ]
    return "\n\n".join("\n".join(block) for block in map(list, blocks)) + "\n"


def _head(trial: Trial, header: Header, name: str, base: str) -> Iterator[str]:
    sender = "|".join(sender_of(header))
    yield f"# What is different in messages of {sender}; the rest is inherited from {base}."
    yield "# Lines behind a # are what the sample suggests: take the # away, or the line."
    yield "# `broker map try SAMPLE --explain` shows what comes out; `broker map test` guards it."
    if trial.refusal:
        yield f"# As it stands the sample is refused: {trial.refusal.text} ({_where(trial)})."
    yield f"mapping: {_quoted(name)}"
    yield "format: 1"
    yield f"extends: {base}"
    yield "accept:"
    yield f"  senders: [{_quoted(sender)}]"


def _named(part: str) -> str:
    """A part of a sender as a mapping can name it: headers are compared byte for byte."""
    return part if part and part.isascii() and part.isprintable() else ANY


def _where(trial: Trial) -> str:
    location = trial.refusal.location if trial.refusal else None
    return f"{location}" if location else "the whole message"


def _source(trial: Trial, header: Header, message: Message) -> Iterator[str]:
    issuer = trial.source.issuer if trial.source else ""
    assigned = _text(message.first("PID"), 3, 4)
    said = f"MSH-4; PID-3.4 says {assigned}" if assigned else "MSH-4; PID-3.4 says nothing"
    yield "source:"
    if issuer:
        yield _line(f"  issuer: {_quoted(issuer)}", f"scopes numbers and patient IDs: {said}")
    else:
        yield _line("  when_store_down: close", "an issuer is missing: MSH-4 is empty")
        yield _line("  # issuer: NORTH", f"scopes numbers and patient IDs: {said}")
    if not OFFSET.fullmatch(header.sent):
        yield _line(
            "  # timezone: Europe/Berlin", "MSH-7 has no offset; without it the site's zone"
        )
    if trial.repaired or not header.charsets:
        label = header.charsets[0] if header.charsets else "empty"
        yield _line(
            f"  # charset: {{unlabelled: [{trial.codec}]}}",
            f"MSH-18 is {label}; the sample was read as {trial.codec}",
        )


def _attributes(trial: Trial, message: Message) -> Iterator[str]:
    yield "# attributes:"
    yield from _found(trial, ACCESSION, _numbers(message), "  ")
    yield f"#   {STEPS}:"
    yield "#     item:"
    yield from _found(trial, MODALITY, _modalities(message), "      ")
    yield from _found(trial, STATION, _titles(message), "      ")


def _found(
    trial: Trial, attribute: tuple[str, str], candidates: list[Candidate], indent: str
) -> Iterator[str]:
    """Where an attribute is from now, and each other place as a line to take."""
    keyword, words = attribute
    traced = [
        each for outcome in trial.outcomes for each in outcome.traced if each.keyword == keyword
    ]
    now = f"is from {traced[0].path}" if traced and traced[0].path else "is a default"
    others = [each for each in candidates if not traced or each.path not in _paths(traced[0].path)]
    state = now if traced else "is not found"
    rest = ". It may also be" if others else ", and nothing else looks like one"
    yield f"# {indent}# Now {words} {state}{rest}{':' if others else '.'}"
    name = keyword.rpartition("/")[2]
    for each in others[:MOST]:
        yield f"# {indent}{_line(f'{name}: {each.path}', each.text)}"


def _paths(path: str) -> tuple[str, str]:
    return path, path.removesuffix(".1")


def _tables(message: Message) -> Iterator[str]:
    code = _text(message.first("OBR"), 4, 1)
    yield "# tables:"
    row = f"#   procedure: {{rows: {{{_quoted(code or 'CODE')}: CT}}}}"
    yield _line(row, "OBR-4.1: the modality, where no field says it")
    yield _line("#   station: {rows: {CT: CT1}}", "the AE title, where no field says it")


def _examples(trial: Trial, message_file: str) -> Iterator[str]:
    yield "# What must come out; `broker map test --update` writes it anew after a change above."
    yield "# The sample beside it should name no real patient."
    yield "examples:"
    yield f"  - message: {_quoted(message_file)}"
    yield from (f"    {line}" for line in expectation(_short(trial)))


def _short(trial: Trial) -> dict[str, Any]:
    if trial.refusal is not None:
        return {"refused": shown_refusal(trial.refusal)}
    return {"expect": [_change(outcome.change) for outcome in trial.outcomes]}


def _change(change: Any) -> dict[str, Any]:
    attributes = unranked(change.attributes)
    shown = {keyword: attributes[keyword] for keyword in EXAMPLE if attributes.get(keyword)}
    steps = [
        {keyword: step[keyword] for keyword in EXAMPLE_STEP if step.get(keyword)}
        for step in attributes.get(STEPS) or ()
    ]
    if any(steps):
        shown[STEPS] = steps
    return {"action": change.action.value, "attributes": shown}


# candidates


def _numbers(message: Message) -> list[Candidate]:
    found = [*_at(message, NUMBERS), *_in_z_segments(message)]
    return [
        Candidate(each.path, _shape(each.text))
        for each in found
        if NUMBER.fullmatch(each.text) and not STAMP.fullmatch(each.text)
    ]


def _titles(message: Message) -> list[Candidate]:
    found = [*_at(message, STATIONS), *_in_z_segments(message)]
    return [
        Candidate(each.path, _shape(each.text))
        for each in found
        if TITLE.fullmatch(each.text) and each.text not in MODALITIES
    ]


def _modalities(message: Message) -> list[Candidate]:
    segments = [each for name in CODES for each in message.all(name)[:1]]
    found = [*(each for segment in segments for each in _in(segment)), *_in_z_segments(message)]
    return [each for each in found if each.text in MODALITIES]


def _at(message: Message, places: tuple[str, ...]) -> Iterator[Candidate]:
    for place in places:
        name, _, number = place.partition("-")
        text = _text(message.first(name), int(number), 1)
        if text:
            whole = _text(message.first(name), int(number), 2) == ""
            yield Candidate(place if whole else f"{place}.1", text)


def _in_z_segments(message: Message) -> Iterator[Candidate]:
    for name in dict.fromkeys(segment.name for segment in message.segments):
        if name.startswith("Z") and name.isalnum() and len(name) == 3:
            yield from _in(message.all(name)[0])


def _in(segment: Segment) -> Iterator[Candidate]:
    """Every component of a segment's first repetitions."""
    separator = segment.raw[len(segment.name) : len(segment.name) + 1] or "|"
    number = 0
    while number < segment.raw.count(separator) + 1:
        number += 1
        for repetition in segment.repetitions(number)[:1]:
            components = repetition.components()
            for place, text in enumerate(components, 1):
                path = f"{segment.name}-{number}"
                yield Candidate(path if len(components) == 1 else f"{path}.{place}", text.strip())


def _text(segment: Segment | None, field: int, component: int) -> str:
    repetitions = segment.repetitions(field) if segment is not None else []
    text = repetitions[0].text(component, 1).strip() if repetitions else ""
    return "" if text == NULL else text


def _shape(text: str) -> str:
    """What a text looks like without saying it: letters A, digits 9."""
    return re.sub(r"\d", "9", re.sub(r"[^\W\d_]", "A", text))


def _line(text: str, remark: str) -> str:
    return f"{text:<{WIDTH}} # {_clean(remark)}"


def _clean(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


def _quoted(text: str) -> str:
    return quoted(text, inside=True)
