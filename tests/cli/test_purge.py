"""`broker purge`: what is meant goes, by status and scheduled day; an exam under way never does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.cli import run_command
from broker.probe.orders import Order, orm_o01
from broker.probe.scanner import new_uid
from broker.store import keys, reads
from broker.store.commit import Change, Commit, MppsChange, commit
from broker.store.executors import Store
from broker.store.server import EmbeddedServer
from broker.worklist.mpps import COMPLETED, IN_PROGRESS, Performed
from broker.worklist.records import StepStatus
from tests.doors.actors import Broker, accepted, new_order, of_accession, only
from tests.updates.test_retention import PATIENT, an_order

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
AT = datetime(2026, 3, 16, 12, tzinfo=UTC)


@pytest.fixture
def here(server: EmbeddedServer, store: Store, tmp_path: Path) -> list[str]:
    """The configuration of a broker on the fixture `store`."""
    config = tmp_path / "broker.yaml"
    config.write_text(f"redis: {{url: '{server.url}'}}\ntimezone: Europe/Berlin\n")
    return ["--config", str(config)]


def save(store: Store, *records: Any, at: datetime = AT) -> None:
    store.run(commit(Commit(at=at, changes=[Change("", None, each) for each in records])))


def known(store: Store, *accessions: str) -> set[str]:
    read = store.run(reads.orders(f"H|{each}" for each in accessions))
    return {order.accession for order in read.known.orders.values()}


def listed(capsys: pytest.CaptureFixture[str]) -> set[str]:
    found = json.loads(capsys.readouterr().out)["candidates"]
    return {each["key"] for each in found}


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker().started() as running:
        yield running


def ordered(broker: Broker) -> Order:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    return order


def test_beside_a_running_broker_an_exam_under_way_and_its_step_stay(broker, capsys):
    here = ["--config", str(broker.folder / "broker.yaml")]
    statuses = [word for status in ("scheduled", "COMPLETED") for word in ("--status", status)]
    wish = [*statuses, "--before", "2026-03-17", "--performed-before", "2030-01-01"]
    run_command(["purge", *wish, "--yes", *here])  # what other tests have left
    capsys.readouterr()
    waiting, running, done = (ordered(broker) for _ in range(3))
    uids = {each: new_uid() for each in (running, done)}
    for each, uid in uids.items():
        assert broker.scanner.mpps_start(only(broker, each), uid=uid, now=NOW) == 0
    assert broker.scanner.mpps_complete(uids[done], now=NOW) == 0

    assert run_command(["purge", *wish, "--dry-run", "--json", *here]) == 0
    would = listed(capsys)
    assert would == {f"NORTH|{waiting.accession}", f"NORTH|{done.accession}", uids[done]}
    assert of_accession(broker, waiting)

    assert run_command(["purge", *wish, "--yes", *here]) == 0
    said = capsys.readouterr()
    assert "removed 3 of 3: 2 orders, 1 performed step" in said.err
    assert "MUSTER" not in said.out + said.err
    assert not of_accession(broker, waiting)
    assert broker.scanner.mpps_complete(uids[running], now=NOW) == 0
    assert broker.store.run(reads.orders([f"NORTH|{running.accession}"])).known.orders


def test_orders_go_by_their_last_scheduled_day_and_not_by_when_they_came(store, here, capsys):
    early, late = AT - timedelta(days=300), AT
    over = StepStatus.COMPLETED
    save(store, PATIENT, an_order("OLD", status=over, starts=(early,)), at=AT)
    save(store, an_order("LAST", status=over, starts=(early, late)), at=early)
    assert run_command(["purge", "--before", "2026-03-01", "--yes", *here]) == 0
    assert known(store, "OLD", "LAST") == {"LAST"}
    assert "order H|OLD: COMPLETED, 2025-05-20" in capsys.readouterr().out


def test_only_what_is_over_goes_unless_another_status_is_named(store, here):
    save(store, PATIENT, an_order("OPEN"), an_order("GONE", status=StepStatus.CANCELLED))
    assert run_command(["purge", "--before", "2026-04-01", "--yes", *here]) == 0
    assert known(store, "OPEN", "GONE") == {"OPEN"}
    assert (
        run_command(["purge", "--status", "SCHEDULED", "--before", "2026-04-01", "--yes", *here])
        == 0
    )
    assert known(store, "OPEN") == set()


def test_a_started_step_may_not_even_be_asked_for(here, capsys):
    assert run_command(["purge", "--status", "STARTED", "--before", "2026-04-01", *here]) == 2
    assert "none that may be removed" in capsys.readouterr().err


def test_a_status_without_a_day_and_a_purge_without_consent_are_refused(store, here, capsys):
    assert run_command(["purge", "--status", "COMPLETED", *here]) == 2
    assert "needs a day" in capsys.readouterr().err
    save(store, PATIENT, an_order("GONE", status=StepStatus.CANCELLED))
    assert run_command(["purge", "--before", "2026-04-01", *here]) == 2
    assert "--yes" in capsys.readouterr().err
    assert known(store, "GONE") == {"GONE"}


def test_performed_steps_go_when_they_ended_and_never_while_in_progress(store, here, capsys):
    exams = [
        Performed(sop_instance_uid=f"1.2.{n}", status=status, attributes={})
        for n, status in enumerate((IN_PROGRESS, COMPLETED))
    ]
    store.run(commit(Commit(at=AT, mpps=[MppsChange("", None, each) for each in exams])))
    assert run_command(["purge", "--performed-before", "2026-03-17", "--yes", *here]) == 0
    assert store.run(reads.mpps("1.2.0"))[0] == exams[0]
    assert store.run(reads.mpps("1.2.1"))[0] is None


def test_archived_messages_go_by_their_day(broker, capsys):
    ordered(broker)
    ordered(broker)
    here = ["--config", str(broker.folder / "broker.yaml")]
    before = len(broker.archived(1000))
    assert run_command(["purge", "--messages-before", "2020-01-01", "--yes", *here]) == 0
    assert len(broker.archived(1000)) == before
    assert run_command(["purge", "--messages-before", "2100-01-01", "--yes", *here]) == 0
    assert f"removed {before} of {before}: {before} messages" in capsys.readouterr().err
    assert broker.archived(1000) == []


def test_without_a_day_the_list_is_what_the_broker_itself_would_remove(store, here, capsys):
    long_ago = datetime.now(UTC) - timedelta(days=100)
    running = an_order("RUN", starts=(long_ago,), status=StepStatus.STARTED, performed="1.2.9")
    save(store, PATIENT, an_order("PAST", starts=(long_ago,)), running, at=long_ago)
    save(store, an_order("NEW", starts=(datetime.now(UTC),)), at=datetime.now(UTC))
    exam = Performed(sop_instance_uid="1.2.9", status=IN_PROGRESS, attributes={})
    recently = datetime.now(UTC) - timedelta(days=5)
    store.run(commit(Commit(at=recently, mpps=[MppsChange("", None, exam)])))
    assert run_command(["purge", "--dry-run", "--json", *here]) == 0
    assert listed(capsys) == {"H|PAST"}
    assert known(store, "PAST", "RUN", "NEW") == {"PAST", "RUN", "NEW"}
    assert run_command(["purge", "--yes", *here]) == 0
    assert known(store, "PAST", "RUN", "NEW") == {"RUN", "NEW"}


def test_without_a_broker_the_remedy_is_said(tmp_path, capsys):
    (tmp_path / "broker.yaml").write_text("data: data\n")
    config = str(tmp_path / "broker.yaml")
    assert run_command(["purge", "--dry-run", "--config", config]) == os.EX_UNAVAILABLE
    assert "no broker runs on" in capsys.readouterr().err


def test_beside_a_broker_of_an_earlier_version_nothing_is_written(here, store, capsys):
    save(store, PATIENT, an_order("A1", status=StepStatus.COMPLETED))
    store.redis.set(keys.INDEXED, "3")
    wish = ["--before", "2030-01-01", "--status", "COMPLETED", "--yes"]
    assert run_command(["purge", *wish, *here]) == os.EX_TEMPFAIL
    assert "restart the broker with this version" in capsys.readouterr().err
    assert known(store, "A1") == {"A1"}
    assert run_command(["status", *here]) == 0
