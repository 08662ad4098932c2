"""`broker bench slow-loris`: a good sender beside connections that never finish."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.bench.measuring import Seconds, measuring, report_rows, the_moment, throwaway
from broker.cli.printing import NEGATIVE, AsJson


def register(verbs: typer.Typer) -> None:
    """Add `slow-loris` to the group."""
    verbs.command("slow-loris")(slow_loris)


def slow_loris(
    connections: Annotated[
        int, typer.Option(min=1, max=10_000, help="That never finish a message.")
    ] = 100,
    messages: Annotated[int, typer.Option(min=1, max=100_000, help="Of the good sender.")] = 1000,
    seconds: Seconds = 60.0,
    as_json: AsJson = False,
) -> None:
    """A good sender's rate beside slow connections; 1 when it falls below half."""
    from broker.bench import loris as bench

    with measuring(), throwaway(bench.said(connections)) as running:
        rows = list(
            bench.measure(
                running.hl7, slow=connections, messages=messages, seconds=seconds, now=the_moment()
            )
        )
        report_rows("bench slow-loris: one good sender", rows, as_json)
    if rows[1].per_s < bench.NEEDED * rows[0].per_s:
        raise typer.Exit(NEGATIVE)
