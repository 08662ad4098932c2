"""`broker trace`: one timeline of an order, through all doors."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.rows import Row, print_rows

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.cli.tracing import Moment


def register(program: typer.Typer) -> None:
    """Add `trace` to the program."""
    program.command("trace")(trace)


def trace(
    accession: Annotated[str, typer.Argument(help="An accession number, or ISSUER|ACCESSION.")],
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show what happened to an order, by time, without patient data; 1 when nothing is known."""
    from broker.cli.tracing import plain, traced

    settings = load_settings(config)
    with opened(settings) as store:
        found = traced(store, accession, [each.name for each in settings.destinations])
    if as_json:
        print_json(plain(found))
    elif found.moments:
        print_rows([_row(each, settings.timezone) for each in found.moments])
    if found.moments:
        return
    if not as_json:
        said = printable(f"nothing is known of the accession number {accession}")
        typer.echo(said, err=True)
    raise typer.Exit(NEGATIVE)


def _row(moment: Moment, zone: ZoneInfo) -> Row:
    again = f", till {_clock(moment.again, zone)}" if moment.again else ""
    return {
        "time": _clock(moment.at, zone),
        "door": moment.door,
        "peer": moment.peer,
        "what": moment.what,
        "outcome": f"{moment.outcome}{again}",
        "ms": "" if moment.ms is None else str(moment.ms),
        "id": moment.id,
    }


def _clock(epoch_s: float, zone: ZoneInfo) -> str:
    at = datetime.fromtimestamp(epoch_s, zone)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
