"""Nothing stays for ever: what is removed when, what must stay, and the list of all that grows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from inspect import isfunction, signature
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from broker.audit.trail import kept
from broker.settings import Keep, Settings
from broker.store import archive, dead, growth, held, keys, outbox, reads
from broker.store.archive import Archived
from broker.store.commit import ABSENT, Change, Commit, Committed, Guard, MppsChange, commit
from broker.store.executors import Store
from broker.updates.auditing import removed_by
from broker.updates.metrics import UpdatesMetrics
from broker.updates.retention import SLICE, Retention
from broker.worklist.changes import Unmapped
from broker.worklist.mpps import COMPLETED, IN_PROGRESS, Performed
from broker.worklist.records import Facts, Order, Patient, Procedure, Step, StepStatus
from tests.audit.reading import event, objects, participants, read, said
from tests.store.sending import take
from tests.updates.actors import Reports

NOW = datetime(2026, 3, 16, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def an_order(
    accession: str,
    *,
    status: StepStatus = StepStatus.SCHEDULED,
    starts: tuple[datetime, ...] = (NOW,),
    performed: str = "",
) -> Order:
    steps = tuple(
        Step(
            id=f"S{number}",
            facts=Facts(
                attributes={
                    "ScheduledProcedureStepStartDate": f"{start:%Y%m%d}",
                    "ScheduledProcedureStepStartTime": f"{start:%H%M}",
                    "Modality": "CT",
                }
            ),
            status=status,
            performed={performed: IN_PROGRESS} if performed else {},
        )
        for number, start in enumerate(starts)
    )
    facts = Facts(attributes={"AccessionNumber": accession})
    procedures = (Procedure(id="R1", steps=steps),)
    return Order(
        issuer="H", accession=accession, patient="H|P1", source="RIS", facts=facts,
        procedures=procedures,
    )  # fmt: skip


PATIENT = Patient(issuer="H", patient_id="P1", facts=Facts(attributes={"PatientName": "Roe^Ann"}))

Save = Callable[..., None]


@pytest.fixture
def save(store: Store) -> Save:
    """Commit records that were not there before."""

    def save(*records: Order | Patient, at: datetime = NOW) -> None:
        changes = [Change(ABSENT, None, record) for record in records]
        assert isinstance(store.run(commit(Commit(at=at, changes=changes))), Committed)

    return save


def tidy(store: Store, at: datetime = NOW, **keep: timedelta | int) -> None:
    """Let retention run until nothing is due."""
    keep = {"completed": 2 * DAY, **keep}
    retention = Retention(store, Keep(**keep), lambda: at)  # type: ignore[arg-type]
    for _ in range(50):
        if not retention.slice():
            return
    raise AssertionError("retention does not come to an end")


def known(store: Store, *accessions: str) -> set[str]:
    read = store.run(reads.orders(f"H|{accession}" for accession in accessions))
    return {order.accession for order in read.known.orders.values()}


def test_a_closed_order_goes_after_keep_completed(store: Store, save: Save) -> None:
    save(PATIENT, an_order("A1", status=StepStatus.COMPLETED))
    tidy(store, NOW + 1.9 * DAY)
    assert known(store, "A1") == {"A1"}
    tidy(store, NOW + 2.1 * DAY)
    assert known(store, "A1") == set()


def test_an_order_that_nobody_performed_goes_after_keep_past(store: Store, save: Save) -> None:
    save(PATIENT, an_order("A1"), an_order("A2", starts=(NOW, NOW + 20 * DAY)))
    tidy(store, NOW + 29 * DAY)
    assert known(store, "A1", "A2") == {"A1", "A2"}
    tidy(store, NOW + 31 * DAY)
    assert known(store, "A1", "A2") == {"A2"}


def test_an_order_without_a_start_is_past_when_it_was_not_heard_of_for_long(
    store: Store, save: Save
) -> None:
    silent = an_order("A1").model_copy(update={"sent": {"RIS|H": "20260316093000+0100"}})
    step = silent.procedures[0].steps[0].model_copy(update={"facts": Facts()})
    procedures = (silent.procedures[0].model_copy(update={"steps": (step,)}),)
    save(PATIENT, silent.model_copy(update={"procedures": procedures}))
    tidy(store, NOW + 29 * DAY)
    assert known(store, "A1") == {"A1"}
    tidy(store, NOW + 31 * DAY)
    assert known(store, "A1") == set()


def an_exam(store: Store, uid: str, status: str = IN_PROGRESS) -> Performed:
    """Have an exam begun NOW, and ended at once unless it is IN PROGRESS."""
    begun = Performed(sop_instance_uid=uid, status=IN_PROGRESS, attributes={})
    store.run(commit(Commit(at=NOW, mpps=[MppsChange(ABSENT, None, begun, b"data set")])))
    return begun if status == IN_PROGRESS else ended(store, uid, status)


def ended(store: Store, uid: str, status: str = COMPLETED) -> Performed:
    exam, revision = store.run(reads.mpps(uid))
    assert exam
    over = exam.model_copy(update={"status": status})
    store.run(commit(Commit(at=NOW, mpps=[MppsChange(revision, exam, over)])))
    return over


def test_an_exam_in_progress_and_its_order_stay_however_old_they_are(
    store: Store, save: Save
) -> None:
    running = an_order("A1", status=StepStatus.STARTED, performed="1.2.3", starts=(NOW - 20 * DAY,))
    save(PATIENT, running)
    an_exam(store, "1.2.3")
    for years in range(1, 4):
        tidy(store, NOW + years * 365 * DAY)
        assert known(store, "A1") == {"A1"}
        assert store.run(reads.mpps("1.2.3"))[0]


def test_an_exam_goes_once_it_has_ended_though_it_was_put_off(store: Store) -> None:
    an_exam(store, "1.2.3")
    an_exam(store, "1.2.4", COMPLETED)
    tidy(store, NOW + 31 * DAY)
    assert store.run(reads.mpps("1.2.3"))[0]
    assert not store.run(reads.mpps("1.2.4"))[0]
    ended(store, "1.2.3")
    tidy(store, NOW + 62 * DAY)
    assert store.redis.keys("*mpps*") == []


def test_a_step_that_a_ris_has_begun_stays_though_no_scanner_told_of_it(
    store: Store, save: Save
) -> None:
    save(PATIENT, an_order("A1", status=StepStatus.STARTED))
    tidy(store, NOW + 400 * DAY)
    assert known(store, "A1") == {"A1"}


def test_an_order_that_was_closed_while_its_exam_runs_stays(store: Store, save: Save) -> None:
    save(PATIENT, an_order("A1", status=StepStatus.COMPLETED, performed="1.2.3"))
    tidy(store, NOW + 400 * DAY)
    assert known(store, "A1") == {"A1"}


def test_what_stays_is_counted_and_no_dry_run_names_it(store: Store, save: Save) -> None:
    save(PATIENT, an_order("A1", status=StepStatus.STARTED), an_order("A2"))
    an_exam(store, "1.2.3")
    an_exam(store, "1.2.4", COMPLETED)
    metrics = UpdatesMetrics()
    late = NOW + 31 * DAY
    retention = Retention(store, Keep(), lambda: late, metrics.removed, metrics.kept)
    assert {candidate.key for candidate in retention.due()} == {"H|A2", "1.2.4"}
    retention.slice()
    for what in ("order", "performed step"):
        name = "broker_updates_kept_in_progress_total"
        assert metrics.registry.get_sample_value(name, {"what": what}) == 1


def test_exams_that_stay_do_not_hide_those_that_go(store: Store) -> None:
    for number in range(2 * SLICE + 3):
        an_exam(store, f"1.1.{number}")
        an_exam(store, f"1.2.{number}", COMPLETED)
    tidy(store, NOW + 31 * DAY)
    assert store.redis.zcard(keys.MPPS_BY_TIME) == 2 * SLICE + 3


def test_orders_that_stay_do_not_hide_those_that_go(store: Store, save: Save) -> None:
    held = [an_order(f"H{n}", starts=(NOW - 5 * DAY, NOW + 90 * DAY)) for n in range(2 * SLICE + 3)]
    gone = [an_order(f"G{n}") for n in range(2 * SLICE + 3)]
    save(PATIENT, *held, *gone)
    tidy(store, NOW + 31 * DAY)
    assert known(store, *(order.accession for order in held + gone)) == {
        order.accession for order in held
    }


def test_a_patient_goes_keep_patients_after_the_last_order(store: Store, save: Save) -> None:
    save(PATIENT, an_order("A1", status=StepStatus.COMPLETED))
    tidy(store, NOW + 3 * DAY)
    assert store.redis.exists(keys.patient("H|P1"))
    tidy(store, NOW + 92 * DAY)
    assert store.redis.exists(keys.patient("H|P1"))
    tidy(store, NOW + 94 * DAY)
    assert store.redis.keys("*") == [keys.REVISION.encode()]


def test_a_message_that_nobody_assigns_its_code_goes_after_keep_past(store: Store) -> None:
    for digest, age in (("old", 31 * DAY), ("young", 29 * DAY)):
        received = (NOW - age).timestamp()
        codes = (Unmapped("modality", "X"),)
        waiting = held.Waiting(digest, "RIS", "1", received, "m@1", codes, b"MSH|")
        store.run(commit(Commit(at=NOW, held=waiting)))
    tidy(store)
    assert store.run(held.digests()) == ["young"]
    assert store.run(held.count()) == 1


def test_a_patient_who_has_an_order_stays(store: Store, save: Save) -> None:
    save(PATIENT, an_order("A1", starts=(NOW + 300 * DAY,)))
    store.redis.zadd(keys.IDLE, {"H|P1": NOW.timestamp()})
    tidy(store, NOW + 200 * DAY)
    assert store.redis.exists(keys.patient("H|P1"))
    assert store.redis.zcard(keys.IDLE) == 0


def test_members_that_lead_nowhere_are_taken_off(store: Store) -> None:
    store.redis.zadd(keys.CLOSED, {"H|X1": 1})
    store.redis.zadd(keys.IDLE, {"H|P9": 1})
    tidy(store)
    assert store.redis.zcard(keys.CLOSED) == store.redis.zcard(keys.IDLE) == 0


def test_an_undelivered_status_message_outlives_its_order(
    store: Store, save: Save, report: Reports
) -> None:
    save(PATIENT, an_order("A1", status=StepStatus.COMPLETED))
    report("H|A1")
    tidy(store, NOW + 7 * DAY)
    assert known(store, "A1") == set()
    assert store.run(outbox.pending("ris")) == 1


def test_the_archive_is_bounded_by_bytes_and_by_days(store: Store) -> None:
    message = Archived("RIS", "1", "ORM^O01", "applied", "", 0.0, (), "m", b"MSH", (b"ACK",))
    for _ in range(250):
        store.run(commit(Commit(at=NOW, archived=message)))
    size = store.run(archive.size_bytes())
    now = datetime.now(UTC)
    tidy(store, now, message_bytes=size // 2)
    assert store.run(archive.size_bytes()) <= size // 2
    assert 100 <= store.run(archive.count()) <= 125
    assert len(store.run(archive.newest(5))) == 5
    tidy(store, now + 31 * DAY)
    assert store.run(archive.count()) == store.run(archive.size_bytes()) == 0


def test_every_removal_is_in_the_audit_trail_by_number(
    store: Store, save: Save, tmp_path: Path
) -> None:
    save(PATIENT)
    save(an_order("A1"), an_order("A2", status=StepStatus.COMPLETED))
    an_exam(store, "1.2.4", COMPLETED)
    message = Archived("RIS", "1", "ORM^O01", "applied", "", 0.0, (), "m", b"MSH", (b"ACK",))
    store.run(commit(Commit(at=NOW, archived=message)))
    settings = Settings.load(
        None, {"BROKER_AUDIT__TO": "file", "BROKER_AUDIT__PATH": str(tmp_path / "trail")}
    )
    times = [datetime.now(UTC) + year * 365 * DAY for year in (1, 2, 3)]
    with kept(settings, "updates", CollectorRegistry()) as trail:
        for _ in range(3):  # a patient goes long after the last order
            Retention(store, Keep(), lambda: times.pop(0), told=removed_by(trail)).slice()
    lines = (tmp_path / "trail").read_bytes().splitlines()
    told = [each for each in map(read, lines) if event(each) != "110100"]
    assert {said(each)["EventActionCode"] for each in told} == {"D"}
    records = sorted(
        (
            each.findtext("EventIdentification/EventOutcomeDescription"),
            event(each),
            [number.attrib["Number"] for number in each.iter("Accession")],
            [exam.attrib["UID"] for exam in each.iter("MPPS")],
            objects(each)["Patient Number"].attrib["ParticipantObjectID"],
        )
        for each in told
    )
    assert records == [
        ("keep: 1 messages", "110109", [], [], "unknown"),
        ("keep: 1 orders", "110109", ["A1"], [], "P1"),
        ("keep: 1 orders", "110109", ["A2"], [], "P1"),
        ("keep: 1 patients", "110110", [], [], "P1"),
        ("keep: 1 performed steps", "110111", [], ["1.2.4"], "unknown"),
    ]
    assert all([each["UserIsRequestor"] for each in participants(m)] == ["true"] for m in told)


def test_every_removal_is_counted(store: Store, save: Save) -> None:
    save(PATIENT)
    save(an_order("A1"), an_order("A2", status=StepStatus.COMPLETED))
    message = Archived("RIS", "1", "ORM^O01", "applied", "", 0.0, (), "m", b"MSH", (b"ACK",))
    for _ in range(3):
        store.run(commit(Commit(at=NOW, archived=message)))
    metrics = UpdatesMetrics()
    times = [datetime.now(UTC) + year * 365 * DAY for year in (1, 2, 3)]
    for _ in range(3):  # a patient goes long after the last order
        Retention(store, Keep(), lambda: times.pop(0), metrics.removed).slice()
    name = "broker_updates_removed_total"
    counted = {
        what: metrics.registry.get_sample_value(name, {"what": what})
        for what in ("messages", "orders", "patients")
    }
    assert counted == {"messages": 3, "orders": 2, "patients": 1}


def test_dead_letters_go_after_keep_dead(store: Store, report: Reports) -> None:
    report()
    taken = take(store, order="H|A1", ris="ris")
    assert taken is not None
    now = datetime.now(UTC)
    at = now.timestamp()
    assert not store.run(outbox.refuse(taken, "t1", cause="AE", at=at)).lost
    tidy(store, now + 89 * DAY)
    assert store.run(dead.count()) == 1
    tidy(store, now + 91 * DAY)
    assert store.run(dead.count()) == 0


def test_every_key_of_the_store_is_in_the_list_of_what_grows() -> None:
    names = [value for name, value in vars(keys).items() if name.isupper() and name != "PREFIX"]
    makers = [value for value in vars(keys).values() if isfunction(value)]
    names += [maker(*("x" for _ in signature(maker).parameters)) for maker in makers]
    patterns = [each.pattern for each in growth.GROWING]
    assert [name for name in names if not any(fnmatchcase(name, p) for p in patterns)] == []


def test_what_a_busy_store_holds_is_in_the_list_of_what_grows(
    store: Store, save: Save, report: Reports
) -> None:
    save(PATIENT, an_order("A1"), an_order("A2", status=StepStatus.COMPLETED))
    report()
    take(store, order="H|A1", ris="ris")
    store.run(commit(Commit(at=NOW, guard=Guard("digest", b"ACK", 60))))
    store.run(reads.writable())
    patterns = [each.pattern for each in growth.GROWING]
    held = [key.decode() for key in store.redis.keys("*")]
    assert len(held) > 10
    assert [name for name in held if not any(fnmatchcase(name, p) for p in patterns)] == []
