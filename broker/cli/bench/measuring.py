"""What every measurement of `broker bench` shares: a throw-away broker, its end, the report."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from broker.cli.printing import NEGATIVE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from broker.bench.processes import Broker
    from broker.bench.report import Row
    from broker.probe.throwaway import Running

S = TypeVar("S")
D = TypeVar("D", bound="DataclassInstance")

Seconds = Annotated[
    float, typer.Option("--seconds", min=1, max=3600, help="End each measurement after this long.")
]


def read_connections(text: str) -> tuple[int, ...]:
    return read_numbers(text, most=1000)


def read_numbers(text: str, *, most: int) -> tuple[int, ...]:
    numbers = text.split(",")
    if not all(number.isdecimal() and 0 < int(number) <= most for number in numbers):
        raise typer.BadParameter(
            f"'{text}' is no list of numbers from 1 to {most}; write e.g. 1,20"
        )
    return tuple(int(number) for number in numbers)


@contextmanager
def throwaway(said: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A throw-away broker with these settings. Its RIS is never told anything here."""
    from broker.probe.address import Address
    from broker.probe.throwaway import throwaway_broker

    with throwaway_broker(Address("127.0.0.1", 9), said=said) as running:
        yield running


def measurable(running: Running) -> Broker:
    from broker.bench.processes import Broker

    return Broker(running.hl7, running.pid, running.data)


@contextmanager
def measuring() -> Iterator[None]:
    """69 where a server does not start or stops answering; SIGTERM ends every child, as Ctrl-C."""
    from broker.bench.timings import MeasurementFailed
    from broker.probe.throwaway import NotReady

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except (MeasurementFailed, NotReady) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(os.EX_UNAVAILABLE) from error


def servers_of(ours: S, name: str, peer: S | None, missing: str) -> Mapping[str, S]:
    from broker.bench.report import OURS

    if peer is None:
        typer.echo(missing, err=True)
        return {OURS: ours}
    return {OURS: ours, name: peer}


def report_rows(title: str, rows: Iterable[Row], as_json: bool) -> None:
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
        typer.echo(f"{title}\n{machine_line(machine)}")
        for line in report.lines(_kept(rows, measured)):
            typer.echo(line)
    if any(each.faults for each in measured):
        raise typer.Exit(NEGATIVE)


def report_table(
    title: str,
    measured: Iterator[D],
    lines: Callable[[Iterator[D]], Iterator[str]],
    as_json: bool,
) -> None:
    """Print each line as soon as it is measured, or all as JSON; 1 when there were faults."""
    from broker.bench import report

    machine, kept = report.machine(), []

    def keeping() -> Iterator[D]:
        for each in measured:
            kept.append(each)
            yield each

    if as_json:
        rows = [asdict(each) for each in measured]
        typer.echo(json.dumps({"machine": machine, "rows": rows}, indent=2))
    else:
        rows = []
        typer.echo(f"{title}\n{machine_line(machine)}")
        for line in lines(keeping()):
            typer.echo(line)
    if any(row["faults"] for row in rows or map(asdict, kept)):
        raise typer.Exit(NEGATIVE)


def _kept(rows: Iterable[Row], measured: list[Row]) -> Iterator[Row]:
    for each in rows:
        measured.append(each)
        yield each


def the_moment() -> datetime:
    return datetime.now().astimezone()


def machine_line(about: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in about.items())
