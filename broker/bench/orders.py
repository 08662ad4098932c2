"""Orders a second: the same new orders to each server, every answer awaited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from broker.bench.entries import entries, order_frame
from broker.bench.mllp import send_orders
from broker.bench.report import Row, row

WARM_UP = 50


def measure(
    servers: Mapping[str, tuple[str, int]],
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
        for server, address in servers.items():
            for part in (frames[:WARM_UP], frames[WARM_UP:]):
                timings = send_orders(address, part, connections=number, seconds=seconds)
            yield row(f"{number} connection{'s' * (number != 1)}", server, timings)
