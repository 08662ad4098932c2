"""`broker list` and `broker show`: what the store holds, for the people who run the broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import auditing
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.rows import print_rows

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store.executors import Store


def register(program: typer.Typer) -> None:
    """Add `list` and `show` to the program."""
    program.command("list")(list_steps)
    program.command("show")(show)


def list_steps(
    aet: Annotated[str, typer.Option(help="What this AE gets.")] = "",
    query: Annotated[
        Path | None, typer.Option(help="With --aet: a query as a DICOM file, not its last one.")
    ] = None,
    station: Annotated[str, typer.Option(help="The scheduled station's AE title.")] = "",
    date: Annotated[str, typer.Option(help="YYYYMMDD, a range, or today.")] = "",
    modality: Annotated[str, typer.Option(help="e.g. CT")] = "",
    invisible: Annotated[
        bool, typer.Option("--invisible", help="The steps to be done that no known AE can get.")
    ] = False,
    unended: Annotated[
        bool, typer.Option("--unended", help="The steps that began long ago and have no end.")
    ] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List the open steps, by start, or exactly what an AE gets; 1 when there is none."""
    from broker.cli.looking import open_steps

    if query and not aet:
        raise typer.BadParameter("whose query? say --aet", param_hint="--query")
    if (invisible or unended) and any((aet, station, date, modality, invisible and unended)):
        hint = "--invisible" if invisible else "--unended"
        raise typer.BadParameter("it is a list by itself", param_hint=hint)
    settings = load_settings(config)
    dates = _dates(date, settings)
    with opened(settings) as store:
        rows: list[dict[str, Any]]
        if invisible:
            rows = _invisible(store, settings)
        elif unended:
            rows = _unended(store, settings)
        elif aet:
            keys = {STATION: station, START_DATE: dates, MODALITY: modality}
            rows = _as_received(store, settings, aet, query, keys, as_json=as_json)
        else:
            rows = [*open_steps(store, station_ae=station, dates=dates, modality=modality)]
    named = [(row["patient_id"], row["accession"]) for row in rows]
    auditing.of_reading(settings, "list", named)
    _tell(rows, f"{aet} gets no step" if aet else "no such step", as_json=as_json)


def _tell(rows: list[dict[str, Any]], none: str, *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    elif rows:
        print_rows(rows)
    else:
        typer.echo(none, err=True)
    if not rows:
        raise typer.Exit(NEGATIVE)


def _invisible(store: Store, settings: Settings) -> list[dict[str, Any]]:
    """Rows of the steps that nobody gets, each with the AE that is nearest and what keeps it."""
    from datetime import datetime

    from broker.cli.looking import row_of
    from broker.updates.unseen import everywhere, seen_by_nobody, watchers

    now = datetime.now(settings.timezone)
    known = watchers(store, settings.dicom.directory(settings.timezone), now)
    if not known:
        typer.echo("no AE is known: dicom.aes names none, and none has asked lately", err=True)
    found = [
        {**row_of(item), "nearest": why.aet, "reason": why.reason, "why": why.why}
        for item, why in seen_by_nobody(everywhere(store) if known else (), known, now)
    ]
    return sorted(found, key=lambda row: (row["start"], row["accession"], row["step"]))


def _unended(store: Store, settings: Settings) -> list[dict[str, Any]]:
    """Rows of the steps that began and were to start longer ago than mpps.ends_within."""
    from datetime import datetime

    from broker.cli.looking import row_of
    from broker.updates.unseen import everywhere
    from broker.worklist.unended import is_unended

    before = datetime.now(settings.timezone) - settings.mpps.ends_within
    return [row_of(item) for item in everywhere(store) if is_unended(item, before)]


STATION, START_DATE = "ScheduledStationAETitle", "ScheduledProcedureStepStartDate"
MODALITY = "Modality"


def _as_received(
    store: Store,
    settings: Settings,
    aet: str,
    query: Path | None,
    keys: dict[str, str],
    *,
    as_json: bool,
) -> list[dict[str, Any]]:
    """Rows of what the door answers this AE; as JSON each with the `answer` that goes out.

    A query that the door refuses ends the command with 1.
    """
    from broker.cli import asking
    from broker.cli.looking import rows_of

    said = {keyword: value for keyword, value in keys.items() if value}
    question = asking.question_of(store, settings, aet, query, said)
    got = asking.put(settings, question)
    typer.echo(asking.described(question, settings.timezone), err=True)
    if question.rejected:
        typer.echo(question.rejected, err=True)
        raise typer.Exit(NEGATIVE)
    if got.comment:
        typer.echo(f"the broker answers {got.told.status:04X}: {got.comment}", err=True)
        raise typer.Exit(NEGATIVE)
    rows = zip(rows_of(store, got.told.answered), got.answers, strict=True)
    return [{**row, **({"answer": answer} if as_json else {})} for row, answer in rows if row]


def show(
    accession: Annotated[str, typer.Argument(help="An accession number, or ISSUER|ACCESSION.")],
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show an order: procedures, steps, what scanners did, status messages not yet taken."""
    from broker.cli.looking import orders_of
    from broker.cli.outline import outline
    from broker.worklist.identity import parted

    settings = load_settings(config)
    with opened(settings) as store:
        found = orders_of(store, accession, [each.name for each in settings.destinations])
    named = [(parted(each["patient"]["key"])[1], each["accession"]) for each in found]
    auditing.of_reading(settings, "show", named)
    if as_json:
        print_json(found)
    elif found:
        typer.echo("\n\n".join("\n".join(outline(order, settings.timezone)) for order in found))
    else:
        remedy = f"see `broker trace {accession}` for what came of it"
        typer.echo(f"no order has the accession number {accession}; {remedy}", err=True)
    if not found:
        raise typer.Exit(NEGATIVE)


def _dates(said: str, settings: Settings) -> str:
    """A DA matching key; `today` is the site's. Anything else unreadable is a usage error."""
    from datetime import datetime

    from broker.worklist.query.ranges import date_range

    dates = f"{datetime.now(settings.timezone):%Y%m%d}" if said == "today" else said
    if dates and date_range(dates) is None:
        raise typer.BadParameter(
            "a date is YYYYMMDD, YYYYMMDD-YYYYMMDD or today", param_hint="date"
        )
    return dates
