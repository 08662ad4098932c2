"""Metrics of several processes: snapshots in the store, and the sum that people see."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from broker.modality.metrics import ModalityMetrics
from broker.orders.metrics import OrdersMetrics
from broker.store import metrics
from broker.store.executors import AsyncStore, Store, StoreUnavailable
from broker.store.server import EmbeddedServer
from broker.updates.metrics import UpdatesMetrics


def counted(times: int) -> metrics.Snapshot:
    """A process that counted so often, with a histogram, and gauges of both kinds."""
    registry = CollectorRegistry()
    Counter("c", "A counter", ["who"], registry=registry).labels('a "b"\\').inc(times)
    Histogram("h", "A histogram", buckets=(1, 5), registry=registry).observe(times)
    Gauge("g", "An amount", registry=registry).set(times)
    Gauge("g_oldest_seconds", "An age", registry=registry).set(times)
    return metrics.snapshot(registry, at=100.0)


def test_counters_and_histograms_of_processes_add_up() -> None:
    """One line for each series, HELP and TYPE once, labels escaped."""
    text = metrics.exposition([counted(2), counted(4)])
    lines = text.splitlines()
    assert r'c_total{who="a \"b\"\\"} 6.0' in lines
    assert [line for line in lines if line.startswith("h_bucket")] == [
        'h_bucket{le="1.0"} 0.0',
        'h_bucket{le="5.0"} 2.0',
        'h_bucket{le="+Inf"} 2.0',
    ]
    assert "h_sum 6.0" in lines
    assert lines.count("# TYPE c_total counter") == 1
    assert lines.count("# HELP h A histogram") == 1
    assert "_created" not in text


def test_gauges_add_up_unless_their_name_says_that_the_largest_counts() -> None:
    """Two processes with three each hold six, but the oldest message is three seconds old."""
    lines = metrics.exposition([counted(3), counted(3)]).splitlines()
    assert "g 6.0" in lines
    assert "g_oldest_seconds 3.0" in lines


def test_a_metric_whose_kind_changed_between_versions_counts_as_the_first_says() -> None:
    """During an upgrade two versions publish side by side."""
    old, new = CollectorRegistry(), CollectorRegistry()
    Gauge("x", "Old", registry=old).set(1)
    Histogram("x", "New", registry=new).observe(1)
    text = metrics.exposition(metrics.snapshot(each, at=0.0) for each in (old, new))
    assert text == "# HELP x Old\n# TYPE x gauge\nx 1.0\n"


def test_names_that_peers_choose_are_bounded() -> None:
    """A sender that invents a name for every message makes one series more, not thousands."""
    orders = OrdersMetrics()
    for number in range(5000):
        orders.answered(f"APP{number}", "ORM^O01", "AA", 0.01)
    orders.answered("\x1b[2J" + "x" * 5000, "ORM^O01", "nonsense", 0.01)
    orders.answered("APP0", "ORM^O01", "", 0.01)
    text = metrics.exposition([metrics.snapshot(orders.registry, at=0.0)])
    series = [
        line for line in text.splitlines() if line.startswith("broker_orders_messages_total{")
    ]
    assert len(series) == 103
    assert 'broker_orders_messages_total{ack="AA",source="other",type="ORM^O01"} 4900.0' in series
    assert 'broker_orders_messages_total{ack="none",source="APP0",type="ORM^O01"} 1.0' in series
    assert "broker_orders_ack_seconds_count 5002.0" in text


def test_a_label_is_short_and_printable() -> None:
    """What a peer sends cannot break a line or fill the store."""
    bounded = metrics.Bounded(2)
    assert bounded("a\nb") == "a?b"
    assert bounded("y" * 500) == "y" * metrics.LABEL_LENGTH
    assert bounded("third") == "other"


def test_every_door_counts_what_it_is_told() -> None:
    """The names are what dashboards are built on."""
    orders, modality, updates = OrdersMetrics(), ModalityMetrics(), UpdatesMetrics()
    orders.refused("no accession")
    orders.repeat()
    orders.stale()
    orders.conflict()
    orders.store_unavailable()
    orders.connection("opened")
    modality.find(0xA700, 0, 0.2)
    modality.find(0x0000, 3, 0.2)
    modality.asked("CT1", "CT_1", 0xA700, 0, 0.2)
    modality.asked("", "CT2", 0x0000, 0, 0.2)
    modality.mpps("N-SET", 0x0110)
    modality.association("accepted")
    modality.echo()
    updates.sent("ris", "done", 0.1)
    updates.parked("ris")
    updates.retry("ris")
    doors = (orders, modality, updates)
    lines = metrics.exposition(metrics.snapshot(d.registry, at=0.0) for d in doors).splitlines()
    for line in (
        'broker_orders_refused_total{reason="no accession"} 1.0',
        "broker_orders_repeats_total 1.0",
        'broker_modality_ae_failures_total{aet="CT1"} 1.0',
        'broker_modality_ae_empty_total{aet="CT1"} 0.0',
        'broker_modality_ae_failures_total{aet="CT2"} 0.0',
        'broker_modality_ae_empty_total{aet="CT2"} 1.0',
        "broker_orders_stale_total 1.0",
        "broker_orders_conflicts_total 1.0",
        "broker_orders_store_unavailable_total 1.0",
        'broker_orders_connection_events_total{event="opened"} 1.0',
        'broker_modality_find_requests_total{status="A700"} 1.0',
        'broker_modality_find_requests_total{status="0000"} 1.0',
        "broker_modality_find_results_total 3.0",
        "broker_modality_find_seconds_count 2.0",
        'broker_modality_mpps_total{operation="N-SET",status="0110"} 1.0',
        'broker_modality_associations_total{outcome="accepted"} 1.0',
        "broker_modality_echo_total 1.0",
        'broker_updates_sent_total{destination="ris",verdict="done"} 1.0',
        "broker_updates_send_seconds_count 1.0",
        'broker_updates_parked_total{destination="ris"} 1.0',
        'broker_updates_retries_total{destination="ris"} 1.0',
    ):
        assert line in lines


@pytest.mark.peer("redis-server")
def test_a_snapshot_comes_back_as_it_was_published(own_server: EmbeddedServer) -> None:
    """The last one of each process, and nothing of a version that writes another format."""
    store = Store(own_server.url)
    store.run(metrics.publish("orders:0@here", counted(1)))
    store.run(metrics.publish("orders:0@here", counted(2)))
    store.run(metrics.publish("orders:1@here", counted(3)))
    store.redis.hset(metrics.keys.METRICS, "orders:2@here", '{"format": 999}')
    expected = {"orders:0@here": counted(2), "orders:1@here": counted(3)}
    assert store.run(metrics.published()) == expected
    store.close()


@pytest.mark.peer("redis-server")
def test_a_worker_publishes_once_and_hears_when_it_cannot(own_server: EmbeddedServer) -> None:
    """The sync form."""
    store, updates = Store(own_server.url), UpdatesMetrics()
    updates.retry("ris")
    metrics.publish_once(store, updates.registry, "updates:1@here")
    assert 'broker_updates_retries_total{destination="ris"} 1.0' in metrics.exposition(
        store.run(metrics.published()).values()
    )
    own_server.stop()
    with pytest.raises(StoreUnavailable):
        metrics.publish_once(store, updates.registry, "updates:1@here")
    store.close()


@pytest.mark.peer("redis-server")
def test_a_publisher_outlives_its_store_and_sweeps_what_the_dead_have_left(
    own_server: EmbeddedServer,
) -> None:
    """Redis ends and comes back: the counts come back as well."""
    asyncio.run(_publishing_over_a_restart(own_server))


async def _publishing_over_a_restart(own_server: EmbeddedServer) -> None:
    store, orders = AsyncStore(own_server.url), OrdersMetrics()
    await store.run(metrics.publish("orders:0@gone", counted(1)))
    task = asyncio.create_task(metrics.publish_forever(store, orders.registry, "o", every_s=0.01))
    try:
        assert await _repeats_published(store, 0.0) == {"o"}
        own_server.stop()
        await asyncio.sleep(0.05)
        assert not task.done()
        orders.repeat()
        own_server.start()
        assert await _repeats_published(store, 1.0) == {"o"}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def _repeats_published(store: AsyncStore, count: float) -> set[str]:
    """Wait until the store says so; gives the names of all who have published."""
    line = f"broker_orders_repeats_total {count}"
    while True:
        with suppress(StoreUnavailable):
            found = await store.run(metrics.published())
            if line in metrics.exposition(found.values()):
                return set(found)
        await asyncio.sleep(0.01)


@pytest.mark.peer("redis-server")
def test_a_publisher_ends_whenever_it_is_cancelled(own_server: EmbeddedServer) -> None:
    """In the middle of a command as well, where Python 3.11 may lose the cancellation."""
    asyncio.run(_cancelled_at_many_points(own_server))


async def _cancelled_at_many_points(own_server: EmbeddedServer) -> None:
    store, orders = AsyncStore(own_server.url), OrdersMetrics()
    for turns in range(60):
        task = asyncio.create_task(metrics.publish_forever(store, orders.registry, "o", every_s=0))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=10)
        assert not pending
    await store.close()


def test_what_was_published_long_ago_is_stale() -> None:
    """A process that has gone away counts for ten minutes more."""
    found = {"a": counted(1)}
    assert metrics.fresh(found, now=100.0 + metrics.STALE_S) == found
    assert metrics.fresh(found, now=101.0 + metrics.STALE_S) == {}
