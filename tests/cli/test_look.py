"""`broker list` and `broker show` against a real store."""

from __future__ import annotations

import json
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from broker.cli import run_command
from broker.store.commit import Change, Commit, MppsChange, commit
from broker.store.executors import Store
from broker.store.outbox import Event
from broker.store.server import EmbeddedServer, find_server
from broker.worklist.mpps import Performed, Reference
from broker.worklist.records import Facts, Order, Patient, Procedure, Step, StepStatus
from tests.store.sending import refused

pytestmark = pytest.mark.peer("redis-server")

AT = datetime(2001, 11, 23, 9, 0, tzinfo=UTC)
UID = "1.2.3.4"
PERFORMED = Performed(
    sop_instance_uid=UID,
    status="IN PROGRESS",
    attributes={
        "PerformedProcedureStepID": "PPS1",
        "PerformedSeriesSequence": [{"ReferencedImageSequence": [{}, {}]}],
    },
    references=(Reference(order="N|A2", procedure="RP1", step="S2", evidence="study UID"),),
)
EVENTS = [
    Event("ris", "N|A2", "C1", 1.0, "status-orm", "IN PROGRESS", b"MSH|"),
    Event("ris", "N|A2", "C2", 2.0, "status-orm", "COMPLETED", b"MSH|"),
]


def step(name: str, start: str, station: str, modality: str, **more: Any) -> Step:
    """A scheduled step; start is YYYYMMDDHHMM."""
    attributes = {
        "ScheduledProcedureStepStartDate": start[:8],
        "ScheduledProcedureStepStartTime": start[8:],
        "ScheduledStationAETitle": station,
        "Modality": modality,
        "ScheduledProcedureStepDescription": f"{modality} exam",
    }
    return Step(id=name, facts=Facts(attributes=attributes), **more)


def order(accession: str, *steps: Step, issuer: str = "N") -> Order:
    """An order of the one patient with one procedure."""
    procedure = Procedure(id="RP1", steps=steps)
    return Order(
        issuer=issuer, accession=accession, patient="N|P1", source="N", procedures=(procedure,)
    )


PATIENT = Patient(
    issuer="N",
    patient_id="P1",
    facts=Facts(attributes={"PatientName": "MÜSTER^ANNA\x1b[2J", "PatientID": "P1"}),
)
ORDERS = [
    order("A1", step("S1", "200111231500", "CT1", "CT")),
    order(
        "A2",
        step(
            "S2",
            "200111230900",
            "MR1",
            "MR",
            status=StepStatus.STARTED,
            performed={UID: "IN PROGRESS"},
        ),
    ).model_copy(update={"flags": ("created by update",)}),
    order("A3", step("S3", "200111230800", "CT1", "CT", status=StepStatus.COMPLETED)),
    order("A1", step("S4", "200111240800", "CT2", "CT"), issuer="SOUTH"),
]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedServer]:
    """A server in a data folder that the commands know only by its path."""
    running = EmbeddedServer(tmp_path / "data", binary=find_server())
    running.start()
    monkeypatch.setenv("BROKER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BROKER_RIS", "[{name: ris, to: '127.0.0.1:1'}]")
    yield running
    running.stop()


@pytest.fixture
def filled(server: EmbeddedServer) -> EmbeddedServer:
    """Four orders, one of them begun, with a status message refused and one not yet taken."""
    store = Store(server.url)
    changes = [Change("", None, record) for record in (PATIENT, *ORDERS)]
    performed = MppsChange("", None, PERFORMED, b"")
    store.run(commit(Commit(at=AT, changes=changes, mpps=[performed], events=EVENTS)))
    refused(store, "N|A2", EVENTS[0].control_id, ris="ris")
    store.close()
    return server


def test_open_steps_are_listed_by_start(
    filled: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with tabs for each, nothing that is finished, nothing that steers a terminal."""
    assert run_command(["list"]) == 0
    name = "MÜSTER^ANNA\ufffd[2J"
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [
        ["2001-11-23 09:00", "STARTED", "A2", "S2", name, "P1", "MR", "MR1", "MR exam"],
        ["2001-11-23 15:00", "SCHEDULED", "A1", "S1", name, "P1", "CT", "CT1", "CT exam"],
        ["2001-11-24 08:00", "SCHEDULED", "A1", "S4", name, "P1", "CT", "CT2", "CT exam"],
    ]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["--station", "CT1"], ["S1"]),
        (["--modality", "CT"], ["S1", "S4"]),
        (["--date", "20011123"], ["S2", "S1"]),
        (["--date", "20011123-20011130", "--modality", "CT"], ["S1", "S4"]),
        (["--station", "CT1", "--modality", "MR"], []),
        (["--date", "today"], []),
        (["--unended"], ["S2"]),
    ],
)
def test_the_list_is_narrowed_as_a_scanner_would(
    filled: EmbeddedServer,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    steps: list[str],
) -> None:
    """Exit code 1 and an empty JSON list when nothing is left."""
    assert run_command(["list", *options, "--json"]) == (0 if steps else 1)
    assert [row["step"] for row in json.loads(capsys.readouterr().out)] == steps


def test_today_is_the_day_of_the_site(
    server: EmbeddedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kiritimati is fourteen hours before Greenwich, so most of the day it has another date."""
    monkeypatch.setenv("BROKER_TIMEZONE", "Pacific/Kiritimati")
    before = datetime.now(ZoneInfo("Pacific/Kiritimati"))
    days = [f"{before + timedelta(days=n):%Y%m%d}" for n in range(-2, 3)]
    each_day = [order(f"A{day}", step("S1", f"{day}1500", "CT1", "CT")) for day in days]
    store = Store(server.url)
    changes = [Change("", None, record) for record in (PATIENT, *each_day)]
    store.run(commit(Commit(at=AT, changes=changes)))
    store.close()
    assert run_command(["list", "--date", "today", "--json"]) == 0
    after = datetime.now(ZoneInfo("Pacific/Kiritimati"))
    (row,) = json.loads(capsys.readouterr().out)
    assert row["accession"] in {f"A{moment:%Y%m%d}" for moment in (before, after)}


def test_more_open_steps_than_are_read_at_once_are_all_listed(
    server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list is read in slices."""
    many = [order(f"A{n:03}", step(f"S{n}", "200111231500", "CT1", "CT")) for n in range(450)]
    store = Store(server.url)
    changes = [Change("", None, record) for record in (PATIENT, *many)]
    store.run(commit(Commit(at=AT, changes=changes)))
    store.close()
    assert run_command(["list"]) == 0
    listed = [line.split("\t")[2] for line in capsys.readouterr().out.splitlines()]
    assert listed == [each.accession for each in many]


def test_an_order_is_shown_with_what_the_scanner_did_and_the_ris_has_not_taken(
    filled: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything about one accession number, for a program."""
    assert run_command(["show", "A2", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    (procedure,) = shown["procedures"]
    (begun,) = procedure["steps"]
    assert shown["patient"]["key"] == "N|P1"
    assert shown["flags"] == ["created by update"]
    assert (begun["id"], begun["status"]) == ("S2", "STARTED")
    assert begun["mpps"] == [
        {
            "sop_instance_uid": UID,
            "status": "IN PROGRESS",
            "attributes": {"PerformedProcedureStepID": "PPS1"},
            "series": 1,
            "objects": 2,
            "matched_by": ["study UID"],
            "to_look_at": [],
        }
    ]
    assert [(each["ris"], each["control_id"]) for each in shown["pending"]] == [("ris", "C2")]
    assert [(each["control_id"], each["cause"]) for each in shown["dead_letters"]] == [
        ("C1", "AE 204")
    ]


def test_an_order_is_shown_as_an_outline(
    filled: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same for a person, without control characters."""
    assert run_command(["show", "A2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "order A2 of N"
    for line in (
        "  ! created by update",
        "    PatientName: MÜSTER^ANNA\ufffd[2J",
        "    step S2  STARTED",
        "      Modality: MR",
        "      MPPS 1.2.3.4  IN PROGRESS",
        "        1 series with 2 objects",
        "        matched by study UID",
        "  ! refused by ris: IN PROGRESS (C1): AE 204",
    ):
        assert line in lines
    assert any(line.startswith("  to ris since 1970-01-01") for line in lines)


def test_two_facilities_may_use_one_accession_number(
    filled: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both orders are shown; with the issuer before it only the one meant."""
    assert run_command(["show", "A1", "--json"]) == 0
    assert [each["issuer"] for each in json.loads(capsys.readouterr().out)] == ["N", "SOUTH"]
    assert run_command(["show", "SOUTH|A1", "--json"]) == 0
    assert [each["issuer"] for each in json.loads(capsys.readouterr().out)] == ["SOUTH"]


def test_an_unknown_accession_number_is_a_negative_finding(
    server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the reason on stderr."""
    assert run_command(["show", "NONE"]) == 1
    assert "NONE" in capsys.readouterr().err
    assert run_command(["list"]) == 1


def test_a_date_that_is_none_is_a_usage_error(
    server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would match everything otherwise."""
    assert run_command(["list", "--date", "tomorrow"]) == 2
    assert "YYYYMMDD" in capsys.readouterr().err


class _Breaking(socketserver.BaseRequestHandler):
    """A line to Redis that breaks as soon as an index of the worklist is asked for."""

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as redis:
            redis.connect(self.server.redis)  # type: ignore[attr-defined]
            ends = {self.request: redis, redis: self.request}
            while True:
                for end in select.select([*ends], [], [])[0]:
                    said = end.recv(65536)
                    if not said or b"open-start" in said or b"by-accession" in said:
                        return
                    ends[end].sendall(said)


@pytest.mark.parametrize(
    "words", [["list", "--aet", "CT1"], ["why", "N|A1", "--aet", "CT1"]], ids=" ".join
)
def test_a_store_that_dies_while_it_is_asked_is_no_negative_finding(
    filled: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    """75: whoever runs it from a script must not take it for an empty list."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Breaking) as line:
        line.daemon_threads, line.redis = True, filled.url.removeprefix("unix://")  # type: ignore[attr-defined]
        threading.Thread(target=line.serve_forever, daemon=True).start()
        monkeypatch.setenv("BROKER_REDIS__URL", f"redis://127.0.0.1:{line.server_address[1]}")
        assert run_command(words) == 75
        line.shutdown()
    said = capsys.readouterr()
    assert "try again" in said.err
    assert not said.out


@pytest.mark.parametrize("command", [["list"], ["show", "A1"]])
def test_without_a_running_broker_the_remedy_is_named(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 69, for our own Redis and for a given one; 78 when the configuration is wrong."""
    monkeypatch.setenv("BROKER_DATA", str(tmp_path))
    assert run_command(command) == 69
    assert "broker run" in capsys.readouterr().err
    monkeypatch.setenv("BROKER_REDIS__URL", f"unix://{tmp_path}/no.sock")
    assert run_command(command) == 69
    assert "redis.url" in capsys.readouterr().err
    monkeypatch.setenv("BROKER_REDIS__URL", "nonsense")
    assert run_command(command) == 78
