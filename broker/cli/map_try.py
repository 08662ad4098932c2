"""`broker map try`: what would become of a message, for its sender and for scanners, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.corpus import messages_in
from broker.cli.mappings import (
    NEGATIVE,
    AsJson,
    MappingsOption,
    bundle_of,
    configured,
    print_json,
)
from broker.cli.outline import printable

if TYPE_CHECKING:
    from broker.hl7.refusal import Refusal
    from broker.mapping.applying import Inbound, Leaf, Outcome, Traced
    from broker.mapping.foreseeing import Foreseen
    from broker.mapping.trying import Trial

LONGEST_RAW = 60


def register(verbs: typer.Typer) -> None:
    """Add `try` to the group."""
    verbs.command("try")(try_message)


def try_message(
    message: Annotated[Path, typer.Argument(help="A file with one HL7 message.")],
    mappings: MappingsOption = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Every step, what stays empty, and what a scanner reads."),
    ] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show what would become of a message, and why; 1 when it would be refused."""
    from datetime import UTC, datetime

    from broker.mapping.foreseeing import foreseen
    from broker.mapping.trying import try_message as tried

    settings = load_settings(config)
    bundle = bundle_of(mappings or configured(settings))
    try:
        raw = message.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{message}: {error.strerror}") from error
    now = datetime.now(UTC)
    bare = list(messages_in(raw))
    trial = tried(
        bundle, bare[0] if len(bare) == 1 else raw, received=now, site_zone=settings.timezone
    )
    future = foreseen(trial)
    refusal = trial.refusal or _refusal(future)
    payloads = _answers(trial, refusal, now)
    if as_json:
        print_json(_plain(trial, future, refusal, payloads))
    else:
        for line in _lines(trial, future, refusal, payloads, explain=explain):
            typer.echo(printable(line))
    if refusal:
        raise typer.Exit(NEGATIVE)


def _refusal(future: Foreseen) -> Refusal | None:
    """A refusal of the worklist the way the orders door answers it."""
    from broker.mapping.refusing import refusal_of

    return refusal_of(future.refused) if future.refused else None


def _answers(trial: Trial, refusal: Refusal | None, now: Any) -> list[str]:
    """The payloads that the sender would get, as text with one segment a line."""
    from broker.hl7.acknowledgement import answers

    payloads = answers(trial.header, refusal, stored=True, control_ids=iter("12"), now=now)
    return [payload.decode("latin-1").rstrip("\r") for payload in payloads]


# lines for people


def _lines(
    trial: Trial,
    future: Foreseen,
    refusal: Refusal | None,
    payloads: list[str],
    *,
    explain: bool,
) -> Iterator[str]:
    if trial.header:
        header = trial.header
        kind = "^".join(part for part in (header.message_type, header.trigger) if part)
        yield f"{kind} {header.control_id} from {header.sender}"
    if trial.mapping:
        repaired = ", although it is labelled otherwise" if trial.repaired else ""
        yield f"mapping {trial.mapping} ({trial.place}), read as {trial.codec}{repaired}"
    for outcome in trial.outcomes:
        yield from ("", *_outcome_lines(outcome, trial.inbound if explain else None))
    if refusal:
        above = ", and nothing of the above is done" if trial.outcomes else ""
        yield from ("", f"refused{above}: {refusal}")
    elif explain:
        yield from ("", *_scanner_lines(future))
    yield from ("", *_sender_lines(payloads, explain=explain))


def _outcome_lines(outcome: Outcome, explained: Inbound | None) -> Iterator[str]:
    note = f"   {outcome.line.note}" if outcome.line.note else ""
    yield f"{outcome.change.location}: {outcome.change.action}   {outcome.line.place}{note}"
    rows = [(each.keyword, _shown(each.value), _origin(each, explained)) for each in outcome.traced]
    if explained and outcome.traced:
        rows += _empty(explained, {each.keyword for each in outcome.traced})
    widest = max((len(_nested(name)) for name, _, _ in rows), default=0)
    for name, value, origin in rows:
        yield f"  {_nested(name):<{widest}}  {value}  {origin}"
    for warning in outcome.warnings:
        yield f"  warning: {warning}"


def _empty(inbound: Inbound, filled: set[str]) -> list[tuple[str, str, str]]:
    """What stays without a value, and which fields were empty or of no use."""
    from broker.mapping.coverage import leaves

    return [
        (leaf.name, "—", _emptiness(leaf)) for leaf in leaves(inbound) if leaf.name not in filled
    ]


def _emptiness(leaf: Leaf) -> str:
    from broker.worklist.attributes import ROWS

    fields = " ?? ".join(dict.fromkeys(origin.label for origin in leaf.places))
    place = Path(leaf.place).name
    row = ROWS.get(leaf.keyword)
    kind = f"   type {row.returned} in MWL" if row and row.returned in ("1", "1C") else ""
    return f"← nothing usable in {fields}   {place}{kind}" if fields else f"{place}{kind}"


def _nested(keyword: str) -> str:
    """A keyword inside a sequence the way DICOM prints it: >Modality."""
    *outer, name = keyword.split("/")
    return ">" * len(outer) + name


def _origin(traced: Traced, explained: Inbound | None) -> str:
    from broker.worklist.changes import FILLS_GAPS

    raw = traced.raw if len(traced.raw) <= LONGEST_RAW else traced.raw[:LONGEST_RAW] + "…"
    words = [f"{traced.path} '{raw}'"] if traced.path else []
    if explained:
        words = ["".join([*words, *_steps(traced)])] if words or traced.steps else []
    if traced.rank >= FILLS_GAPS:
        words.append("default, fills a gap only")
    elif traced.rank:
        words.append(f"choice {traced.rank + 1}")
    return f"← {', '.join(words)}   {Path(traced.place).name}" if words else Path(traced.place).name


def _steps(traced: Traced) -> Iterator[str]:
    for step in traced.steps:
        result = _shown(step.result)
        said = f"'{result}'" if step.result else "is in no row"
        yield f" → {step.call} {said}"


def _shown(value: Any) -> str:
    if value is None:
        return "erased"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "\\".join(_shown(each) for each in value)
    return str(value) if value != "" else "—"


def _scanner_lines(future: Foreseen) -> Iterator[str]:
    """The worklist as C-FIND gives it, were this message the first that ever came."""
    count = len(future.answers)
    yield f"a scanner that asks for everything reads {count} item{'s' if count != 1 else ''}"
    for note in future.notes:
        yield f"  note: {note}"
    for number, answer in enumerate(future.answers, 1):
        yield f"  item {number}"
        yield from (f"    {line}" for line in _attributes(answer))


def _attributes(attributes: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """Each attribute with its tag, in the order of tags; those without a value in one line."""
    empty = []
    for keyword in sorted(attributes, key=_tag):
        value = attributes[keyword]
        name = f"{_tag(keyword)} {'>' * depth}{keyword}"
        if value in ("", [], None):
            empty += [keyword] if _is_demanded(keyword) else []
        elif isinstance(value, list) and isinstance(value[0], dict):
            yield name
            for item in value:
                yield from _attributes(item, depth + 1)
        else:
            yield f"{name}  {_shown(value)}"
    if empty:
        yield f"{'>' * depth}without a value: {', '.join(empty)}"


def _is_demanded(keyword: str) -> bool:
    """Whether Table K.6-1 wants it in every answer; of the rest there are dozens."""
    from broker.worklist.attributes import ROWS

    return keyword in ROWS and ROWS[keyword].returned != "3"


def _tag(keyword: str) -> str:
    """The tag as DICOM prints it: (0008,0050)."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _sender_lines(payloads: list[str], *, explain: bool) -> Iterator[str]:
    codes = [_code(payload) for payload in payloads]
    yield f"the sender is answered {', then '.join(codes)}" if codes else "the sender hears nothing"
    if explain:
        for payload in payloads:
            yield from (f"  {segment}" for segment in payload.split("\r"))


def _code(payload: str) -> str:
    from broker.hl7.acknowledgement import read_acknowledgement

    return read_acknowledgement(payload.encode("latin-1")).code


# JSON


def _plain(
    trial: Trial, future: Foreseen, refusal: Refusal | None, payloads: list[str]
) -> dict[str, Any]:
    header = trial.header
    return {
        "control_id": header.control_id if header else None,
        "sender": header.sender if header else None,
        "mapping": trial.mapping,
        "codec": trial.codec,
        "repaired": trial.repaired,
        "refusal": str(refusal) if refusal else None,
        "outcomes": [_outcome(outcome) for outcome in trial.outcomes],
        "worklist": {"items": list(future.answers), "notes": list(future.notes)},
        "answers": payloads,
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    from dataclasses import asdict

    from broker.mapping.trying import unranked

    origins = [asdict(each) for each in outcome.traced]
    return {
        "action": outcome.change.action,
        "location": outcome.change.location,
        "rule": outcome.line.place,
        "attributes": unranked(outcome.change.attributes),
        "warnings": list(outcome.warnings),
        "origins": [{**each, "steps": [_step(step) for step in each["steps"]]} for each in origins],
    }


def _step(step: dict[str, Any]) -> dict[str, str]:
    return {"call": step["call"], "result": _shown(step["result"]) if step["result"] else ""}
