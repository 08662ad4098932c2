"""What is kept of AEs, of their queries and of what they received: merged, bounded, expiring."""

from __future__ import annotations

from broker.store import keys, sightings
from broker.store.executors import Store
from broker.store.sightings import AskedOnce, Heard, Refused

DAY = 86_400.0
MEMBER = b"N|A1\x1fR1\x1fS1"


def heard(title: str, at: float, **more: object) -> Heard:
    return Heard(title, at, at, "10.1.1.1", "BROKER", **more)  # type: ignore[arg-type]


def test_the_first_time_stays_and_the_last_moves_on(store: Store) -> None:
    """Whichever process tells first."""
    for at in (2000.0, 1000.0, 3000.0):
        store.run(sightings.sighted("CT1", [(MEMBER, at)], keep_s=DAY))
    (seen,) = store.run(sightings.sightings("N|A1"))
    assert (seen.procedure, seen.step, seen.aet) == ("R1", "S1", "CT1")
    assert (seen.first, seen.last) == (2000.0, 3000.0)


def test_versions_of_a_member_are_no_part_of_its_name(store: Store) -> None:
    """Nor is an @ of a step ID a version."""
    assert sightings.unversioned(MEMBER + b"@12.7") == MEMBER
    assert sightings.unversioned(MEMBER + b"@home") == MEMBER + b"@home"
    assert sightings.unversioned(b"N|A@1\x1fR1\x1fS1") == b"N|A@1\x1fR1\x1fS1"
    store.run(sightings.sighted("CT1", [(MEMBER + b"@1.2", 1.0)], keep_s=DAY))
    store.run(sightings.sighted("CT1", [(MEMBER + b"@3.4", 2.0)], keep_s=DAY))
    assert len(store.run(sightings.sightings("N|A1"))) == 1


def test_sightings_of_an_order_are_bounded_and_expire(store: Store) -> None:
    for number in range(sightings.SIGHTINGS_OF_ORDER + 5):
        store.run(sightings.sighted(f"AE{number}", [(MEMBER, 1.0)], keep_s=DAY))
    store.run(sightings.sighted("AE0", [(MEMBER, 9.0)], keep_s=DAY))  # who is in, stays in
    seen = {each.aet: each.last for each in store.run(sightings.sightings("N|A1"))}
    assert len(seen) == sightings.SIGHTINGS_OF_ORDER
    assert seen["AE0"] == 9.0
    assert 0 < store.redis.ttl(keys.sightings("N|A1")) <= DAY


def test_empty_lists_in_a_row_are_counted_over_flushes_and_processes(store: Store) -> None:
    def told(at: float, *, queries: int, empty: int, ended: bool, failures: int = 0) -> None:
        ae = heard("CT1", at, queries=queries, empty=empty, streak_ended=ended, failures=failures)
        store.run(sightings.heard([ae], forget_before=0))

    told(1000, queries=3, empty=3, ended=False)
    told(1001, queries=2, empty=2, ended=False)
    (ae,) = store.run(sightings.known_aes(1001))
    assert (ae.streak, ae.queries, ae.first, ae.last) == (5, 5, 1000, 1001)
    told(1002, queries=4, empty=1, ended=True)
    told(1003, queries=1, empty=0, ended=False, failures=1)
    (ae,) = store.run(sightings.known_aes(1003))
    assert (ae.streak, ae.failures) == (1, 1)


def test_queries_are_counted_for_an_hour(store: Store) -> None:
    for minute in range(0, 180, 5):
        ae = heard("CT1", minute * 60.0, queries=10)
        store.run(sightings.heard([ae], forget_before=0))
    (ae,) = store.run(sightings.known_aes(175 * 60.0))
    assert (ae.per_hour, ae.queries) == (120, 360)
    (later,) = store.run(sightings.known_aes(175 * 60.0 + 7200))
    assert later.per_hour == 0


def test_aes_are_bounded_and_those_that_are_silent_are_forgotten(store: Store) -> None:
    many = [heard(f"AE{n}", 1000.0 + n) for n in range(sightings.AES_AT_MOST + 3)]
    store.run(sightings.heard(many, forget_before=0))
    titles = {ae.title for ae in store.run(sightings.known_aes(0.0))}
    assert len(titles) == sightings.AES_AT_MOST
    assert "AE0" not in titles
    store.run(sightings.heard([heard("CT1", 5000.0)], forget_before=4000.0))
    while len(store.run(sightings.known_aes(0))) > 1:
        store.run(sightings.heard([heard("CT1", 5000.0)], forget_before=4000.0))
    assert store.redis.zcard(keys.AES_BY_TIME) == store.redis.hlen(keys.AES) == 1


def test_rejected_peers_are_counted_and_bounded(store: Store) -> None:
    for at in (1.0, 2.0):
        peer = Refused("CT9", "BROKER", "10.1.1.9", "calling AE unknown", at, 2)
        store.run(sightings.refused([peer], forget_before=0))
    (found,) = store.run(sightings.rejected())
    assert (found["calling"], found["called"], found["address"]) == ("CT9", "BROKER", "10.1.1.9")
    assert (found["first"], found["last"], found["times"]) == (1.0, 2.0, 4)
    many = [Refused(f"X{n}", "B", "10.1.1.1", "no", 3.0 + n, 1) for n in range(300)]
    store.run(sightings.refused(many, forget_before=0))
    assert len(store.run(sightings.rejected())) == sightings.REJECTED_AT_MOST
    assert store.run(sightings.rejected())[0]["calling"] == "X299"


def test_an_ae_that_gives_way_leaves_no_query_behind(store: Store) -> None:
    """Whoever invents titles fills neither the list nor the memory."""
    once = {"kind": AskedOnce(1.0, b"q", "1.2", 0, ())}
    for number in range(sightings.AES_AT_MOST + 5):
        title = f"AE{number}"
        store.run(sightings.heard([heard(title, 1000.0 + number)], forget_before=0))
        store.run(sightings.asked(title, once, keep_s=DAY))
    store.run(sightings.asked("AE0", once, keep_s=DAY))
    assert len(store.redis.keys(keys.asked("*"))) == sightings.AES_AT_MOST
    assert store.run(sightings.last_asked("AE0")) == []


def test_nothing_is_noted_while_writes_are_refused(store: Store) -> None:
    """The disk is nearly full: it is for what cannot be told again."""
    store.redis.set(keys.REFUSE_WRITES, "disk")
    store.run(sightings.heard([heard("CT1", 1.0)], forget_before=0))
    store.run(sightings.asked("CT1", {"k": AskedOnce(1.0, b"q", "1.2", 0, ())}, keep_s=DAY))
    store.run(sightings.sighted("CT1", [(MEMBER, 1.0)], keep_s=DAY))
    assert store.redis.keys("*") == [keys.REFUSE_WRITES.encode()]


def test_the_last_query_of_each_kind_is_remembered_whole(store: Store) -> None:
    """A few kinds: the one asked longest ago gives way."""
    store.run(sightings.heard([heard("CT1", 1.0)], forget_before=0))
    first = AskedOnce(1.0, b"\x08\x00query", "1.2.840.10008.1.2", 0, (MEMBER, MEMBER), "10.1.1.1")
    store.run(sightings.asked("CT1", {"kind": first}, keep_s=DAY))
    (found,) = store.run(sightings.last_asked("CT1"))
    assert found == first
    for number in range(2, 9):
        once = AskedOnce(float(number), b"q", "1.2", 0, ())
        store.run(sightings.asked("CT1", {f"kind{number}": once}, keep_s=DAY))
    kept = [once.at for once in store.run(sightings.last_asked("CT1"))]
    assert kept == [8.0, 7.0, 6.0, 5.0]
    assert 0 < store.redis.ttl(keys.asked("CT1")) <= DAY


def test_a_query_told_late_does_not_replace_a_newer_one(store: Store) -> None:
    store.run(sightings.heard([heard("CT1", 1.0)], forget_before=0))
    for at in (5.0, 3.0):
        store.run(sightings.asked("CT1", {"kind": AskedOnce(at, b"q", "1.2", 0, ())}, keep_s=DAY))
    (found,) = store.run(sightings.last_asked("CT1"))
    assert found.at == 5.0
