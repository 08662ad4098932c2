"""Indexes that an earlier version has left are made anew; those of a newer one are refused."""

from __future__ import annotations

import pytest

from broker.store import indexing, keys
from broker.store.executors import Store
from broker.store.indexing import IndexesTooNew, ensure_indexed
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
