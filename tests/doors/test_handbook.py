"""docs/handbook.md is true: its commands are run beside a broker, and all others exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from broker.cli import run_command
from broker.cli.program import program
from broker.probe.orders import Step, orm_o01
from broker.probe.scanner import new_uid
from tests.doors.actors import CONFIG, Broker, accepted, new_order, only, until

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "handbook.md").read_text(encoding="utf-8")
NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
FINDINGS = (
    "broker config check",  # ports that anybody may connect to
    "broker why GO-LIVE-1 --aet CT9",  # its exam has begun
    "broker mpps list",  # none to look at
    "broker list --invisible",  # none
    "broker list --unended",  # as the day of its order is
)
"""Commands that may end with 1 here, and why."""
UNITS = {path.name for path in (ROOT / "docs" / "deploy" / "systemd").iterdir()}


def lines(kind: str) -> list[str]:
    """The commands of all blocks of a kind, in their order."""
    found = re.findall(rf"^```sh {kind}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"the handbook has no block ```sh {kind}"
    return "".join(found).splitlines()


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker with one exam that ended, and mappings in its folder as a site has them."""
    running = Broker(CONFIG)
    try:
        shutil.copytree(ROOT / "mappings", running.folder / "mappings")
        with (running.folder / "broker.yaml").open("a") as config:
            config.write("mappings: mappings\n")
        running.start()
        order = new_order(Step("S1", station_ae="CT9"), accession="GO-LIVE-1")
        accepted(running.hl7, orm_o01(order))
        uid = new_uid()
        assert running.scanner.mpps_start(only(running, order), uid=uid, now=NOW) == 0
        other = new_order(Step("S2", station_ae="CT9"))
        accepted(running.hl7, orm_o01(other))
        (running.folder / "order.hl7").write_bytes(orm_o01(other))
        yield running
    finally:
        running.end()


@pytest.fixture
def here(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """As an operator is at the broker's machine."""
    monkeypatch.chdir(broker.folder)
    monkeypatch.setenv("BROKER_CONFIG", str(broker.folder / "broker.yaml"))
    return broker


def ran(line: str, broker: Broker) -> int:
    """The exit code of a command, put to the ports of this broker."""
    words = shlex.split(line.replace("127.0.0.1:11112", str(broker.dicom)))
    assert words[0] == "broker", line
    return run_command(words[1:])


@pytest.mark.peer("redis-server")
@pytest.mark.parametrize("kind", ["daily", "scanner", "ris", "migration"])
def test_every_command_does_what_the_handbook_says(here, kind, capsys):
    for line in lines(kind):
        if line in FINDINGS:
            assert ran(line, here) in (0, 1), line
        else:  # what a scanner has asked is noted once a second
            until(lambda line=line: ran(line, here) == 0, line, patience_s=10)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.peer("redis-server")
def test_a_backup_is_taken_restored_and_moved_as_written(here, tmp_path, monkeypatch):
    assert [ran(line, here) for line in lines("backup")] == [0, 0]
    exporting, *importing = lines("moving")
    assert ran(exporting, here) == 0
    backup, export = here.folder / "site.backup", here.folder / "orders.jsonl"
    for number, commands in enumerate((lines("restore")[:1], importing)):
        successor = Broker()
        monkeypatch.setenv("BROKER_CONFIG", str(successor.folder / "broker.yaml"))
        (successor.folder / "site.backup").symlink_to(backup)
        (successor.folder / "orders.jsonl").symlink_to(export)
        monkeypatch.chdir(successor.folder)
        try:
            assert [ran(line, here) for line in commands] == [0] * len(commands), number
            successor.start()
            assert run_command(["show", "GO-LIVE-1"]) == 0
            assert ran(lines("restore")[-1], here) == 0
        finally:
            successor.end()


def commands() -> list[str]:
    """Every command of ours that the handbook names in a sentence or a table."""
    return sorted(set(re.findall(r"`(broker [^`]+)`", TEXT)))


@pytest.mark.parametrize("line", commands())
def test_every_command_that_is_named_exists_with_its_options(line):
    command: Any = typer.main.get_command(program())
    words = shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not (words and hasattr(command, "commands")) or words[0].startswith("--"), line
    known = {option for each in command.params for option in each.opts}
    assert {word for word in words if word.startswith("--")} <= known, line


def test_units_and_files_that_are_named_exist():
    named = set(re.findall(r"worklist-broker(?:@\w+)?(?=$|[ `])", "\n".join(lines("root"))))
    assert {f"{name}.service" for name in named} <= UNITS
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / "docs" / link).is_file(), link
    assert (ROOT / "docs" / "deploy" / "install.sh").is_file()
    assert os.access(ROOT / "docs" / "deploy" / "install.sh", os.X_OK)
