"""Who asked, who received what: over the wire, and read by the commands that explain it."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from broker.cli import asking, run_command
from broker.probe.address import Unreachable
from broker.probe.orders import Order, Step, orm_o01
from broker.probe.scanner import STEP, QueryFailed, Scanner, new_uid, to_dataset, worklist_keys
from broker.probe.styles import VERIFICATION, Manner
from broker.settings import Settings
from broker.store import keys, sightings
from broker.store.indexes import STEP_MARK
from tests.doors.actors import CONFIG, Broker, accepted, new_order, until
from tests.doors.commands import typed

pytestmark = pytest.mark.peer("redis-server")

AES = """\
  aes:
    - {title: CT1, aliases: [CT1_OLD], own_station: true}
    - {title: US1, modalities: [US], past_days: 100000}
    - {title: FEW, max_answers: 1, stations: [FULL]}
    - {title: CUT, max_answers: 1, over_limit: cut, stations: [FULL]}
    - {title: FAR, addresses: [10.99.0.1], own_station: true}
    - {title: FARTHER, addresses: [10.99.0.1], own_station: true}
"""
DICOM = "dicom: {listen: '127.0.0.1:0', limits: {pdu_deadline: 1s, association_deadline: 5s}}\n"
WITH_AES = CONFIG.replace(DICOM, f"dicom:\n  listen: '127.0.0.1:0'\n  unknown_ae: accept\n{AES}")
DOC = (Path(__file__).parents[2] / "docs" / "explaining.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh explained\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
Run = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """One broker with a directory of AEs; every test brings orders and titles of its own."""
    assert WITH_AES != CONFIG
    with Broker(WITH_AES).started() as running:
        yield running


@pytest.fixture
def run(broker: Broker, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the broker's configuration; gives its exit code and its JSON."""

    def run_json(*words: str) -> tuple[int, Any]:
        ours = ["--config", str(broker.folder / "broker.yaml")] if words[0] != "find" else []
        code, said, wrong = typed(capsys, *words, "--json", *ours)
        while code == os.EX_TEMPFAIL:  # the store did not answer in time: it says "try later"
            code, said, wrong = typed(capsys, *words, "--json", *ours)
        assert said, wrong
        return code, json.loads(said)

    return run_json


def scanner(broker: Broker, title: str) -> Scanner:
    return Scanner(broker.dicom, calling=title)


def ask(broker: Broker, title: str, *queries: dict[str, str]) -> None:
    """Ask, and wait until the door has written that it was asked last."""
    for asked in queries:
        began = time.time()
        scanner(broker, title).find(worklist_keys(**asked))
    until(lambda: any(q.at >= began for q in broker.store.run(sightings.last_asked(title))))


def listed(run: Run, title: str) -> dict[str, Any]:
    _, found = run("ae", "list")
    return next(ae for ae in found["aes"] if ae["title"] == title)


def test_an_ae_that_asks_is_listed_with_how_often_and_how_much_in_vain(
    broker: Broker, run: Run
) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    before = time.time()
    ask(broker, "ASKS", {"accession": order.accession}, {"accession": "-"}, {"accession": "-"})
    ae = listed(run, "ASKS")
    assert before - 1 <= ae["last_query"] <= time.time()
    assert ae["last_seen"] >= ae["last_query"]
    assert (ae["queries"], ae["queries_per_hour"], ae["zero_result_streak"]) == (3, 3, 2)
    assert (ae["address"], ae["called"], ae["in_directory"]) == ("127.0.0.1", "BROKER", False)
    ask(broker, "ASKS", {"accession": order.accession})
    assert listed(run, "ASKS")["zero_result_streak"] == 0


def test_an_ae_is_listed_by_its_title_whichever_alias_it_uses(broker: Broker, run: Run) -> None:
    scanner(broker, "CT1_OLD").find(worklist_keys(accession="NONE"))
    until(lambda: listed(run, "CT1")["queries"] > 0)
    _, found = run("ae", "list")
    assert "CT1_OLD" not in {ae["title"] for ae in found["aes"]}
    assert listed(run, "CT1")["in_directory"]


def test_an_ae_that_has_never_called_is_listed_when_the_directory_names_it(run: Run) -> None:
    ae = listed(run, "FAR")
    assert (ae["in_directory"], ae["last_seen"], ae["queries"]) == (True, None, 0)


def test_an_echo_is_a_sign_of_life_and_no_query(broker: Broker, run: Run) -> None:
    scanner(broker, "ECHOES").echo()
    _, found = until(
        lambda: (f := run("ae", "list")) and any(a["title"] == "ECHOES" for a in f[1]["aes"]) and f
    )
    ae = next(ae for ae in found["aes"] if ae["title"] == "ECHOES")
    assert (ae["queries"], ae["last_query"]) == (0, None)


def test_a_rejected_peer_is_listed_with_its_titles_and_address(broker: Broker, run: Run) -> None:
    for _ in range(2):
        with pytest.raises(Unreachable):
            Scanner(broker.dicom, called="ANY", calling="FAR").echo()
    (peer,) = until(
        lambda: [p for p in run("ae", "list")[1]["rejected"] if p["calling"] == "FAR"][:1]
    )
    until(lambda: run("ae", "list")[1]["rejected"][0]["times"] == 2)
    assert (peer["called"], peer["address"]) == ("ANY", "127.0.0.1")
    assert peer["reason"]


def test_show_tells_when_each_ae_received_a_step(broker: Broker, run: Run) -> None:
    order = new_order(Step(step_id="SEEN"), Step(step_id="OTHER", station_ae="NOBODY"))
    accepted(broker.hl7, orm_o01(order))
    before = int(time.time())
    scanner(broker, "SEES1").find(worklist_keys(accession=order.accession, station_ae="CT1"))
    ask(broker, "SEES2", {"accession": order.accession})

    def received() -> dict[str, list[dict[str, Any]]]:
        _, (now,) = run("show", order.accession)
        return {step["id"]: step["received"] for step in now["procedures"][0]["steps"]}

    seen = until(lambda: (found := received())["OTHER"] and found)
    assert {each["aet"] for each in seen["SEEN"]} == {"SEES1", "SEES2"}
    assert [each["aet"] for each in seen["OTHER"]] == ["SEES2"]
    for each in seen["SEEN"]:
        assert before <= each["first"] <= each["last"] <= time.time() + 1


def test_no_line_of_the_log_and_no_metric_tells_whom_a_scanner_asked_for(broker: Broker) -> None:
    ask(broker, "PRIVATE", {"patient_name": "CANARY^SCANNER"})
    assert "CANARY" not in broker.log()
    (query,) = broker.store.run(sightings.last_asked("PRIVATE"))
    assert b"CANARY" in query.identifier
    names = [key for key in broker.store.redis.keys("*asked:*")]
    assert all(broker.store.redis.ttl(name) > 0 for name in names)


def entry(broker: Broker, *steps: Step, **changes: Any) -> Order:
    """An order that the broker has taken."""
    order = new_order(*steps, **changes)
    accepted(broker.hl7, orm_o01(order))
    return order


def at(hour: int) -> datetime:
    return datetime(2026, 3, 16, hour)  # noqa: DTZ001 - a RIS writes local time


def query_file(folder: Path, **asked: str) -> str:
    """A query as a DICOM file, as a tool of the vendor writes it."""
    path = folder / "query.dcm"
    to_dataset(worklist_keys(**asked)).save_as(path, implicit_vr=True, little_endian=True)
    return str(path)


def test_why_names_when_and_as_which_response_an_entry_was_returned(
    broker: Broker, run: Run
) -> None:
    station = "WHY1"
    first = entry(broker, Step(station_ae=station), start=at(8))
    second = entry(broker, Step(station_ae=station), start=at(9))
    before = int(time.time())
    ask(broker, "WHYS", {"station_ae": station})
    for place, order in enumerate((first, second), start=1):
        code, found = run("why", order.accession, "--aet", "WHYS")
        (step,) = found["steps"]
        assert code == 0
        assert before <= step["returned"].pop("at") <= time.time()
        assert step["returned"] == {"response": place, "of": 2}
        assert [key["matches"] for key in step["keys"]] == [True]
        assert step["reasons"] == []


def test_why_names_each_key_that_does_not_match_with_both_values(broker: Broker, run: Run) -> None:
    order = entry(broker, Step(station_ae="THERE", modality="MR"))
    ask(broker, "KEYS", {"station_ae": "HERE", "modality": "MR", "date": "20260317"})
    code, found = run("why", order.accession, "--aet", "KEYS")
    (step,) = found["steps"]
    assert (code, step["on_list"], step["now"]) == (1, False, None)
    verdicts = {key["keyword"]: (key["asked"], key["held"], key["matches"]) for key in step["keys"]}
    assert verdicts == {
        "Modality": ("MR", "MR", True),
        "ScheduledStationAETitle": ("HERE", "THERE", False),
        "ScheduledProcedureStepStartDate": ("20260317", "20260316", False),
    }
    assert len(step["reasons"]) == 2


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            {"station_ae": "there"},
            "asked there, has THERE (only small letters for capitals; `upper",
        ),
        ({"accession": "{}"}, "(only small letters for capitals)"),
        ({"date": "20260318-20260315"}, "(the period ends before it begins)"),
        ({"station_ae": "THEIR"}, "asked THEIR, has THERE"),
    ],
)
def test_why_names_a_difference_that_is_easily_overlooked(
    broker: Broker, run: Run, tmp_path: Path, asked: dict[str, str], told: str
) -> None:
    order = entry(broker, Step(station_ae="THERE"))
    keys = {name: value.format(order.accession.lower()) for name, value in asked.items()}
    query = query_file(tmp_path, **keys)
    _, found = run("why", order.accession, "--aet", "SLIPS", "--query", query)
    [reason] = found["steps"][0]["reasons"]
    assert reason.endswith(told) or f"{told}_keys` of its AE reads it so)" in reason


def test_why_reads_the_query_and_its_answer_at_one_moment(
    broker: Broker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scanner that asks again meanwhile: its new answer is not told of its former query."""
    order = entry(broker, Step(station_ae="MOMENT"))
    ask(broker, "MOMENTS", {"station_ae": "MOMENT"})
    put = asking.put

    def interrupted(settings: Settings, question: asking.Question) -> asking.Got:
        began = time.time()
        scanner(broker, "MOMENTS").find(worklist_keys(accession="SOMETHING-ELSE"))
        until(lambda: any(q.at >= began for q in broker.store.run(sightings.last_asked("MOMENTS"))))
        return put(settings, question)

    monkeypatch.setattr(asking, "put", interrupted)
    code, found = run("why", order.accession, "--aet", "MOMENTS")
    assert (code, found["query"]["answers"], found["steps"][0]["on_list"]) == (0, 1, True)


def test_why_reads_a_period_of_date_and_time_as_one_key(
    broker: Broker, run: Run, tmp_path: Path
) -> None:
    """From 20:00 to 10:00 of the next day holds 9:30, which is in neither range alone."""
    order = entry(broker)
    asked = worklist_keys(accession=order.accession, date="20260315-20260316")
    asked[STEP][0]["ScheduledProcedureStepStartTime"] = "2000-1000"
    scanner(broker, "PERIOD").find(asked)
    until(lambda: broker.store.run(sightings.last_asked("PERIOD")))
    code, found = run("why", order.accession, "--aet", "PERIOD")
    assert code == 0
    assert all(key["matches"] for key in found["steps"][0]["keys"])


def test_why_names_the_rule_that_hides_an_entry(broker: Broker, run: Run) -> None:
    order = entry(broker, Step(station_ae="OTHER"))
    code, found = run("why", order.accession, "--aet", "CT1")
    (step,) = found["steps"]
    assert (code, found["in_directory"]) == (1, True)
    assert step["hidden"]["rule"] == "own station"
    assert step["hidden"]["held"] == ["OTHER"]
    code, found = run("why", order.accession, "--aet", "US1")
    assert found["steps"][0]["hidden"]["rule"] == "modality"


def test_why_says_that_a_step_has_begun(broker: Broker, run: Run) -> None:
    order = entry(broker)
    (item,) = broker.scanner.find(worklist_keys(accession=order.accession, station_ae="CT1"))
    assert not broker.scanner.mpps_start(item, uid=new_uid(), now=at(9))
    _, found = run("why", order.accession, "--aet", "STATUS")
    assert found["steps"][0]["hidden"]["rule"] == "status"
    assert found["steps"][0]["hidden"]["held"] == ["STARTED"]


def test_why_tells_what_was_on_the_last_list_and_would_be_on_none_now(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    order = entry(broker)
    ask(broker, "BEGINS", {"accession": order.accession})
    (item,) = broker.scanner.find(worklist_keys(accession=order.accession))
    why = ["why", order.accession, "--aet", "BEGINS", "--config"]
    assert run_command([*why, str(broker.folder / "broker.yaml")]) == 0
    head, step, *_ = capsys.readouterr().out.splitlines()
    assert head.endswith(": 0000, 1 answer")
    assert step.endswith(", response 1 of 1")
    assert not broker.scanner.mpps_start(item, uid=new_uid(), now=at(9))
    assert run_command([*why, str(broker.folder / "broker.yaml")]) == 0
    _, step, *rest = capsys.readouterr().out.splitlines()
    assert step.endswith(", response 1 of 1, not on the list any more")
    assert rest[-1] == "  ! hidden by the rule 'status': its status STARTED is hidden"


def test_why_takes_a_query_from_a_file(broker: Broker, run: Run, tmp_path: Path) -> None:
    """And says what the door would answer: nothing is noted of it."""
    order = entry(broker)
    asked = ["--aet", "FILES", "--query"]
    code, found = run("why", order.accession, *asked, query_file(tmp_path, modality="CT"))
    assert code == 0
    assert found["steps"][0]["now"]["response"] >= 1
    code, found = run("why", order.accession, *asked, query_file(tmp_path, modality="MG"))
    assert code == 1
    assert found["steps"][0]["reasons"] == ["Modality: asked MG, has CT"]
    assert broker.store.run(sightings.last_asked("FILES")) == []


def test_an_entry_that_came_after_the_query_is_told_from_one_that_does_not_match(
    broker: Broker, run: Run
) -> None:
    ask(broker, "EARLY", {"station_ae": "LATE1"})
    order = entry(broker, Step(station_ae="LATE1"))
    code, found = run("why", order.accession, "--aet", "EARLY")
    (step,) = found["steps"]
    assert (code, step["on_list"], step["returned"]) == (1, False, None)
    assert step["now"] == {"response": 1, "of": 1}
    assert step["reasons"] == []


def test_why_says_that_a_list_was_refused_or_cut(broker: Broker, run: Run) -> None:
    """A700 by default; an AE whose list is cut gets the first ones."""
    orders = [entry(broker, Step(station_ae="FULL"), start=at(hour)) for hour in (8, 9)]
    with pytest.raises(QueryFailed):
        ask(broker, "FEW", {"station_ae": "FULL"})
    until(lambda: broker.store.run(sightings.last_asked("FEW")))
    code, found = run("why", orders[0].accession, "--aet", "FEW")
    assert (code, found["query"]["status"]) == (1, "A700")
    assert "more than 1 answers" in found["steps"][0]["reasons"][0]
    ask(broker, "CUT", {"station_ae": "FULL"})
    assert run("why", orders[0].accession, "--aet", "CUT")[0] == 0
    code, found = run("why", orders[1].accession, "--aet", "CUT")
    assert (code, "beyond the limit" in found["steps"][0]["reasons"][0]) == (1, True)


def test_why_of_an_unknown_accession_number_or_a_file_that_is_none(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(broker.folder / "broker.yaml")]
    assert run_command(["why", "NONE", "--aet", "CT1", *config]) == 1
    assert "broker trace NONE" in capsys.readouterr().err
    order = entry(broker)
    (tmp_path / "empty.dcm").write_bytes(b"")
    for name in ("missing.dcm", "empty.dcm"):
        query = ["--query", str(tmp_path / name)]
        assert run_command(["why", order.accession, "--aet", "CT1", *query, *config]) == 2


def test_why_reads_as_lines_for_a_person(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    order = entry(broker, Step(step_id="READS", station_ae="THERE"))
    ask(broker, "READER", {"station_ae": "HERE", "modality": "CT"})
    config = ["--config", str(broker.folder / "broker.yaml")]
    assert run_command(["why", order.accession, "--aet", "READER", *config]) == 1
    head, step, *rest = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"READER, which dicom.aes does not name, as it asked last at \S+ \S+: 0000, 0 answers", head
    )
    assert step.startswith("step READS of ")
    assert step.endswith(f"{order.accession}, SCHEDULED: not on the list")
    assert sorted(rest) == [
        "    Modality: asked CT, has CT",
        "  ! ScheduledStationAETitle: asked HERE, has THERE",
    ]


@pytest.mark.parametrize("title", ["CT1_OLD", "ct1", " CT1 "])
def test_an_ae_is_explained_by_whatever_title_the_door_knows_it(
    broker: Broker, run: Run, title: str
) -> None:
    order = entry(broker, Step(station_ae="CT1"))
    began = time.time()
    scanner(broker, "CT1_OLD").find(worklist_keys(accession=order.accession))
    until(lambda: any(q.at >= began for q in broker.store.run(sightings.last_asked("CT1"))))
    code, found = run("why", order.accession, "--aet", title)
    assert (code, found["aet"], found["in_directory"]) == (0, "CT1", True)
    assert found["steps"][0]["returned"]["response"] == 1
    code, rows = run("list", "--aet", title)
    assert [row["accession"] for row in rows] == [order.accession]


def test_why_tells_how_an_association_was_rejected(
    broker: Broker, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    order = entry(broker, Step(station_ae="FARTHER"))
    with pytest.raises(Unreachable):
        Scanner(broker.dicom, called="WHY_NOT", calling="FARTHER").echo()
    until(lambda: run("why", order.accession, "--aet", "FARTHER")[1]["rejected"])
    config = ["--config", str(broker.folder / "broker.yaml")]
    assert run_command(["why", order.accession, "--aet", "FARTHER", *config]) == 0
    said = r"  ! rejected at \S+ \S+, when it called us as WHY_NOT from 127\.0\.0\.1: \S.+"
    assert re.fullmatch(said, capsys.readouterr().out.splitlines()[1])
    assert run("why", order.accession, "--aet", "CT1")[1]["rejected"] == []


def test_why_is_silent_of_a_rejection_before_the_last_query(broker: Broker, run: Run) -> None:
    order = entry(broker)
    ask(broker, "LATELY", {"accession": order.accession})
    [query] = broker.store.run(sightings.last_asked("LATELY"))
    peer = STEP_MARK.join(("LATELY", "WRONG", "127.0.0.1"))
    for last, told in ((query.at - 1, 0), (query.at + 1, 1)):
        noted = json.dumps({"first": last, "last": last, "times": 1, "reason": "called title"})
        broker.store.redis.hset(keys.REJECTED_AES, peer, noted)
        assert len(run("why", order.accession, "--aet", "LATELY")[1]["rejected"]) == told
    broker.store.redis.hdel(keys.REJECTED_AES, peer)


def test_an_ae_that_is_rejected_gets_nothing_and_is_told_so(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    order = entry(broker)
    strict = broker.folder / "strict.yaml"
    lenient = (broker.folder / "broker.yaml").read_text(encoding="utf-8")
    strict.write_text(lenient.replace("unknown_ae: accept", "unknown_ae: refuse"), encoding="utf-8")
    config = ["--config", str(strict)]
    assert run_command(["why", order.accession, "--aet", "STRANGER", *config]) == 1
    head, _, reason, *_ = capsys.readouterr().out.splitlines()
    assert head.endswith("it has not asked lately: its association is rejected")
    assert reason.startswith("  ! its association is rejected: dicom.aes does not name it")
    assert run_command(["list", "--aet", "STRANGER", *config]) == 1
    out, err = capsys.readouterr()
    assert (out, "dicom.unknown_ae is refuse" in err) == ("", True)


def test_the_list_of_an_ae_is_exactly_what_it_gets(
    broker: Broker, run: Run, tmp_path: Path
) -> None:
    """By its last query, by one of a file, by keys: the same answers in the same order."""
    for hour, station in ((10, "SAME"), (8, "SAME"), (9, "ELSE")):
        entry(broker, Step(station_ae=station), start=at(hour))
    asked = worklist_keys(station_ae="SAME")
    got = scanner(broker, "LISTED").find(asked)
    until(lambda: broker.store.run(sightings.last_asked("LISTED")))
    assert len(got) == 2
    for words in ([], ["--query", query_file(tmp_path, station_ae="SAME")], ["--station", "SAME"]):
        code, rows = run("list", "--aet", "LISTED", *words)
        assert code == 0
        assert [row["accession"] for row in rows] == [item["AccessionNumber"] for item in got]
        assert [row["answer"]["PatientName"] for row in rows] == [i["PatientName"] for i in got]
    assert run("list", "--aet", "CT1", "--station", "SAME") == (1, [])
    assert listed(run, "LISTED")["queries"] == 1


def test_steps_that_no_known_ae_can_get_are_listed_counted_and_logged(
    broker: Broker, run: Run
) -> None:
    """A mistyped station: nobody asks for it, and the scanner that is meant is the nearest."""
    ask(broker, "BARRIER", {"accession": "-"})  # what others have asked before is written by then
    broker.store.redis.delete(keys.AES, keys.AES_BY_TIME)  # only this test's scanners are known
    ask(broker, "ROOM9", {"station_ae": "ROOM9", "modality": "CT"})
    ask(broker, "ROOM9", {"accession": "NONE"})  # asking for one patient is no list
    ask(broker, "MR9", {"modality": "MR"})
    lost = entry(broker, Step(step_id="LOST", station_ae="ROOM_9", modality="CT"))
    seen = entry(broker, Step(station_ae="ROOM9", modality="CT"))
    code, rows = run("list", "--invisible")
    (row,) = [row for row in rows if row["accession"] == lost.accession]
    assert code == 0
    assert (row["step"], row["nearest"], row["reason"]) == ("LOST", "ROOM9", "station")
    assert row["why"] == "its station is ROOM_9, and this AE asks for ROOM9"
    assert seen.accession not in {row["accession"] for row in rows}
    until(lambda: broker.metric("broker_updates_invisible_steps", reason="station") >= 1)
    assert run("status")[1]["worklist"]["invisible"] >= 1
    lines = [line for line in broker.log().splitlines() if "on nobody's list" in line]
    assert json.loads(lines[-1])["level"] == "warning"
    assert lost.patient.name not in "".join(lines)
    ask(broker, "ANYBODY", {})
    assert run("list", "--invisible") == (1, [])


def test_invisible_is_a_list_by_itself(broker: Broker) -> None:
    config = ["--config", str(broker.folder / "broker.yaml")]
    assert run_command(["list", "--invisible", "--aet", "CT1", *config]) == 2
    assert run_command(["list", "--query", "x.dcm", *config]) == 2


def test_every_style_of_asking_gets_the_entry_that_it_is_meant_to_get(
    broker: Broker, run: Run
) -> None:
    """An entry in the room of the one who asks, which no style may miss."""
    order = entry(broker, Step(station_ae="STYLED", modality="DX"), start=at(9))
    who = ["--accession", order.accession, "--patient-id", order.patient.patient_id]
    asked = ["--calling", "STYLED", "--modality", "DX", "--date", "20260316", *who]
    code, found = run("find", "--to", str(broker.dicom), *asked, "--style", "each")
    assert code == 0
    got = {each["style"]: {item.get("AccessionNumber") for item in each["items"]} for each in found}
    assert len(got) > 12
    assert {name for name, accessions in got.items() if order.accession not in accessions} == set()
    assert {each["problem"] for each in found} == {""}


def test_a_style_negotiates_as_it_says_and_stops_when_its_list_is_full(broker: Broker) -> None:
    """A C-CANCEL after the second answer is no failure, and what came before it is kept."""
    for _ in range(5):
        entry(broker, Step(station_ae="STOPS"))
    manner = Manner(beside=(VERIFICATION,), max_pdu=4096, stops_at=2)
    full = Scanner(broker.dicom, calling="STOPS", manner=manner)
    found = full.find(worklist_keys(station_ae="STOPS"))
    assert len(found) == 2


def test_styles_are_listed_and_one_that_is_none_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["find", "--styles"]) == 0
    assert capsys.readouterr().out.startswith("present-day\t")
    assert run_command(["find", "--style", "none", "--to", "127.0.0.1:1"]) == 2
    assert run_command(["find"]) == 2
    assert run_command(["find", "--to", "127.0.0.1:1"]) == 69


def test_the_commands_of_the_documentation_work(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry(broker, accession="A1001")
    ask(broker, "CT1", {"station_ae": "CT1"})
    monkeypatch.setenv("BROKER_CONFIG", str(broker.folder / "broker.yaml"))
    lines = [line for block in BLOCKS for line in block.splitlines()]
    assert lines
    for line in lines:
        program, *words = shlex.split(line.replace("127.0.0.1:11112", str(broker.dicom)))
        assert program == ".venv/bin/broker"
        assert run_command(words) == 0, (line, capsys.readouterr())
