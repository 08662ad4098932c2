"""Every command of the README works as it is written there, but for the ports."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.settings import Settings
from tests.doors.actors import CONFIG, Broker
from tests.doors.commands import typed

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def block(info: str) -> str:
    """The text of the fenced block with this info string."""
    found = re.search(rf"^```{re.escape(info)}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no block ```{info}"
    return found[1]


def run(line: str) -> subprocess.CompletedProcess[str]:
    words = [str(BIN / "broker") if w == ".venv/bin/broker" else w for w in shlex.split(line)]
    return subprocess.run(
        words,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """One broker for the tour."""
    with Broker(CONFIG).started() as running:
        yield running


def placed(text: str, broker: Broker) -> list[str]:
    """The commands with the ports and the configuration of this broker."""
    text = (
        text.replace("127.0.0.1:2575", str(broker.hl7))
        .replace("127.0.0.1:11112", str(broker.dicom))
        .replace("127.0.0.1 11112", f"127.0.0.1 {broker.dicom.port}")
        .replace("127.0.0.1:8080", str(broker.console))
    )
    config = f"--config {broker.folder / 'broker.yaml'}"
    text = re.sub(r"broker (list|log|replay|dead list)\b", rf"broker \1 {config}", text)
    return text.strip().splitlines()


@pytest.mark.peer("dcmtk", "redis-server")
def test_the_tour_shows_the_order_at_every_stop(broker, dcmtk_program, monkeypatch):
    """Sent, it is in the scanner's answer, in the list, in the mapping's trial, and at findscu."""
    said = [run(line) for line in placed(block("sh tour"), broker)]
    assert [each.returncode for each in said] == [0] * len(said), said
    assert "AA" in said[0].stdout
    for at in (1, 2, 3):
        assert "NA26-0031177" in said[at].stdout
    assert '"store"' in said[4].stdout
    [findscu] = placed(block("sh dcmtk"), broker)
    monkeypatch.setenv("PATH", f"{dcmtk_program('findscu').parent}:{os.environ['PATH']}")
    found = run(findscu)
    assert found.returncode == 0
    assert "NA26-0031177" in found.stdout + found.stderr


@pytest.mark.peer("redis-server")
def test_what_arrived_is_listed_and_replayed(broker, capsys, monkeypatch):
    """The order of the tour is in the log, and a replay of it changes nothing."""
    monkeypatch.chdir(ROOT)
    lines = [placed(block("sh tour"), broker)[0], *placed(block("sh log"), broker)]
    sent, *said = [typed(capsys, *shlex.split(line)[1:]) for line in lines]
    assert sent[0] == 0
    assert [code for code, _, _ in said] == [0] * len(said), said
    assert all("NA26-0031177" in out for _, out, _ in said[:4])
    assert "0 would change something" in said[2][2]


@pytest.mark.parametrize("line", block("sh help").splitlines() + block("sh map").splitlines())
def test_commands_that_need_no_broker_succeed(line, capsys, monkeypatch):
    """Help texts and the mapping commands."""
    monkeypatch.chdir(ROOT)
    code, said, wrong = typed(capsys, *shlex.split(line)[1:])
    assert code == 0, wrong
    assert said


def test_the_configuration_of_the_readme_is_valid(tmp_path):
    """Every key in it exists."""
    path = tmp_path / "broker.yaml"
    path.write_text(block("yaml config"), encoding="utf-8")
    settings = Settings.load(path, {})
    assert settings.site == "North Hospital"
    assert [ris.name for ris in settings.ris] == ["ris"]


def test_the_make_targets_of_the_readme_exist():
    """`make run`, `make demo`, `make check`, `make test`."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", README, re.MULTILINE)) <= targets
