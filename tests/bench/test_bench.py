"""`broker bench`: tiny runs of real servers whose counts are checked, and never their times."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from broker.bench.dicom import ANSWERS
from broker.bench.entries import ASKED_STATION, REQUEST_KEYS, STEP_KEYS, entries
from broker.bench.find import load
from broker.bench.peers import wlmscpfs
from broker.probe.address import Address
from broker.probe.scanner import STEP, Scanner, worklist_keys
from broker.probe.throwaway import throwaway_broker

pytestmark = pytest.mark.peer("redis-server")
BENCH = (sys.executable, "-m", "broker", "bench")


def measured(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([*BENCH, *arguments, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def counts(report: dict[str, Any]) -> list[tuple[str, str, int, int]]:
    names = ("scenario", "server", "count", "faults")
    return [tuple(row[name] for name in names) for row in report["rows"]]


def test_every_order_is_accepted_by_the_broker_and_by_python_hl7():
    """And what the broker and its Redis cost stands beside it."""
    report = measured("orders", "--messages", "300", "--connections", "1,5", "--processes", "2")
    assert counts(report) == [
        ("1 connection", "broker", 300, 0),
        ("1 connection", "python-hl7", 300, 0),
        ("5 connections", "broker", 300, 0),
        ("5 connections", "python-hl7", 300, 0),
    ]
    assert [ratio["peer"] for ratio in report["ratios"]] == ["python-hl7"] * 2
    for ours, peer in (report["rows"][:2], report["rows"][2:]):
        assert {"orders", "redis"} <= set(ours["cpu_us"])
        assert set(peer["cpu_us"]) == {"server"}


def test_a_growing_worklist_is_measured_at_every_mark():
    rows = measured("growth", "--entries", "100,300")["rows"]
    assert [(row["entries"], row["faults"]) for row in rows] == [(100, 0), (300, 0)]
    for row in rows:
        assert 0 < row["archived_bytes"] < 1024
        assert row["archived_bytes"] < row["per_message_bytes"] < 10_000
        assert 0 < row["remembered_bytes"] < row["entry_bytes"] < row["per_message_bytes"]
        assert 20 < row["listener_mib"] < 200
        assert 5 < row["listener_share_mib"] < row["listener_mib"]


def test_all_adt_with_documents_is_taken_and_there_again_after_a_restart():
    *samples, restarted = measured("patients", "--messages", "300")["rows"]
    assert samples[-1]["messages"] == restarted["messages"] == 300
    assert [row["faults"] for row in samples] == [0] * len(samples)
    assert samples[-1]["archived"] == 300
    assert samples[-1]["redis_mib"] < 50  # three documents of 200 KB are left out of it
    assert 0 < restarted["restart_s"] < 60


def test_a_good_sender_is_served_beside_slow_ones():
    """How fast is for whoever measures; here it is only that every order is answered."""
    done = subprocess.run(
        [*BENCH, "slow-loris", "--connections", "120", "--messages", "30", "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    assert counts(json.loads(done.stdout)) == [
        ("alone", "broker", 30, 0),
        ("beside 120 slow ones", "broker", 30, 0),
    ]


def test_nothing_is_left_of_scanners_that_come_and_go():
    """Some hundred here; ten thousand for whoever wants to know."""
    rows = measured("visits", "--associations", "140")["rows"]
    assert [row["associations"] for row in rows] == [0, 35, 70, 105, 140]
    assert not any(row["faults"] for row in rows)
    assert len({row["descriptors"] for row in rows}) == 1


def test_status_messages_are_all_there_once_and_in_order_after_an_outage():
    rows = measured("status", "--exams", "10", "--singly", "2", "--no-kills")["rows"]
    assert [row["faults"] for row in rows] == [0] * len(rows)
    assert {row["name"]: row["goal"] for row in rows}["backlog drains"] == ">= 800"


@pytest.mark.timeout(180)
@pytest.mark.peer("dcmtk")
def test_every_query_has_its_answers_from_the_broker_and_from_wlmscpfs():
    little = ("--entries", "20", "--queries", "5", "--long", "30", "--seconds", "1")
    report = measured("find", *little)
    expected = [
        ("kept, repeated", "broker", 5, 0),
        ("kept, repeated", "pynetdicom", 5, 0),
        ("kept, repeated", "wlmscpfs", 5, 0),
        ("kept, all different", "broker", 5, 0),
        ("association per poll", "broker", 5, 0),
        ("association per poll", "pynetdicom", 5, 0),
        ("association per poll", "wlmscpfs", 5, 0),
        ("20 scanners polling", "broker", 20, 0),
        ("stock findscu, mean", "broker", 5, 0),
        ("stock findscu, mean", "pynetdicom", 5, 0),
        ("stock findscu, mean", "wlmscpfs", 5, 0),
    ]
    assert counts(report)[: len(expected)] == expected
    rest = {name: (count, faults) for name, _, count, faults in counts(report)[len(expected) :]}
    assert rest["name by prefix"] == rest["name by its middle"] == (5, 0)
    assert rest["key without an index"] == (5, 0)
    assert rest["list of 30, first read"] == (30, 0)
    assert rest["list of 30, again"] == (600, 0)
    assert rest["to its first answer"] == rest["C-CANCEL to the end"] == (20, 0)
    for name in ("beside long lists", "beside such a key", "beside orders"):
        count, faults = rest[name]
        assert count > 0
        assert faults == 0


@pytest.mark.peer("dcmtk")
def test_the_broker_and_wlmscpfs_hold_the_same_entries():
    """Else the figures would stand side by side and compare different work."""
    now = datetime.now().astimezone()
    listed = entries(1, 20, now.date())
    keys = worklist_keys(station_ae=ASKED_STATION, date=f"{now:%Y%m%d}")
    with throwaway_broker(Address("127.0.0.1", 9)) as broker, wlmscpfs(listed) as peer:
        assert peer is not None
        load(broker.hl7, listed, now=now)
        ours, theirs = (
            [valued(item) for item in Scanner(Address(*each), "BROKER", "BENCH", 10.0).find(keys)]
            for each in (broker.dicom, peer)
        )
    assert len(ours) == ANSWERS
    assert sorted(ours, key=str) == sorted(theirs, key=str)


def valued(item: dict[str, Any]) -> dict[str, Any]:
    """What an answer says to the 27 keys; wlmscpfs has nothing to say to some of the others."""
    flat = item | item[STEP][0]
    return {name: flat[name] for name in REQUEST_KEYS + STEP_KEYS}


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_a_measurement_that_is_ended(end):
    started = subprocess.Popen(
        [*BENCH, "orders", "--messages", "50000", "--connections", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        running = await_load(started.pid)
        started.send_signal(end)
        started.wait(40)
    finally:
        started.terminate()
        with suppress(subprocess.TimeoutExpired):
            started.wait(40)
        started.kill()
        started.wait()
    assert len(running) >= 4  # supervisor, doors, Redis, peer, load client
    deadline = time.monotonic() + 40  # a supervisor that was killed takes its doors along in time
    while left := [each for each in running if each.exists()]:
        assert time.monotonic() < deadline, [command(each) for each in left]
        time.sleep(0.05)


def await_load(pid: int) -> list[Path]:
    """Every process under `pid`, once its load client is among them."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        found = list(below(pid))
        if any(b"broker.bench.mllp" in command(each) for each in found):
            return found
        time.sleep(0.05)
    raise AssertionError("no load client was started")


def below(pid: int) -> Iterator[Path]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield Path("/proc", child)
        yield from below(int(child))


def command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
