"""`broker selftest`: an order of our own through all doors, each hop timed."""

from __future__ import annotations

import json
import os
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.mappings import NEGATIVE, AsJson, print_json
from broker.cli.opening import opened
from broker.cli.outline import printable

if TYPE_CHECKING:
    from broker.store.selftest import Result


def register(program: typer.Typer) -> None:
    """Add `selftest` to the program."""
    program.command("selftest")(selftest)


def selftest(as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Send an order of the broker's own through all doors, and remove it; 1 where a hop fails.

    No scanner and no RIS sees it. 75 when another one runs.
    """
    from broker.probe.canary import Busy, run

    bound = json.loads(os.environ.get("BROKER_BOUND", "{}"))
    settings = load_settings(config).bound_again(bound)
    try:
        with opened(settings) as store:
            found = run(settings, store, partial(datetime.now, settings.timezone))
    except Busy:
        typer.echo("another self-test runs; try again", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    if as_json:
        print_json(plain(found))
    else:
        for hop in found.hops:
            said = f"! {hop.fault}" if hop.fault else hop.skipped and f"not tested: {hop.skipped}"
            typer.echo(printable(f"{hop.name:10}{hop.ms:9.1f} ms  {said or 'ok'}"))
    if not found.ok:
        typer.echo(f"the self-test failed at the hop {found.failing}", err=True)
        raise typer.Exit(NEGATIVE)


def plain(found: Result) -> dict[str, Any]:
    """Give a result for a program."""
    hops = [{"hop": h.name, "ms": h.ms, "fault": h.fault, "skipped": h.skipped} for h in found.hops]
    return {"ok": found.ok, "failing": found.failing, "at": found.at, "hops": hops}
