"""The one way to write: all or nothing, once, and never on top of what was not read."""

from __future__ import annotations

import threading
import zlib
from typing import Any

import pytest

from broker.store import archive, keys, outbox, reads, stored
from broker.store.commit import (
    Change,
    Commit,
    Committed,
    Conflict,
    Guard,
    MppsChange,
    Repeat,
    commit,
)
from broker.store.executors import Store, StoreUnavailable
from broker.store.server import EmbeddedServer
from broker.worklist.apply import Sender
from broker.worklist.changes import Action
from broker.worklist.mpps import Performed
from tests.store.writing import (
    AT,
    apply,
    attempt,
    create,
    everything,
    guard,
    order,
    patient,
    read,
    whole,
    write,
)


def archived() -> archive.Archived:
    """One archived message."""
    return archive.Archived("RIS", "1", "ORM^O01", "applied", "", 1.0, ("H|A1",), "m", b"MSH|")


def event(control_id: str = "1") -> outbox.Event:
    """One status message."""
    return outbox.Event("ris", "H|A1", control_id, 1.0, "m", "", b"MSH|")


def test_records_are_read_as_they_were_written(store: Store) -> None:
    create(store, patient(PatientName="Müller^Jörg=王^小東"), order())
    found = read(store, "H|A1")
    assert found.known.orders == {"H|A1": order()}
    assert found.known.patients == {"H|1": patient(PatientName="Müller^Jörg=王^小東")}
    assert found.revision(order()) == found.revision(patient()) == "000000000001"
    assert found.revision(order("A2")) == ""


def test_a_commit_on_an_old_revision_changes_nothing_at_all(store: Store) -> None:
    create(store, patient(), order())
    revision = read(store, "H|A1").revision(order())
    assert isinstance(write(store, Change(revision, order(), order(flags=("new",)))), Committed)
    before = everything(store)
    performed = Performed(sop_instance_uid="1.9", status="IN PROGRESS", attributes={})
    outcome = write(
        store,
        Change("", None, order("A2")),
        Change("000000000001", patient(), patient(PatientName="X")),
        Change(revision, order(), order(flags=("late",))),
        mpps=[MppsChange("", None, performed, b"x")],
        aliases=[("order", "H|A0", "H|A1")],
        alias_keep_s=60,
        guard=guard(),
        archived=archived(),
        events=[event()],
    )
    assert outcome == Conflict(keys.order("H|A1"))
    assert everything(store) == before


def test_a_record_that_came_into_being_meanwhile_is_a_conflict(store: Store) -> None:
    create(store, order())
    before = everything(store)
    assert isinstance(write(store, Change("", None, order(flags=("mine",)))), Conflict)
    assert everything(store) == before


def test_a_record_that_went_away_meanwhile_is_a_conflict(store: Store) -> None:
    outcome = write(store, Change("000000000001", order(), order(flags=("x",))))
    assert isinstance(outcome, Conflict)
    assert everything(store) == {}


def test_a_record_that_stays_as_it_is_must_still_be_as_it_was_read(store: Store) -> None:
    create(store, patient(), order())
    stale = Change("000000000000", patient(), patient())
    assert isinstance(write(store, stale, Change("", None, order("A2"))), Conflict)
    good = Change("000000000001", patient(), patient())
    assert isinstance(write(store, good, Change("", None, order("A2"))), Committed)
    assert read(store, "H|A1").revision(patient()) == "000000000001"


def test_a_number_that_another_order_took_meanwhile_is_a_conflict(store: Store) -> None:
    create(store, patient(), order())
    taken = keys.numbers("accession", "A1")
    assert write(store, Change("", None, order("A2")), empty=[taken]) == Conflict(taken)
    free = keys.numbers("accession", "A2")
    assert isinstance(write(store, Change("", None, order("A2")), empty=[free]), Committed)


def test_a_repeat_returns_the_remembered_bytes_and_writes_nothing(store: Store) -> None:
    answer = "MSH|ü\r".encode("latin-1") + b"\x00\xff"
    first = write(store, Change("", None, order()), guard=guard(answer), archived=archived())
    assert isinstance(first, Committed)
    before = everything(store)
    again = write(
        store,
        Change("", None, order()),
        guard=guard(b"other"),
        archived=archived(),
        events=[event()],
    )
    assert again == Repeat(answer)
    assert everything(store) == before
    assert store.run(reads.remembered("d1")) == answer


def test_other_bytes_are_no_repeat(store: Store) -> None:
    write(store, guard=guard())
    assert isinstance(write(store, guard=guard(digest="d2")), Committed)


def test_a_conflict_remembers_no_answer(store: Store) -> None:
    create(store, order())
    assert isinstance(write(store, Change("", None, order()), guard=guard()), Conflict)
    assert store.run(reads.remembered("d1")) is None


def test_a_guard_is_kept_as_long_as_it_says(store: Store) -> None:
    write(store, guard=Guard("d1", b"AA", 3600))
    assert 3590 < store.redis.ttl(keys.guard("d1")) <= 3600


def test_what_redis_would_refuse_halfway_is_refused_before(store: Store) -> None:
    with pytest.raises(ValueError, match="at least a second"):
        Guard("d1", b"AA", 0)
    with pytest.raises(ValueError, match="at least a second"):
        Commit(at=AT, aliases=[("order", "a", "b")])
    assert everything(store) == {}


def test_a_removed_record_leaves_nothing_but_the_revision(store: Store) -> None:
    create(store, patient(PatientName="DOE^JOHN"), order())
    revision = read(store, "H|A1").revision(order())
    write(
        store,
        Change(revision, order(), None),
        Change(revision, patient(PatientName="DOE^JOHN"), None),
    )
    assert set(everything(store)) == {keys.REVISION}


def test_a_rename_moves_the_record_and_leaves_an_alias(store: Store) -> None:
    create(store, patient(), order())
    renamed = order("A7")
    outcome = write(
        store,
        Change("000000000001", order(), renamed),
        aliases=[("order", "H|A1", "H|A7")],
        alias_keep_s=60,
    )
    assert isinstance(outcome, Committed)
    found = read(store, "H|A1")
    assert found.known.orders == {"H|A7": renamed}
    assert found.known.order("H|A1") == renamed
    assert store.redis.exists(keys.order("H|A1")) == 0
    assert store.redis.zrange(keys.orders_of("H|1"), 0, -1) == [b"H|A7"]
    assert store.redis.exists(keys.numbers("accession", "A1")) == 0


def test_a_rename_onto_an_order_that_exists_is_a_conflict(store: Store) -> None:
    create(store, patient(), order(), order("A7"))
    before = everything(store)
    assert write(store, Change("000000000001", order(), order("A7"))) == Conflict(
        keys.order("H|A7")
    )
    assert everything(store) == before


def test_two_creations_of_one_performed_step_are_a_conflict(store: Store) -> None:
    performed = Performed(sop_instance_uid="1.9", status="IN PROGRESS", attributes={"a": ["b"]})
    change = MppsChange("", None, performed, b"\x00data")
    assert isinstance(write(store, mpps=[change]), Committed)
    assert store.run(reads.mpps("1.9")) == (performed, "000000000001")
    before = everything(store)
    assert isinstance(write(store, mpps=[change]), Conflict)
    assert everything(store) == before
    later = MppsChange("000000000001", performed, performed, b"more")
    assert isinstance(write(store, mpps=[later]), Committed)
    received = store.redis.hgetall(keys.mpps_received("1.9"))
    kept = {which: stored.received(data) for which, data in received.items()}
    assert kept == {b"created": b"\x00data", b"newest": b"more"}
    assert stored.received(zlib.compress(b"as format 3 kept it")) == b"as format 3 kept it"


def test_an_unknown_performed_step_is_absent(store: Store) -> None:
    assert store.run(reads.mpps("1.9")) == (None, "")


def test_while_writes_are_refused_nothing_is_written_and_reads_go_on(store: Store) -> None:
    create(store, patient(), order())
    store.redis.set(keys.REFUSE_WRITES, "the disk is nearly full")
    before = everything(store)
    with pytest.raises(StoreUnavailable, match="disk is nearly full"):
        write(store, Change("", None, order("A2")), archived=archived())
    assert everything(store) == before
    assert "H|A1" in read(store, "H|A1").known.orders
    store.redis.delete(keys.REFUSE_WRITES)
    create(store, order("A2"))


def test_a_full_redis_refuses_the_whole_commit(store: Store) -> None:
    create(store, patient(), order())
    before = everything(store)
    store.redis.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(StoreUnavailable):
            write(store, Change("", None, order("A2")), guard=guard(), archived=archived())
        with pytest.raises(StoreUnavailable):
            store.run(reads.writable())
        assert "H|A1" in read(store, "H|A1").known.orders
    finally:
        store.redis.config_set("maxmemory", "0")
    assert everything(store) == before


def test_a_new_patient_of_a_new_order_is_not_idle(store: Store) -> None:
    """Else retention would remove a patient whose order stands in the worklist."""
    for records in ((order(), patient()), (patient("2"), order("A2", "H|2"))):
        create(store, *records)
    assert store.redis.zrange(keys.IDLE, 0, -1) == []
    create(store, patient("3"))
    assert store.redis.zrange(keys.IDLE, 0, -1) == [b"H|3"]
    create(store, order("A3", "H|3"))
    assert store.redis.zrange(keys.IDLE, 0, -1) == []


def test_a_message_about_an_idle_patient_makes_it_wait_longer(store: Store) -> None:
    create(store, patient("3"))
    store.redis.zadd(keys.IDLE, {"H|3": 5})
    write(store, Change("000000000001", patient("3"), patient("3", PatientName="X")))
    assert store.redis.zscore(keys.IDLE, "H|3") == int(AT.timestamp())


def test_a_script_that_redis_forgot_is_sent_again(store: Store) -> None:
    create(store, order())
    store.redis.script_flush()
    create(store, order("A2"))
    assert set(read(store, "H|A1", "H|A2").known.orders) == {"H|A1", "H|A2"}


def test_a_replayed_commit_writes_once(store: Store) -> None:
    """A reply that got lost makes the sender come again."""
    wanted = Commit(
        at=AT,
        changes=[Change("", None, order())],
        guard=guard(),
        archived=archived(),
        events=[event()],
    )
    assert isinstance(store.run(commit(wanted)), Committed)
    assert store.run(commit(wanted)) == Repeat(b"AA")
    assert store.run(archive.count()) == 1
    assert len(store.run(outbox.events("ris", "H|A1"))) == 1


# --- races


def raced(server: EmbeddedServer, *works: Any) -> None:
    """Run each work with a connection of its own, all at once; a failure in one is a failure."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Any) -> None:
        mine = Store(server.url)
        try:
            barrier.wait()
            work(mine)
        except BaseException as failure:
            failures.append(failure)
        finally:
            mine.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


def test_writers_racing_for_one_patient_converge_to_the_newest(
    store: Store, server: EmbeddedServer
) -> None:
    """NW against A08: the newest by the sender's clock is what everybody sees for ever after."""

    def orders(mine: Store) -> None:
        for n in range(1, 40, 2):
            said = whole(PatientName=f"N{n:02}", AccessionNumber=f"A{n % 4}")
            apply(mine, Sender("RIS|H", "H", f"202601011200{n:02}"), (Action.SCHEDULE, said))

    def updates(mine: Store) -> None:
        for n in range(2, 41, 2):
            said = {"PatientID": "1", "PatientName": f"N{n:02}"}
            apply(mine, Sender("RIS|H", "H", f"202601011200{n:02}"), (Action.PATIENT, said))

    raced(server, orders, updates)
    found = read(store, "H|A1", "H|A3")
    assert found.known.patients["H|1"].facts.text("PatientName") == "N40"
    assert set(found.known.orders) == {"H|A1", "H|A3"}


def test_every_group_of_racing_messages_about_one_order_is_kept(
    store: Store, server: EmbeddedServer
) -> None:
    def writer(number: int) -> Any:
        def work(mine: Store) -> None:
            for n in range(8):
                said = whole(RequestedProcedureID=f"R{number}-{n}")
                apply(mine, Sender(f"S{number}", "H", ""), (Action.SCHEDULE, said))

        return work

    raced(server, *(writer(number) for number in range(4)))
    procedures = {p.id for p in read(store, "H|A1").known.orders["H|A1"].procedures}
    assert procedures == {f"R{number}-{n}" for number in range(4) for n in range(8)}


def test_two_patients_racing_for_one_filler_number_do_not_both_get_it(
    store: Store, server: EmbeddedServer
) -> None:
    from broker.worklist.refusals import Refused

    def taker(number: int) -> Any:
        def work(mine: Store) -> None:
            for n in range(10):
                said = whole(
                    PatientID=f"{number}",
                    AccessionNumber=f"A{number}-{n}",
                    FillerOrderNumberImagingServiceRequest=f"F{n}",
                )
                try:
                    apply(mine, Sender(f"S{number}", "H", ""), (Action.SCHEDULE, said))
                except Refused:
                    continue

        return work

    raced(server, *(taker(number) for number in range(3)))
    for n in range(10):
        holders = store.redis.zrange(keys.numbers("filler", f"H|F{n}"), 0, -1)
        assert len(holders) == 1


def test_the_same_message_through_two_doors_at_once_is_applied_once(
    store: Store, server: EmbeddedServer
) -> None:
    said = whole()
    outcomes = []

    def send(mine: Store) -> None:
        while True:
            outcome, _ = attempt(
                mine,
                Sender("RIS|H", "H", "20260101"),
                [(Action.SCHEDULE, said)],
                guard=guard(),
                archived=archived(),
            )
            if not isinstance(outcome, Conflict):
                outcomes.append(type(outcome))
                return

    raced(server, *[send] * 6)
    assert sorted(kind.__name__ for kind in outcomes) == ["Committed"] + ["Repeat"] * 5
    assert store.run(archive.count()) == 1


def test_a_full_redis_can_be_freed(store: Store) -> None:
    """Else retention could not remove what fills it, and nothing would ever be written again."""
    create(store, patient(), order())
    used = int(store.redis.info("memory")["used_memory"])
    store.redis.config_set("maxmemory", str(used // 2))
    try:
        with pytest.raises(StoreUnavailable):
            create(store, order("A2"))
        gone = Change(read(store, "H|A1").revision(order()), order(), None)
        assert isinstance(write(store, gone, frees=True), Committed)
    finally:
        store.redis.config_set("maxmemory", "0")
    assert read(store, "H|A1").known.orders == {}
