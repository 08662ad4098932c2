"""`broker bench find`: what scanners ask, beside other worklist servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.bench.measuring import (
    Seconds,
    measurable,
    measuring,
    read_numbers,
    report_rows,
    servers_of,
    the_moment,
    throwaway,
)
from broker.cli.printing import AsJson

if TYPE_CHECKING:
    from broker.bench.find import Bench, Idle
    from broker.bench.report import Row


def register(verbs: typer.Typer) -> None:
    """Add `find` to the group."""
    verbs.command("find")(find)


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

    marks, now = read_numbers(entries, most=1_000_000), the_moment()
    said = {**bench.SAID, "BROKER_DICOM__PROCESSES": f"{processes}"}
    with measuring(), throwaway(said) as running:
        where = bench.Bench(running.dicom, measurable(running), now.date(), queries, seconds)
        what = f"{max(marks):,} entries, {processes} process" + "es" * (processes > 1)
        measured = _found(where, marks, long, now)
        report_rows(f"bench find: 3 answers among {what}", measured, as_json)
        if idle and not as_json:
            typer.echo(_idle_line(bench.idle(where, idle)))


def _found(where: Bench, marks: Sequence[int], long: int, now: datetime) -> Iterator[Row]:
    """Measure at each mark, and at the last one whatever is slow elsewhere."""
    from broker.bench import find as bench
    from broker.bench.entries import entries, more_entries

    stored = 0
    for mark in sorted(marks):
        make = more_entries if stored else entries
        bench.load(where.broker.hl7, make(stored + 1, mark - stored, where.today), now=now)
        stored = mark
        with _servers(where, mark) as servers:
            yield from bench.measure(where, servers, f"{mark:,}: " if len(marks) > 1 else "")
    if long:
        yield from bench.searches(where, stored)
        yield from _long_lists(where, stored, long, now)


def _long_lists(where: Bench, stored: int, long: int, now: datetime) -> Iterator[Row]:
    from broker.bench import find as bench
    from broker.bench.entries import long_list, more_entries

    bench.load(where.broker.hl7, long_list(stored + 1, long, where.today), now=now)
    yield from bench.long_lists(where, long)
    more = more_entries(stored + long + 1, bench.ORDERS_BESIDE, where.today)
    yield bench.beside_orders(where, more, now)


@contextmanager
def _servers(where: Bench, count: int) -> Iterator[Mapping[str, tuple[str, int]]]:
    """Ours, and those beside it with as many entries."""
    from broker.bench import find as bench
    from broker.bench import peers
    from broker.bench.entries import entries

    few = count <= bench.MOST_FILES
    listed = entries(1, count, where.today) if few else []
    with peers.wlmscpfs(listed) as files, peers.pynetdicom_server() as bare:
        servers = servers_of(where.dicom, "pynetdicom", bare.address, "")
        if few:
            servers = {**servers, **servers_of(where.dicom, "wlmscpfs", files, peers.NO_WLMSCPFS)}
        yield servers


def _idle_line(cost: Idle) -> str:
    return (
        f"{cost.associations} idle associations: {cost.core_percent:.1f} % of a core, "
        f"{cost.mib:.1f} MiB; the process has {cost.process_mib:.0f} MiB"
    )
