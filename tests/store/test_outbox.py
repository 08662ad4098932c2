"""The outbox: order kept for each RIS and order, one worker at a time, nothing lost on the way."""

from __future__ import annotations

import threading

import pytest

from broker.store import keys, outbox
from broker.store.commit import Commit, Committed, commit
from broker.store.executors import Store
from broker.store.outbox import Event
from broker.store.server import EmbeddedServer
from tests.store.writing import AT

ORDER = "H|A/1 *?[x]%7C%25"
NOW = 10_000


def event(
    control_id: str, *, ris: str = "north", order: str = ORDER, created: float = 1.0
) -> Event:
    """One status message."""
    payload = f"MSH|{control_id}|Müller".encode("latin-1") + b"\x00\xff"
    return Event(ris, order, control_id, created, "status-orm", "IN PROGRESS", payload)


def add(store: Store, *events: Event) -> None:
    """Put messages into the outbox as a commit does."""
    assert isinstance(store.run(commit(Commit(at=AT, events=events))), Committed)


def due(store: Store, ris: str = "north", *, now_ms: int = NOW, limit: int = 10) -> list[str]:
    """Orders to send for."""
    return store.run(outbox.dirty(ris, now_ms=now_ms, limit=limit))


def take(
    store: Store, token: str = "t1", *, order: str = ORDER, ttl_ms: int = 60_000
) -> Event | None:
    """Take an order."""
    return store.run(outbox.take("north", order, token, ttl_ms=ttl_ms))


def test_messages_leave_in_the_order_in_which_they_came_byte_for_byte(store: Store) -> None:
    add(store, event("1"), event("2"))
    add(store, event("3"))
    assert store.run(outbox.events("north", ORDER)) == [event("1"), event("2"), event("3")]
    assert take(store) == event("1")
    for control_id, following in (("1", event("2")), ("2", event("3")), ("3", None)):
        popped = store.run(outbox.pop("north", ORDER, "t1", control_id))
        assert (popped.done, popped.following) == (True, following)
    assert due(store) == []
    assert store.run(outbox.pending("north")) == 0
    assert not store.redis.exists(keys.outbox("north", ORDER), keys.lease("north", ORDER))


def test_only_one_worker_has_an_order(store: Store) -> None:
    add(store, event("1"))
    assert take(store, "t1") == event("1")
    assert take(store, "t2") is None
    assert due(store) == []
    for verb in (
        outbox.renew("north", ORDER, "t2", ttl_ms=5),
        outbox.release("north", ORDER, "t2"),
        outbox.postpone("north", ORDER, "t2", until_ms=1),
        outbox.hold("north", ORDER, "t2", event("1"), cause="x", at=1.0, until_ms=1),
    ):
        assert store.run(verb) is False
    assert not store.run(outbox.pop("north", ORDER, "t2", "1")).done
    parked = outbox.park("north", ORDER, "t2", event("1"), cause="x", at=1.0)
    assert not store.run(parked).done
    assert store.run(outbox.events("north", ORDER)) == [event("1")]
    assert store.run(outbox.dead()) == 0


def test_workers_racing_for_an_order_are_one_winner(
    store: Store, redis_server: EmbeddedServer
) -> None:
    add(store, event("1"))
    won: list[str] = []

    def work(token: str) -> None:
        mine = Store(redis_server.url)
        if take(mine, token):
            won.append(token)
        mine.close()

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(won) == 1


def test_the_order_of_a_worker_that_died_is_free_again(store: Store) -> None:
    add(store, event("1"))
    take(store, "t1", ttl_ms=1)
    for _ in range(1000):
        if due(store) == [ORDER]:
            break
    assert take(store, "t2") == event("1")
    assert not store.run(outbox.pop("north", ORDER, "t1", "1")).done


def test_a_lease_can_be_kept(store: Store) -> None:
    add(store, event("1"))
    take(store, ttl_ms=1000)
    assert store.run(outbox.renew("north", ORDER, "t1", ttl_ms=60_000)) is True
    assert store.redis.pttl(keys.lease("north", ORDER)) > 50_000


def test_only_the_head_that_was_sent_is_removed(store: Store) -> None:
    add(store, event("1"), event("2"))
    take(store)
    assert not store.run(outbox.pop("north", ORDER, "t1", "2")).done
    store.run(outbox.pop("north", ORDER, "t1", "1"))
    assert not store.run(outbox.pop("north", ORDER, "t1", "1")).done
    assert store.run(outbox.events("north", ORDER)) == [event("2")]


def test_a_released_order_stays_dirty_while_it_has_messages(store: Store) -> None:
    add(store, event("1"))
    take(store)
    assert store.run(outbox.release("north", ORDER, "t1")) is True
    assert due(store) == [ORDER]
    assert take(store, "t2") == event("1")


def test_a_message_that_comes_while_the_last_is_sent_is_not_forgotten(store: Store) -> None:
    add(store, event("1"))
    take(store)
    add(store, event("2"))
    assert store.run(outbox.pop("north", ORDER, "t1", "1")).following == event("2")
    store.run(outbox.release("north", ORDER, "t1"))
    assert due(store) == [ORDER]


def test_a_postponed_order_waits_even_when_another_message_comes(store: Store) -> None:
    """A new message must not overtake, nor wake up, one that waits for its RIS."""
    add(store, event("1"))
    take(store)
    assert store.run(outbox.postpone("north", ORDER, "t1", until_ms=NOW + 5000)) is True
    assert due(store) == []
    add(store, event("2", created=2.0))
    assert due(store) == []
    assert due(store, now_ms=NOW + 5000) == [ORDER]
    assert take(store, "t2") == event("1")


def test_a_refused_message_is_parked_with_its_cause_and_the_next_may_go(store: Store) -> None:
    add(store, event("1"), event("2"))
    take(store)
    parked = outbox.park("north", ORDER, "t1", event("1"), cause="AE: unknown ünit", at=12.5)
    popped = store.run(parked)
    assert (popped.done, popped.following) == (True, event("2"))
    assert store.run(outbox.dead()) == 1
    (letter,) = store.run(outbox.dead_letters(10))
    assert letter["cause"] == "AE: unknown ünit"
    assert letter["parked"] == 12.5
    assert letter["control_id"] == "1"
    assert letter["payload"].encode("latin-1") == event("1").payload


def test_a_refused_message_can_be_held_where_it_is(store: Store) -> None:
    add(store, event("1"), event("2"))
    take(store)
    held = outbox.hold("north", ORDER, "t1", event("1"), cause="AE", at=1.0, until_ms=NOW + 5000)
    assert store.run(held) is True
    assert store.run(outbox.events("north", ORDER)) == [event("1"), event("2")]
    assert store.run(outbox.dead()) == 1
    assert due(store) == []
    assert due(store, now_ms=NOW + 5000) == [ORDER]


def test_the_newest_dead_letters_come_first(store: Store) -> None:
    for number in "123":
        add(store, event(number))
        take(store)
        store.run(outbox.park("north", ORDER, "t1", event(number), cause="x", at=1.0))
    assert [one["control_id"] for one in store.run(outbox.dead_letters(2))] == ["3", "2"]


def test_one_ris_knows_nothing_of_another(store: Store) -> None:
    add(store, event("1"), event("2", ris="south"))
    take(store)
    store.run(outbox.postpone("north", ORDER, "t1", until_ms=NOW * 10))
    assert due(store) == []
    assert due(store, "south") == [ORDER]
    assert store.run(outbox.pending("south")) == 1


def test_orders_that_wait_longest_come_first(store: Store) -> None:
    add(store, event("1", order="H|2", created=2.0), event("2", order="H|1", created=1.0))
    add(store, event("3", order="H|1", created=3.0), event("4", order="H|9", created=99.0))
    assert due(store) == ["H|1", "H|2"]
    assert due(store, limit=1) == ["H|1"]


def test_orders_in_work_do_not_hide_those_behind_them(store: Store) -> None:
    for n in range(9):
        add(store, event(f"{n}", order=f"H|{n}", created=float(n)))
    for n in range(5):
        take(store, order=f"H|{n}")
    assert due(store, limit=2) == ["H|5", "H|6"]
    assert due(store, limit=4) == ["H|5", "H|6", "H|7", "H|8"]
    assert due(store, limit=50) == ["H|5", "H|6", "H|7", "H|8"]


def test_a_wake_up_names_the_ris_once_for_each_message(store: Store) -> None:
    add(store, event("1"), event("2", ris="south"))
    assert store.run(outbox.wakeups(0.1)) == ["north"]
    assert store.run(outbox.wakeups(0.1)) == ["south"]
    assert store.run(outbox.wakeups(0.1)) == []


def test_wake_ups_that_nobody_reads_do_not_pile_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "WAKE_UPS", 3)
    add(store, *(event(f"{n}") for n in range(9)))
    assert store.redis.llen(keys.WAKE) == 3
