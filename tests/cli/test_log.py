"""`broker log` against a real store: lists without patient data, one message whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.cli import run_command
from broker.rollout.deploying import deploy
from broker.settings import Settings
from broker.store import keys
from broker.store.archive import Archived
from broker.store.commit import Commit, commit
from broker.store.executors import Store
from broker.store.server import EmbeddedServer, find_server
from tests.doors.actors import until

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime.now(UTC)
NAME = "MÜSTER"
RAW = (
    "MSH|^~\\&|RIS|NORTH|BROKER|NORTH|20260316074502||ORM^O01|C1|P|2.3.1||||||UNICODE UTF-8\r"
    f"PID|1||4711^^^NORTH^PI~99^^^SSA^SS||{NAME}&von&der^ANNA||19570131|F\r"
    "ORC|NW|A17^HIS|F17^RIS||SC||1^once^^20260316100000^^R\r"
    "OBR|1|A17^HIS|F17^RIS|CTABD^CT abdomen^L|||||||||a\x07b|||||NA26-1|RP1|S1|CT1|||CT\r"
)
ACK = b"MSH|^~\\&|BROKER|NORTH|RIS|NORTH|20260316||ACK|9|P|2.3.1\rMSA|%s|%s\r"


def message(control_id: str, code: str, **changes: Any) -> Archived:
    """One message as the orders door archives it."""
    stored = Archived(
        source="RIS|NORTH",
        control_id=control_id,
        message_type="ORM^O01",
        outcome="applied",
        cause="",
        received=NOW.timestamp(),
        orders=("NORTH|NA26-1",),
        mapping="ihe-orders@000000000000",
        raw=RAW.replace("|C1|", f"|{control_id}|").encode(),
        answers=(ACK % (code.encode(), control_id.encode()),),
    )
    return replace(stored, **changes)


MESSAGES = (
    message("C1", "AA"),
    message(
        "C2",
        "AE",
        outcome="refused",
        cause="AE 103 OBR^1^24: no row - add it\x1b[2J",
        orders=(),
        source="HIS|SOUTH",
        message_type="OMI^O23",
    ),
    message("C3", "AA", orders=(), raw=b"junk\x00\r\n", message_type="?", mapping="", answers=()),
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedServer]:
    """A server in a data folder that the commands know only by its path."""
    running = EmbeddedServer(tmp_path / "data", binary=find_server())
    running.start()
    monkeypatch.setenv("BROKER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("BROKER_TIMEZONE", "Pacific/Kiritimati")
    yield running
    running.stop()


@pytest.fixture
def filled(server: EmbeddedServer) -> Iterator[Store]:
    store = Store(server.url)
    for each in MESSAGES:
        store.run(commit(Commit(at=NOW, archived=each)))
    yield store
    store.close()


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    run_command(["log", *words, "--json"])
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_the_newest_come_first_one_line_each_without_patient_data(
    filled: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["log"]) == 0
    said = capsys.readouterr().out
    lines = [line.split("\t") for line in said.splitlines()]
    assert [line[4] for line in lines] == ["C3", "C2", "C1"]
    zone = Settings.load(None, os.environ).timezone
    days = {f"{at.astimezone(zone):%Y-%m-%d}" for at in (NOW, datetime.now(UTC))}
    assert {line[1][:10] for line in lines} <= days
    assert lines[1][2:8] == ["HIS|SOUTH", "OMI^O23", "C2", "refused", "AE", ""]
    assert lines[1][9] == "AE 103 OBR^1^24: no row - add it\ufffd[2J"
    assert lines[2][5:8] == ["applied", "AA", "NA26-1"]
    assert NAME not in said
    assert "4711" not in said


@pytest.mark.parametrize(
    ("words", "control_ids"),
    [
        (["--ack", "AE"], ["C2"]),
        (["--grep", "müster"], ["C2", "C1"]),
        (["--accession", "NA26-1"], ["C2", "C1"]),
        (["--sender", "SOUTH"], ["C2"]),
        (["--type", "OMI"], ["C2"]),
        (["--outcome", "refused"], ["C2"]),
        (["--control-id", "C3"], ["C3"]),
        (["--limit", "1"], ["C3"]),
        (["--limit", "0", "--since", "2h"], ["C3", "C2", "C1"]),
        (["--since", "2h", "--until", "1m"], []),
        (["--since", (NOW + timedelta(hours=1)).isoformat()], []),
        (["--since", (NOW - timedelta(hours=1)).isoformat()], ["C3", "C2", "C1"]),
        (["--ack", "AA", "--type", "OMI"], []),
    ],
)
def test_filters_narrow_the_list(
    filled: Store, capsys: pytest.CaptureFixture[str], words: list[str], control_ids: list[str]
) -> None:
    assert [each["control_id"] for each in listed(capsys, *words)] == control_ids
    assert run_command(["log", *words]) == (0 if control_ids else 1)


def test_a_time_without_offset_is_of_the_site(
    filled: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kiritimati is fourteen hours ahead: its wall clock of an hour ago is in our future."""
    there = NOW.astimezone(Settings.load(None, os.environ).timezone).replace(tzinfo=None)
    assert len(listed(capsys, "--since", (there - timedelta(hours=1)).isoformat())) == 3
    assert listed(capsys, "--since", (there + timedelta(hours=1)).isoformat()) == []


@pytest.mark.parametrize(
    "words",
    [["log", "--since", "yesterday"], ["log", "show", "NA26-0031177"], ["log", "--limit=-1"]],
)
def test_what_cannot_be_read_is_a_usage_error(server: EmbeddedServer, words: list[str]) -> None:
    assert run_command(words) == 2


def test_one_message_is_shown_raw_parsed_mapped_and_as_answered(
    filled: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(filled, Settings.load(None, os.environ), by="test", at=1.0)
    (found,) = listed(capsys, "--control-id", "C1")
    assert run_command(["log", "show", found["id"].upper()]) == 0
    said = capsys.readouterr().out
    lines = [line.strip() for line in said.splitlines()]
    assert lines[0].startswith(f"{found['id']}  ")
    assert lines[0].endswith("ORM^O01 C1 from RIS|NORTH")
    assert lines[1].startswith("applied by ihe-orders@000000000000, answered AA, ")
    assert "changed order NORTH|NA26-1: see `broker show 'NORTH|NA26-1'`" in lines
    assert "MSH|^~\\&|RIS|NORTH|BROKER" in said
    assert "|a<07>b|" in said
    assert f"PID-5.1.1  (family name)  {NAME}" in lines
    assert "PID-3[2].5  (identifier type code)  SS" in lines
    assert "MSA|AA|C1" in lines


def test_a_message_is_mapped_by_the_version_that_handled_it_or_what_is_in_force_and_says_so(
    filled: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = listed(capsys, "--control-id", "C1")
    run_command(["log", "show", found["id"]])
    assert "no mappings are in force" in capsys.readouterr().out
    settings = Settings.load(None, os.environ)
    version = deploy(filled, settings, by="test", at=1.0).active.short
    run_command(["log", "show", found["id"]])
    said = capsys.readouterr().out
    gone = "version 000000000000 is not kept any more, this is the one in force"
    assert f"mapped by ihe-orders@{version}: {gone}" in said
    handled = message("C4", "AA", mapping=f"ihe-orders@{version}")
    filled.run(commit(Commit(at=NOW, archived=handled)))
    (found,) = listed(capsys, "--control-id", "C4")
    run_command(["log", "show", found["id"], "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert (shown["mapped"]["by"], shown["mapped"]["remark"]) == (f"ihe-orders@{version}", "")
    (outcome,) = shown["mapped"]["outcomes"]
    assert outcome["attributes"]["PatientID"] == "4711"
    assert any(each["keyword"] == "PatientID" for each in outcome["origins"])


def test_the_bytes_of_a_message_come_out_as_they_are_kept(
    filled: Store, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    run_command(["log", "--control-id", "C1", "--json"])
    (found,) = json.loads(capfdbinary.readouterr().out)
    assert run_command(["log", "show", found["id"], "--raw"]) == 0
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == MESSAGES[0].raw


def test_what_is_no_hl7_is_shown_all_the_same(
    filled: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = listed(capsys, "--control-id", "C3")
    assert run_command(["log", "show", found["id"]]) == 0
    said = capsys.readouterr().out
    assert "  junk<00>\n  <0A>\n" in said
    assert "not answered" in said


def test_an_unknown_or_damaged_message_is_a_negative_finding(
    filled: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["log", "show", "1abc"]) == 1
    assert "1abc is in the archive no more" in capsys.readouterr().err
    filled.redis.xadd(keys.ARCHIVE, {"else": "a newer form"})
    newest = listed(capsys)[0]
    assert newest["outcome"] == "unreadable"
    assert run_command(["log", "show", newest["id"]]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "said"), [("--outcome", "foo"), ("--ack", "ZZ")])
def test_what_no_message_can_have_become_is_a_usage_mistake(
    option: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["log", option, said]) == 2
    assert f"'{said}' is none of" in capsys.readouterr().err


def test_a_store_that_hangs_is_told_from_one_that_is_not_there(
    server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = int(Store(server.url).redis.info()["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        assert run_command(["log"]) == 75
    finally:
        os.kill(pid, signal.SIGCONT)
    said = capsys.readouterr().err
    assert "does not answer" in said
    assert "no broker runs" not in said


def test_an_empty_archive_and_no_broker_are_told_apart(
    server: EmbeddedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(["log"]) == 1
    assert "no such message" in capsys.readouterr().err
    monkeypatch.setenv("BROKER_DATA", "/nonexistent")
    assert run_command(["log"]) == 69
    assert "broker run" in capsys.readouterr().err


@contextmanager
def following(*words: str) -> Iterator[subprocess.Popen[str]]:
    """`broker log -f` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "log", "-f", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said_next(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def test_follow_shows_the_last_ones_and_each_that_comes_till_ctrl_c(filled: Store) -> None:
    with following("--limit", "1", "--ack", "AA", "--json") as process:
        first = said_next(process)
        filled.run(commit(Commit(at=NOW, archived=message("C5", "AE"))))
        filled.run(commit(Commit(at=NOW, archived=message("C6", "AA"))))
        second = said_next(process)
        process.send_signal(signal.SIGINT)
        until(lambda: process.poll() is not None, "the end")
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert (first["control_id"], second["control_id"]) == ("C1", "C6")
    assert process.returncode == 0


@pytest.mark.parametrize(
    "words",
    [["--grep", "müster"], ["--sender", "NORTH"], ["--type", "ORM"], ["--accession", "NA26-1"]],
)
def test_follow_leaves_out_what_is_not_meant(filled: Store, words: list[str]) -> None:
    other = message("D1", "AA", source="HIS|SOUTH", message_type="ADT^A08", orders=(), raw=b"MSH")
    with following("--limit", "1", "--json", *words) as process:
        said_next(process)
        filled.run(commit(Commit(at=NOW, archived=other)))
        filled.run(commit(Commit(at=NOW, archived=message("D2", "AA"))))
        assert said_next(process)["control_id"] == "D2"


def test_follow_goes_on_where_it_was_when_redis_is_back(
    server: EmbeddedServer, filled: Store
) -> None:
    """Nothing comes twice, and nothing that came meanwhile is left out."""
    with following("--limit", "1", "--json") as process:
        assert said_next(process)["control_id"] == "C3"
        server.stop()
        assert process.stderr is not None
        assert "waiting for the store" in process.stderr.readline()
        server.start()
        for control_id in ("E1", "E2"):
            filled.run(commit(Commit(at=NOW, archived=message(control_id, "AA"))))
        assert [said_next(process)["control_id"] for _ in range(2)] == ["E1", "E2"]
        process.send_signal(signal.SIGINT)
        until(lambda: process.poll() is not None, "the end")
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0


def test_follow_ends_without_a_word_when_nobody_reads_it_any_more(filled: Store) -> None:
    """As `broker log -f | head -1` does."""
    with following("--limit", "1") as process:
        assert process.stdout is not None
        assert "C3" in process.stdout.readline()
        process.stdout.close()
        process.stdout = None

        def ended() -> bool:
            filled.run(commit(Commit(at=NOW, archived=message("F1", "AA"))))
            return process.poll() is not None

        until(ended, "the end")
        assert process.stderr is not None
        assert process.stderr.read() == ""
