"""`broker bench find|visits|status`: what scanners ask and report, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.measuring import (
    AsJson,
    Seconds,
    measurable,
    measuring,
    read_numbers,
    report_rows,
    report_table,
    servers_of,
    the_moment,
    throwaway,
)

if TYPE_CHECKING:
    from broker.bench.report import Row
    from broker.probe.throwaway import Running


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    app.command("find")(find)
    app.command("visits")(visits)
    app.command("status")(status)


def find(
    entries: Annotated[
        str, typer.Option(metavar="N,N…", help="Measure with so many entries on the worklist.")
    ] = "1000",
    queries: Annotated[int, typer.Option(min=1, max=1_000_000, help="In each measurement.")] = 300,
    processes: Annotated[int, typer.Option(min=1, max=64, help="dicom.processes.")] = 1,
    long: Annotated[
        int, typer.Option(min=0, max=5000, help="Answers of a long list; 0 leaves these out.")
    ] = 0,
    idle: Annotated[int, typer.Option(min=0, max=900, help="Associations that ask nothing.")] = 0,
    seconds: Seconds = 60.0,
    as_json: AsJson = False,
) -> None:
    """C-FIND of 27 keys and 3 answers, beside wlmscpfs and pynetdicom; 1 when an answer is wrong.

    With --long also lists, C-CANCEL, names, a key without an index, and queries beside all that and
    beside orders that come in. wlmscpfs is left out above 10,000 entries.
    """
    from broker.bench import find as bench

    marks = read_numbers(entries, most=1_000_000)
    said = {**bench.SAID, "BROKER_DICOM__PROCESSES": f"{processes}"}
    with measuring(), throwaway(said) as running:
        measured = _found(running, marks, queries, seconds, long)
        what = f"{max(marks):,} entries, {processes} process" + "es" * (processes > 1)
        report_rows(f"bench find: 3 answers among {what}", measured, as_json)
        if idle and not as_json:
            where = bench.Bench(running.dicom, measurable(running), the_moment().date(), 1, seconds)
            cost = bench.idle(where, idle)
            typer.echo(
                f"{cost.associations} idle associations: {cost.core_percent:.1f} % of a core, "
                f"{cost.mib:.1f} MiB; the process has {cost.process_mib:.0f} MiB"
            )


def _found(
    running: Running, marks: tuple[int, ...], queries: int, seconds: float, long: int
) -> Iterator[Row]:
    """Measure at each mark, and at the last one whatever is slow elsewhere."""
    from broker.bench import find as bench
    from broker.bench import peers
    from broker.bench.entries import entries, long_list, more_entries

    now, stored = the_moment(), 0
    today = now.date()
    for mark in sorted(marks):
        make = more_entries if stored else entries
        bench.load(running.hl7, make(stored + 1, mark - stored, today), now=now)
        stored = mark
        few = mark <= bench.MOST_FILES
        listed = entries(1, mark, today) if few else []
        with peers.wlmscpfs(listed) as files, peers.pynetdicom_server() as bare:
            servers = servers_of(running.dicom, "pynetdicom", bare.address, "")
            if few:
                servers = {
                    **servers,
                    **servers_of(running.dicom, "wlmscpfs", files, peers.NO_WLMSCPFS),
                }
            about = f"{mark:,}: " if len(marks) > 1 else ""
            yield from bench.measure(
                servers,
                queries=queries,
                seconds=seconds,
                today=today,
                pid=running.pid,
                about=about,
            )
    if long:
        where = bench.Bench(running.dicom, measurable(running), today, queries, seconds)
        yield from bench.searches(where, stored)
        bench.load(running.hl7, long_list(stored + 1, long, today), now=now)
        yield from bench.long_lists(where, long)
        more = more_entries(stored + long + 1, bench.ORDERS_BESIDE, today)
        yield bench.beside_orders(where, more, now)


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
    from broker.bench.ris import Ris
    from broker.probe.address import Address
    from broker.probe.throwaway import throwaway_broker

    ris, other = Ris(), Ris()
    for each in (ris, other):
        each.open()
    said = {"BROKER_RIS": bench.destinations(ris, other, connections)}
    with measuring(), throwaway_broker(Address("127.0.0.1", 9), said=said) as running:
        hospital = bench.Hospital(
            running.hl7, running.dicom, measurable(running), ris, other, the_moment(), seconds
        )
        measured = bench.measure(hospital, exams=exams, singly=singly, kills=kills)
        what = f"{exams} exams, {connections} connection" + "s" * (connections > 1)
        report_table(f"bench status: {what}", measured, bench.lines, as_json)
    for each in (ris, other):
        each.close()
