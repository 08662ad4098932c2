"""Dead letters to a destination, a row each, or one of them whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from broker.cli import log
from broker.cli.dead.undelivered import without_patient
from broker.cli.outline import printable
from broker.cli.printing import print_json
from broker.cli.rows import print_rows

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.store.dead import Letter
    from broker.store.outbox import Event


def show(letters: Sequence[Letter], zone: ZoneInfo, *, whole: bool, as_json: bool) -> None:
    """Print a group without patient data, or one letter with all that is known of it."""
    rows = [facts(each, zone) for each in letters]
    if whole:
        rows[0] |= {"words": letters[0].words, "message": _content(letters[0])}
    if as_json:
        print_json(rows[0] if whole else rows)
    elif not whole:
        print_rows([{name: str(value) for name, value in row.items()} for row in rows])
    else:
        for line in _lines(rows[0]):
            typer.echo(printable(line))


def facts(letter: Letter, zone: ZoneInfo) -> dict[str, Any]:
    """What a list may say of a letter."""
    event = letter.event
    return {
        "id": letter.id,
        "to": letter.to,
        "order": letter.box,
        "status": event.note if event else "",
        "mapping": event.mapping if event else "",
        "arose": log.iso(int(event.created * 1000), zone) if event else "",
        "parked": log.iso(int(letter.parked * 1000), zone),
        "cause": letter.cause,
        "said": without_patient(letter),
        "holds": letter.holds,
        "overtaken": letter.overtaken,
    }


def content_of(event: Event) -> str:
    """A message a segment a line; a data set by its elements."""
    if event.kind == "hl7":
        return event.payload.decode("utf-8", "backslashreplace").replace("\r", "\n").rstrip("\n")
    from broker.dicom.identifier import UnreadableIdentifier, decode

    try:
        said = decode(event.payload, event.facts["syntax"]).keys
    except UnreadableIdentifier:
        return event.payload.hex()
    return "\n".join(f"{keyword}: {value}" for keyword, value in said.items())


def _content(letter: Letter) -> str:
    return content_of(letter.event) if letter.event else letter.damaged.hex()


def _lines(row: dict[str, Any]) -> Iterator[str]:
    message = row.pop("message")
    for name, value in row.items():
        if value not in ("", False):
            yield f"{name:10}{'yes' if value is True else value}"
    yield ""
    yield from message.split("\n")
