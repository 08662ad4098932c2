"""Worklist queries: a station's list of today, among many entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime

from broker.bench.dicom import How, ask
from broker.bench.entries import Entry, order_frame, question
from broker.bench.mllp import send_orders
from broker.bench.report import Row, row
from broker.bench.timings import MeasurementFailed

LOADING_CONNECTIONS = 20
LOADING_S = 600.0
WARM_UP = 3
SCENARIOS = {How.KEPT: "kept association", How.POLLS: "association per poll"}


def load(address: tuple[str, int], entries: Sequence[Entry], *, now: datetime) -> None:
    """Order every entry over MLLP. Raises MeasurementFailed when one is not accepted."""
    frames = [order_frame(entry, sent=now) for entry in entries]
    loaded = send_orders(
        address, frames, connections=min(LOADING_CONNECTIONS, len(frames)), seconds=LOADING_S
    )
    accepted = len(loaded.latencies_s) - loaded.faults
    if accepted != len(frames):
        raise MeasurementFailed(f"the broker accepted {accepted} of {len(frames)} orders")


def measure(
    servers: Mapping[str, tuple[str, int]], *, queries: int, seconds: float, today: date
) -> Iterator[Row]:
    """Yield a row per way to ask and server; each takes at most `seconds`.

    The first WARM_UP queries of each row are not counted.
    """
    identifier = question(today)
    for how, scenario in SCENARIOS.items():
        for server, address in servers.items():
            for number in (WARM_UP, queries):
                timings = ask(address, how, identifier, queries=number, seconds=seconds)
            yield row(scenario, server, timings)
