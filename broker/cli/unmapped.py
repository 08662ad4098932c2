"""`broker unmapped`: codes that no table has, the messages that wait for them, and what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import auditing
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.login import who
from broker.cli.map.deploy import refused, taken
from broker.cli.mappings import bundle_of
from broker.cli.opening import opened, store_url
from broker.cli.outline import moment, printable
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.replay import outcome_of

if TYPE_CHECKING:
    from broker.mapping.assigning import Sheet
    from broker.mapping.bundle import Bundle
    from broker.orders.replaying import Replayed
    from broker.settings import Settings
    from broker.store.executors import Store
    from broker.store.held import Waiting

STATION = "ScheduledStationAETitle"

app = typer.Typer(
    invoke_without_command=True, help="List the codes that messages wait for; assign them."
)


def register(program: typer.Typer) -> None:
    """Add `unmapped` to the program."""
    app.callback()(unmapped)
    app.command("assign")(assign)
    app.command("replay")(replay)
    program.add_typer(app, name="unmapped")


def unmapped(context: typer.Context, as_json: AsJson = False, config: ConfigOption = None) -> None:
    """List the codes that accepted messages wait for, with the nearest keys; 1 when any waits."""
    if context.invoked_subcommand:
        return
    settings = load_settings(config)
    with opened(settings) as store:
        found = _codes(_waiting(store), settings)
    if as_json:
        print_json(found)
    for code in found if not as_json else ():
        near = ", ".join(f"{key} = {value}" for key, value in code["near"].items())
        since = moment(code["since"], settings.timezone)
        line = f"{code['table']}  {code['key']}  {code['messages']} since {since}"
        typer.echo(printable(f"{line}{f'  near: {near}' if near else ''}"))
    if not found:
        typer.echo("no message waits for a code", err=True)
        return
    raise typer.Exit(NEGATIVE)


def assign(
    code: Annotated[str, typer.Argument(help="As `broker unmapped` shows it; parts joined by |.")],
    table: Annotated[str, typer.Option(help="Default: the one in which the code is missing.")] = "",
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="COLUMN=VALUE", help="A cell of the row.")
    ] = None,
    modality: Annotated[str, typer.Option(help="The cell in the column for modalities.")] = "",
    station: Annotated[
        str, typer.Option(help="The same for stations, or a row of the modality's in their table.")
    ] = "",
    mapping: Annotated[str, typer.Option(help="The mapping meant, where several differ.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write what DICOM does not know.")] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Write a code into its CSV table, put it in force, and replay what waited; 1 if it fails."""
    from broker.mapping.assigning import CannotAssign
    from broker.mapping.text.nodes import Complaints

    settings = load_settings(config)
    said = dict(_cell(text) for text in sets or ())
    short = {name: text for name, text in (("modality", modality), ("station", station)) if text}
    with opened(settings) as store:
        try:
            rows = _rows(store, settings, code, table, mapping, said, short)
            _put(store, settings, rows, force=force)
        except (CannotAssign, Complaints) as wrong:
            refused(wrong, as_json=as_json)
            if isinstance(wrong, Complaints) and not as_json:
                fact = "a row goes in force with the whole folder: mend the above"
                typer.echo(f"no row is written for '{code}': {fact}", err=True)
            raise typer.Exit(NEGATIVE) from None
        wanted = [each.digest for each in _of_code(_waiting(store), code, rows[0][0].name)]
    files = ", ".join(dict.fromkeys(f"{sheet.file}" for sheet, _ in rows))
    auditing.of_mappings(settings, f"unmapped assign: {files}")
    for sheet, row in rows if not as_json else ():
        typer.echo(printable(f"{sheet.file}: {_shown(sheet, row)}"))
    _replay(settings, wanted, as_json=as_json)


def _shown(sheet: Sheet, row: Mapping[str, str]) -> str:
    """A row as the file has it, column by column."""
    return ", ".join(row.get(column, "") for column in sheet.columns)


def replay(as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Judge all that waits once more, by the mappings in force; 1 if something still waits."""
    from broker.store import held

    settings = load_settings(config)
    with opened(settings) as store:
        wanted = store.run(held.digests())
    _replay(settings, wanted, as_json=as_json)


def _waiting(store: Store) -> list[Waiting]:
    from broker.store import held

    digests = store.run(held.digests())
    slices = (digests[at : at + held.SLICE] for at in range(0, len(digests), held.SLICE))
    return [message for each in slices for message in store.run(held.read(each))]


def _codes(waiting: Iterable[Waiting], settings: Settings) -> list[dict[str, Any]]:
    """Every table and key that something waits for, those waiting longest first."""
    by_code: dict[tuple[str, str], list[Waiting]] = {}
    for message in waiting:
        for each in message.unmapped:
            by_code.setdefault((each.table, each.key), []).append(message)
    bundle = bundle_of(settings.mappings) if by_code else None
    return [
        {
            "table": table,
            "key": key,
            "messages": len(messages),
            "since": min(each.received for each in messages),
            "mappings": sorted(_mappings(messages)),
            "near": _near(bundle, table, key, messages) if bundle else {},
        }
        for (table, key), messages in by_code.items()
    ]


def _near(bundle: Bundle, table: str, key: str, messages: Iterable[Waiting]) -> dict[str, str]:
    from broker.mapping.assigning import nearest, rows_of

    return nearest(key, rows_of(bundle, table, _mappings(messages)))


def _mappings(messages: Iterable[Waiting]) -> set[str]:
    return {each.mapping.partition("@")[0] for each in messages}


def _of_code(waiting: Iterable[Waiting], code: str, table: str = "") -> list[Waiting]:
    """Those that wait for a code, in one table or in any."""
    from broker.mapping.assigning import same_code

    meant = same_code(code)
    return [
        message
        for message in waiting
        if any(same_code(u.key) == meant and table in ("", u.table) for u in message.unmapped)
    ]


def _only_table(waiting: Iterable[Waiting], code: str) -> str:
    from broker.mapping.assigning import CannotAssign, same_code

    meant = same_code(code)
    tables = {u.table for each in waiting for u in each.unmapped if same_code(u.key) == meant}
    if len(tables) == 1:
        return tables.pop()
    fact = f"is missing in {', '.join(sorted(tables))}" if tables else "is waited for by no message"
    raise CannotAssign(f"'{code}' {fact}: say --table")


def _rows(
    store: Store,
    settings: Settings,
    code: str,
    table: str,
    mapping: str,
    said: dict[str, str],
    short: dict[str, str],
) -> list[tuple[Sheet, dict[str, str]]]:
    """The table meant with the row for a code by column, and what leads to its station.

    Raises CannotAssign.
    """
    from broker.mapping.assigning import (
        CannotAssign,
        cells_of,
        column_for,
        has_column,
        is_table,
        sheet_of,
        station_row,
    )

    waiting = _of_code(_waiting(store), code)
    owners = {mapping} if mapping else _mappings(waiting)
    name, bundle = table or _only_table(waiting, code), bundle_of(settings.mappings)
    if _of_code(waiting, code, name) and not is_table(bundle, name, owners):
        fact = f"no mapping has the table '{name}' any more in which '{code}' is missing"
        raise CannotAssign(f"{fact}: `broker unmapped replay` judges afresh what waits for it")
    sheet = sheet_of(bundle, name, owners)
    if sheet.has(code):
        raise CannotAssign(
            f"{sheet.file} has a row for '{code}': mend it there, then `broker unmapped replay`"
        )
    station = "" if has_column(sheet, "station") else short.pop("station", "")
    shorthands = {column_for(sheet, option): text for option, text in short.items()}
    row = cells_of(sheet, code, {**shorthands, **said})
    leads = station_row(bundle, sheet, row, station, owners) if station else None
    return [(sheet, row), leads] if leads else [(sheet, row)]


def _put(
    store: Store, settings: Settings, rows: Sequence[tuple[Sheet, dict[str, str]]], *, force: bool
) -> None:
    """Write rows and wait till the doors know it: what comes from then on must not wait as well.

    Raises CannotAssign, Complaints.
    """
    from broker.rollout.assigning import assign as put

    by = f"assign ({who()})"
    deployed, odd = put(store, settings, rows, by=by, at=time.time(), force=force)
    for each in odd:
        typer.echo(
            printable(f"warning: {each.fact}{f' — {each.hint}' if each.hint else ''}"), err=True
        )
    taken(store, deployed.active.short)


def _cell(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals or not column.strip():
        raise typer.BadParameter("write COLUMN=VALUE", param_hint="--set")
    return column.strip(), value


def _replay(settings: Settings, digests: list[str], *, as_json: bool) -> None:
    """Replay and print each outcome; exit 1 when something is refused or still waits."""
    from broker.mapping.text.nodes import Complaints

    with opened(settings) as store:
        try:
            done = asyncio.run(_replayed(settings, digests, as_json=as_json))
        except Complaints as wrong:
            refused(wrong, as_json=as_json)
            raise typer.Exit(NEGATIVE) from None
        applied = [key for each in done if each.outcome == "applied" for key in each.orders]
        auditing.of_keys(settings, store, "U", "unmapped replay", applied)
        for line in _standing(store, settings, applied) if applied and not as_json else ():
            typer.echo(printable(line))
    if as_json:
        print_json([outcome_of(each) for each in done])
    elif not done:
        typer.echo("nothing waited")
    if any(each.outcome in ("held", "refused") for each in done):
        raise typer.Exit(NEGATIVE)


def _standing(store: Store, settings: Settings, orders: Iterable[str]) -> Iterator[str]:
    """The station whose list each step is on now, and whether only a default leads there."""
    from broker.mapping.assigning import defaulting
    from broker.store import reads

    bundle = bundle_of(settings.mappings)
    for order in store.run(reads.orders(orders)).known.orders.values():
        for _, step in order.steps():
            station, modality = step.facts.text(STATION), step.facts.text("Modality")
            yield f"{order.accession}: {modality} on the list of {station or 'no station'}"
            if tables := defaulting(bundle, station):
                said = " and ".join(f"'{name}'" for name in tables)
                yield f"  no row of table {said} leads to a station: {station} is only its default"


async def _replayed(settings: Settings, digests: list[str], *, as_json: bool) -> list[Replayed]:
    from broker.cli import logs
    from broker.orders import replaying

    logs.configure(settings.log.model_copy(update={"level": "critical"}))  # outcomes are printed
    done = []
    async for each in replaying.replay_waiting(store_url(settings), settings, digests):
        done.append(each)
        for line in _lines(each) if not as_json else ():
            typer.echo(printable(line))
    return done


def _lines(done: Replayed) -> Iterator[str]:
    orders = f" {', '.join(done.orders)}" if done.orders else ""
    cause = f": {done.cause}" if done.cause else ""
    waits = "; it still waits" if done.outcome == "refused" else ""
    yield f"{done.outcome}{orders}  {done.message.source} {done.message.control_id}{cause}{waits}"
