"""`broker map try`: what it says is what the broker does, and where each value comes from."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from broker.cli import run_command
from broker.orders.door import intake_of
from broker.orders.metrics import OrdersMetrics
from broker.rollout.current import Current
from broker.settings import Redis, Settings, shipped_mappings
from broker.store.executors import AsyncStore, Store
from broker.store.server import EmbeddedServer
from tests.orders.door import compiled

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "mappings" / "examples"
HEAD = "MSH|^~\\&|R|N|||{sent}||ORM^O01|1|P|2.3.1\r"
PATIENT = "PID|1||800^^^N^PI~900^^^N^SS~800200^^^N^PI||Doe^Jane||1961|F\r"
ORDER = "ORC|NW|P1|F1\rOBR|1|P1|F1|XQ7^Skull^L||||||||||||||ACC1||||||{modality}\r"
OVERLAY = """\
mapping: site
extends: ihe-orders
accept: {senders: ['R|N']}
let:
  two: OBR-18 + '-' + ORC-3
tables:
  modality: {on_miss: hold}
attributes:
"""
Tried = Callable[..., tuple[int, str]]


@pytest.fixture
def tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Tried:
    """Try a message by an overlay with some attributes; gives the exit code and the lines."""
    monkeypatch.setenv("BROKER_DATA", str(tmp_path / "data"))

    def command(attributes: str = "", *, modality: str = "CT", sent: str = "20260316") -> tuple:
        attributes = attributes or "  PatientComments: ORC-2"
        (tmp_path / "site.yaml").write_text(f"{OVERLAY}{attributes}\n")
        message = f"{HEAD}{PATIENT}{ORDER}".format(sent=sent, modality=modality)
        (tmp_path / "one.hl7").write_bytes(message.encode())
        mapping = str(tmp_path / "site.yaml")
        code = run_command(
            ["map", "try", str(tmp_path / "one.hl7"), "--mappings", mapping, "--explain"]
        )
        return code, "\n".join(
            " ".join(line.split()) for line in capsys.readouterr().out.splitlines()
        )

    return command


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        (
            "  PatientComments: two | lower",
            "PatientComments acc1-f1 ← OBR-18 'ACC1' + '-' + ORC-3 'F1' = 'ACC1-F1'"
            " → let two 'ACC1-F1' → lower 'acc1-f1' site.yaml:9",
        ),
        (
            "  PatientComments: {const: careful}",
            "PatientComments careful ← const, fills a gap only site.yaml:9",
        ),
        (
            "  MilitaryRank: AccessionNumber | lower",
            "MilitaryRank acc1 ← AccessionNumber 'ACC1' → lower 'acc1' site.yaml:9",
        ),
        (
            "  RequestedProcedureID: {from: OBR-4.2 + ' of the whole body', too_long: surrogate}",
            " = 'Skull of the whole body' → surrogate '",
        ),
        (
            "  RouteOfAdmissions: {from: PV1-2, default: issuer}",
            "RouteOfAdmissions N ← issuer 'N', default, fills a gap only site.yaml:9",
        ),
    ],
)
def test_every_step_from_the_field_to_the_value_is_told(
    tried: Tried, attributes: str, told: str
) -> None:
    if "MilitaryRank" in attributes:  # only what stands above it is known
        attributes = "  MilitaryRank: ~\n" + attributes.replace("MilitaryRank", "OrderEnteredBy")
        told = told.replace("MilitaryRank", "OrderEnteredBy")
        told = told.replace(" site.yaml:9", ", default, follows the message site.yaml:10")
    code, out = tried(attributes)
    assert code == 0, out
    assert told in out


def test_items_stand_below_their_sequence_and_what_is_no_item_says_why(tried: Tried) -> None:
    _, out = tried()
    lines = out.splitlines()
    at = lines.index("OtherPatientIDsSequence item 2 ← '800200^^^N^PI'")
    assert lines[at + 1].startswith(">PatientID 800200 ← .1 '800200'")
    no_item = "OtherPatientIDsSequence no item, its PatientID is the order's own ← '800^^^N^PI'"
    assert no_item in lines
    assert not any(line.startswith(">PatientID 800 ") for line in lines)
    assert "ScheduledProcedureStepSequence item 1" in lines


def test_what_is_of_no_use_is_shown_as_it_was_sent(tried: Tried) -> None:
    _, out = tried()
    said = "PatientBirthDate — ← nothing usable in PID-7 '1961': → date is nothing ihe-orders.yaml:"
    assert said in out
    assert re.search(r"warning: PID-7 .* ihe-orders.yaml:\d+\n", out)


def test_what_the_worklist_makes_is_announced_and_marked(tried: Tried) -> None:
    _, out = tried()
    assert re.search(r"RequestedProcedureID — .*so the worklist makes it of the accession", out)
    assert re.search(r">ScheduledProcedureStepID — .*the worklist makes it of the procedure", out)
    assert "RequestedProcedureID ACC1 ← made by the worklist of the accession number" in out
    assert re.search(r"StudyInstanceUID 2\.25\.\d+ ← made by the worklist of issuer", out)


def test_files_are_named_in_one_way(tried: Tried) -> None:
    _, out = tried()
    assert "/site.yaml" not in out
    assert "/ihe-orders.yaml" not in out


def test_a_message_that_would_wait_for_its_code_is_no_refusal(tried: Tried) -> None:
    """The broker answers AA and keeps it; it is on no list."""
    code, out = tried(modality="QQ")
    assert code == 0
    assert "held: the message is accepted and kept, but is on no list" in out
    assert "table 'modality' has no 'QQ'" in out
    assert "refused" not in out
    assert "a scanner that asks for everything reads nothing of it" in out
    assert "the sender is answered AA" in out


def test_a_refused_message_shows_what_was_read_until_then(tried: Tried) -> None:
    code, out = tried("  AccessionNumber: {from: OBR-19, required: schedule}")
    assert code == 1
    assert "read until then" in out
    assert "PatientName Doe^Jane ← PID-5 'Doe^Jane' → person 'Doe^Jane'" in out


@pytest.mark.peer("redis-server")
@pytest.mark.parametrize(
    "name",
    ["orm-231-schedule", "orm-no-accession", "omi-251-two-steps", "adt-a08-nulls", "jahis-omg-25"],
)
def test_the_answer_is_the_brokers_own_byte_for_byte(
    name: str,
    tmp_path: Path,
    server: EmbeddedServer,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for the moment and our own control ID; in the zone of the site."""
    monkeypatch.setenv("BROKER_TIMEZONE", "Europe/Berlin")
    monkeypatch.setenv("BROKER_DATA", str(tmp_path / "data"))
    path = EXAMPLES / f"{name}.hl7"
    run_command(["map", "try", str(path), "--json", "--mappings", str(shipped_mappings())])
    tried = json.loads(capsys.readouterr().out)["answers"]
    assert not store.redis.dbsize()
    answered = asyncio.run(_answered(server.url, path.read_bytes().replace(b"\n", b"\r")))
    assert [_timeless(each.encode()) for each in tried] == list(map(_timeless, answered))


async def _answered(url: str, raw: bytes) -> list[bytes]:
    zone = ZoneInfo("Europe/Berlin")
    settings = Settings(redis=Redis(mode="url", url=url), timezone=zone)
    store = AsyncStore(url)
    try:
        current = Current(settings, compiled(settings.mappings))
        answered = await intake_of(settings, store, current, OrdersMetrics()).accept(raw)
    finally:
        await store.close()
    assert answered is not None
    return answered


def _timeless(payload: bytes) -> list[bytes]:
    lines = payload.rstrip(b"\r").split(b"\r")
    header = lines[0].split(b"|")
    assert datetime.strptime(header[6].decode(), "%Y%m%d%H%M%S%z")
    header[6] = header[6][-5:]
    header[9] = b""
    return [b"|".join(header), *lines[1:]]
