"""`broker outbox` and `broker dead`: what waits, what was refused, and what people do about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.probe.ris import Answer, Sink
from broker.rollout.deploying import deploy_bundle
from broker.settings import Settings, shipped_mappings
from broker.store import archive, dead, outbox
from broker.store.executors import Store
from broker.store.server import EmbeddedServer
from tests.doors.commands import typed
from tests.store.sending import refused, take
from tests.updates.actors import Job, Reports, control_ids, ris

pytestmark = pytest.mark.peer("redis-server")
Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def mappings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One mapping: reading all that ship takes seconds."""
    folder = tmp_path_factory.mktemp("mappings")
    shutil.copy(shipped_mappings() / "status-orm.yaml", folder)
    return folder


@pytest.fixture
def broker(
    server: EmbeddedServer,
    store: Store,
    mappings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs `broker …` on the test's store: exit code, and what was printed."""
    monkeypatch.setenv("BROKER_REDIS__URL", server.url)
    monkeypatch.setenv("BROKER_MAPPINGS", str(mappings))
    monkeypatch.setenv("BROKER_TIMEZONE", "Europe/Berlin")
    names = "[{name: ris, to: '127.0.0.1:1'}, {name: south, to: '127.0.0.1:1'}]"
    monkeypatch.setenv("BROKER_RIS", names)

    def run(*arguments: str) -> tuple[int, str]:
        code, said, complained = typed(capsys, *arguments)
        return code, said + complained

    return run


@pytest.fixture
def as_json(broker: Command) -> Callable[..., tuple[int, Any]]:
    def run(*arguments: str) -> tuple[int, Any]:
        code, printed = broker(*arguments, "--json")
        return code, json.loads(printed)

    return run


def refuse(sink: Sink, drain: Job, how: Answer = Answer.AE, **settings: Any) -> None:
    """Let the RIS refuse what waits first."""
    sink.answer_next(how)
    drain(ris(sink, **settings), backoff_s=(60,))()


# --- broker outbox


def test_an_empty_outbox_is_no_finding(broker: Command) -> None:
    assert broker("outbox") == (0, "ris: 0 orders wait\nsouth: 0 orders wait\n")


def test_what_waits_is_listed_by_destination_and_order_without_patient_data(
    broker: Command, as_json: Any, report: Reports, store: Store
) -> None:
    ids = report("NORTH|A1", how_many=2)
    report("NORTH|A2", "south")
    code, (here, there) = as_json("outbox", "list")
    assert code == 0
    assert (here["to"], here["orders"], there["orders"]) == ("ris", 1, 1)
    [order] = here["waiting"]
    assert (order["order"], order["attempts"], order["cause"]) == ("NORTH|A1", 0, "")
    assert [each["id"] for each in order["messages"]] == ids
    assert "Müller" not in broker("outbox", "list")[1]
    take(store, "worker", order="NORTH|A1", ris="ris")
    [order] = as_json("outbox", "list", "--to", "ris")[1][0]["waiting"]
    assert (order["attempts"], order["in_flight"]) == (1, True)
    assert "on its way" in broker("outbox", "list")[1]
    code, [only] = as_json("outbox", "list", "--to", "south")
    assert only["to"] == "south"


def test_a_message_that_waits_is_shown_whole(
    broker: Command, as_json: Any, report: Reports
) -> None:
    [id] = report()
    code, shown = as_json("outbox", "show", id)
    assert (code, shown["to"], shown["status"]) == (0, "ris", "COMPLETED")
    assert "\nPID|||P1||Müller^Jörg\n" in shown["message"]
    assert "Müller" in broker("outbox", "show", id)[1]
    assert broker("outbox", "show", "NONE")[0] == 1


def test_why_an_order_waits_and_when_it_is_tried_again_is_listed(
    broker: Command, as_json: Any, report: Reports, drain: Job, sink: Sink, store: Store
) -> None:
    report()
    refuse(sink, drain, Answer.AR)
    _, [here, _] = as_json("outbox", "list")
    [order] = here["waiting"]
    assert (order["attempts"], order["cause"]) == (1, "AR")
    assert store.run(outbox.dirty("ris", now_ms=now_ms(), limit=9)) == []
    assert as_json("outbox", "retry", "--dry-run") == (0, {"ris": 1, "south": 0})
    assert as_json("outbox", "retry", "--order", "ELSE") == (0, {"ris": 0, "south": 0})
    assert broker("outbox", "retry", "--to", "ris") == (0, "ris: 1 orders are tried now\n")
    assert store.run(outbox.dirty("ris", now_ms=now_ms(), limit=9)) == ["H|A1"]


def now_ms() -> int:
    import time

    return int(time.time() * 1000)


def test_a_message_that_waits_is_dropped_with_a_reason_on_record(
    broker: Command, as_json: Any, report: Reports, store: Store
) -> None:
    first, second = report(how_many=2)
    assert broker("outbox", "drop", first)[0] == 2
    code, told = as_json("outbox", "drop", first, "--dry-run")
    assert (code, told["order"]) == (0, "H|A1")
    assert len(store.run(outbox.events("ris", "H|A1"))) == 2
    assert broker("outbox", "drop", first, "--reason", "typed by mistake")[0] == 0
    assert [each.control_id for each in store.run(outbox.events("ris", "H|A1"))] == [second]
    [noted] = store.run(archive.newest(1))
    assert (noted.message_type, noted.cause) == ("outbox drop", "typed by mistake")
    assert noted.raw.decode().endswith(first)
    assert broker("outbox", "drop", first, "--reason", "again")[0] == 1


def test_a_message_that_is_being_sent_is_not_dropped(
    broker: Command, report: Reports, store: Store
) -> None:
    [id] = report()
    take(store, "worker", order="H|A1", ris="ris")
    assert broker("outbox", "drop", id, "--reason", "x")[0] == 75


def test_a_pause_is_said_everywhere_and_lasts_till_resume(
    broker: Command, as_json: Any, report: Reports, drain: Job, sink: Sink
) -> None:
    [sent] = report()
    assert broker("outbox", "pause", "ris", "--dry-run") == (0, "ris would be paused\n")
    assert broker("outbox", "pause", "ris", "--reason", "RIS moves house")[0] == 0
    assert broker("outbox", "pause", "ris")[0] == 1
    drain(ris(sink))()
    assert control_ids(sink) == []
    code, (here, there) = as_json("outbox", "list")
    assert (code, here["paused"]["reason"], there["paused"]) == (1, "RIS moves house", None)
    code, printed = broker("outbox")
    assert (code, "! paused since" in printed, "RIS moves house" in printed) == (1, True, True)
    assert "! ris is paused since" in broker("status")[1]
    assert list(as_json("status")[1]["updates"]["paused"]) == ["ris"]
    assert as_json("outbox", "resume", "ris") == (
        0,
        {"to": "ris", "outcome": "is resumed", "changed": True},
    )
    assert broker("outbox", "resume", "ris")[0] == 1
    drain(ris(sink))()
    assert control_ids(sink) == [sent]
    assert broker("outbox")[0] == 0


def test_what_waits_for_a_ris_that_the_configuration_names_no_more_is_listed_and_dropped(
    broker: Command, as_json: Any, report: Reports
) -> None:
    [id] = report("H|A1", "former")
    code, (_, _, former) = as_json("outbox", "list")
    assert (code, former["to"], former["configured"]) == (1, "former", False)
    assert "names it no more" in broker("outbox")[1]
    assert broker("outbox", "drop", id, "--reason", "it is gone")[0] == 0
    assert broker("outbox")[0] == 0


def test_a_destination_that_is_not_configured_is_none(broker: Command) -> None:
    code, printed = broker("outbox", "pause", "riz")
    assert code == 1
    assert "'riz' is no destination of the configuration; did you mean" in printed


# --- broker dead


def test_refusals_are_grouped_by_destination_and_cause_without_what_they_quote_of_a_patient(
    broker: Command, as_json: Any, report: Reports, store: Store
) -> None:
    for number, words in enumerate(("Müller P1 unknown", "Müller P1 unknown", "no order 4711")):
        [id] = report(f"H|A{number}")
        refused(store, f"H|A{number}", id, ris="ris", words=words)
    code, groups = as_json("dead", "list")
    assert code == 1
    assert {(each["kind"], each["code"], each["cause"], each["messages"]) for each in groups} == {
        ("status", "AE 204", "ris: … … unknown", 2),
        ("status", "AE 204", "ris: no order …", 1),
    }
    assert "Müller" not in broker("dead", "list")[1]
    code, letters = as_json("dead", "show", groups[0]["group"])
    assert [each["order"] for each in letters] == ["H|A0", "H|A1"]
    assert "Müller" not in json.dumps(letters, ensure_ascii=False)
    code, letter = as_json("dead", "show", letters[0]["id"])
    assert (letter["words"], letter["status"]) == ("Müller P1 unknown", "COMPLETED")
    assert "PID|||P1||Müller^Jörg" in letter["message"]
    assert "Müller P1 unknown" in broker("dead", "show", letters[0]["id"])[1]


def test_a_refused_message_is_sent_again_as_it_was(
    broker: Command, as_json: Any, report: Reports, drain: Job, sink: Sink, store: Store
) -> None:
    [sent] = report()
    refuse(sink, drain)
    code, [would] = as_json("dead", "replay", sent, "--dry-run")
    assert (code, would["outcome"], would["control_id"]) == (0, "queued", sent)
    assert store.run(outbox.pending("ris")) == 0
    assert broker("dead", "replay", sent) == (0, f"{sent}  queued  ris\n")
    assert broker("dead", "list")[0] == 0
    drain(ris(sink))()
    assert control_ids(sink) == [sent, sent]
    assert sink.received[0].payload == sink.received[1].payload


def test_replay_without_a_name_sends_nothing(
    broker: Command, report: Reports, drain: Job, sink: Sink, store: Store
) -> None:
    report()
    refuse(sink, drain)
    assert broker("dead", "replay")[0] == 1
    assert store.run(dead.count()) == 1


def test_all_that_a_ris_refused_is_sent_again_in_bulk_and_in_order(
    broker: Command, as_json: Any, report: Reports, drain: Job, sink: Sink
) -> None:
    sent = {f"H|A{n}": report(f"H|A{n}", how_many=3) for n in range(20)}
    sink.answer = Answer.AE
    drain(ris(sink), drain_s=30)()
    sink.answer = Answer.AA
    sink.received.clear()
    code, queued = as_json("dead", "replay", "--to", "ris")
    assert (code, len(queued)) == (0, 60)
    drain(ris(sink), drain_s=30)()
    got = control_ids(sink)
    assert {order: [id for id in got if id in ids] for order, ids in sent.items()} == sent
    assert as_json("dead", "list") == (0, [])


def test_what_was_overtaken_is_not_sent_in_bulk(
    broker: Command, as_json: Any, report: Reports, drain: Job, sink: Sink, store: Store
) -> None:
    """The RIS knows that the exam is over; to hear once more that it begins would mislead it."""
    first, second = report(how_many=2)
    refuse(sink, drain)
    assert control_ids(sink) == [first, second]
    code, [group] = as_json("dead", "list")
    assert (code, group["kind"], group["sample"]) == (0, "overtaken", first)
    assert as_json("dead", "replay", "--to", "ris")[0] == 1
    assert store.run(outbox.pending("ris")) == 0
    assert as_json("dead", "show", first)[1]["overtaken"] == second
    assert broker("dead", "replay", group["group"])[0] == 0
    assert store.run(outbox.pending("ris")) == 1


def test_a_held_order_goes_on_when_its_letter_is_sent_again(
    broker: Command, as_json: Any, report: Reports, drain: Job, sink: Sink
) -> None:
    first, second = report(how_many=2)
    refuse(sink, drain, on_reject="hold")
    code, [group] = as_json("dead", "list")
    assert (code, group["holds"]) == (1, 1)
    code, [here, _] = as_json("outbox", "list")
    [waiting] = here["waiting"]
    assert (code, here["held"], waiting["next"]) == (1, 1, None)
    assert "see `broker dead`" in waiting["cause"]
    assert "! ris: 1 orders wait for a person" in broker("status")[1]
    assert broker("dead", "replay", first)[0] == 0
    drain(ris(sink, on_reject="hold"))()
    assert control_ids(sink) == [first, first, second]
    assert broker("outbox", "list")[0] == 0


def test_a_held_order_goes_on_when_its_letter_is_dropped(
    broker: Command, as_json: Any, report: Reports, drain: Job, sink: Sink, store: Store
) -> None:
    first, second = report(how_many=2)
    refuse(sink, drain, on_reject="hold")
    assert broker("dead", "drop", first, "--dry-run") == (0, "1 would be dropped\n")
    assert broker("dead", "drop", first, "--reason", "the RIS has it from elsewhere")[0] == 0
    drain(ris(sink, on_reject="hold"))()
    assert control_ids(sink) == [first, second]
    [noted] = store.run(archive.newest(1))
    assert (noted.message_type, noted.cause) == ("outbox drop", "the RIS has it from elsewhere")


def test_a_letter_is_made_anew_by_the_mapping_in_force_with_a_new_control_id(
    broker: Command,
    as_json: Any,
    report: Reports,
    drain: Job,
    sink: Sink,
    store: Store,
    server: EmbeddedServer,
    mappings: Path,
    tmp_path: Path,
) -> None:
    [sent] = report()
    refuse(sink, drain)
    mended = tmp_path / "mended"
    shutil.copytree(mappings, mended)
    file = mended / "status-orm.yaml"
    file.write_text(file.read_text().replace("MSH-3: {const: BROKER}", "MSH-3: {const: GATE}"))
    said = {"redis": {"mode": "url", "url": server.url}, "mappings": str(mended)}
    settings = Settings.model_validate({**said, "ris": [{"name": "ris", "to": "127.0.0.1:1"}]})
    deployed, _ = deploy_bundle(store, settings, by="test", at=1.0)
    code, [would] = as_json("dead", "replay", sent, "--remap", "--dry-run")
    assert (code, would["outcome"]) == (0, "queued")
    assert would["message"].startswith("MSH|^~\\&|GATE|")
    assert "PID|||||Müller^Jörg\r" in would["message"]
    assert store.run(dead.ids()) == [sent]
    code, [done] = as_json("dead", "replay", sent, "--remap")
    assert done["control_id"] not in ("", sent)
    assert done["mapping"] == f"status-orm@{deployed.active.short}"
    assert "message" not in done
    drain(ris(sink))()
    again = sink.received[-1]
    assert (again.field("MSH", 3), again.field("MSH", 10)) == ("GATE", done["control_id"])
    assert again.field("ORC", 9) == "20260316093000"
    assert store.run(dead.count()) == 0


def test_what_nobody_can_read_is_listed_and_can_be_dropped_only(
    broker: Command, as_json: Any, report: Reports, drain: Job, sink: Sink, store: Store
) -> None:
    report()
    store.redis.lset("{broker}:outbox:ris:H|A1", 0, "{broken")
    drain(ris(sink))()
    code, [group] = as_json("dead", "list")
    assert (code, group["kind"], group["code"]) == (1, "damaged", "unreadable")
    code, [told] = as_json("dead", "replay", group["sample"])
    assert (code, told["outcome"]) == (1, "cannot be sent")
    assert broker("dead", "drop", "--to", "ris") == (0, "1 dropped\n")
    assert store.run(dead.count()) == 0


def test_a_letter_that_is_not_there_is_said_so(broker: Command) -> None:
    assert broker("dead", "replay", "NONE")[0] == 1
    assert broker("dead", "replay", "--to", "NONE")[0] == 1
    assert broker("dead", "drop")[0] == 2
