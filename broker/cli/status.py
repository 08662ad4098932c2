"""`broker status`: how the running broker is, hop by hop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.mappings import NEGATIVE, AsJson, print_json
from broker.cli.opening import opened, store_url

if TYPE_CHECKING:
    from broker.console.health import Health
    from broker.settings import Settings


HOW = ": see `broker unmapped`"


def register(program: typer.Typer) -> None:
    """Add `status` to the program."""
    program.command("status")(status)


def status(as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Show the mappings in force, the doors, and what waits; 1 when orders cannot be taken."""
    settings = load_settings(config)
    health = _looked(settings)
    report = _report(health)
    if as_json:
        print_json(report)
    else:
        from broker.cli.outline import printable

        for line in _lines(report):
            typer.echo("\n".join(map(printable, line.split("\n"))))
    if health.refusal:
        raise typer.Exit(NEGATIVE)


def _looked(settings: Settings) -> Health:
    from broker.console.health import look
    from broker.store import reads
    from broker.store.executors import AsyncStore

    async def looked() -> Health:
        store = AsyncStore(store_url(settings))
        try:
            return await look(store, [ris.name for ris in settings.ris], now=time.time())
        finally:
            await store.close()

    with opened(settings) as store:
        store.run(reads.ping())  # away is another finding than unwell
        return asyncio.run(looked())


def _report(health: Health) -> dict[str, Any]:
    """What /readyz says, and why the last reload failed."""
    failed = health.failed_reload
    why = {"at": failed.at, "by": failed.by, "reason": failed.reason} if failed else None
    report: dict[str, Any] = health.report()
    return {**report, "mappings": {**report["mappings"], "failed_reload": why}}


def _lines(report: dict[str, Any]) -> Iterator[str]:
    from broker.cli.outline import moment

    refusal = report["store"]["why"]
    yield f"store     {f'! takes no writes: {refusal}' if refusal else 'takes writes'}"
    mappings = report["mappings"]
    if mappings["version"]:
        since = moment(mappings["since"])
        yield f"mappings  version {mappings['version']} since {since} by {mappings['by']}"
    else:
        yield "mappings  none in force yet"
    if failed := mappings["failed_reload"]:
        yield f"          ! {failed['by']} failed at {moment(failed['at'])}, the former ones stay:"
        yield from (f"            {line}" for line in failed["reason"].split("\n"))
    held = report["orders"]["held"]
    yield f"orders    {'! ' if held else ''}{held} wait for a code{HOW if held else ''}"
    yield f"worklist  {report['worklist']['open_steps']} open steps"
    for ris, pending in (report["updates"]["pending"] or {}).items():
        yield f"updates   {ris}: {pending} orders wait"
    yield f"          {report['updates']['dead_letters']} dead letters"
    for name, door in report["doors"].items():
        heard = (
            f"heard {door['age_s']:g} s ago" if door["heard"] else f"! silent {door['age_s']:g} s"
        )
        version = f", mappings {door['mappings']}" if "mappings" in door else ""
        yield f"door      {name}: {heard}{version}"
