"""`broker bench`: tiny runs of real servers whose counts are checked, and never their times."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from broker.bench.entries import ANSWERS, ASKED_STATION, REQUEST_KEYS, STEP_KEYS, entries
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
    report = measured("orders", "--messages", "20", "--connections", "1,3")
    assert counts(report) == [
        ("1 connection", "broker", 20, 0),
        ("1 connection", "python-hl7", 20, 0),
        ("3 connections", "broker", 20, 0),
        ("3 connections", "python-hl7", 20, 0),
    ]
    assert [ratio["peer"] for ratio in report["ratios"]] == ["python-hl7"] * 2


@pytest.mark.peer("dcmtk")
def test_every_query_has_its_answers_from_the_broker_and_from_wlmscpfs():
    report = measured("find", "--entries", "20", "--queries", "5")
    assert counts(report) == [
        ("kept association", "broker", 5, 0),
        ("kept association", "wlmscpfs", 5, 0),
        ("association per poll", "broker", 5, 0),
        ("association per poll", "wlmscpfs", 5, 0),
    ]


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
        started.kill()
        started.wait()
    assert len(running) >= 4  # supervisor, doors, Redis, peer, load client
    assert not [each for each in running if each.exists()]


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
