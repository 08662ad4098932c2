"""Orders a second: the same new orders to each server, every answer awaited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from broker.bench.entries import entries, order_frame
from broker.bench.mllp import send_orders
from broker.bench.peers import Serving
from broker.bench.processes import cpu_s
from broker.bench.report import Row, row

WARM_UP = 50
LEAST_US = 5
"""CPU of an answer that is not worth a mention: the doors that only wait."""


def measure(
    servers: Mapping[str, Serving],
    *,
    messages: int,
    connections: Sequence[int],
    seconds: float,
    now: datetime,
) -> Iterator[Row]:
    """Yield a row per number of connections and server; each takes at most `seconds`.

    No order comes twice, but the first WARM_UP of each row are not counted.
    """
    first = 1
    for number in connections:
        batch = entries(first, WARM_UP + messages, now.date())
        frames = [order_frame(entry, sent=now) for entry in batch]
        first += len(frames)
        for server, serving in servers.items():
            send_orders(serving.address, frames[:WARM_UP], connections=number, seconds=seconds)
            scenario = f"{number} connection{'s' * (number != 1)}"
            yield measured(scenario, server, serving, frames[WARM_UP:], number, seconds)


def measured(
    scenario: str, server: str, serving: Serving, frames: list[bytes], number: int, seconds: float
) -> Row:
    """One measurement: what was answered, and the CPU that serving it took."""
    before = cpu_s(serving.pid)
    timings = send_orders(serving.address, frames, connections=number, seconds=seconds)
    count = len(timings.latencies_s)
    used = {
        name or "server": 1e6 * (now - before.get(name, 0.0)) / count
        for name, now in cpu_s(serving.pid).items()
    }
    cpu = {name: each for name, each in used.items() if each > LEAST_US}
    return replace(row(scenario, server, timings), cpu_us=cpu)
