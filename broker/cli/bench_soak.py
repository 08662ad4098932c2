"""`broker bench soak`: a steady day in minutes, and whether anything is lost, late or left."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from broker.cli.measuring import (
    NEGATIVE,
    AsJson,
    machine_line,
    measurable,
    measuring,
    the_moment,
)


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    app.command("soak")(soak)


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, max=1440, help="How long.")] = 20.0,
    orders: Annotated[
        int, typer.Option(min=1, max=500, help="Messages a second: orders, changes, cancels, ADT.")
    ] = 50,
    polls: Annotated[int, typer.Option(min=1, max=500, help="C-FIND a second, of ten AEs.")] = 20,
    mpps: Annotated[int, typer.Option(min=1, max=50, help="Exams a second.")] = 2,
    entries: Annotated[
        int, typer.Option(min=0, max=32_000, help="On the worklist before it begins.")
    ] = 16_000,
    as_json: AsJson = False,
) -> None:
    """Load at a steady pace, every answer judged; each minute is told, at last the verdicts.

    1 when memory or descriptors grow, or anything is refused, missing, doubled or out of order.
    With --json the minutes go to stderr.
    """
    from broker.bench.report import machine
    from broker.bench.ris import Ris
    from broker.bench.soak import filling, measure, plan, report
    from broker.probe.address import Address
    from broker.probe.throwaway import throwaway_broker

    now, most = the_moment(), plan.most_minutes(orders)
    if 10 * mpps > orders:
        raise typer.BadParameter(f"{mpps} exams a second need --orders {10 * mpps} or more")
    if minutes > most:
        raise typer.BadParameter(f"with {orders} orders a second at most {most} minutes")
    about = machine()
    typer.echo(
        f"bench soak: {minutes:g} minutes of {orders} messages, {polls} polls, {mpps} exams"
        f" a second over {entries} entries"
        f"\n{machine_line(about)}",
        err=as_json,
    )
    ris = Ris()
    ris.open()
    told = measure.said(entries, orders, minutes)
    with measuring(), throwaway_broker(Address("127.0.0.1", ris.port), said=told) as running:
        scene = measure.Scene(measurable(running), running.dicom, running.log, ris)
        if entries:
            filling.fill(running.hl7, running.dicom, entries, now=now)
        run = measure.Soak(scene, plan.Plan(orders, polls, mpps, now.date()), 60 * minutes)
        rows = []
        for minute in run.minutes():
            rows.append(minute)
            typer.echo("\n".join(report.block(minute)), err=as_json)
    ris.close()
    typer.echo("\n".join(report.verdict_lines(run.verdicts)), err=as_json)
    if as_json:
        shown = {
            "machine": about,
            "rows": [asdict(each) for each in rows],
            "verdicts": [asdict(each) for each in run.verdicts],
        }
        typer.echo(json.dumps(shown, indent=2))
    if any(each.good is False for each in run.verdicts):
        raise typer.Exit(NEGATIVE)
