"""Dead letters: parked with their cause, sent again in order, what holds and what overtakes."""

from __future__ import annotations

import json

import pytest

from broker.store import dead, keys, outbox
from broker.store.call import Call
from broker.store.commit import Commit, Committed, commit
from broker.store.dead import Letter
from broker.store.executors import Store
from broker.store.outbox import Event, Settled, Taken
from tests.store.sending import NOW, ORDER, add, delivered, due, event, take, taken_by
from tests.store.writing import AT


def letters(store: Store) -> list[Letter]:
    """All dead letters."""
    return store.run(dead.read(store.run(dead.ids())))


def park(store: Store, *events: Event, at: float = 1.0) -> None:
    """Let a destination refuse these, which are all of their order."""
    add(store, *events)
    assert take(store, "parking", order=events[0].order) == events[0]
    for each in events:
        store.run(outbox.refuse(each, "parking", cause="AE", at=at))


def held(refused: Event, token: str = "t1") -> Call[Settled]:
    """A destination refuses a message, and its order waits for a decision."""
    return outbox.refuse(refused, token, cause="AE", at=1.0, holds=True)


def test_a_refused_message_is_parked_with_its_cause_and_the_next_may_go(store: Store) -> None:
    add(store, event("1"), event("2"))
    take(store)
    refused = outbox.refuse(event("1"), "t1", cause="AE", words="unknown ünit", at=12.5)
    assert store.run(refused) == Settled([Taken(ORDER, event("2"))])
    assert store.run(dead.count()) == 1
    (letter,) = letters(store)
    assert (letter.cause, letter.words, letter.parked) == ("AE", "unknown ünit", 12.5)
    assert (letter.id, letter.event, letter.holds) == ("1", event("1"), False)


def test_a_refused_message_can_hold_what_comes_after_it_till_a_person_decides(store: Store) -> None:
    add(store, event("1"), event("2"))
    take(store)
    assert store.run(held(event("1"))) == Settled([])
    add(store, event("3", created=3.0))
    assert due(store, now_ms=NOW * 10**9) == []
    assert take(store, "t2") is None
    assert store.run(dead.holding("north")) == 1
    assert [letter.holds for letter in letters(store)] == [True]
    assert store.run(dead.replay("north", ORDER, [("1", event("1"))], now_ms=NOW)) == 1
    assert due(store) == [ORDER]
    assert store.run(outbox.events("north", ORDER)) == [
        event("1"),
        event("2"),
        event("3", created=3.0),
    ]
    assert (store.run(dead.count()), store.run(dead.holding("north"))) == (0, 0)


def test_what_holds_an_order_can_be_dropped_and_the_rest_goes(store: Store) -> None:
    add(store, event("1"), event("2"))
    take(store)
    store.run(held(event("1")))
    assert store.run(dead.drop("north", ORDER, ["1"], now_ms=NOW)) == 1
    assert due(store) == [ORDER]
    assert take(store, "t2") == event("2")


def test_letters_go_back_in_front_in_the_order_in_which_they_arose(store: Store) -> None:
    park(store, event("1"), event("2"))
    add(store, event("3", created=3.0))
    again = [("1", event("1")), ("2", event("2"))]
    assert store.run(dead.replay("north", ORDER, again, now_ms=NOW)) == 2
    waiting = [each.control_id for each in store.run(outbox.events("north", ORDER))]
    assert waiting == ["1", "2", "3"]
    assert store.run(dead.replay("north", ORDER, again, now_ms=NOW)) == 0


def test_a_letter_is_put_behind_what_is_on_its_way(store: Store) -> None:
    park(store, event("1"))
    add(store, event("2"), event("3"))
    take(store, "t2")
    store.run(dead.replay("north", ORDER, [("1", event("1"))], now_ms=NOW))
    assert delivered(store, "2", "t2") == [event("1")]


def test_a_letter_put_back_does_not_free_an_order_that_another_one_holds(store: Store) -> None:
    park(store, event("1"))
    add(store, event("2"), event("3"))
    take(store, "t2")
    store.run(held(event("2"), "t2"))
    store.run(dead.replay("north", ORDER, [("1", event("1"))], now_ms=NOW))
    assert due(store, now_ms=NOW * 10**9) == []
    store.run(dead.replay("north", ORDER, [("2", event("2"))], now_ms=NOW))
    assert take(store, "t3") == event("2")


def test_a_letter_is_overtaken_by_what_arose_later_and_was_delivered(store: Store) -> None:
    park(store, event("5", created=5.0))
    add(store, event("4", created=4.0), event("6", created=6.0))
    take(store, "t2")
    delivered(store, "4", "t2")
    assert store.run(dead.overtaken("north", ORDER)) == {}
    delivered(store, "6", "t2")
    assert store.run(dead.overtaken("north", ORDER)) == {"5": "6"}
    store.run(dead.drop("north", ORDER, ["5"], now_ms=NOW))
    assert not store.redis.exists(keys.parked("north", ORDER))


def test_of_too_many_letters_the_oldest_give_way_but_for_what_holds_an_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "DEAD_LETTERS", 2)
    add(store, event("0"))
    take(store)
    store.run(held(event("0")))
    for number in "123":
        park(store, event(number, order=f"H|{number}"), at=float(number))
    assert sorted(letter.id for letter in letters(store)) == ["0", "2", "3"]
    assert store.run(dead.expire(before_ms=2_500, at_most=9)) == 1
    assert sorted(letter.id for letter in letters(store)) == ["0", "3"]
    assert not store.redis.exists(keys.parked("north", "H|2"))


def test_a_damaged_message_is_put_where_people_see_it_and_the_next_goes(store: Store) -> None:
    add(store, event("1"), event("2"))
    store.redis.lset(keys.outbox("north", ORDER), 0, b'{"control_id": "1", \xff')
    assert taken_by(store, "t1") == Taken(ORDER, None)
    buried = store.run(outbox.bury("north", ORDER, "t1"))
    assert buried == Settled([Taken(ORDER, event("2"))])
    (letter,) = letters(store)
    assert (letter.cause, letter.event) == ("unreadable", None)
    assert letter.damaged == b'{"control_id": "1", \xff'
    assert letter.id.startswith("DAMAGED-")


def test_a_letter_that_holds_an_order_holds_it_in_another_store_too(store: Store) -> None:
    add(store, event("1"), event("2"))
    take(store)
    store.run(outbox.refuse(event("1"), "t1", cause="AE", at=1.0, words="no", holds=True))
    before = letters(store)
    [kept] = store.run(dead.kept(["1"]))
    store.redis.flushall()
    assert kept is not None
    assert isinstance(store.run(commit(Commit(at=AT, letters=[kept]))), Committed)
    assert letters(store) == before
    add(store, event("2"))
    assert due(store, now_ms=NOW * 10**9) == []
    store.run(dead.replay("north", ORDER, [("1", event("1"))], now_ms=NOW))
    assert take(store, "t2") == event("1")


def test_what_an_earlier_version_has_parked_is_taken_over(store: Store) -> None:
    facts = outbox.plain(event("1"))
    del facts["kind"], facts["facts"]
    old = json.dumps({**facts, "cause": "AE: unknown", "parked": 12.0})
    store.redis.xadd("{broker}:dead", {"letter": old})
    assert [store.run(dead.adopt()), store.run(dead.adopt())] == [1, 0]
    (letter,) = letters(store)
    assert (letter.cause, letter.words, letter.event) == ("AE", "unknown", event("1"))
    assert not store.redis.exists("{broker}:dead")
