"""The archive: what arrived is read back as it was, and days and bytes bound it."""

from __future__ import annotations

import os
from dataclasses import replace

from broker.store import archive, keys
from broker.store.archive import Archived
from broker.store.commit import Commit, commit
from broker.store.executors import Store
from tests.store.writing import AT

MESSAGE = Archived(
    source="RIS|HÖSP",
    control_id="4711",
    message_type="ORM^O01",
    outcome="refused",
    cause="PID-3: no patient ID",
    received=1767268800.25,
    orders=("H|A1", "H|A2"),
    mapping="ihe-orders",
    raw=b"MSH|^~\\&|\r\x00\xff\x1b$B",
    answers=(b"\x0bACK\xff\x1c\r", b""),
)


def add(store: Store, *messages: Archived) -> None:
    """Archive messages as commits do."""
    for message in messages:
        store.run(commit(Commit(at=AT, archived=message)))


def incompressible(number: int, size: int = 2000) -> Archived:
    """A message that takes about its size."""
    return replace(MESSAGE, control_id=f"{number}", raw=os.urandom(size))


def kept_bytes(store: Store) -> int:
    """The size that the entries themselves name."""
    return sum(int(fields[b"size"]) for _, fields in store.redis.xrange(keys.ARCHIVE))


def ids(store: Store) -> list[str]:
    """Control IDs, newest first."""
    return [message.control_id for message in store.run(archive.newest(100))]


def trim(store: Store, *, before_ms: int = 0, max_bytes: int = 10**9, at_most: int = 500) -> int:
    """Keep the bounds."""
    return store.run(archive.trim(before_ms=before_ms, max_bytes=max_bytes, at_most=at_most))


def test_a_message_is_read_back_byte_for_byte(store: Store) -> None:
    add(store, MESSAGE)
    assert store.run(archive.newest(10)) == [MESSAGE]
    assert store.run(archive.count()) == 1


def test_bytes_of_a_patient_are_in_no_representation() -> None:
    assert "MSH" not in repr(MESSAGE)
    assert "ACK" not in repr(MESSAGE)


def test_the_newest_come_first_and_no_more_than_asked_for(store: Store) -> None:
    add(store, *(replace(MESSAGE, control_id=f"{n}") for n in range(5)))
    assert [m.control_id for m in store.run(archive.newest(2))] == ["4", "3"]


def test_an_empty_archive_has_no_size(store: Store) -> None:
    assert store.run(archive.count()) == store.run(archive.size_bytes()) == 0
    assert store.run(archive.newest(5)) == []
    assert trim(store) == 0


def test_the_size_is_that_of_the_entries(store: Store) -> None:
    add(store, *(incompressible(n) for n in range(5)))
    assert store.run(archive.size_bytes()) == kept_bytes(store) > 5 * 2000


def test_the_oldest_go_until_the_rest_fits(store: Store) -> None:
    add(store, *(incompressible(n) for n in range(10)))
    limit = sum(int(fields[b"size"]) for _, fields in store.redis.xrange(keys.ARCHIVE)[5:])
    assert trim(store, max_bytes=limit) == 5
    assert ids(store) == ["9", "8", "7", "6", "5"]
    assert store.run(archive.size_bytes()) == kept_bytes(store) == limit
    assert trim(store, max_bytes=limit) == 0


def test_what_is_too_old_goes_and_no_more(store: Store) -> None:
    add(store, *(incompressible(n) for n in range(3)))
    (third, _), *_ = store.redis.xrevrange(keys.ARCHIVE)
    at = int(third.split(b"-")[0])
    assert trim(store, before_ms=0) == 0
    assert trim(store, before_ms=at + 1) == 3
    assert store.run(archive.size_bytes()) == store.run(archive.count()) == 0


def test_a_trim_takes_so_many_at_a_time(store: Store) -> None:
    add(store, *(incompressible(n, 10) for n in range(7)))
    assert [trim(store, max_bytes=0, at_most=3) for _ in range(4)] == [3, 3, 1, 0]
    assert store.run(archive.size_bytes()) == 0
