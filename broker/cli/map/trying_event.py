"""`broker map try EVENT.json`: the message that a RIS would be sent about what a scanner did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, print_json

if TYPE_CHECKING:
    from broker.mapping.bundle import Bundle, Loaded

CONTROL_ID = "TRIED"


@dataclass(frozen=True)
class Row:
    """One field with its value in the message, the expression it comes from, and the line."""

    field: str
    value: str
    source: str
    place: str


def event_of(raw: bytes) -> dict[str, Any] | None:
    """The event in a JSON file, by DICOM keyword; None for what is no JSON object."""
    if not raw.lstrip().startswith(b"{"):
        return None
    try:
        return dict(json.loads(raw))
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"is not JSON: {error}", param_hint="MESSAGE") from error


def try_event(
    bundle: Bundle, event: dict[str, Any], name: str, *, explain: bool, as_json: bool
) -> None:
    """Show what becomes of an event; 1 when hl7apy does not accept the message."""
    from broker.mapping.standards.judging import judged

    mapping, loaded = _outbound(bundle, name)
    text = bundle.outbound[mapping].render(event, control_id=CONTROL_ID, now=datetime.now(UTC))
    errors, rows = judged(text), list(_rows(loaded, text))
    if as_json:
        fields = [asdict(row) for row in rows]
        print_json({"mapping": mapping, "message": text, "fields": fields, "errors": errors})
    else:
        typer.echo(f"mapping {mapping} ({loaded.path})\n")
        for line in _lines(text, rows if explain else (), errors):
            typer.echo(printable(line))
    if errors:
        raise typer.Exit(NEGATIVE)


def _outbound(bundle: Bundle, name: str) -> tuple[str, Loaded]:
    """The outbound mapping of a name; without a name there must be only one."""
    from broker.mapping.text.nearest import did_you_mean

    known = sorted(bundle.outbound)
    chosen = name or (known[0] if len(known) == 1 else "")
    if chosen not in bundle.outbound:
        hint = did_you_mean(chosen, known) or f"name one of {', '.join(known) or 'none'}"
        fact = f"there is no mapping '{name}' that goes out" if name else "an event needs a mapping"
        raise typer.BadParameter(f"{fact}; {hint}", param_hint="--outbound")
    return chosen, next(each for each in bundle.loaded if each.file.mapping == chosen)


def _rows(loaded: Loaded, text: str) -> Iterator[Row]:
    from broker.mapping.trials.examples import field_of

    fields = loaded.root.at(["fields"])
    for key, node in fields.entries.items():
        said = node.entries
        source = node.text or (said["from"].text if "from" in said else "") or ""
        if "const" in said:
            source = f"'{said['const'].text}'"
        place = Path(fields.key_place(key)).name
        yield Row(key, field_of(text, key) or "", source, place)


def _lines(text: str, rows: Sequence[Row], errors: Sequence[str]) -> Iterator[str]:
    for row in rows:
        yield f"  {row.field:<10} {row.value or '—'}  ← {row.source}   {row.place}"
    if rows:
        yield ""
    yield "the RIS is sent"
    yield from (f"  {segment}" for segment in text.rstrip("\r").split("\r"))
    yield from (f"hl7apy does not accept it: {error}" for error in errors)
