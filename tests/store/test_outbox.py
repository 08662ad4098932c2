"""The outbox: order kept for each RIS and order, one worker at a time, nothing lost on the way."""

from __future__ import annotations

import threading

import pytest

from broker.store import dead, destinations, keys, outbox
from broker.store.call import Call
from broker.store.destinations import Pause
from broker.store.executors import Store
from broker.store.outbox import Delivered, Taken, Trouble
from broker.store.server import EmbeddedServer
from tests.store.sending import NOW, ORDER, add, delivered, due, event, take, taken_by


def postponed(token: str, until_ms: int) -> Call[bool]:
    """Give the order back for a while."""
    return outbox.postpone("north", ORDER, token, until_ms=until_ms, trouble=Trouble("1"))


def test_messages_leave_in_the_order_in_which_they_came_byte_for_byte(store: Store) -> None:
    add(store, event("1"), event("2"))
    add(store, event("3"))
    assert store.run(outbox.events("north", ORDER)) == [event("1"), event("2"), event("3")]
    assert take(store) == event("1")
    for control_id, following in (("1", [event("2")]), ("2", [event("3")]), ("3", [])):
        assert delivered(store, control_id) == following
    assert due(store) == []
    assert store.run(outbox.pending("north")) == 0
    assert not store.redis.exists(keys.outbox("north", ORDER), keys.lease("north", ORDER))


def test_with_the_last_message_of_an_order_the_next_order_is_taken(store: Store) -> None:
    other = "H|B1"
    add(store, event("1"), event("2"), event("3", order=other))
    assert take(store) == event("1")
    assert delivered(store, "1") == [event("2")]
    assert due(store) == [other]
    assert delivered(store, "2", then=[other]) == [event("3", order=other)]
    assert due(store) == []
    assert delivered(store, "3", order=other) == []


def test_several_deliveries_are_settled_together_and_a_lost_one_harms_no_other(
    store: Store,
) -> None:
    orders = ["H|C1", "H|C2", "H|C3"]
    add(store, *(event(order[-1], order=order) for order in orders), event("4", order="H|C3"))
    for order in orders:
        take(store, order=order)
    store.redis.set(keys.lease("north", "H|C2"), "another", px=60_000)
    gone = [Delivered(order, order[-1]) for order in orders]
    settled = store.run(outbox.settle("north", "t1", gone, [ORDER], ttl_ms=60_000))
    assert (settled.ours, settled.lost) == ([Taken("H|C3", event("4", order="H|C3"))], ["H|C2"])
    assert store.run(outbox.events("north", "H|C1")) == []
    assert store.run(outbox.events("north", "H|C2")) == [event("2", order="H|C2")]


def test_an_order_of_another_worker_is_not_taken_with_the_last_message(store: Store) -> None:
    other = "H|B2"
    add(store, event("1"), event("2", order=other))
    assert take(store) == event("1")
    assert take(store, "t2", order=other) == event("2", order=other)
    assert delivered(store, "1", then=[other]) == []
    assert store.run(outbox.renew("north", other, "t2", ttl_ms=60_000))


def test_only_one_worker_has_an_order(store: Store) -> None:
    add(store, event("1"))
    assert take(store, "t1") == event("1")
    assert take(store, "t2") is None
    assert due(store) == []
    for verb in (
        outbox.renew("north", ORDER, "t2", ttl_ms=5),
        outbox.release("north", ORDER, "t2"),
        outbox.postpone("north", ORDER, "t2", until_ms=1, trouble=Trouble("1")),
        outbox.note("north", ORDER, "t2", Trouble("1")),
    ):
        assert store.run(verb) is False
    assert delivered(store, "1", "t2") is None
    for holds in (True, False):
        refused = outbox.refuse(event("1"), "t2", cause="x", at=1.0, holds=holds)
        assert store.run(refused).lost == [ORDER]
    assert store.run(outbox.bury("north", ORDER, "t2")).lost == [ORDER]
    assert store.run(outbox.events("north", ORDER)) == [event("1")]
    assert store.run(dead.count()) == 0


def test_workers_racing_for_an_order_are_one_winner(store: Store, server: EmbeddedServer) -> None:
    add(store, event("1"))
    won: list[str] = []

    def work(token: str) -> None:
        mine = Store(server.url)
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
    assert delivered(store, "1") is None


def test_a_lease_can_be_kept(store: Store) -> None:
    add(store, event("1"))
    take(store, ttl_ms=1000)
    assert store.run(outbox.renew("north", ORDER, "t1", ttl_ms=60_000)) is True
    assert store.redis.pttl(keys.lease("north", ORDER)) > 50_000


def test_only_the_head_that_was_sent_is_removed(store: Store) -> None:
    add(store, event("1"), event("2"))
    take(store)
    assert delivered(store, "2") is None
    assert delivered(store, "1") == [event("2")]
    assert delivered(store, "1") is None
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
    assert delivered(store, "1") == [event("2")]
    store.run(outbox.release("north", ORDER, "t1"))
    assert due(store) == [ORDER]


def test_a_postponed_order_waits_even_when_another_message_comes(store: Store) -> None:
    """A new message must not overtake, nor wake up, one that waits for its RIS."""
    add(store, event("1"))
    take(store)
    assert store.run(postponed("t1", NOW + 5000)) is True
    assert due(store) == []
    add(store, event("2", created=2.0))
    assert due(store) == []
    assert due(store, now_ms=NOW + 5000) == [ORDER]
    assert take(store, "t2") == event("1")


def test_a_try_that_a_clock_ahead_of_ours_has_set_is_due_now(store: Store) -> None:
    """A clock that was an hour ahead must not make a RIS wait for an hour."""
    for order, wait_ms in (("soon", 5_000), ("late", 3_600_000)):
        add(store, event(order, order=order))
        take(store, order=order)
        later = {"until_ms": NOW + wait_ms, "trouble": Trouble(order)}
        store.run(outbox.postpone("north", order, "t1", **later))
    sooner = outbox.sooner("north", now_ms=NOW, longest_ms=60_000, lease_ms=60_000)
    assert store.run(sooner) == 1
    assert due(store) == ["late"]
    assert store.run(sooner) == 0


def test_a_lease_that_a_clock_ahead_of_ours_has_given_lasts_no_hour(store: Store) -> None:
    for order, ttl_ms in (("held", 10_000), ("stuck", 3_600_000)):
        add(store, event(order, order=order))
        take(store, order=order, ttl_ms=ttl_ms)
    assert store.run(outbox.sooner("north", now_ms=NOW, longest_ms=60_000, lease_ms=10_000)) == 1
    assert due(store) == ["stuck"]


def test_what_is_born_while_much_waits_is_among_the_first(store: Store) -> None:
    add(store, *(event(f"{n}", order=f"H|A{n:03}", created=1 + n / 1000) for n in range(300)))
    first = due(store, limit=100)
    assert len(first) == len(set(first)) == 100
    assert first[:10] == [f"H|A{n:03}" for n in range(299, 289, -1)]
    assert first[10:] == [f"H|A{n:03}" for n in range(90)]
    take(store, order="H|A299")
    assert due(store, limit=100)[0] == "H|A298"
    assert sorted(due(store, limit=1000)) == [f"H|A{n:03}" for n in range(299)]


def test_nothing_is_taken_while_a_destination_is_paused(store: Store) -> None:
    add(store, event("1"), event("2"), event("3", ris="south"))
    take(store)
    assert store.run(destinations.pause("north", Pause(1.0, "me", "downtime")))
    assert not store.run(destinations.pause("north", Pause(2.0, "you")))
    assert delivered(store, "1") == []
    assert due(store) == []
    assert take(store) is None
    assert due(store, "south") == [ORDER]
    assert store.run(destinations.paused()) == {"north": Pause(1.0, "me", "downtime")}
    assert store.run(destinations.resume("north"))
    assert take(store) == event("2")


def test_what_went_wrong_is_remembered_over_workers_and_restarts(store: Store) -> None:
    add(store, event("1"))
    take(store)
    trouble = Trouble("1", 3, "AR", 1.0, doubt=True)
    store.run(outbox.postpone("north", ORDER, "t1", until_ms=NOW, trouble=trouble))
    taken = taken_by(store, "t2", now_ms=NOW)
    assert taken is not None
    assert taken.trouble == trouble
    delivered(store, "1", "t2")
    assert store.run(destinations.troubles("north")) == {}


def test_what_was_postponed_meanwhile_is_not_taken(store: Store) -> None:
    add(store, event("1"))
    take(store)
    store.run(postponed("t1", NOW + 5000))
    assert take(store, "t2", now_ms=NOW) is None
    assert store.run(destinations.hurry("north", now_ms=NOW)) == 1
    assert due(store) == [ORDER]


def test_a_message_that_waits_can_be_taken_out_but_not_while_it_is_sent(store: Store) -> None:
    add(store, event("1"), event("2"))
    take(store)
    assert store.run(destinations.withdraw(event("1"), now_ms=NOW)) == -1
    assert store.run(destinations.withdraw(event("2"), now_ms=NOW)) == 1
    assert store.run(destinations.withdraw(event("2"), now_ms=NOW)) == 0
    assert store.run(outbox.events("north", ORDER)) == [event("1")]


def test_one_ris_knows_nothing_of_another(store: Store) -> None:
    add(store, event("1"), event("2", ris="south"))
    take(store)
    store.run(postponed("t1", NOW * 10))
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


def test_a_wake_up_names_each_destination_of_a_commit_once(store: Store) -> None:
    add(store, event("1"), event("2", ris="south"), event("3"))
    add(store, event("4"))
    assert store.run(outbox.wakeup(0.1)) == ["north"]
    assert store.run(outbox.wakeups()) == ["south", "north"]
    assert store.run(outbox.wakeups()) == store.run(outbox.wakeup(0.1)) == []


def test_wake_ups_that_nobody_reads_do_not_pile_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "WAKE_UPS", 3)
    for n in range(9):
        add(store, event(f"{n}"))
    assert store.redis.llen(keys.WAKE) == 3
