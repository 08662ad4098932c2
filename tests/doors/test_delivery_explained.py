"""docs/delivery.md: its configuration is valid, its commands work, and MPPS goes on to a PACS."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from broker.cli import run_command
from broker.mapping.loading import load
from broker.mapping.text.document import Complaints
from broker.probe.orders import orm_o01
from broker.probe.ris import Answer, Sink
from broker.probe.scanner import new_uid
from broker.settings import Settings
from broker.settings.updates import ANSWERS
from broker.store import dead, outbox
from tests.doors.actors import CONFIG, Broker, accepted, new_order, only, until
from tests.houses import few_mappings
from tests.updates.pacs import Pacs, pacs

pytestmark = pytest.mark.peer("redis-server")

DOC = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text(encoding="utf-8")
NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
LISTS = {"dead list": 1}
"""Verbs that end with 1 because there is something to look at."""


@pytest.fixture(scope="module")
def peers() -> Iterator[tuple[Sink, Pacs]]:
    sink = Sink()
    sink.start()
    with pacs() as scp:
        yield sink, scp
    sink.stop()


@pytest.fixture(scope="module")
def broker(peers: tuple[Sink, Pacs]) -> Iterator[Broker]:
    """One RIS, of which CM is refused, and a PACS."""
    sink, scp = peers
    forward = f"{{name: pacs, to: '{scp.address}', called: PACS}}"
    running = Broker(
        f"{CONFIG}ris: [{{name: ris, to: '{sink.address}'}}]\nupdates: {{forward: [{forward}]}}\n"
    )
    with running.started():
        yield running


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind} delivery\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)


def test_the_configuration_of_the_documentation_is_valid(tmp_path: Path) -> None:
    [said] = blocks("yaml")
    path = tmp_path / "broker.yaml"
    path.write_text(said, encoding="utf-8")
    settings = Settings.load(path, {})
    assert [each.name for each in settings.destinations] == ["ris", "south", "pacs"]
    assert settings.ris[0].verdict("AE", "204") == "park"
    assert settings.ris[0].verdict("AE", "207") == "retry"


def test_a_mapping_of_its_own_names_the_ris_in_msh_5_and_6(tmp_path: Path) -> None:
    [said] = re.findall(r"^```yaml delivery-mapping\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    folder = few_mappings(tmp_path / "mappings")
    (folder / "status-ris.yaml").write_text(said, encoding="utf-8")
    outbound = load(folder).outbound["status-ris"]
    event = {"PerformedProcedureStepStatus": "COMPLETED", "AccessionNumber": "A1"}
    header = outbound.render(event, control_id="1", now=NOW).split("\r")[0].split("|")
    assert (header[4], header[5], header[8]) == ("KESTREL", "NORTH", "ORM^O01")


def test_the_table_of_answers_is_that_of_the_program() -> None:
    rows = re.findall(r"^\| ((?:`\w+`,? ?)+) \| `(\w+)` \|", DOC, re.MULTILINE)
    table = {word: verdict for words, verdict in rows for word in re.findall(r"`(\w+)`", words)}
    assert table == {name: verdict.value for name, verdict in ANSWERS.items()}


def test_an_answer_or_a_name_that_cannot_be_ends_the_start_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "broker.yaml"
    for said, fact in (
        ("ris: [{name: a, to: 'h:1', answers: {AX: retry}}]", "an answer is AA, AE"),
        ("ris: [{name: a, to: 'h:1', answers: {AE: maybe}}]", "'maybe' is none"),
        ("updates: {forward: [{name: a, to: 'h:1', statuses: {'1': park}}]}", "four hexadecimal"),
        (
            "ris: [{name: a, to: 'h:1'}]\nupdates: {forward: [{name: a, to: 'h:1'}]}",
            "ris, updates.forward: 'a' is there twice",
        ),
    ):
        path.write_text(said)
        with pytest.raises(Complaints) as wrong:
            Settings.load(path, {})
        assert fact in str(wrong.value)
        assert "broker.yaml:" in str(wrong.value)


def test_the_commands_of_the_documentation_work_while_a_pacs_gets_every_mpps(
    broker: Broker,
    peers: tuple[Sink, Pacs],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sink, scp = peers
    sink.answer_next(Answer.AA, Answer.AE)
    order, uid = new_order(), new_uid()
    accepted(broker.hl7, orm_o01(order))
    assert broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW) == 0x0000
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    until(lambda: broker.store.run(dead.count()) == 1, "the refusal")
    until(lambda: scp.operations() == ["N-CREATE", "N-SET"], "the MPPS at the PACS")
    assert {each.uid for each in scp.got} == {uid}
    monkeypatch.setenv("BROKER_CONFIG", str(broker.folder / "broker.yaml"))
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        program, *words = shlex.split(line)
        assert program == ".venv/bin/broker"
        code = run_command(words)
        assert code == LISTS.get(" ".join(words), 0), (line, capsys.readouterr())
    until(lambda: broker.store.run(outbox.pending("ris")) == 0, "the message made anew")
    first, refused, again = sink.received
    assert [each.field("ORC", 5) for each in sink.received] == ["IP", "CM", "CM"]
    assert refused.field("MSH", 10) != again.field("MSH", 10)
    assert first.connection == again.connection
    capsys.readouterr()
    assert run_command(["outbox", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(each["to"], each["orders"]) for each in found] == [("ris", 0), ("pacs", 0)]
