"""The page about downtime does what it says, command for command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli import run_command
from broker.probe.ris import Sink, listening
from tests.doors.actors import CONFIG, Broker, until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "downtime.md").read_text(encoding="utf-8")
pytestmark = [pytest.mark.peer("redis-server"), pytest.mark.timeout(120)]


@pytest.fixture
def sink() -> Iterator[Sink]:
    with listening() as heard:
        yield heard


@pytest.fixture
def broker(sink: Sink) -> Iterator[Broker]:
    with Broker(f"{CONFIG}ris: [{{name: ris, to: '{sink.address}'}}]\n").started() as running:
        yield running


def commands(broker: Broker) -> Iterator[list[str]]:
    """Every command of the page, with the ports and the configuration of this broker."""
    for found in re.finditer(r"^```sh downtime\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        for line in found[1].strip().splitlines():
            placed = line.replace("127.0.0.1:2575", f"{broker.hl7}")
            placed = placed.replace("127.0.0.1:11112", f"{broker.dicom}")
            program, *words = shlex.split(placed)
            assert program == "broker"
            yield words


def test_the_page_about_downtime_does_what_it_says(
    broker: Broker,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BROKER_CONFIG", str(broker.folder / "broker.yaml"))

    def run(words: list[str]) -> tuple[int, str]:
        capsys.readouterr()
        return run_command(words), "".join(capsys.readouterr())

    said = [(words, *run(words)) for words in commands(broker)]
    assert [each for each in said if each[1]] == []
    assert "D1001" in said[2][2]
    assert "UNKNOWN-" in said[2][2]
    dry = next(text for words, _, text in said if words[0] == "reconcile")
    assert "would be told: IN PROGRESS" in dry
    until(lambda: sink.received, "what the RIS is told")
    [told] = sink.received
    assert (told.field("OBR", 18), told.field("ORC", 5)) == ("NA26-0031177", "IP")
    [order] = json.loads(run(["show", "NA26-0031177", "--json"])[1])
    assert any("reconcile by ben: same exam" in flag for flag in order["flags"])


def test_the_readme_leads_to_the_page() -> None:
    assert "(docs/downtime.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
