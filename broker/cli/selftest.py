"""`broker selftest`: an order of our own through all doors, each hop timed."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from broker.store.selftest import Result


def register(program: typer.Typer) -> None:
    """Add `selftest` to the program."""
    program.command("selftest")(selftest)


Last = Annotated[bool, typer.Option("--last", help="Run none; judge what the last one found.")]
NEVER: Final = "no self-test has run; selftest.every has `broker run` do it"


def selftest(last: Last = False, as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Send an order of the broker's own through all doors, and remove it; 1 where a hop fails.

    No scanner and no RIS sees it. 75 when another one runs. With --last, which is for health
    checks, it is also 1 where none has run, or none for three times selftest.every.
    """
    from broker.probe.canary import Busy, run
    from broker.store import selftest as kept

    bound = json.loads(os.environ.get("BROKER_BOUND", "{}"))
    settings = load_settings(config).bound_again(bound)
    try:
        with opened(settings) as store:
            clock = partial(datetime.now, settings.timezone)
            found = store.run(kept.last()) if last else run(settings, store, clock)
    except Busy:
        typer.echo("another self-test runs; try again", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    every = settings.selftest.every
    late = last and found and found.is_late(time.time(), every.total_seconds() if every else None)
    _show(found, as_json)
    if found is None:
        typer.echo(NEVER, err=True)
    elif not found.ok:
        typer.echo(f"the self-test failed at the hop {found.failing}", err=True)
    elif late:
        typer.echo("none has run for three times selftest.every; see `broker doctor`", err=True)
    if late or not (found and found.ok):
        raise typer.Exit(NEGATIVE)


def _show(found: Result | None, as_json: bool) -> None:
    if as_json:
        print_json(plain(found) if found else None)
        return
    for hop in found.hops if found else ():
        said = f"! {hop.fault}" if hop.fault else hop.skipped and f"not tested: {hop.skipped}"
        typer.echo(printable(f"{hop.name:10}{hop.ms:9.1f} ms  {said or 'ok'}"))


def plain(found: Result) -> dict[str, Any]:
    """Give a result for a program."""
    hops = [{"hop": h.name, "ms": h.ms, "fault": h.fault, "skipped": h.skipped} for h in found.hops]
    return {"ok": found.ok, "failing": found.failing, "at": found.at, "hops": hops}
