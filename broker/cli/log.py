"""`broker log`: every message that arrived, what became of it, and one of them whole."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import auditing, selecting
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened
from broker.cli.outline import moment, printable
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.rows import Row, print_rows
from broker.cli.spreading import spread

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.settings import Settings
    from broker.store.executors import Store
    from broker.store.recall import Entry, Selection

LOOK_S = 0.3
SHOWN = 50

app = typer.Typer(
    invoke_without_command=True, help="List the messages that arrived, newest first; show one."
)


def register(program: typer.Typer) -> None:
    """Add `log` to the program."""
    app.callback()(spread(log))
    app.command("show")(show)
    program.add_typer(app, name="log")


def log(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on till Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="0 for all.")] = SHOWN,
    as_json: AsJson = False,
    config: ConfigOption = None,
    *,
    meant: selecting.Meant,
) -> None:
    """List the messages that arrived, newest first, without patient data; 1 when there is none."""
    if context.invoked_subcommand:
        return
    settings = load_settings(config)
    selection: Selection = meant.selection(settings.timezone)
    with opened(settings) as store:
        if follow:
            _follow(store, selection, limit, settings.timezone, as_json=as_json)
            return
        _list(store, selection, limit, settings.timezone, as_json=as_json)


def _list(store: Store, meant: Selection, limit: int, zone: ZoneInfo, *, as_json: bool) -> None:
    from broker.store import recall

    found = list(islice(recall.newest_first(store, meant), limit or None))
    if as_json:
        print_json([plain_row(entry, zone) for entry in found])
    elif found:
        print_rows([row(entry, zone) for entry in found])
    else:
        typer.echo("no such message", err=True)
    if not found:
        raise typer.Exit(NEGATIVE)


def _follow(store: Store, meant: Selection, limit: int, zone: ZoneInfo, *, as_json: bool) -> None:
    """The last ones that are meant, oldest first, then each that comes: a line for each."""
    from broker.store import recall
    from broker.store.executors import StoreUnavailable

    newest = store.run(recall.newest_id())
    past = list(islice(recall.newest_first(store, meant), limit))
    _print_lines(reversed(past), zone, as_json=as_json)
    at = max((newest, *(entry.stream_id for entry in past)), key=recall.place)
    away = False
    with suppress(KeyboardInterrupt):
        while True:
            try:
                page = store.run(recall.after(at))
            except StoreUnavailable as problem:
                if not away:
                    typer.echo(f"waiting for the store: {problem}", err=True)
                away, page = True, []
            else:
                away = False
            _print_lines(filter(meant.means, page), zone, as_json=as_json)
            if page:
                at = page[-1].stream_id
            else:
                time.sleep(LOOK_S)


def _print_lines(entries: Iterable[Entry], zone: ZoneInfo, *, as_json: bool) -> None:
    for entry in entries:
        if as_json:
            line = json.dumps(plain_row(entry, zone), ensure_ascii=False)
        else:
            between = "  " if sys.stdout.isatty() else "\t"
            line = between.join(printable(cell) for cell in row(entry, zone).values())
        typer.echo(line)
    sys.stdout.flush()


def row(entry: Entry, zone: ZoneInfo) -> Row:
    """What a list may say of a message: no patient data."""
    message = entry.message
    if message is None:
        return {**_place_of(entry, zone), **dict.fromkeys(FACTS, ""), "outcome": "unreadable"}
    cause = message.cause
    if message.replay_of:
        cause = f"replay of {_typed(message.replay_of)}{f': {cause}' if cause else ''}"
    return {
        **_place_of(entry, zone),
        "sender": message.source,
        "type": message.message_type,
        "control_id": message.control_id,
        "outcome": message.outcome,
        "ack": "+".join(entry.acks),
        "accession": ", ".join(entry.accessions),
        "ms": str(entry.took_ms),
        "cause": cause,
    }


FACTS = ("sender", "type", "control_id", "outcome", "ack", "accession", "ms", "cause")


def _place_of(entry: Entry, zone: ZoneInfo) -> Row:
    return {"id": entry.id, "time": moment(entry.stored_ms / 1000, zone)}


def iso(epoch_ms: int, zone: ZoneInfo) -> str:
    """A time of the site for a program."""
    return datetime.fromtimestamp(epoch_ms / 1000, zone).isoformat(timespec="milliseconds")


def _typed(stream_id: str) -> str:
    from broker.store.recall import Entry

    return Entry(stream_id, None).id


def plain_row(entry: Entry, zone: ZoneInfo) -> dict[str, Any]:
    """The row for a program: the same facts, typed."""
    message = entry.message
    at = iso(entry.stored_ms, zone)
    if message is None:
        return {"id": entry.id, "time": at, "outcome": "unreadable"}
    return {
        "id": entry.id,
        "time": at,
        "sender": message.source,
        "type": message.message_type,
        "control_id": message.control_id,
        "outcome": message.outcome,
        "ack": list(entry.acks),
        "accessions": list(entry.accessions),
        "orders": list(message.orders),
        "took_ms": entry.took_ms,
        "cause": message.cause,
        "mapping": message.mapping,
        "replay_of": _typed(message.replay_of) if message.replay_of else None,
    }


def show(
    message: Annotated[str, typer.Argument(metavar="ID", help="As `broker log` lists it.")],
    raw: Annotated[bool, typer.Option("--raw", help="Write its bytes and nothing else.")] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show one message: raw, parsed, mapped, as answered, and what it did. It has patient data."""
    from broker.cli.showing import plain, shown
    from broker.store import recall

    settings = load_settings(config)
    wanted = selecting.stream_id(message)
    with opened(settings) as store:
        found = store.run(recall.named([wanted]))
        entry = found[0] if found else None
        if entry is None or entry.message is None:
            fact = "cannot be read" if entry else "is in the archive no more, or never was"
            typer.echo(f"message {message} {fact}", err=True)
            raise typer.Exit(NEGATIVE)
        auditing.of_message(settings, f"log show {message}", entry.message)
        if raw:
            sys.stdout.buffer.write(entry.message.raw)
            return
        whole = shown(store, settings, entry.message)
    if as_json:
        print_json({**plain_row(entry, settings.timezone), **plain(whole)})
        return
    for line in _heading(entry, settings):
        typer.echo(printable(line))
    for line in whole.lines():
        typer.echo(printable(line))


def _heading(entry: Entry, settings: Settings) -> Iterator[str]:
    facts = row(entry, settings.timezone)
    sent = f"{facts['type']} {facts['control_id']} from {facts['sender']}"
    yield f"{facts['id']}  {facts['time']}  {sent}"
    answered = f"answered {facts['ack']}" if facts["ack"] else "not answered"
    by = f" by {entry.message.mapping}" if entry.message and entry.message.mapping else ""
    yield f"{facts['outcome']}{by}, {answered}, {facts['ms']} ms from its last byte to the disk"
    for order in entry.message.orders if entry.message else ():
        yield f"changed order {order}: see `broker show '{order}'`"
    if facts["cause"]:
        yield facts["cause"]
