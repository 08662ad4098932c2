"""`broker bench …`: throw-away brokers under load, beside other programs in the same run."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from broker.bench.report import Row
    from broker.probe.address import Address

NEGATIVE = 1

app = typer.Typer(no_args_is_help=True, help="Measure the broker beside other programs.")


def register(program: typer.Typer) -> None:
    """Add `bench` to the program."""
    program.add_typer(app, name="bench")


def _read_connections(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if not all(number.isdecimal() and 0 < int(number) <= 1000 for number in numbers):
        raise typer.BadParameter(f"'{text}' is no list of 1 to 1000 connections; write e.g. 1,20")
    return tuple(int(number) for number in numbers)


Seconds = Annotated[
    float, typer.Option("--seconds", min=1, max=3600, help="End each measurement after this long.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def orders(
    messages: Annotated[
        int, typer.Option(min=1, max=200_000, help="New orders in each measurement.")
    ] = 2000,
    connections: Annotated[
        str, typer.Option(metavar="N,N…", help="Connections at once, a measurement each.")
    ] = "1,20",
    seconds: Seconds = 60.0,
    as_json: AsJson = False,
) -> None:
    """Orders a second over MLLP, beside python-hl7's server; 1 when an order is not accepted."""
    from broker.bench import orders as bench
    from broker.bench.peers import NO_PYTHON_HL7, python_hl7

    numbers = _read_connections(connections)
    with _measuring(), _broker() as (hl7, _), python_hl7() as peer:
        servers = _servers(hl7, "python-hl7", peer, NO_PYTHON_HL7)
        rows = bench.measure(
            servers, messages=messages, connections=numbers, seconds=seconds, now=_now()
        )
        _report(f"bench orders: {messages} new orders, every answer awaited", rows, as_json)


@app.command()
def find(
    entries: Annotated[
        int, typer.Option(min=3, max=200_000, help="Entries on the worklist.")
    ] = 1000,
    queries: Annotated[int, typer.Option(min=1, max=1_000_000, help="In each measurement.")] = 300,
    seconds: Seconds = 60.0,
    as_json: AsJson = False,
) -> None:
    """C-FIND of 27 keys and 3 answers, beside DCMTK's wlmscpfs; 1 when an answer is wrong."""
    from broker.bench import find as bench
    from broker.bench.entries import ANSWERS
    from broker.bench.entries import entries as invent
    from broker.bench.peers import NO_WLMSCPFS, wlmscpfs

    now = _now()
    listed = invent(1, entries, now.date())
    with _measuring(), _broker() as (hl7, dicom), wlmscpfs(listed) as peer:
        servers = _servers(dicom, "wlmscpfs", peer, NO_WLMSCPFS)
        bench.load(hl7, listed, now=now)
        rows = bench.measure(servers, queries=queries, seconds=seconds, today=now.date())
        _report(f"bench find: {ANSWERS} answers among {entries} entries", rows, as_json)


@contextmanager
def _broker() -> Iterator[tuple[Address, Address]]:
    """A throw-away broker's HL7 and DICOM addresses. Its RIS is never told anything here."""
    from broker.probe.address import Address
    from broker.probe.throwaway import throwaway_broker

    with throwaway_broker(Address("127.0.0.1", 9)) as running:
        yield running.hl7, running.dicom


@contextmanager
def _measuring() -> Iterator[None]:
    """69 where a server does not start or stops answering; SIGTERM ends every child, as Ctrl-C."""
    from broker.bench.timings import MeasurementFailed
    from broker.probe.throwaway import NotReady

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except (MeasurementFailed, NotReady) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(os.EX_UNAVAILABLE) from error


def _servers(
    ours: tuple[str, int], name: str, peer: tuple[str, int] | None, missing: str
) -> Mapping[str, tuple[str, int]]:
    from broker.bench.report import OURS

    if peer is None:
        typer.echo(missing, err=True)
        return {OURS: ours}
    return {OURS: ours, name: peer}


def _report(title: str, rows: Iterable[Row], as_json: bool) -> None:
    """Print each row as soon as it is measured, or all as JSON; 1 when there were faults."""
    from broker.bench import report

    machine = report.machine()
    measured: list[Row] = []
    if as_json:
        measured += rows
        shown = {
            "machine": machine,
            "rows": [asdict(each) for each in measured],
            "ratios": [asdict(each) for each in report.ratios(measured)],
        }
        typer.echo(json.dumps(shown, indent=2))
    else:
        typer.echo(f"{title}\n{', '.join(f'{name} {value}' for name, value in machine.items())}")
        for line in report.lines(_kept(rows, measured)):
            typer.echo(line)
    if any(each.faults for each in measured):
        raise typer.Exit(NEGATIVE)


def _kept(rows: Iterable[Row], measured: list[Row]) -> Iterator[Row]:
    for each in rows:
        measured.append(each)
        yield each


def _now() -> datetime:
    return datetime.now().astimezone()
