"""All ADT of a hospital, some with an embedded document: Redis stays flat, a restart is quick."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from broker.bench.entries import framed
from broker.bench.mllp import send_orders
from broker.bench.processes import Broker, resident_mib, store_of, used_bytes
from broker.store import archive, metrics

CONNECTIONS = 20
SAMPLES = 10
PIECE = 5_000
"""Messages that are made and sent at once, so that the client stays small."""
PATIENTS = 20_000
"""Of whom the messages tell, one after the other, again and again."""
DOCUMENT = 200_000
"""Characters of the OBX that every hundredth message carries."""
REMOVED = "broker_updates_removed_total"

# The bounds of a hospital, made so small that even a short run reaches them.
CAPS: Mapping[str, str] = {
    "BROKER_KEEP__MESSAGES": "20s",
    "BROKER_KEEP__MESSAGE_BYTES": "8MiB",
    "BROKER_KEEP__GUARD": "10s",
    "BROKER_KEEP__PATIENTS": "10s",
}

ADT = """\
MSH|^~\\&|BENCHADT|NORTH|BROKER|NORTH|{sent:%Y%m%d%H%M%S}||ADT^A08|A{number}|P|2.3.1||||||UNICODE UTF-8
EVN|A08|{sent:%Y%m%d%H%M%S}
PID|1||A{patient}^^^NORTH^MR||MUSTER{patient}^MIRJAM^ANNA||19800229|F|||77 QUARRY RD^^GLENHAVEN^OR^97401^US^L||5550139
PV1|1|I|WARD^2^1^NORTH||||1144^HALVORSEN^PIPPA^^^^MD|||||||||||V{patient}
"""  # noqa: E501 a segment is a line


@dataclass(frozen=True)
class Sample:
    """What Redis and the listener hold after so many messages; `restart_s` only at the end."""

    messages: int
    faults: int
    per_s: float
    redis_mib: float
    archived: int
    removed: int
    listener_mib: float
    restart_s: float = 0.0


def frames(first: int, count: int, now: datetime) -> list[bytes]:
    """So many ADT^A08; every hundredth has a document of 200 KB."""
    return [_frame(number, now) for number in range(first, first + count)]


def measure(
    started: Callable[[], AbstractContextManager[Broker]], *, messages: int, now: datetime
) -> Iterator[Sample]:
    """Yield samples on the way, then one more after the broker was ended and started again.

    `started` runs a broker under CAPS, each time on the same data.
    """
    piece = max(1, messages // SAMPLES)
    with started() as broker:
        for first in range(1, messages + 1, piece):
            last = min(first + piece, messages + 1)
            began, faults = time.monotonic(), 0
            for start in range(first, last, PIECE):
                sent = frames(start, min(PIECE, last - start), now)
                faults += send_orders(
                    broker.hl7, sent, connections=CONNECTIONS, seconds=3600
                ).faults
            rate = (last - first) / (time.monotonic() - began)
            yield _sample(broker, last - 1, faults, rate)
    began = time.monotonic()
    with started() as broker:
        yield _sample(broker, messages, 0, 0.0, restart_s=time.monotonic() - began)


def lines(samples: Iterator[Sample]) -> Iterator[str]:
    """The table, line by line."""
    yield (
        f"{'messages':>10}{'faults':>8}{'per s':>10}{'Redis MiB':>11}{'archived':>10}"
        f"{'removed':>10}{'listener MiB':>14}"
    )
    for each in samples:
        if each.restart_s:
            yield f"ready again after {each.restart_s:.1f} s with {each.redis_mib:.1f} MiB in Redis"
            continue
        yield (
            f"{each.messages:10}{each.faults:8}{each.per_s:10.1f}{each.redis_mib:11.1f}"
            f"{each.archived:10}{each.removed:10}{each.listener_mib:14.1f}"
        )


def _frame(number: int, now: datetime) -> bytes:
    text = ADT.format(number=number, patient=number % PATIENTS, sent=now)
    if number % 100 == 0:
        text += f"OBX|1|ED|DOC^Report||^application^pdf^Base64^{'QUJD' * (DOCUMENT // 4)}||||||F\n"
    return framed(text)


def _sample(
    broker: Broker, messages: int, faults: int, per_s: float, restart_s: float = 0.0
) -> Sample:
    store = store_of(broker)
    families = metrics.summed(store.run(metrics.published()).values())
    removed = sum(s.value for f in families for s in f.samples if s.name == REMOVED)
    sample = Sample(
        messages=messages,
        faults=faults,
        per_s=per_s,
        redis_mib=used_bytes(store) / 2**20,
        archived=store.run(archive.count()),
        removed=int(removed),
        listener_mib=resident_mib(broker.pid).get("orders", 0.0),
        restart_s=restart_s,
    )
    store.close()
    return sample
