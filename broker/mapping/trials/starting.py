"""A mapping begun from a sample message: an overlay with what the sample suggests, as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from broker.hl7.header import Header
from broker.hl7.message import Message
from broker.mapping.running.leaf import Traced
from broker.mapping.trials.candidates import (
    LIKELY,
    Candidate,
    modalities,
    numbers,
    stamps,
    text_of,
    titles,
    unknown_code,
)
from broker.mapping.trials.examples import shown_refusal
from broker.mapping.trials.showing import quoted
from broker.mapping.trials.sketching import Sketch
from broker.mapping.trials.trying import Trial, unranked
from broker.mapping.trials.updating import expectation
from broker.worklist.attributes import START_DATE, START_TIME, STEPS
from broker.worklist.changes import FILLS_GAPS, Action

ANY = "*"
WIDTH = 40
MOST = 5
"""Candidates that are named for one attribute beside the likeliest."""

MODALITY = f"{STEPS}/Modality"
STATION = f"{STEPS}/ScheduledStationAETitle"
START = f"{STEPS}/{START_DATE}"

OFFSET = re.compile(r".*[+-]\d{4}")

# What stands in for a value that only people know: `broker map check` refuses each of them.
WHICH_FIELD = "WHICH-FIELD-IS-IT"
WHICH_MODALITY = "WHICH-MODALITY-IS-IT"
WHICH_TITLE = "WHICH-AE-TITLE-IS-IT"
WHICH_ZONE = "WHICH-TIME-ZONE-IS-IT"
WHICH_ISSUER = "[WHICH-ISSUER-IS-IT]"

EXAMPLE = ("AccessionNumber", "PatientID", "IssuerOfPatientID", "RequestedProcedureDescription")
EXAMPLE_STEP = (
    "ScheduledProcedureStepID",
    "Modality",
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
)
"""What the example expects: what a worklist stands on, and no names."""


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
    ignored = [each for each in trial.outcomes if each.change.action is Action.IGNORE]
    if ignored and len(ignored) == len(trial.outcomes):
        yield "## The sample is ignored, so it tells little: begin from a new order, or let a line"
        yield f"## under `actions:` take it ({ignored[0].line.note or 'no line does'})."
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
    ids = [each.text(1, 1).strip() for each in repetitions]
    place = f"PID-3[{ids.index(taken.value) + 1}]" if taken.value in ids else taken.path
    whose = f"of {issuer.value}" if issuer and issuer.value else "without an issuer"
    return f"the patient ID is {place}, {whose}"


def _suggestions(sketch: Sketch, message: Message) -> Iterator[str]:
    used: set[str] = set()
    modality, station = sketch.traced(MODALITY), sketch.traced(STATION)
    now = sketch.traced("AccessionNumber")
    found = numbers(sketch, message)
    order = [*_found("AccessionNumber", "accession number", now, found, used, "  ")]
    step = [
        *_found(MODALITY, "modality", modality, modalities(sketch, message), used, "      "),
        *_found(STATION, "station's AE title", station, titles(sketch, message), used, "      "),
        *_start(sketch, message, used),
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


def _start(sketch: Sketch, message: Message, used: set[str]) -> Iterator[str]:
    """Where the start may be, if the sample says none where the base looks: it matters most."""
    now = sketch.traced(START)
    if now is not None and now.rank < FILLS_GAPS:
        return
    yield from _found(START, "start", None, stamps(message), used, "      ")
    yield "##       Till then it is when the message was sent; date and time are read apart:"
    yield f"#       {START_TIME}: {WHICH_FIELD}"


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
    code = text_of(message.first("OBR"), 4, 1)
    said = unknown_code(sketch, message) if modality else None
    if said and "modality" in sketch.tables:
        row = f"#   modality: {{rows: {{{_quoted(said.text)}: {WHICH_MODALITY}}}}}"
        yield _line(row, f"{said.path} says {said.text}, which is in no row")
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


def _line(text: str, remark: str) -> str:
    return f"{text:<{WIDTH}} # {_clean(remark)}"


def _clean(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


def _quoted(text: str) -> str:
    return quoted(text, inside=True)
