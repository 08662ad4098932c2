"""A mapping begun from a sample message: an overlay with what the sample suggests, as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from broker.hl7.header import Header
from broker.hl7.message import NULL, Message, Segment
from broker.mapping.assigning import rows_of
from broker.mapping.bundle import Bundle
from broker.mapping.running.leaf import Traced
from broker.mapping.trials.examples import shown_refusal
from broker.mapping.trials.showing import quoted
from broker.mapping.trials.trying import Trial, try_message, unranked
from broker.mapping.trials.updating import expectation
from broker.worklist.attributes import STEPS

ANY = "*"
WIDTH = 40
MOST = 5
"""Candidates that are named for one attribute beside the likeliest."""

MODALITY = f"{STEPS}/Modality"
STATION = f"{STEPS}/ScheduledStationAETitle"

# What stands in for a value that only people know: `broker map check` refuses each of them.
WHICH_FIELD = "WHICH-FIELD-IS-IT"
WHICH_MODALITY = "WHICH-MODALITY-IS-IT"
WHICH_TITLE = "WHICH-AE-TITLE-IS-IT"
WHICH_ZONE = "WHICH-TIME-ZONE-IS-IT"
WHICH_ISSUER = "[WHICH-ISSUER-IS-IT]"

# Where senders put them, and how likely; Z segments may hold anything.
NUMBERS = {
    **{"IPC-1": 4, "OBR-18": 3, "OBR-19": 3, "OBR-20": 3, "OBR-17": 2, "OBR-3": 1, "ORC-3": 1},
    **{"OBR-21": 1, "OBR-2": 0, "ORC-2": 0},
}
STATIONS = {"IPC-9": 4, "OBR-21": 3, "OBR-19": 2, "OBR-20": 2, "OBR-18": 2}
CODES = ("IPC", "OBR")
IN_Z = 2
LIKELY = 3
"""From here on a candidate is offered as a line; below, a person must choose."""

NUMBER = re.compile(r"(?=(.*\d){4})(?![\d.]*\.[\d.]*\.)[A-Za-z0-9./_-]{4,64}")  # no UID
NAMED_ACCESSION = re.compile(r"(?i)acc")
NAMED_NUMBER = re.compile(r"(?i)acc(n|no|ession)?[-_./]?\d[A-Za-z0-9./_-]{0,60}")
TITLE = re.compile(r"(?=.*[A-Z])(?=.*[\d_]|[A-Z]{4,})(?!(.*\d){4})[A-Z0-9_-]{3,16}")  # AE
STAMP = re.compile(r"(19|20)\d{6}(\d{4,6})?.*")
OFFSET = re.compile(r".*[+-]\d{4}")
FIRST_WORD = re.compile(r"([A-Za-z]{2,})(?=[\s-])")  # of a text, not of a number
SHORT = 16

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
class Sketch:
    """What a mapping begins from: the sample under its base, strictly and with nothing refused.

    `tables` are the rows of the base's tables by name; `port` is where the sample came to, or 0.
    """

    trial: Trial
    read: Trial
    tables: Mapping[str, Mapping[str, str]]
    port: int = 0

    def traced(self, keyword: str) -> Traced | None:
        """How the base fills an attribute, None where the sample gives it no value."""
        found = (each for outcome in self.read.outcomes for each in outcome.traced)
        return next((each for each in found if each.keyword == keyword), None)


@dataclass(frozen=True)
class Candidate:
    """An expression that may give what is looked for, the field it reads, and what stands there."""

    path: str
    text: str
    likely: int = 0
    expression: str = ""

    @property
    def line(self) -> str:
        """What stands behind the keyword."""
        return self.expression or self.path


def sketched(
    bundle: Bundle, raw: bytes, *, received: datetime, site_zone: ZoneInfo, port: int = 0
) -> Sketch:
    """Try a sample for a mapping that is to be begun from it."""
    trial, read = (
        try_message(bundle, raw, received=received, site_zone=site_zone, port=port, lenient=lenient)
        for lenient in (False, True)
    )
    tables = {
        name: rows_of(bundle, name, [trial.mapping])
        for each in bundle.loaded
        if each.mapping is trial.inbound
        for name in each.file.tables
    }
    return Sketch(trial, read, tables, port)


def name_of(header: Header) -> str:
    """A name for the mapping of a sender: `ris-north`."""
    words = re.findall(r"[a-z0-9]+", header.sender.lower())
    return "-".join(words) or "site"


def sender_of(header: Header) -> tuple[str, str]:
    """The sender as `accept` names it; a part that a mapping cannot name is any."""
    return _named(header.sending_application), _named(header.sending_facility)


def starter(sketch: Sketch, name: str, base: str, message_file: str) -> str:
    """The overlay as YAML text; each suggestion is a comment, and all of them together are valid.

    `message_file` is where the example finds the sample, from the mapping's folder. Identifiers are
    shown as their shape (`AA99`), so that the mapping itself holds no patient's.
    """
    trial = sketch.trial
    if trial.header is None or trial.message is None or trial.source is None:
        raise ValueError("a mapping begins from a message that was read")
    blocks = [
        _head(sketch, trial.header, name, base),
        _source(sketch, trial.header, trial.message),
        _suggestions(sketch, trial.message),
        _examples(trial, message_file),
    ]
    return "\n\n".join("\n".join(block) for block in map(list, blocks)) + "\n"


def _head(sketch: Sketch, header: Header, name: str, base: str) -> Iterator[str]:
    trial, sender = sketch.trial, "|".join(sender_of(header))
    yield f"## What is different in messages of {sender}; the rest is inherited from {base}."
    yield "## Lines that begin with one # are what the sample suggests: take the # away where it is"
    yield "## right. What nobody can guess is WHICH-…-IS-IT, and `broker map check` asks for it."
    yield "## `broker map try SAMPLE --explain` shows what comes out; `broker map test` guards it."
    if trial.refusal:
        yield f"## As it stands the sample is refused: {trial.refusal.text} ({_where(trial)})."
    yield f"mapping: {_quoted(name)}"
    yield "format: 1"
    yield f"extends: {base}"
    yield "accept:"
    yield f"  senders: [{_quoted(sender)}]"
    if sketch.port and sender_of(header) == (ANY, ANY):
        yield _line(f"  ports: [{sketch.port}]", "the sample names no sender, so its port does")


def _named(part: str) -> str:
    """A part of a sender as a mapping can name it: headers are compared byte for byte."""
    return part if part and part.isascii() and part.isprintable() else ANY


def _where(trial: Trial) -> str:
    location = trial.refusal.location if trial.refusal else None
    return f"{location}" if location else "the whole message"


def _source(sketch: Sketch, header: Header, message: Message) -> Iterator[str]:
    trial = sketch.trial
    issuer = trial.source.issuer if trial.source else ""
    scoped = f"scopes numbers and patient IDs: MSH-4; {_identifier(sketch, message)}"
    yield "source:"
    if issuer:
        yield _line(f"  issuer: {_quoted(issuer)}", scoped)
    else:
        yield _line("  when_store_down: close", "an issuer is missing: MSH-4 is empty")
        yield _line(f"  # issuer: {WHICH_ISSUER}", scoped)
    if not OFFSET.fullmatch(header.sent):
        hint = "as Europe/Berlin: MSH-7 has no offset; without it the site's zone"
        yield _line(f"  # timezone: {WHICH_ZONE}", hint)
    if trial.repaired or not header.charsets:
        label = header.charsets[0] if header.charsets else "empty"
        yield _line(
            f"  # charset: {{unlabelled: [{trial.codec}]}}",
            f"MSH-18 is {label}; the sample was read as {trial.codec}",
        )


def _identifier(sketch: Sketch, message: Message) -> str:
    """Which identifier the mapping takes, and whose it is."""
    taken, issuer = sketch.traced("PatientID"), sketch.traced("IssuerOfPatientID")
    segment = message.first("PID")
    if taken is None or segment is None:
        return "the mapping takes no patient ID from the sample"
    repetitions = segment.repetitions(3)
    numbers = [each.text(1, 1).strip() for each in repetitions]
    place = f"PID-3[{numbers.index(taken.value) + 1}]" if taken.value in numbers else taken.path
    whose = f"of {issuer.value}" if issuer and issuer.value else "without an issuer"
    return f"the patient ID is {place}, {whose}"


def _suggestions(sketch: Sketch, message: Message) -> Iterator[str]:
    used: set[str] = set()
    modality, station = sketch.traced(MODALITY), sketch.traced(STATION)
    numbers, titles = _numbers(sketch, message), _titles(sketch, message)
    modalities = _modalities(sketch, message)
    now = sketch.traced("AccessionNumber")
    order = [*_found("AccessionNumber", "accession number", now, numbers, used, "  ")]
    step = [
        *_found(MODALITY, "modality", modality, modalities, used, "      "),
        *_found(STATION, "station's AE title", station, titles, used, "      "),
    ]
    if any(map(_is_line, [*order, *step])):
        yield "# attributes:"
    yield from order
    if any(map(_is_line, step)):
        yield from (f"#   {STEPS}:", "#     item:")
    yield from step
    rows = list(_tables(sketch, message, modality is None, station is None))
    if rows:
        yield from ("", "# tables:", *rows)


def _is_line(line: str) -> bool:
    return not line.startswith("##")


def _found(
    keyword: str,
    words: str,
    now: Traced | None,
    candidates: list[Candidate],
    used: set[str],
    indent: str,
) -> Iterator[str]:
    """Where an attribute is from now; else the likeliest place as a line, others as a remark."""
    own = {now.path, now.path.removesuffix(".1")} if now else set()
    free = [each for each in candidates if each.path not in used | own]
    name = keyword.rpartition("/")[2]
    if now:
        state = f"is from {now.path}" if now.path else "is a default"
        yield f"## {indent}The {words} {state}.{_others(free)}"
        return
    if not free:
        yield f"## {indent}The {words} is not found, and nothing looks like one."
        return
    best, rest = free[0], free[1:]
    if best.likely < LIKELY:
        yield f"## {indent}The {words} is not found.{_others(free)}"
        yield f"# {indent}{name}: {WHICH_FIELD}"
        return
    used.add(best.path)
    yield f"## {indent}The {words} is not found where the base looks.{_others(rest)}"
    yield f"# {indent}{_line(f'{name}: {best.line}', best.text)}"


def _others(candidates: list[Candidate]) -> str:
    shown = ", ".join(f"{each.line} ({_clean(each.text)})" for each in candidates[:MOST])
    return f" It may be in {shown}." if shown else ""


def _tables(sketch: Sketch, message: Message, modality: bool, station: bool) -> Iterator[str]:
    """Rows for what no field says, with placeholders: a wrong guess would be a wrong worklist."""
    code = _text(message.first("OBR"), 4, 1)
    if modality and "procedure" in sketch.tables:
        row = f"#   procedure: {{rows: {{{_quoted(code or 'CODE')}: {WHICH_MODALITY}}}}}"
        yield _line(row, "OBR-4.1, where no field says the modality")
    if station and "station" in sketch.tables:
        row = f"#   station: {{rows: {{CT: {WHICH_TITLE}}}}}"
        yield _line(row, "where no field says the station: one row for each modality")


def _examples(trial: Trial, message_file: str) -> Iterator[str]:
    yield "## What must come out; `broker map test --update` writes it anew after a change above."
    yield "## The sample beside it should name no real patient."
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


def _numbers(sketch: Sketch, message: Message) -> list[Candidate]:
    """Texts that look like accession numbers, the likeliest first."""
    others = map(sketch.traced, ("PatientID", "AdmissionID"))
    taken = {each.value for each in others if each}
    found = []
    for each in (*_at(message, NUMBERS), *_in_z_segments(message)):
        if STAMP.fullmatch(each.text) or each.text in taken:
            continue
        if not (NUMBER.fullmatch(each.text) or NAMED_NUMBER.fullmatch(each.text)):
            continue
        if each.path.startswith("OBR-17") and not re.search("[A-Za-z]", each.text):
            continue  # by the standard a telephone number
        likely = each.likely + 2 * bool(NAMED_ACCESSION.match(each.text))
        likely += each.likely == IN_Z  # four digits at least, in a segment of the sender's own
        long = f"{{from: {each.path}, too_long: surrogate}}" if len(each.text) > SHORT else ""
        found.append(Candidate(each.path, _shape(each.text), likely, long))
    return sorted(found, key=lambda each: -each.likely)


def _titles(sketch: Sketch, message: Message) -> list[Candidate]:
    """Texts that look like AE titles or rooms, the likeliest first."""
    said = {key.upper() for key in sketch.tables.get("modality", {})}
    found = [
        Candidate(each.path, _shape(each.text), each.likely + 1)
        for each in (*_at(message, STATIONS), *_in_z_segments(message))
        if TITLE.fullmatch(each.text)
        and not NAMED_NUMBER.fullmatch(each.text)
        and each.text.upper() not in said
    ]
    return sorted(found, key=lambda each: -each.likely)


def _modalities(sketch: Sketch, message: Message) -> list[Candidate]:
    """Texts that the base's table of modalities has, or whose first word it has."""
    rows = {key.upper(): value for key, value in sketch.tables.get("modality", {}).items()}
    segments = [each for name in CODES for each in message.all(name)[:1]]
    found = []
    for each in (*(at for segment in segments for at in _in(segment)), *_in_z_segments(message)):
        word = FIRST_WORD.match(each.text)
        if rows.get(each.text.upper()):
            call, likely, shown = " | lookup(modality)", LIKELY + 1, each.text
        elif word and rows.get(word[0].upper()):
            call = " | extract('^[A-Za-z]+') | lookup(modality)"
            # A description may begin with any word: only a field of the sender's own is likely.
            likely = LIKELY if each.path.startswith("Z") else LIKELY - 1
            shown = f"begins with {word[0]}"
        else:
            continue
        found.append(Candidate(each.path, shown, likely, f"{each.path}{call}"))
    return sorted(found, key=lambda each: -each.likely)


def _at(message: Message, places: Mapping[str, int]) -> Iterator[Candidate]:
    for place, likely in places.items():
        name, _, number = place.partition("-")
        text = _text(message.first(name), int(number), 1)
        if text:
            whole = _text(message.first(name), int(number), 2) == ""
            yield Candidate(place if whole else f"{place}.1", text, likely)


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
                named = path if len(components) == 1 else f"{path}.{place}"
                yield Candidate(named, text.strip(), IN_Z)


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
