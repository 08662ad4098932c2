"""`broker doctor` says which hop fails, against a broker that runs, that ails, and that is not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.cli import run_command
from broker.probe.ris import Sink
from broker.store import keys, metrics, selftest
from broker.store.metrics import Snapshot
from broker.store.selftest import Hop, Result
from tests.doors.actors import CONFIG, Broker, until
from tests.doors.commands import Command, command_of
from tests.tls.authority import Authority

pytestmark = pytest.mark.peer("redis-server")


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    sink = Sink()
    running = Broker(f"{CONFIG}ris: [{{name: ris, to: '{sink.start()}'}}]\n")
    try:
        running.start()
        until(lambda: len(running.store.run(metrics.published())) >= 4, "metrics of all doors")
        yield running
    finally:
        running.end()
        sink.stop()


@pytest.fixture
def command(
    broker: Broker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    bound = {"hl7": str(broker.hl7), "dicom": str(broker.dicom), "console": str(broker.console)}
    monkeypatch.setenv("BROKER_BOUND", json.dumps(bound))
    return command_of(broker, capsys)


def findings(command: Command, code: int, state: str) -> dict[str, dict[str, Any]]:
    """What is in this state, by what was looked at."""
    got, said, complaint = command("doctor", "--json")
    assert got == code, (said, complaint)
    return {each["what"]: each for each in json.loads(said) if each["state"] == state}


def test_a_broker_that_is_well_has_nothing_that_fails(command: Command) -> None:
    found = findings(command, 0, "ok")
    hops = {"store", "memory", "disk", "clock", "mappings", "orders", "modality", "updates"}
    assert hops | {"ports", "to ris", "work", "self-test"} <= found.keys()
    assert not findings(command, 0, "fail")
    code, said, _ = command("doctor", "--quiet")
    assert code == 0
    assert not [line for line in said.splitlines() if line.startswith("ok ")]


def test_each_hop_that_fails_is_named_with_its_remedy(
    broker: Broker, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    redis = broker.store.redis
    bound = {"hl7": "127.0.0.1:1", "dicom": str(broker.dicom), "console": str(broker.console)}
    (tmp_path / "wrong.yaml").write_text("source: {}\nattributs: {}\n")
    monkeypatch.setenv("BROKER_MAPPINGS", str(tmp_path))
    monkeypatch.setenv("BROKER_BOUND", json.dumps(bound))
    monkeypatch.setenv("BROKER_RIS", "[{name: ris, to: '127.0.0.1:1'}]")
    monkeypatch.setenv("BROKER_HL7__PROCESSES", "3")
    hops = (Hop("orders", 5.0), Hop("modality", 7.0, "the list has 0 lines"))
    broker.store.run(selftest.keep(Result(datetime.now(UTC).timestamp(), hops)))
    redis.hset(keys.PAUSED, "ris", json.dumps({"at": 1.0, "by": "eve", "reason": ""}))
    redis.zadd(keys.REFUSED_BY_TIME, {"d": 1})
    try:
        failed = findings(command, 1, "fail")
        warned = findings(command, 1, "warn")
    finally:
        redis.delete(keys.SELFTEST, keys.PAUSED, keys.REFUSED_BY_TIME)
    assert set(failed) == {"mappings", "ports", "to ris", "self-test"}
    assert all(each["remedy"] for each in (*failed.values(), *warned.values()))
    assert "broker map check" in failed["mappings"]["remedy"]
    assert failed["ports"]["fact"] == "hl7.listen: 127.0.0.1:1: Connection refused"
    assert failed["to ris"]["fact"].endswith("0 orders wait")
    assert failed["self-test"]["fact"] == "failed at the hop modality: the list has 0 lines"
    assert warned["orders"]["fact"].startswith("2 of 3 processes")
    assert warned["to ris"]["remedy"] == "`broker outbox resume ris`"
    assert warned["work"]["fact"] == "1 messages could not be applied"


def test_a_door_that_is_silent_and_a_disk_that_is_full_fail(
    broker: Broker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_REDIS__DISK_RESERVE", "1000000GiB")
    failed = findings(command, 1, "fail")
    assert set(failed) == {"disk"}
    names = [n for n in broker.store.run(metrics.published()) if n.startswith("modality:")]
    pids = broker.children("modality")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        old = Snapshot(datetime.now(UTC).timestamp() - 60, ())
        for name in names:
            broker.store.run(metrics.publish(name, old))
        assert "modality" in findings(command, 1, "fail")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    monkeypatch.delenv("BROKER_REDIS__DISK_RESERVE")
    until(lambda: command("doctor")[0] == 0, "the door to be heard again")


def test_a_certificate_that_ends_soon_or_has_ended_is_told(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    for days, state in ((5, "warn"), (-1, "fail")):
        ends = datetime.now(UTC) + timedelta(days=days)
        file = authority.issue(f"c{days}", "localhost", until=ends)
        ris = f"[{{name: ris, to: '127.0.0.1:1', tls: {{certificate: '{file}'}}}}]"
        monkeypatch.setenv("BROKER_RIS", ris)
        found = findings(command, 1, state)["certificates"]
        assert f"c{days}.pem has " in found["fact"]


def test_without_a_broker_it_says_so_and_looks_at_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BROKER_CONFIG", raising=False)
    monkeypatch.delenv("BROKER_BOUND", raising=False)
    monkeypatch.setenv("BROKER_DATA", str(tmp_path))
    for name in ("HL7", "DICOM", "CONSOLE"):
        monkeypatch.setenv(f"BROKER_{name}__LISTEN", "127.0.0.1:1")
    assert run_command(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "fail store" in said
    assert "start it with `broker run`" in said
    assert said.count("fail ports") == 3
