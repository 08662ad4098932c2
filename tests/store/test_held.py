"""Messages that wait for a code: kept once, in the order they came, till they are judged."""

from __future__ import annotations

import os
from dataclasses import replace

from broker.store import held, keys
from broker.store.commit import Commit, Committed, Guard, Repeat, commit
from broker.store.executors import Store
from broker.worklist.changes import Unmapped
from tests.store.writing import AT

CODES = (Unmapped("modality", "MÜX"), Unmapped("station", "A|B"))
FIRST = held.Waiting("d1", "RIS|N", "1", 5.000001, "m@1", CODES, b"MSH|\xff\x00\r")


def keep(store: Store, message: held.Waiting) -> None:
    assert isinstance(store.run(commit(Commit(at=AT, held=message))), Committed)


def test_messages_are_read_as_they_were_kept_in_the_order_they_came(store: Store) -> None:
    second = replace(FIRST, digest="d0", received=5.000002)
    keep(store, second)
    keep(store, FIRST)
    assert store.run(held.digests()) == ["d1", "d0"]
    assert store.run(held.read(["d1", "gone", "d0"])) == [FIRST, second]


def test_one_that_comes_again_keeps_its_turn_and_says_what_it_lacks_now(store: Store) -> None:
    keep(store, FIRST)
    keep(store, replace(FIRST, received=9.0, unmapped=CODES[:1]))
    assert store.run(held.count()) == 1
    assert store.redis.zscore(keys.HELD_BY_TIME, "d1") == FIRST.received
    assert store.run(held.read(["d1"]))[0].unmapped == CODES[:1]


def test_a_message_that_is_judged_waits_no_more(store: Store) -> None:
    """Also when it was judged already and had come to wait all the same."""
    judged = Commit(at=AT, guard=Guard("d1", b"AA", 60))
    for outcome in (Committed, Repeat):
        keep(store, FIRST)
        keep(store, replace(FIRST, digest="d2"))
        assert isinstance(store.run(commit(judged)), outcome)
        assert store.run(held.digests()) == ["d2"]
        assert not store.run(held.waits("d1"))


def test_a_large_message_does_not_wait() -> None:
    assert held.fits(FIRST)
    assert not held.fits(replace(FIRST, raw=os.urandom(held.LARGEST)))
