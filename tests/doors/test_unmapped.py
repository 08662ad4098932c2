"""Orders with codes that no table has: accepted, on no list, named, and listed once assigned."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli import run_command
from broker.probe.orders import Order, orm_o01
from broker.store import growth, held, keys
from tests.doors.actors import CONFIG, Broker, new_order, of_accession, only, send, step_of
from tests.doors.commands import Command, command_of
from tests.doors.test_refusals import edited
from tests.houses import TABLE, holding_mappings

pytestmark = pytest.mark.peer("redis-server")


@pytest.fixture(scope="module")
def running() -> Iterator[Broker]:
    """A broker whose table of modalities holds what it does not have."""
    broker = Broker(f"{CONFIG}mappings: rules\nwatch_mappings: false\n")
    holding_mappings(broker.folder / "rules")
    with broker.started():
        yield broker


@pytest.fixture
def command(running: Broker, capsys: pytest.CaptureFixture[str]) -> Command:
    """`broker unmapped …` on that broker."""
    run = command_of(running, capsys)
    return lambda *words: run("unmapped", *words)


@pytest.fixture(autouse=True)
def table(running: Broker) -> Iterator[Path]:
    """The table of modalities; nothing waits before a test or after it."""
    yield running.folder / "rules" / "tables" / "modalities.csv"
    for digest in running.store.run(held.digests()):
        running.store.run(held.forget(digest))
        running.store.run(growth.unlist(keys.HELD_BY_TIME, digest))


def house_order(order: Order, code: str) -> bytes:
    return edited(orm_o01(order), ("OBR", 24, code.encode()))


def test_an_unmapped_order_is_accepted_but_on_no_list_till_its_code_is_assigned(
    running: Broker, table: Path, command: Command
) -> None:
    order, late = new_order(), new_order()
    message = house_order(order, "MRTX")
    assert send(running.hl7, message).code == "AA"
    assert send(running.hl7, house_order(late, "mrtx")).code == "AA"
    assert of_accession(running, order) == []
    archived = running.archived(1)[0]
    assert (archived.outcome, archived.orders) == ("held", ())
    assert running.metric("broker_orders_held") == 2

    code, said, _ = command("--json")
    assert code == 1
    listed = json.loads(said)
    assert [(each["table"], each["key"], each["messages"]) for each in listed] == [
        ("modality", "MRTX", 1),
        ("modality", "mrtx", 1),
    ]
    assert listed[0]["near"]["MRT"] == "MR"
    assert "MRTX" in command()[1]

    code, said, wrong = command("assign", "MRTX", "--modality", "MR")
    assert code == 0, wrong
    lines = said.splitlines()
    assert lines[0].endswith("tables/modalities.csv: MRTX, MR")
    assert [line.split()[0] for line in lines[1:3]] == ["applied", "applied"]
    assert lines[3] == f"{order.accession}: MR on the list of CT1"
    assert order.accession in lines[1]
    assert late.accession in lines[2]
    assert table.read_text().endswith("MRTX,MR\n")
    assert step_of(only(running, order))["Modality"] == "MR"
    assert running.metric("broker_orders_held") == 0
    assert command()[0] == 0
    assert send(running.hl7, message).code == "AA"  # a repeat by now
    assert of_accession(running, order) == [only(running, order)]
    assert send(running.hl7, house_order(new_order(), "MRTX")).code == "AA"
    assert running.archived(1)[0].outcome == "applied"


def test_the_same_bytes_wait_once_and_are_judged_afresh_after_the_table_is_mended(
    running: Broker, table: Path, command: Command
) -> None:
    order = new_order()
    message = house_order(order, "USZ")
    assert [send(running.hl7, message).code for _ in range(3)] == ["AA"] * 3
    assert running.store.run(held.count()) == 1
    with table.open("a") as rows:
        rows.write("USZ,US\n")
    code, said, wrong = command("replay", "--json")  # not in force yet
    assert code == 1, wrong
    assert [each["outcome"] for each in json.loads(said)] == ["held"]
    code, _, wrong = command("assign", "USZ", "--modality", "US")
    assert code == 1
    assert "has a row for 'USZ'" in wrong
    assert run_command(["map", "reload", "--config", str(running.folder / "broker.yaml")]) == 0
    assert send(running.hl7, message).code == "AA"
    assert step_of(only(running, order))["Modality"] == "US"
    assert running.store.run(held.digests()) == []


def test_a_message_too_large_to_wait_is_refused(running: Broker, command: Command) -> None:
    order = new_order()
    document = b"OBX|1|ED|1^PDF||" + os.urandom(held.LARGEST).hex().encode() + b"\r"
    answer = send(running.hl7, house_order(order, "CTL") + document)
    assert answer.code == "AE"
    assert b"too large to wait" in answer.raw
    assert command()[0] == 0


def test_what_came_later_is_not_undone_by_what_had_waited(
    running: Broker, command: Command
) -> None:
    order = new_order()
    assert send(running.hl7, house_order(order, "CTQ")).code == "AA"
    cancel = orm_o01(order, control="CA", status="CA")
    assert send(running.hl7, edited(cancel, ("MSH", 7, b"20260317"))).code == "AA"
    code, said, wrong = command("assign", "CTQ", "--set", "modality=CT")
    assert code == 0, wrong
    assert "applied" in said
    assert of_accession(running, order) == []


def test_what_is_refused_after_all_still_waits_and_is_said(
    running: Broker, command: Command
) -> None:
    first, second = new_order(), new_order()
    assert send(running.hl7, orm_o01(first)).code == "AA"
    stolen = new_order(accession=first.accession, patient=second.patient)
    assert send(running.hl7, house_order(stolen, "CTW")).code == "AA"
    code, said, _ = command("assign", "CTW", "--modality", "CT")
    assert code == 1
    assert "refused" in said
    assert "AR 205" in said
    assert "still waits" in said
    assert running.store.run(held.count()) == 1


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["assign", "X1"], "is waited for by no message: say --table"),
        (["assign", "X1", "--table", "modallity"], "did you mean 'modality'?"),
        (["assign", "X1", "--table", "priority"], "ihe-orders.yaml:"),
        (["assign", "X1", "--table", "modality"], "--set modality="),
        (["assign", "X1", "--table", "modality", "--station", "CT1"], "--set modality="),
        (
            ["assign", "X1", "--table", "modality", "--modality", "MR", "--station", "MR7"],
            "stations.csv has MR1 for every 'MR': mend that row",
        ),
        (
            [
                *("assign", "X1", "--table", "sex", "--mapping", "ihe-orders"),
                *("--set", "sex=F", "--station", "MR1"),
            ],
            "sex.csv has no column for --station",
        ),
        (
            ["assign", "X1", "--table", "modality", "--modality", "MRHED"],
            "'MRHED' of table 'modality' is no modality that DICOM knows",
        ),
        (["assign", "X1", "--table", "modality", "--set", "modalty=CT"], "did you mean"),
        (["assign", "CT", "--table", "modality", "--modality", "CT"], "has a row for 'CT'"),
        (["assign", "X1", "--table", "modality", "--modality", "RAD*"], "modalities.csv"),
        (["assign", "#1", "--table", "modality", "--modality", "CT"], "would not be read"),
    ],
)
def test_a_row_that_cannot_be_is_not_written(
    table: Path, command: Command, words: list[str], fact: str
) -> None:
    before = table.read_bytes()
    code, _, wrong = command(*words)
    assert code == 1
    assert fact in wrong
    assert table.read_bytes() == before
    assert [path.name for path in table.parent.glob(".*")] == []


def test_a_strange_modality_is_told_and_so_is_the_station_nobody_asks_for(
    running: Broker, command: Command
) -> None:
    order = new_order()
    message = edited(house_order(order, "SZINTI"), ("OBR", 21, b""))
    assert send(running.hl7, message).code == "AA"
    code, said, wrong = command("assign", "SZINTI", "--modality", "XX")
    assert (code, said) == (1, "")
    assert "nothing is written (--force does it all the same)" in wrong
    code, said, wrong = command("assign", "SZINTI", "--modality", "XX", "--force")
    assert code == 0, wrong
    assert "warning: 'XX' of table 'modality' is no modality that DICOM knows" in wrong
    assert f"{order.accession}: XX on the list of UNASSIGNED" in said
    assert "no row of table 'station' leads to a station: UNASSIGNED is only its default" in said


def test_a_code_and_the_station_of_its_modality_are_assigned_together(
    running: Broker, table: Path, command: Command
) -> None:
    order, second = new_order(), new_order()
    message = edited(house_order(order, "MIKRO"), ("OBR", 21, b""))
    assert send(running.hl7, message).code == "AA"
    code, said, wrong = command("assign", "MIKRO", "--modality", "SM", "--station", "SM1")
    assert code == 0, wrong
    assert f"{order.accession}: SM on the list of SM1" in said
    stations = table.with_name("stations.csv")
    assert stations.read_text().endswith("SM,SM1,\n")

    message = edited(house_order(second, "MIKRO2"), ("OBR", 21, b""))
    assert send(running.hl7, message).code == "AA"
    before = stations.read_bytes()
    code, said, wrong = command("assign", "MIKRO2", "--modality", "SM", "--station", "SM1")
    assert code == 0, wrong
    assert f"{second.accession}: SM on the list of SM1" in said
    assert stations.read_bytes() == before


def test_what_waits_for_a_table_that_is_gone_is_to_be_replayed(
    running: Broker, command: Command
) -> None:
    assert send(running.hl7, house_order(new_order(), "GONE1")).code == "AA"
    mapping = running.folder / "rules" / "ihe-orders.yaml"
    text = mapping.read_text()
    mapping.write_text(
        text.replace(f"  modality: {TABLE}", f"  exam: {TABLE}").replace(
            "lookup(modality)", "lookup(exam)"
        )
    )
    try:
        code, _, wrong = command("assign", "GONE1", "--modality", "CT")
    finally:
        mapping.write_text(text)
    assert code == 1
    assert "`broker unmapped replay` judges afresh what waits for it" in wrong
