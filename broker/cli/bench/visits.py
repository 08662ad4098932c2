"""`broker bench visits`: what is kept of scanners that come and go."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.bench.measuring import measurable, measuring, report_table, the_moment, throwaway
from broker.cli.printing import AsJson


def register(verbs: typer.Typer) -> None:
    """Add `visits` to the group."""
    verbs.command("visits")(visits)


def visits(
    associations: Annotated[
        int, typer.Option(min=4, max=10_000_000, help="One after the other, ending in every way.")
    ] = 10_000,
    as_json: AsJson = False,
) -> None:
    """What the modality door keeps of scanners that come and go; 1 when anything is left."""
    from broker.bench import visits as bench
    from broker.bench.entries import entries as invent
    from broker.bench.entries import question
    from broker.bench.find import load

    now = the_moment()
    with measuring(), throwaway() as running:
        load(running.hl7, invent(1, 3, now.date()), now=now)
        measured = bench.measure(
            running.dicom,
            measurable(running),
            question(now.date()),
            associations=associations,
        )
        report_table(f"bench visits: {associations} associations", measured, bench.lines, as_json)
