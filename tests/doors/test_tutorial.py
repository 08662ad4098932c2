"""docs/mapping.md is true: its commands are run beside a broker, and print what it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.mapping.loading import load
from broker.settings import shipped_mappings
from tests.doors.actors import Broker
from tests.doors.commands import typed

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?P<kind>\S+)(?: (?P<about>\S+))?\n(?P<body>.*?)^```", re.M | re.S)
LEFT_OUT = "…"


@dataclass(frozen=True)
class Block:
    """A fenced block; `about` is the file that it is, or what kind of mapping."""

    kind: str
    about: str
    body: str
    line: int


BLOCKS = [
    Block(each["kind"], each["about"] or "", each["body"], TEXT[: each.start()].count("\n") + 1)
    for each in BLOCK.finditer(TEXT)
]
SNIPPETS = [each for each in BLOCKS if each.about in ("overlay", "outbound")]


@dataclass
class Plain:
    """Lines without what differs between two runs; versions keep their order of appearance."""

    versions: dict[str, str] = field(default_factory=dict)

    def line(self, text: str) -> str:
        text = text.replace("\t", "  ").rstrip()
        text = re.sub(r"\b[0-9a-f]{12}\b", self._version, text)
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN", text)
        text = re.sub(r"(reload|rollback) \(.*?\)", r"\1 (WHO)", text)
        text = re.sub(r"^(  \w+:\d+)@\S+", r"\1@HOST", text)
        text = re.sub(r"\d+ mappings$", "N mappings", text)
        return re.sub(r"(ihe-orders\.yaml):\d+", r"\1:LINE", text)

    def _version(self, match: re.Match[str]) -> str:
        return self.versions.setdefault(match[0], f"VERSION{len(self.versions) + 1}")


def steps(body: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that are shown under it."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        yield command, shown


def meets(shown: list[str], printed: list[str]) -> bool:
    """Whether the lines are those shown, with any lines where some are left out."""
    if not shown:
        return not printed
    if shown[0] == LEFT_OUT:
        return any(meets(shown[1:], printed[at:]) for at in range(len(printed) + 1))
    return bool(printed) and shown[0] == printed[0] and meets(shown[1:], printed[1:])


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A broker of the tutorial's own configuration, at ports of its own."""
    [config] = [each.body for each in BLOCKS if each.about == "broker.yaml"]
    running = Broker(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:0", config))
    shutil.copytree(shipped_mappings(), running.folder / "mappings")
    with running.started():
        yield running


@pytest.fixture
def at_home(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """The broker, in whose folder and with whose configuration commands are typed."""
    for name in [each for each in os.environ if each.startswith("BROKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BROKER_CONFIG", "broker.yaml")
    monkeypatch.chdir(broker.folder)
    return broker


def ran(command: str, broker: Broker, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a command prints, and its exit code where that is not 0."""
    command = (
        command.replace("127.0.0.1:2575", str(broker.hl7))
        .replace("127.0.0.1:11112", str(broker.dicom))
        .replace("~/worklist-broker", str(ROOT))
    )
    if not command.startswith("broker "):
        return subprocess.check_output(command, shell=True, text=True).splitlines()
    code, out, wrong = typed(capsys, *shlex.split(command)[1:])
    return [*wrong.splitlines(), *out.splitlines(), *([f"exit code {code}"] if code else [])]


@pytest.mark.peer("redis-server")
def test_every_command_of_the_tutorial_prints_what_the_tutorial_shows(at_home, capsys):
    """In the order of the text; files of the text are written where it shows them."""
    said, seen = Plain(), Plain()
    wrong, run = [], 0
    for block in BLOCKS:
        if "." in block.about and block.about != "broker.yaml":
            path = at_home.folder / block.about
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.body, encoding="utf-8")
        for command, lines in steps(block.body) if block.kind == "console" else ():
            if command.endswith("worklist-broker/mappings mappings"):
                continue  # the fixture has done it: the broker was started on them
            run += 1
            shown = [said.line(each) for each in lines]
            printed = [seen.line(each) for each in ran(command, at_home, capsys)]
            if not meets(shown, printed):
                wrong.append("\n".join([f"$ {command}", *printed, "--- but shown is", *shown]))
    assert not wrong, "\n\n".join(wrong)
    assert run >= 20


def test_the_overlay_is_as_short_as_the_tutorial_says():
    """Blank lines, comments and the example are not counted."""
    *_, overlay = [each.body for each in BLOCKS if each.about == "next/kestrel.yaml"]
    rules = overlay.partition("examples:")[0].splitlines()
    count = sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in rules)
    assert f"The overlay took **{count} lines**" in TEXT


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda each: f"line-{each.line}")
def test_every_mapping_of_the_reference_loads_without_a_warning(snippet, tmp_path):
    """Each is what stands in an overlay of the shipped orders, or an outbound mapping."""
    head = "mapping: reference\n"
    if snippet.about == "overlay":
        head += "extends: ihe-orders\n"
        head += "" if "accept:" in snippet.body else "accept: {senders: ['KESTREL|HARBOR']}\n"
    path = tmp_path / "reference.yaml"
    path.write_text(head + snippet.body, encoding="utf-8")
    assert load(path).warnings == ()


def test_the_links_of_the_text_lead_somewhere():
    """Relative ones, to files of this folder."""
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
