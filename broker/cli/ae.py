"""`broker ae list`: the scanners that call, and those that were turned away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.rows import Row, print_rows

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.settings import Settings
    from broker.store.executors import Store

app = typer.Typer(no_args_is_help=True, help="The scanners that call.")


def register(program: typer.Typer) -> None:
    """Add `ae` to the program."""
    program.add_typer(app, name="ae")


@app.callback()
def group() -> None:
    """The scanners that call."""


@app.command("list")
def list_aes(as_json: AsJson = False, config: ConfigOption = None) -> None:
    """List AEs: last seen, queries an hour, empty lists in a row; rejected ones; 1 when none."""
    settings = load_settings(config)
    with opened(settings) as store:
        found = looked(store, settings, now=time.time())
    if as_json:
        print_json(found)
    elif found["aes"] or found["rejected"]:
        zone = settings.timezone
        known = (dict(_cells(ae, zone)) for ae in found["aes"])
        print_rows([*known, *(_rejected_row(peer, zone) for peer in found["rejected"])])
    else:
        typer.echo("no AE has called, and dicom.aes names none", err=True)
    if not found["aes"] and not found["rejected"]:
        raise typer.Exit(NEGATIVE)


def looked(store: Store, settings: Settings, *, now: float) -> dict[str, Any]:
    """Give the AEs of the directory and all that have called, and the rejected peers.

    Times are epoch seconds, None for what has not happened. Raises StoreUnavailable.
    """
    from broker.store import sightings

    named = {ae.title for ae in settings.dicom.aes}
    heard = {ae.title: ae for ae in store.run(sightings.known_aes(now))}
    aes = []
    for title in sorted(named | heard.keys()):
        known = heard.get(title)
        aes.append(
            {
                "title": title,
                "in_directory": title in named,
                "address": known.address if known else "",
                "called": known.called if known else "",
                "first_seen": known.first if known else None,
                "last_seen": known.last if known else None,
                "last_query": (known.asked or None) if known else None,
                "queries": known.queries if known else 0,
                "queries_per_hour": known.per_hour if known else 0,
                "failures": known.failures if known else 0,
                "zero_result_streak": known.streak if known else 0,
            }
        )
    return {"aes": aes, "rejected": store.run(sightings.rejected())}


def _cells(ae: dict[str, Any], zone: ZoneInfo) -> Iterator[tuple[str, str]]:
    from broker.cli.outline import moment

    yield "ae", ae["title"]
    yield "known by", "dicom.aes" if ae["in_directory"] else "its calls"
    yield "address", ae["address"]
    yield "called", ae["called"]
    yield "last seen", moment(ae["last_seen"], zone) if ae["last_seen"] else "never"
    yield "last query", moment(ae["last_query"], zone) if ae["last_query"] else "never"
    yield "queries an hour", f"{ae['queries_per_hour']}"
    yield "empty in a row", f"{ae['zero_result_streak']}"


def _rejected_row(peer: dict[str, Any], zone: ZoneInfo) -> Row:
    from broker.cli.outline import moment

    return {
        "ae": peer["calling"],
        "known by": f"! rejected: {peer['reason']}",
        "address": peer["address"],
        "called": peer["called"],
        "last seen": moment(peer["last"], zone),
        "last query": "",
        "queries an hour": f"{peer['times']} times",
        "empty in a row": "",
    }
