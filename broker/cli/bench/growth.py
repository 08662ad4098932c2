"""`broker bench growth`: rate and memory while the worklist grows."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.bench.measuring import (
    measurable,
    measuring,
    read_numbers,
    report_table,
    the_moment,
    throwaway,
)
from broker.cli.printing import AsJson


def register(verbs: typer.Typer) -> None:
    """Add `growth` to the group."""
    verbs.command("growth")(growth)


def growth(
    entries: Annotated[
        str, typer.Option(metavar="N,N…", help="Measure when so many entries are stored.")
    ] = "1000,10000",
    as_json: AsJson = False,
) -> None:
    """Rate and memory while the worklist grows; 500000 entries take some minutes."""
    from broker.bench import growth as bench

    marks = read_numbers(entries, most=5_000_000)
    with measuring(), throwaway(bench.said(marks)) as running:
        measured = bench.measure(measurable(running), marks, now=the_moment())
        report_table(
            f"bench growth: new orders over {bench.CONNECTIONS} connections",
            measured,
            bench.lines,
            as_json,
        )
