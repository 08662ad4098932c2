"""`broker bench soak`: a steady day in minutes, and whether anything is lost, late or left."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.bench.measuring import machine_line, measurable, measuring, the_moment
from broker.cli.printing import NEGATIVE, AsJson

if TYPE_CHECKING:
    from broker.bench.soak.measure import Minute, Soak
    from broker.bench.soak.plan import Plan


def register(verbs: typer.Typer) -> None:
    """Add `soak` to the group."""
    verbs.command("soak")(soak)


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, max=1440, help="How long.")] = 20.0,
    orders: Annotated[
        int, typer.Option(min=1, max=500, help="Messages a second: orders, changes, cancels, ADT.")
    ] = 50,
    polls: Annotated[int, typer.Option(min=1, max=500, help="C-FIND a second, of ten AEs.")] = 20,
    mpps: Annotated[int, typer.Option(min=1, max=50, help="Exams a second.")] = 2,
    entries: Annotated[
        int, typer.Option(min=0, max=32_000, help="On the worklist before it begins.")
    ] = 30_000,
    as_json: AsJson = False,
) -> None:
    """Load at a steady pace, every answer judged; each minute is told, at last the verdicts.

    1 when memory or descriptors grow, or anything is refused, missing, doubled or out of order.
    With --json the minutes go to stderr.
    """
    from broker.bench.report import machine
    from broker.bench.soak.plan import Plan

    now = the_moment()
    _judge_options(minutes, orders, mpps)
    what = f"{minutes:g} minutes of {orders} messages, {polls} polls, {mpps} exams a second"
    about = machine()
    typer.echo(f"bench soak: {what} over {entries} entries\n{machine_line(about)}", err=as_json)
    run, rows = _ran(Plan(orders, polls, mpps, now.date()), minutes, entries, now, err=as_json)
    if as_json:
        verdicts = [asdict(each) for each in run.verdicts]
        shown = {"machine": about, "rows": [asdict(each) for each in rows], "verdicts": verdicts}
        typer.echo(json.dumps(shown, indent=2))
    if any(each.good is False for each in run.verdicts):
        raise typer.Exit(NEGATIVE)


def _judge_options(minutes: float, orders: int, mpps: int) -> None:
    from broker.bench.soak.plan import most_minutes

    most = most_minutes(orders)
    if 10 * mpps > orders:
        raise typer.BadParameter(f"{mpps} exams a second need --orders {10 * mpps} or more")
    if minutes > most:
        raise typer.BadParameter(f"with {orders} orders a second at most {most} minutes")


def _ran(
    plan: Plan, minutes: float, entries: int, now: datetime, *, err: bool
) -> tuple[Soak, list[Minute]]:
    """Run it against a broker of its own; each minute is told as it ends, then the verdicts."""
    from broker.bench.ris import listening
    from broker.bench.soak import filling, measure, report
    from broker.probe.address import Address
    from broker.probe.throwaway import throwaway_broker

    rows = []
    told = measure.said(entries, plan.orders, minutes)
    with (
        measuring(),
        listening() as ris,
        throwaway_broker(Address("127.0.0.1", ris.port), said=told) as running,
    ):
        if entries:
            filling.fill(running.hl7, running.dicom, entries, now=now)
        scene = measure.Scene(measurable(running), running.dicom, running.log, ris)
        run = measure.Soak(scene, plan, 60 * minutes)
        for minute in run.minutes():
            rows.append(minute)
            typer.echo("\n".join(report.block(minute)), err=err)
    typer.echo("\n".join(report.verdict_lines(run.verdicts)), err=err)
    return run, rows
