"""Records of an earlier release are read after an upgrade, those of a later one are named."""

from __future__ import annotations

import json
import zlib

import pytest

from broker.store import archive, keys, reads, stored
from broker.store.archive import Archived
from broker.store.executors import Store
from broker.store.packing import packed
from broker.worklist.records import Order
from tests.store.writing import create, order, patient


def rewritten(store: Store, record: Order, text: dict[str, object]) -> None:
    """Put other words in the place of a stored order."""
    owner = record.patient.encode()
    body = b"%04d" % len(owner) + owner + packed(json.dumps(text).encode(), "record")
    store.redis.set(keys.order(record.key), b"000000000001" + body)


def test_r13_an_order_that_lacks_what_was_added_later_is_read(store: Store) -> None:
    record = order("A1")
    create(store, patient(), record)
    must = {"issuer": "H", "accession": "A1", "patient": "H|1", "source": "H"}
    rewritten(store, record, must)
    read = store.run(reads.orders([record.key]))
    assert read.known.orders == {record.key: record}
    assert read.unreadable == ()


def test_r13_an_order_with_what_only_a_later_release_knows_is_named_and_left_alone(
    store: Store,
) -> None:
    record, other = order("A1"), order("A2")
    create(store, patient(), record, other)
    rewritten(store, record, {**record.model_dump(mode="json"), "schema_version": 9, "new": 1})
    read = store.run(reads.orders([record.key, other.key]))
    assert read.known.orders == {other.key: other}
    assert read.unreadable == (record.key,)


def test_r13_an_archived_message_that_lacks_what_was_added_later_is_read() -> None:
    facts = {
        **{"source": "R|N", "control_id": "1", "message_type": "ORM^O01", "outcome": "applied"},
        **{"cause": "", "received": 1.0, "orders": [], "mapping": "m@1", "answers": []},
    }
    fields = {b"packed": packed(json.dumps(facts).encode() + b"\nMSH|", "message")}
    assert archive.entry(fields) == Archived(
        "R|N", "1", "ORM^O01", "applied", "", 1.0, (), "m@1", b"MSH|"
    )


def test_r13_data_sets_of_an_exam_are_read_as_an_earlier_release_deflated_them() -> None:
    said = b"\x08\x00\x16\x00UI"
    assert stored.received(zlib.compress(said)) == said
    assert stored.received(packed(said, "record")) == said
    with pytest.raises(ValueError, match="damaged"):
        stored.received(zlib.compress(said)[:-1])
