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
    from broker.bench.mapping import Loading, Pace
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


@app.command("map")
def mapping(
    messages: Annotated[
        int, typer.Option(min=1, max=100_000, help="Orders in each of five rounds.")
    ] = 1000,
    as_json: AsJson = False,
) -> None:
    """Microseconds to map an order, beside reading the same fields with hl7apy; time to load."""
    from broker.bench import mapping as bench
    from broker.bench.report import machine
    from broker.settings import shipped_mappings

    about = machine()
    loading, bundle = bench.measure_loading(shipped_mappings())
    paces = [bench.measure(bundle, each) for each in bench.samples(bundle, messages)]
    if as_json:
        shown = {"machine": about, "loading": asdict(loading), "rows": [_plain(p) for p in paces]}
        typer.echo(json.dumps(shown, indent=2))
        return
    typer.echo(f"bench map: shipped mappings\n{_machine_line(about)}")
    for line in _pace_lines(loading, paces):
        typer.echo(line)


def _plain(pace: Pace) -> dict[str, object]:
    return {**asdict(pace), "ratio": pace.ratio, "ratio_with_parse": pace.ratio_with_parse}


def _machine_line(about: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in about.items())


def _pace_lines(loading: Loading, paces: Iterable[Pace]) -> Iterator[str]:
    yield (
        f"load {loading.files} files {loading.first_s:.2f} s, "
        f"again with {loading.examples} examples run {loading.checked_s:.2f} s"
    )
    yield f"{'µs a message':24}{'broker':>10}{'hl7apy':>10}{'ratio':>8}"
    for each in paces:
        yield f"{each.mapping} ({each.message})"
        yield _pace_line("rules", each.apply_us, each.hl7apy_read_us, each.ratio)
        whole = (each.with_parse_us, each.hl7apy_with_parse_us)
        yield _pace_line("parsing and rules", *whole, each.ratio_with_parse)


def _pace_line(what: str, ours_us: float, peer_us: float, ratio: float) -> str:
    return f"  {what:22}{ours_us:10.1f}{peer_us:10.1f}{ratio:7.0f}×"


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
        typer.echo(f"{title}\n{_machine_line(machine)}")
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
