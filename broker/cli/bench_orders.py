"""`broker bench orders|growth|patients|slow-loris`: HL7 that comes in, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.measuring import (
    NEGATIVE,
    AsJson,
    Seconds,
    measurable,
    measuring,
    read_connections,
    read_numbers,
    report_rows,
    report_table,
    servers_of,
    the_moment,
    throwaway,
)

if TYPE_CHECKING:
    from broker.bench.processes import Broker


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    app.command("orders")(orders)
    app.command("growth")(growth)
    app.command("patients")(patients)
    app.command("slow-loris")(slow_loris)


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


def patients(
    messages: Annotated[
        int, typer.Option(min=100, max=5_000_000, help="ADT^A08 of 20,000 patients.")
    ] = 5000,
    as_json: AsJson = False,
) -> None:
    """Memory while all ADT of a hospital comes, 1 % with a document of 200 KB, under small caps."""
    import tempfile
    from pathlib import Path

    from broker.bench import patients as bench
    from broker.probe.address import Address
    from broker.probe.throwaway import broker_in

    with measuring(), tempfile.TemporaryDirectory(prefix="broker-") as folder:

        @contextmanager
        def started() -> Iterator[Broker]:
            with broker_in(Path(folder), Address("127.0.0.1", 9), said=bench.CAPS) as running:
                yield measurable(running)

        measured = bench.measure(started, messages=messages, now=the_moment())
        report_table(f"bench patients: {messages} ADT^A08", measured, bench.lines, as_json)


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
