"""`broker probe …` and the narrator: what people see, and the exit codes that scripts read."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from broker.cli.program import program
from broker.probe.demo import Shown, Step
from broker.probe.narrator import hl7_text, tell, worklist_rows
from broker.probe.orders import Order, orm_o01
from broker.probe.ris import Answer, Sink


def probe(*arguments: object) -> Result:
    return CliRunner().invoke(program(), ["probe", *map(str, arguments)])


@pytest.fixture
def order_file(tmp_path: Path) -> Path:
    path = tmp_path / "order.hl7"
    path.write_bytes(orm_o01(Order()).replace(b"\r", b"\n"))
    return path


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"127.0.0.1:{closed.getsockname()[1]}"


def test_send_prints_the_acknowledgement(sink: Sink, order_file: Path) -> None:
    result = probe("send", order_file, "--to", sink.address)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("AA PROBE")


def test_send_takes_several_files_and_sends_nothing_when_one_is_not_there(
    sink: Sink, order_file: Path, tmp_path: Path
) -> None:
    result = probe("send", order_file, order_file, "--to", sink.address, "--json")
    assert [answer["code"] for answer in json.loads(result.stdout)] == ["AA", "AA"]
    result = probe("send", order_file, tmp_path / "missing", "--to", sink.address)
    assert (result.exit_code, len(sink.received)) == (2, 2)


def test_send_ends_with_1_when_a_message_is_refused(sink: Sink, order_file: Path) -> None:
    sink.answer = Answer.AE
    result = probe("send", order_file, "--to", sink.address, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["code"] == "AE"


def test_send_ends_with_1_when_the_answer_is_no_acknowledgement(
    sink: Sink, order_file: Path
) -> None:
    sink.answer = Answer.GARBAGE
    assert probe("send", order_file, "--to", sink.address).exit_code == 1


def test_send_ends_with_69_when_nobody_is_there(nobody: str, order_file: Path) -> None:
    result = probe("send", order_file, "--to", nobody)
    assert result.exit_code == 69
    assert "cannot connect" in result.stderr


@pytest.mark.parametrize("content", [None, b"no message"], ids=["missing", "empty"])
def test_send_ends_with_2_without_a_message(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert probe("send", path, "--to", "127.0.0.1:1").exit_code == 2


def test_an_address_without_port_is_a_usage_error(order_file: Path) -> None:
    result = probe("send", order_file, "--to", "localhost")
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr


def test_echo_ends_with_0_or_69(peer: Any, nobody: str) -> None:
    assert probe("echo", "--to", peer.address).exit_code == 0
    assert probe("echo", "--to", nobody, "--deadline", "2").exit_code == 69


@pytest.mark.parametrize("verb", ["echo", "find"])
def test_a_host_that_nobody_knows_is_69_with_the_reason(verb: str) -> None:
    result = probe(verb, "--to", "[fe80::1%nowhere]:104")  # asks no server of names
    assert result.exit_code == 69
    assert "cannot connect (" in result.output
    assert "check host, port" in result.output


def test_find_prints_a_line_per_item(peer: Any) -> None:
    result = probe("find", "--to", peer.address, "--modality", "CT", "--date", "today")
    assert result.exit_code == 0, result.output
    assert result.stdout.split("\t")[1:3] == ["Müller^Jörg", "P1"]


@pytest.mark.parametrize("day", ["20261331", "today-", "-", "2026", "20260101-20261301"])
def test_find_asks_for_no_day_that_is_none(peer: Any, day: str) -> None:
    result = probe("find", "--to", peer.address, "--date", day)
    assert result.exit_code == 2
    assert f"'{day}' is no day" in result.stderr


def test_find_prints_json(peer: Any, item: dict[str, Any]) -> None:
    result = probe("find", "--to", peer.address, "--json", "--patient-name", "M*")
    assert json.loads(result.stdout) == [item]


def test_find_ends_with_1_when_the_list_is_empty_or_fails(peer: Any) -> None:
    peer.items = []
    assert probe("find", "--to", peer.address).exit_code == 1
    peer.end = 0xA700
    result = probe("find", "--to", peer.address)
    assert result.exit_code == 1
    assert "0xA700" in result.stderr


def test_a_step_is_started_and_completed_by_uid(peer: Any) -> None:
    started = probe("mpps", "start", "ACC1", "--to", peer.address)
    assert started.exit_code == 0, started.output
    uid = started.stdout.strip()
    assert uid in peer.created
    assert probe("mpps", "complete", uid, "--to", peer.address).exit_code == 0
    again = probe("mpps", "discontinue", uid, "--to", peer.address, "--json")
    assert again.exit_code == 1
    assert json.loads(again.stdout)["status"] == 0x0110


def test_an_accession_with_several_steps_wants_to_know_which(
    peer: Any, item: dict[str, Any]
) -> None:
    other = {**item, "ScheduledProcedureStepSequence": [{"ScheduledProcedureStepID": "SPS2"}]}
    peer.items = [item, other]
    result = probe("mpps", "start", "ACC1", "--to", peer.address)
    assert result.exit_code == 1
    assert "SPS1, SPS2" in result.stderr
    chosen = probe("mpps", "start", "ACC1", "--to", peer.address, "--step", "SPS2")
    assert chosen.exit_code == 0
    created = peer.created[chosen.stdout.strip()]
    assert created.PerformedProcedureStepID == "SPS2"


def test_an_unknown_accession_starts_nothing(peer: Any) -> None:
    peer.items = []
    assert probe("mpps", "start", "NONE", "--to", peer.address).exit_code == 1
    assert peer.created == {}


def test_the_narrator_names_the_hop_that_failed() -> None:
    paper = io.StringIO()
    good = Step("RIS → broker", "The RIS orders", Shown(message="MSH|^~\\&|A\rPID|1\r"), 1.25)
    bad = Step("broker → RIS", "The RIS hears", Shown(), 10.0, "the RIS got 0 of 1 messages")
    assert not tell([good, bad], Console(file=paper, width=100))
    told = paper.getvalue()
    assert "✓ The RIS orders  1.2 ms" in told
    assert "✗ hop 2 failed: broker → RIS: The RIS hears" in told
    assert "the RIS got 0 of 1 messages" in told


def test_the_narrator_is_content_when_every_step_holds(item: dict[str, Any]) -> None:
    paper = io.StringIO()
    steps = [
        Step("a → b", "list", Shown(items=[item]), 1),
        Step("a → b", "none", Shown(items=[]), 1),
    ]
    assert tell(steps, Console(file=paper, width=120))
    assert "Müller^Jörg" in paper.getvalue()
    assert "all 2 steps held" in paper.getvalue()


def test_a_shown_message_keeps_every_character() -> None:
    text = orm_o01(Order()).decode()
    assert hl7_text(text).plain == text.strip("\r").replace("\r", "\n")


def test_a_row_joins_what_has_several_values(item: dict[str, Any]) -> None:
    item["PatientID"] = ["A", "B"]
    assert worklist_rows([item])[0][2] == "A\\B"
