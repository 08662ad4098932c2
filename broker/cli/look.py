"""`broker list` and `broker show`: what the store holds, for the people who run the broker."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened

if TYPE_CHECKING:
    from broker.settings import Settings

NOT_FOUND = 1

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(program: typer.Typer) -> None:
    """Add `list` and `show` to the program."""
    program.command("list")(list_steps)
    program.command("show")(show)


def list_steps(
    aet: Annotated[str, typer.Option(help="The scheduled station's AE title.")] = "",
    date: Annotated[str, typer.Option(help="YYYYMMDD, a range, or today.")] = "",
    modality: Annotated[str, typer.Option(help="e.g. CT")] = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List the open steps, by start; 1 when there is none."""
    from broker.cli.looking import open_steps

    settings = load_settings(config)
    dates = _dates(date, settings)
    with opened(settings) as store:
        rows = open_steps(store, station_ae=aet, dates=dates, modality=modality)
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif rows:
        _print_rows(rows)
    else:
        typer.echo("no open step", err=True)
    if not rows:
        raise typer.Exit(NOT_FOUND)


def show(
    accession: Annotated[str, typer.Argument(help="An accession number, or ISSUER|ACCESSION.")],
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show an order: procedures, steps, what scanners did, status messages not yet taken."""
    from broker.cli.looking import orders_of
    from broker.cli.outline import outline

    settings = load_settings(config)
    with opened(settings) as store:
        found = orders_of(store, accession, [ris.name for ris in settings.ris])
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
    elif found:
        typer.echo("\n\n".join("\n".join(outline(order)) for order in found))
    else:
        typer.echo(f"no order has the accession number {accession}", err=True)
    if not found:
        raise typer.Exit(NOT_FOUND)


def _dates(said: str, settings: Settings) -> str:
    """A DA matching key; `today` is the site's. Anything else unreadable is a usage error."""
    from datetime import datetime

    from broker.worklist.ranges import date_range

    dates = f"{datetime.now(settings.timezone):%Y%m%d}" if said == "today" else said
    if dates and date_range(dates) is None:
        raise typer.BadParameter(
            "a date is YYYYMMDD, YYYYMMDD-YYYYMMDD or today", param_hint="date"
        )
    return dates


def _print_rows(rows: list[dict[str, str]]) -> None:
    """A table for a person at a terminal, else one line with tabs for each step."""
    from broker.cli.outline import printable

    lines = [[printable(value) for value in row.values()] for row in rows]
    if not sys.stdout.isatty():
        for line in lines:
            typer.echo("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "), overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)
