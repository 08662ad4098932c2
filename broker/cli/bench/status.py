"""`broker bench status`: from MPPS to the status message, through an outage and kill -9."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.bench.measuring import (
    Seconds,
    measurable,
    measuring,
    report_table,
    the_moment,
)
from broker.cli.printing import AsJson


def register(verbs: typer.Typer) -> None:
    """Add `status` to the group."""
    verbs.command("status")(status)


def status(
    exams: Annotated[
        int, typer.Option(min=10, max=100_000, help="While a RIS is down: two messages each.")
    ] = 5000,
    singly: Annotated[int, typer.Option(min=1, max=10_000, help="One by one, idle.")] = 200,
    connections: Annotated[int, typer.Option(min=1, max=16, help="To each RIS.")] = 1,
    kills: Annotated[bool, typer.Option(help="At last kill -9 a worker, then Redis.")] = True,
    seconds: Seconds = 300.0,
    as_json: AsJson = False,
) -> None:
    """MPPS to status message: how soon, how many, outage, kill -9; each figure beside its goal.

    1 when a message is missing, doubled or out of order; a goal that is missed is only shown.
    """
    from broker.bench import status as bench
    from broker.bench.ris import listening
    from broker.probe.address import Address
    from broker.probe.throwaway import throwaway_broker

    with listening() as ris, listening() as other:
        said = {"BROKER_RIS": bench.destinations(ris, other, connections)}
        with measuring(), throwaway_broker(Address("127.0.0.1", 9), said=said) as running:
            hospital = bench.Hospital(
                running.hl7, running.dicom, measurable(running), ris, other, the_moment(), seconds
            )
            measured = bench.measure(hospital, exams=exams, singly=singly, kills=kills)
            what = f"{exams} exams, {connections} connection" + "s" * (connections > 1)
            report_table(f"bench status: {what}", measured, bench.lines, as_json)
