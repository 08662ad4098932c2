"""Messages that arrive together share round trips and the disk, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from broker.hl7.acknowledgement import read_acknowledgement
from broker.orders.door import intake_of
from broker.orders.intake import Intake
from broker.orders.metrics import OrdersMetrics
from broker.probe.orders import Envelope, Order, Patient, Step, adt_a08, numbered, orm_o01
from broker.rollout.current import Current
from broker.settings import Redis, Settings
from broker.store import archive, held, reads
from broker.store.executors import AsyncStore, Store
from broker.store.line import ANSWER_S
from broker.store.server import EmbeddedServer
from tests.houses import holding_mappings
from tests.orders.door import compiled

pytestmark = pytest.mark.peer("redis-server")

NOON = datetime(2026, 3, 16, 12, 0)  # noqa: DTZ001 - a RIS writes local time
COMMITS = "broker_orders_conflicts_total"


@pytest.fixture
def holding(tmp_path: Path) -> Path:
    """The shipped mappings, but that a modality which no table has makes an order wait."""
    return holding_mappings(tmp_path / "rules")


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[Intake]:
    """An intake in front of this Redis."""
    store = AsyncStore(url)
    wanted = Settings(redis=Redis(mode="url", url=url), **settings)
    try:
        current = Current(wanted, compiled(wanted.mappings))
        yield intake_of(wanted, store, current, OrdersMetrics())
    finally:
        await store.close()


async def together(intake: Intake, messages: list[bytes]) -> list[str]:
    """MSA-1 of each message, all sent at the same moment; 'closed' is no answer."""
    answers = await asyncio.gather(*map(intake.accept, messages))
    return ["closed" if each is None else read_acknowledgement(each[0]).code for each in answers]


def at(minute: int, sender: str = "PROBERIS") -> Envelope:
    return Envelope(application=sender, sent=NOON + timedelta(minutes=minute))


def conflicts(intake: Intake) -> float:
    return intake.metrics.registry.get_sample_value(COMMITS) or 0.0


def stored(store: Store, *orders: Order) -> dict[str, Any]:
    return dict(store.run(reads.orders(f"NORTH|{o.accession}" for o in orders)).known.orders)


def outcomes(store: Store, limit: int = 100) -> list[str]:
    return sorted(message.outcome for message in store.run(archive.newest(limit)))


def test_a_batch_about_one_order_is_chained_and_not_raced(
    store: Store, server: EmbeddedServer
) -> None:
    order = numbered(1)
    described = [replace(order, description=f"CT {n}") for n in range(20)]

    async def story() -> None:
        async with opened(server.url) as intake:
            messages = [orm_o01(each, envelope=at(n)) for n, each in enumerate(described)]
            assert await together(intake, messages) == ["AA"] * 20
            assert conflicts(intake) == 0

    asyncio.run(story())
    (found,) = stored(store, order).values()
    assert found.procedures[0].facts.text("RequestedProcedureDescription") == "CT 19"
    assert len(list(found.steps())) == 1


def status_of(store: Store, order: Order) -> str:
    (found,) = stored(store, order).values()
    (status,) = (step.status for _, step in found.steps())
    return str(status)


@pytest.mark.parametrize("cancel_first", [False, True])
def test_an_order_and_its_cancel_of_one_time_that_are_in_flight_together_end_cancelled(
    store: Store, server: EmbeddedServer, cancel_first: bool
) -> None:
    order = numbered(1)
    first, again, cancel = (
        orm_o01(order, control=control, envelope=at(0)) for control in ("NW", "NW", "CA")
    )

    async def story() -> None:
        async with opened(server.url) as intake:
            assert await together(intake, [first]) == ["AA"]
            pair = [cancel, again] if cancel_first else [again, cancel]
            assert await together(intake, pair) == ["AA", "AA"]

    asyncio.run(story())
    assert status_of(store, order) == "CANCELLED"


def test_an_order_sent_after_the_answer_to_a_cancel_of_the_same_time_is_listed(
    store: Store, server: EmbeddedServer
) -> None:
    order = numbered(1)

    async def story() -> None:
        async with opened(server.url) as intake:
            for control in ("NW", "CA", "NW"):
                message = orm_o01(order, control=control, envelope=at(0))
                assert await together(intake, [message]) == ["AA"]

    asyncio.run(story())
    assert status_of(store, order) == "SCHEDULED"


def test_orders_of_one_patient_in_a_batch_all_belong_to_him(
    store: Store, server: EmbeddedServer
) -> None:
    person = Patient("P77", "MUSTER^MIRJAM", issuer="NORTH")
    orders = [replace(numbered(n), patient=person) for n in range(1, 15)]
    corrected = adt_a08(replace(person, name="RICHTIG^MIRJAM"), envelope=at(30))

    async def story() -> None:
        async with opened(server.url) as intake:
            messages = [orm_o01(each, envelope=at(n)) for n, each in enumerate(orders)]
            assert await together(intake, [*messages[:7], corrected, *messages[7:]]) == ["AA"] * 15
            assert conflicts(intake) == 0

    asyncio.run(story())
    read = store.run(reads.orders(f"NORTH|{order.accession}" for order in orders))
    assert len(read.known.orders) == len(orders)
    (patient,) = read.known.patients.values()
    assert patient.facts.text("PatientName") == "RICHTIG^MIRJAM"


def test_one_that_is_refused_harms_none_of_the_twenty_beside_it(
    store: Store, server: EmbeddedServer
) -> None:
    orders = [numbered(n) for n in range(1, 21)]
    bad = [b"no HL7 at all", orm_o01(replace(numbered(50), accession=""), envelope=at(0))]

    async def story() -> None:
        async with opened(server.url) as intake:
            messages = [orm_o01(each) for each in orders]
            codes = await together(intake, [*messages[:10], *bad, *messages[10:]])
            assert codes[:10] == codes[12:] == ["AA"] * 10
            assert not {"AA", "closed"} & set(codes[10:12])

    asyncio.run(story())
    assert len(stored(store, *orders)) == 20
    assert outcomes(store) == ["applied"] * 20 + ["refused"] * 2


def test_the_same_message_many_times_in_a_batch_has_one_effect_and_one_answer(
    store: Store, server: EmbeddedServer
) -> None:
    message = orm_o01(numbered(1))

    async def story() -> None:
        async with opened(server.url) as intake:
            answers = await asyncio.gather(*(intake.accept(message) for _ in range(10)))
            assert len({b"".join(each or []) for each in answers}) == 1

    asyncio.run(story())
    assert outcomes(store) == ["applied"] + ["repeat"] * 9


def test_one_that_is_held_waits_while_the_others_of_its_batch_are_listed(
    store: Store, server: EmbeddedServer, holding: Path
) -> None:
    orders = [numbered(n) for n in range(1, 11)]
    unknown = replace(numbered(50), steps=(Step(step_id="S50", modality="ZZ", station_ae="Z1"),))

    async def story() -> None:
        async with opened(server.url, mappings=holding) as intake:
            messages = [orm_o01(each) for each in (*orders[:5], unknown, *orders[5:])]
            assert await together(intake, messages) == ["AA"] * 11

    asyncio.run(story())
    assert len(stored(store, *orders)) == 10
    assert not stored(store, unknown)
    assert store.run(held.count()) == 1


def test_redis_hangs_and_ten_messages_about_one_patient_fail_together(
    own_server: EmbeddedServer,
) -> None:
    assert own_server.pid
    person = Patient("P77", "MUSTER^MIRJAM", issuer="NORTH")
    messages = [orm_o01(replace(numbered(n), patient=person), envelope=at(n)) for n in range(11)]

    async def story() -> None:
        async with opened(own_server.url) as intake:
            assert await together(intake, messages[:1]) == ["AA"]
            assert own_server.pid
            os.kill(own_server.pid, signal.SIGSTOP)
            began = time.monotonic()
            assert await together(intake, messages) == ["closed"] * 11
            assert time.monotonic() - began < 11 * ANSWER_S / 2  # not one after the other
            os.kill(own_server.pid, signal.SIGCONT)
            assert await together(intake, messages) == ["AA"] * 11

    try:
        asyncio.run(story())
    finally:
        os.kill(own_server.pid, signal.SIGCONT)


def test_redis_dies_in_the_middle_of_a_batch_and_nothing_acknowledged_is_lost(
    own_server: EmbeddedServer,
) -> None:
    orders = [numbered(n) for n in range(1, 121)]
    messages = [orm_o01(each) for each in orders]

    async def story() -> None:
        async with opened(own_server.url) as intake:
            assert await together(intake, messages[:20]) == ["AA"] * 20
            sending = [asyncio.ensure_future(intake.accept(each)) for each in messages[20:]]
            await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            assert own_server.pid
            os.kill(own_server.pid, signal.SIGKILL)
            answers = await asyncio.gather(*sending)
            own_server.stop()
            own_server.start()
            store = Store(own_server.url)
            found = stored(store, *orders)
            for order, answer in zip(orders[20:], answers, strict=True):
                assert answer is None or f"NORTH|{order.accession}" in found
            assert await together(intake, messages) == ["AA"] * 120
            assert len(stored(store, *orders)) == 120
            assert outcomes(store, 300).count("applied") == 120  # each once, the rest are repeats
            store.close()

    asyncio.run(story())


MISCOUNTED = "broker_orders_batches_miscounted_total"
ANSWERED = "broker_orders_messages_total"


@pytest.mark.parametrize(("said", "counted"), [(3, 1.0), (2, 0.0)])
def test_a_trailer_that_says_another_number_of_messages_is_counted_and_all_are_answered(
    server: EmbeddedServer, said: int, counted: float
) -> None:
    first, second = (orm_o01(numbered(n), envelope=at(n)) for n in (1, 2))
    block = b"BHS|^~\\&|\r" + first + second + b"BTS|%d\r" % said

    async def story() -> None:
        async with opened(server.url) as intake:
            assert len(await intake.accept(block) or ()) == 2
            assert intake.metrics.registry.get_sample_value(MISCOUNTED) == counted

    asyncio.run(story())


def test_a_message_without_sender_is_counted_as_of_an_unknown_one(server: EmbeddedServer) -> None:
    message = orm_o01(numbered(1), envelope=at(1)).replace(b"|PROBERIS|NORTH|", b"|||", 1)

    async def story() -> None:
        async with opened(server.url) as intake:
            await intake.accept(message)
            (sources,) = (
                {sample.labels["source"] for sample in metric.samples}
                for metric in intake.metrics.registry.collect()
                if f"{metric.name}_total" == ANSWERED
            )
            assert sources == {"unknown"}

    asyncio.run(story())


def test_the_line_of_a_message_names_ten_orders_and_how_many_more(
    store: Store, server: EmbeddedServer
) -> None:
    lines = orm_o01(numbered(1), envelope=at(1)).split(b"\r")
    start = next(n for n, line in enumerate(lines) if line.startswith(b"ORC"))
    end = next((n for n, line in enumerate(lines) if line.startswith(b"ZDS")), len(lines) - 1)
    order = numbered(1)
    groups = [
        each.replace(order.accession.encode(), b"ACC%d" % n)
        .replace(order.placer.encode(), b"PL%d" % n)
        .replace(order.filler.encode(), b"FI%d" % n)
        for n in range(12)
        for each in lines[start:end]
    ]
    message = b"\r".join([*lines[:start], *groups, b""])

    async def story() -> list[str]:
        async with opened(server.url) as intake:
            with structlog.testing.capture_logs() as said:
                assert await together(intake, [message]) == ["AA"]
            return next(line["orders"] for line in said if line["event"] == "message")

    named = asyncio.run(story())
    assert (len(named), named[-1]) == (11, "and 2 more")
