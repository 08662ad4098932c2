"""`broker map try`: what would become of a message, for its sender and for scanners, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.corpus import bytes_of, only_message
from broker.cli.explaining import MADE_OF, near, outcome_lines, shown, unfinished_lines
from broker.cli.map.trying_event import event_of, try_event
from broker.cli.mappings import MappingsOption, PortOption, bundle_meant
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from broker.hl7.refusal import Refusal
    from broker.mapping.bundle import Bundle
    from broker.mapping.running.applying import Outcome
    from broker.mapping.trials.foreseeing import Foreseen
    from broker.mapping.trials.trying import Trial
    from broker.settings import Settings


def register(verbs: typer.Typer) -> None:
    """Add `try` to the group."""
    verbs.command("try")(try_message)


def try_message(
    message: Annotated[
        Path, typer.Argument(help="A file with one HL7 message, or with an event in JSON.")
    ],
    mappings: MappingsOption = None,
    port: PortOption = 0,
    outbound: Annotated[
        str, typer.Option("--outbound", help="For an event: the mapping that goes out.")
    ] = "",
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Every step, what stays empty, and what a scanner reads."),
    ] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show what would become of a message, and why; 1 when it would be refused."""
    settings = load_settings(config)
    bundle = bundle_meant(mappings, settings)
    if (event := event_of(bytes_of(message))) is not None:
        try_event(bundle, event, outbound, explain=explain, as_json=as_json)
        return
    _try(bundle, only_message(message), settings, port, explain=explain, as_json=as_json)


def _try(
    bundle: Bundle, raw: bytes, settings: Settings, port: int, *, explain: bool, as_json: bool
) -> None:
    """Print what would become of a message; exit 1 when all or a part would be refused."""
    from datetime import datetime

    from broker.mapping.trials.foreseeing import foreseen
    from broker.mapping.trials.trying import try_message as tried

    now = datetime.now(settings.timezone)  # as the orders door tells the time
    trial = tried(bundle, raw, received=now, site_zone=settings.timezone, port=port)
    future = foreseen(trial)
    refusal = trial.refusal or _refusal(future)
    payloads = _answers(trial, refusal or future.left_out, now)
    if trial.header and not port:
        _tell_of_ports(bundle)
    if as_json:
        print_json(_plain(trial, future, refusal, payloads))
    else:
        for line in _lines(trial, future, refusal, payloads, explain=explain):
            typer.echo(printable(line))
    if refusal or future.left_out:
        raise typer.Exit(NEGATIVE)


def _tell_of_ports(bundle: Bundle) -> None:
    """A message comes to some port; without a word of it the mappings for ports stay aside."""
    aside = [f"{each.name} ({_listed(each.ports)})" for each in bundle.inbound if each.ports]
    if aside:
        typer.echo(
            f"without --port, mappings for a port are not asked: {', '.join(aside)}", err=True
        )


def _listed(ports: Iterable[int]) -> str:
    return ", ".join(f"{port}" for port in sorted(ports))


def _refusal(future: Foreseen) -> Refusal | None:
    """A refusal of the worklist the way the orders door answers it."""
    from broker.mapping.running.refusing import refusal_of

    return refusal_of(future.refused) if future.refused else None


def _answers(trial: Trial, refusal: Refusal | None, now: Any) -> list[str]:
    """The payloads that the sender would get, as text with one segment a line."""
    from broker.hl7.acknowledgement import answers

    mode = trial.source.ack if trial.source else "auto"
    payloads = answers(
        trial.header, refusal, stored=True, control_ids=iter("12"), now=now, mode=mode
    )
    codec = trial.codec or "latin-1"
    return [payload.decode(codec, "replace").rstrip("\r") for payload in payloads]


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
        yield f"mapping {trial.mapping} ({near(trial.place)}), read as {trial.codec}{repaired}"
    for outcome in trial.outcomes:
        yield from ("", *outcome_lines(outcome, trial.inbound if explain else None))
    if refusal:
        if explain and trial.unfinished:
            yield from ("", *unfinished_lines(trial.unfinished))
        above = ", and nothing of the above is done" if trial.outcomes else ""
        yield from ("", f"refused{above}: {refusal}")
    elif future.left_out:
        yield from ("", f"refused in part: {future.left_out}")
        yield from ("", *_scanner_lines(future, _made(trial)))
    elif trial.held:
        yield from ("", *_held_lines(trial))
    elif explain:
        yield from ("", *_scanner_lines(future, _made(trial)))
    yield from ("", *_sender_lines(payloads, explain=explain))


def _held_lines(trial: Trial) -> Iterator[str]:
    yield "held: the message is accepted and kept, but is on no list till its codes are in a table"
    for each in trial.held:
        yield f"  table '{each.table}' has no '{each.key}': broker unmapped assign"
    yield "a scanner that asks for everything reads nothing of it"


def _made(trial: Trial) -> frozenset[str]:
    """The attributes that the worklist makes, since no message said them."""
    said = {each.keyword for outcome in trial.outcomes for each in outcome.traced}
    silent = {each.keyword for outcome in trial.outcomes for each in outcome.silent}
    return frozenset(keyword.rpartition("/")[2] for keyword in silent - said) & MADE_OF.keys()


def _scanner_lines(future: Foreseen, made: frozenset[str]) -> Iterator[str]:
    """The worklist as C-FIND gives it, were this message the first that ever came."""
    count = len(future.answers)
    yield f"a scanner that asks for everything reads {count} item{'s' if count != 1 else ''}"
    for note in future.notes:
        yield f"  note: {note}"
    for number, answer in enumerate(future.answers, 1):
        yield f"  item {number}"
        yield from (f"    {line}" for line in _attributes(answer, made))


def _attributes(attributes: dict[str, Any], made: frozenset[str], depth: int = 0) -> Iterator[str]:
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
                yield from _attributes(item, made, depth + 1)
        else:
            by = f"  ← made by the worklist of {MADE_OF[keyword]}" if keyword in made else ""
            yield f"{name}  {shown(value)}{by}"
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
        "held": [{"table": each.table, "key": each.key} for each in trial.held],
        "outcomes": [plain_outcome(outcome) for outcome in trial.outcomes],
        "worklist": {"items": list(future.answers), "notes": list(future.notes)},
        "answers": payloads,
    }


def plain_outcome(outcome: Outcome) -> dict[str, Any]:
    from dataclasses import asdict

    from broker.mapping.trials.trying import unranked

    origins = [asdict(each) for each in outcome.traced]
    return {
        "action": outcome.change.action,
        "location": outcome.change.location,
        "rule": outcome.line.place,
        "attributes": unranked(outcome.change.attributes),
        "numbering": outcome.change.numbering or None,
        "warnings": list(outcome.warnings),
        "origins": [{**each, "steps": [_step(step) for step in each["steps"]]} for each in origins],
    }


def _step(step: dict[str, Any]) -> dict[str, Any]:
    return {**step, "result": shown(step["result"]) if step["result"] else ""}
