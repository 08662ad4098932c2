"""`broker bench orders`: new orders over MLLP, and what they cost."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.bench.measuring import (
    Seconds,
    measuring,
    read_connections,
    report_rows,
    servers_of,
    the_moment,
    throwaway,
)
from broker.cli.printing import AsJson


def register(verbs: typer.Typer) -> None:
    """Add `orders` to the group."""
    verbs.command("orders")(orders)


def orders(
    messages: Annotated[
        int, typer.Option(min=1, max=200_000, help="New orders in each measurement.")
    ] = 2000,
    connections: Annotated[
        str, typer.Option(metavar="N,N…", help="Connections at once, a measurement each.")
    ] = "1,20",
    processes: Annotated[int, typer.Option(min=1, max=64, help="hl7.processes.")] = 1,
    seconds: Seconds = 60.0,
    as_json: AsJson = False,
) -> None:
    """Orders a second over MLLP, beside python-hl7's server; 1 when an order is not accepted."""
    from broker.bench import orders as bench
    from broker.bench.peers import NO_PYTHON_HL7, Serving, python_hl7

    numbers = read_connections(connections)
    said = {"BROKER_HL7__PROCESSES": f"{processes}"}
    with measuring(), throwaway(said) as running, python_hl7() as peer:
        ours = Serving(running.hl7, running.pid)
        servers = servers_of(ours, "python-hl7", peer, NO_PYTHON_HL7)
        rows = bench.measure(
            servers, messages=messages, connections=numbers, seconds=seconds, now=the_moment()
        )
        report_rows(f"bench orders: {messages} new orders, every answer awaited", rows, as_json)
