"""Messages that could not be applied: listed once, till they are accepted or given up."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from broker.store import keys, recall, refused
from broker.store.archive import Archived
from broker.store.commit import Commit, Committed, Guard, Repeat, commit
from broker.store.executors import Store, StoreUnavailable
from broker.store.held import Waiting
from broker.store.reserve import refuse_writes
from broker.worklist.changes import Unmapped
from tests.store.writing import AT

RAW = b"MSH|^~\\&|RIS\r"
DIGEST = hashlib.sha256(RAW).hexdigest()
MESSAGE = Archived(
    source="RIS|N",
    control_id="1",
    message_type="ORM^O01",
    outcome="refused",
    cause="AE 103 OBR^1^24: no row",
    received=AT.timestamp(),
    orders=(),
    mapping="m@1",
    raw=RAW,
)


def refuse(store: Store, digest: str = DIGEST) -> object:
    return store.run(refused.refusing(MESSAGE, digest))


def digests(store: Store) -> list[str]:
    return [each.digest for each in store.run(refused.listed())]


def test_a_refused_message_is_archived_and_listed_once_with_its_first_and_last_time(
    store: Store,
) -> None:
    for _ in range(3):
        assert isinstance(refuse(store), Committed)
    entries = store.run(recall.before("+"))
    (listed,) = store.run(refused.listed())
    assert [entry.message for entry in entries] == [MESSAGE] * 3
    assert (listed.first, listed.last) == (entries[-1].stream_id, entries[0].stream_id)
    assert listed.digest == DIGEST
    assert store.run(refused.count()) == 1


def test_those_refused_last_are_at_the_end(store: Store) -> None:
    for digest in ("b", "a", "c", "b"):
        refuse(store, digest)
    assert digests(store) == ["a", "c", "b"]


def test_one_that_is_accepted_is_dead_no_more_and_cannot_be_refused_any_more(store: Store) -> None:
    refuse(store)
    refuse(store, "other")
    accepted = Commit(at=AT, guard=Guard(DIGEST, b"AA", 60))
    assert isinstance(store.run(commit(accepted)), Committed)
    assert digests(store) == ["other"]
    assert refuse(store) == Repeat(b"AA")
    assert digests(store) == ["other"]
    assert len(store.run(recall.before("+"))) == 2


def test_one_that_waits_for_a_code_is_dead_no_more(store: Store) -> None:
    refuse(store)
    waiting = Waiting(DIGEST, "RIS|N", "1", 5.0, "m@1", (Unmapped("modality", "X"),), RAW)
    store.run(commit(Commit(at=AT, held=waiting)))
    assert digests(store) == []


def test_one_that_is_given_up_is_forgotten(store: Store) -> None:
    refuse(store)
    assert store.run(refused.forget(DIGEST)) == 1
    assert store.run(refused.forget(DIGEST)) == 0
    assert digests(store) == []
    assert store.redis.exists(keys.REFUSED, keys.REFUSED_BY_TIME) == 0


def test_the_oldest_give_way_to_new_ones(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused, "MOST", 3)
    for digest in "abcde":
        refuse(store, digest)
    assert digests(store) == ["c", "d", "e"]
    assert store.run(refused.count()) == 3


def test_nothing_is_written_while_writes_are_refused(store: Store) -> None:
    store.run(refuse_writes("no room"))
    with pytest.raises(StoreUnavailable, match="no room"):
        refuse(store)
    assert digests(store) == []
    assert store.run(recall.newest_id()) == "0-0"


def test_a_message_with_a_payload_left_out_is_known_by_the_bytes_as_received(store: Store) -> None:
    from broker.store.archive import digest_of

    assert digest_of(MESSAGE) == DIGEST
    store.run(refused.refusing(replace(MESSAGE, digest="whole", cut=True), "whole"))
    (entry,) = store.run(recall.before("+"))
    assert entry.message is not None
    assert digest_of(entry.message) == "whole"
    assert entry.message.cut
