"""Indexes that an earlier version has left are made anew; those of a newer one are refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.store import indexing, keys, metrics
from broker.store.executors import Store
from broker.store.indexing import (
    IndexesTooNew,
    OthersRun,
    ensure_indexed,
    refuse_another,
    see_nobody_earlier,
)
from broker.store.server import EmbeddedServer
from broker.worklist.apply import Sender
from broker.worklist.changes import Action
from tests.store.writing import AT, apply, everything, whole


def test_indexes_of_an_earlier_version_are_made_as_if_all_had_come_today(store: Store) -> None:
    for number in range(3):
        said = whole(AccessionNumber=f"A{number}", PatientID=f"{number % 2}")
        apply(store, Sender("RIS", "H", "2026"), (Action.SCHEDULE, said))
    apply(store, Sender("RIS", "H", "2027"), (Action.CANCEL, {"AccessionNumber": "A2"}))
    assert ensure_indexed(store, AT) == 3
    as_committed = everything(store, skip=("revision",))
    for key in store.redis.keys(keys.steps_of("*")):
        store.redis.delete(key)
    store.redis.delete(keys.starts("station", "CT1"), keys.INDEXED)
    for key in (*store.redis.keys(keys.orders_of("*")), *store.redis.keys(keys.numbers("*", "*"))):
        store.redis.sadd(key + b"\0", *store.redis.zrange(key, 0, -1))
        store.redis.rename(key + b"\0", key)
    store.redis.zadd(keys.starts("start"), {"H|A0\x1f1\x1f1": 202601010800})
    store.redis.zadd(keys.NAMES, {"doe ^john \0H|1": 0})
    assert ensure_indexed(store, AT) == 3
    assert everything(store, skip=("revision",)) == as_committed
    assert ensure_indexed(store, AT) == 0


def test_a_new_store_is_only_stamped(store: Store) -> None:
    assert ensure_indexed(store, AT) == 0
    assert everything(store) == {keys.INDEXED: indexing.FORM.encode()}


def test_indexes_of_a_newer_version_are_refused_with_the_remedy(store: Store) -> None:
    store.redis.set(keys.INDEXED, "5")
    with pytest.raises(IndexesTooNew, match="run the newer broker again"):
        ensure_indexed(store, AT)


def test_indexes_of_the_version_before_are_taken_over_as_they_are(store: Store) -> None:
    apply(store, Sender("RIS", "H", "2026"), (Action.SCHEDULE, whole(AccessionNumber="A1")))
    store.redis.set(keys.INDEXED, "3")
    before = everything(store, skip=(keys.INDEXED,))
    assert ensure_indexed(store, AT) == 0
    assert everything(store, skip=(keys.INDEXED,)) == before
    assert store.redis.get(keys.INDEXED) == indexing.FORM.encode()


@contextmanager
def publishing(server: EmbeddedServer, store: Store, name: str) -> Iterator[None]:
    """A process that runs, and says so again and again."""
    done = threading.Event()

    def forever() -> None:
        own = Store(server.url)
        while not done.wait(0.02):
            own.run(metrics.publish(name, metrics.Snapshot(time.time(), ())))
        own.close()

    store.run(metrics.publish(name, metrics.Snapshot(time.time(), ())))
    thread = threading.Thread(target=forever)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("form", ["2", "3"])
def test_nothing_is_begun_while_a_broker_that_could_not_read_it_runs(
    server: EmbeddedServer, store: Store, form: str
) -> None:
    store.redis.set(keys.INDEXED, form)
    with (
        publishing(server, store, "modality:0@ct"),
        pytest.raises(OthersRun, match=r"modality:0@ct of an earlier"),
    ):
        see_nobody_earlier(store, patience_s=0.1)


def test_what_a_broker_that_has_ended_left_behind_holds_nobody_up(store: Store) -> None:
    store.redis.set(keys.INDEXED, "3")
    store.run(metrics.publish("modality:0@ct", metrics.Snapshot(time.time(), ())))
    see_nobody_earlier(store, patience_s=0.0, quiet_s=0.5)
    store.run(metrics.forget(["modality:0@ct"]))
    see_nobody_earlier(store, quiet_s=600.0)


def test_brokers_of_one_version_start_beside_each_other(
    server: EmbeddedServer, store: Store
) -> None:
    ensure_indexed(store, AT)
    with publishing(server, store, "modality:0@ct"):
        see_nobody_earlier(store)


def test_a_command_of_another_version_than_the_brokers_is_refused(store: Store) -> None:
    refuse_another(store)
    ensure_indexed(store, AT)
    refuse_another(store)
    for form, remedy in (("3", "restart the broker"), ("5", "use the `broker` of that version")):
        store.redis.set(keys.INDEXED, form)
        with pytest.raises(OthersRun, match=remedy):
            refuse_another(store)
