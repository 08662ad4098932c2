"""`broker map`: each verb with real files and a real archive: lines, JSON and exit codes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from broker.cli import run_command
from broker.store.archive import Archived
from broker.store.commit import Commit, commit
from broker.store.executors import Store
from broker.store.server import EmbeddedServer, find_server

ROOT = Path(__file__).parents[2]
PLAIN = ROOT / "tests" / "mapping" / "plain"
CORPUS = PLAIN / "messages"
SCHEDULE = PLAIN / "examples" / "schedule.hl7"
AT = datetime(2026, 3, 16, 9, 30, tzinfo=UTC)
BIRTH_DATE = "  PatientBirthDate: PID-7 | date\n"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tests' own mapping as a site's."""
    folder = tmp_path / "site"
    shutil.copytree(PLAIN, folder)
    monkeypatch.setenv("BROKER_MAPPINGS", str(folder))
    monkeypatch.setenv("BROKER_DATA", str(tmp_path / "data"))
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], site: Path) -> Run:
    """Run `broker map …`; gives exit code, stdout and stderr."""

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        code = run_command(["map", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def unboxed(text: str) -> str:
    """The words of a usage mistake without the box around them."""
    return " ".join(text.replace("│", " ").split())


# test


def test_examples_are_run_and_listed(run: Run, site: Path) -> None:
    code, out, _ = run("test")
    assert code == 0
    assert any(line.startswith("pass  plain: examples/no-accession") for line in out.split("\n"))
    assert out.rstrip().endswith("0 failed")


def test_a_failing_example_is_told_by_attribute_and_reported(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """Exit code 1, for people, as JSON and as JUnit's XML."""
    replaced(site / "plain.yaml", "AccessionNumber: ACC1 ", "AccessionNumber: ACC2 ")
    code, out, _ = run("test", site / "plain.yaml", "--junit", tmp_path / "report.xml")
    assert code == 1
    assert "AccessionNumber: 'ACC1', expected 'ACC2'" in out
    assert out.count("FAIL") == 1
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert suite.get("failures") == "1"
    (failure,) = suite.iter("failure")
    assert "AccessionNumber" in str(failure.get("message"))
    code, out, _ = run("test", "--json")
    (failed,) = [each for each in json.loads(out)["examples"] if not each["passed"]]
    (difference,) = failed["differences"]
    assert (difference["what"], difference["found"]) == ("AccessionNumber", "ACC1")
    assert difference["place"].startswith(str(site / "plain.yaml"))


def test_an_update_shows_what_it_wrote_and_the_examples_pass(run: Run, site: Path) -> None:
    path = site / "plain.yaml"
    before = path.read_bytes()
    replaced(path, "AccessionNumber: ACC1 ", "AccessionNumber: ACC2 ")
    code, out, _ = run("test", "--update")
    assert code == 0
    assert "-          AccessionNumber: ACC2 " in out
    assert "+          AccessionNumber: ACC1 " in out
    assert path.read_bytes() == before
    code, out, _ = run("test", "--update", "--json")
    assert json.loads(out)["updated"] == ""


def test_mappings_that_are_wrong_are_no_failed_tests(run: Run, site: Path) -> None:
    """Exit code 78 for every verb, with the place."""
    replaced(site / "plain.yaml", "PID-5 | person", "PID-5 | persn")
    for verb in (["test"], ["try", SCHEDULE], ["new", "--from", SCHEDULE]):
        code, _, err = run(*verb)
        assert code == 78
        assert "did you mean 'person'" in err
    for verb in (["diff", site], ["coverage"]):
        code, _, err = run(*verb, "--corpus", CORPUS)
        assert code == 78


# try


def test_trying_explains_steps_and_shows_what_scanner_and_sender_get(run: Run) -> None:
    code, out, _ = run("try", SCHEDULE, "--explain")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert any("← PID-8 'F' → lookup(sex) 'F' plain.yaml:" in line for line in lines)
    assert any("→ local '20260316100000' → date '20260316'" in line for line in lines)
    assert any("nothing usable in OBR-22" in line for line in lines)
    assert "a scanner that asks for everything reads 1 item" in lines
    assert "(0008,0050) AccessionNumber ACC1" in lines
    assert "(0040,0001) >ScheduledStationAETitle CT1" in lines
    assert "the sender is answered AA" in lines
    assert "MSA|AA|E1" in lines


def test_a_number_that_will_be_generated_is_announced(run: Run) -> None:
    sample = ROOT / "mappings" / "examples" / "referral-orm-24.hl7"
    _, out, _ = run("try", sample, "--mappings", ROOT / "mappings", "--explain")
    assert "AccessionNumber is made by REF-26-######" in out
    assert "(0008,0050) AccessionNumber  REF-26-000001" in out


def test_a_message_is_tried_as_if_it_came_to_a_port(run: Run, site: Path) -> None:
    (site / "port.yaml").write_text(
        "mapping: port\nextends: ihe-orders\naccept: {senders: ['*|*'], ports: [2576]}\n"
    )
    sample = ROOT / "mappings" / "examples" / "orm-231-schedule.hl7"
    _, out, err = run("try", sample, "--mappings", site, "--port", "2576")
    assert "mapping port (" in out
    assert not err
    _, out, err = run("try", sample, "--mappings", site)
    assert "mapping port (" not in out
    assert "without --port, mappings for a port are not asked: port (2576)" in err


EVENT = """\
{"PerformedProcedureStepStatus": "COMPLETED", "AccessionNumber": "A1", "RequestedProcedureID": "R1",
 "PatientID": "4711", "PatientName": "Größler^Änne", "StudyInstanceUID": "1.2.3"}
"""


def test_an_event_is_tried_as_the_message_that_a_ris_would_get(run: Run, tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(EVENT, encoding="utf-8")
    shipped = ("--mappings", ROOT / "mappings", "--outbound", "status-orm")
    code, out, _ = run("try", event, *shipped, "--explain")
    assert code == 0
    [line] = [each for each in out.splitlines() if each.startswith("  ORC-5 ")]
    assert re.fullmatch(
        r"  ORC-5 +CM  ← PerformedProcedureStepStatus \| lookup\(status\)   status-orm.yaml:\d+",
        line,
    )
    assert "  ZDS|1.2.3^BROKER^Application^DICOM" in out
    code, out, _ = run("try", event, *shipped, "--json")
    fields = {each["field"]: each["value"] for each in json.loads(out)["fields"]}
    assert (fields["ORC-1"], fields["OBR-18"], fields["ORC-2.1"]) == ("SC", "A1", "")


@pytest.mark.parametrize(
    ("text", "options", "fact"),
    [
        (EVENT, [], "an event needs a mapping"),
        (EVENT, ["--outbound", "status-ormm"], "did you mean 'status-orm'?"),
        ("{not JSON", ["--outbound", "status-orm"], "is not JSON"),
    ],
)
def test_an_event_that_cannot_be_tried_is_wrong_usage(
    run: Run, tmp_path: Path, text: str, options: list[str], fact: str
) -> None:
    event = tmp_path / "event.json"
    event.write_text(text, encoding="utf-8")
    code, _, err = run("try", event, "--mappings", ROOT / "mappings", *options)
    assert code == 2
    assert fact in " ".join(err.replace("│", " ").split())


def test_a_mapping_that_is_not_there_is_told_with_what_is(run: Run) -> None:
    code, _, err = run("show", "status-ormm")
    assert code == 2
    assert "there is no mapping 'status-ormm'; did you mean 'status-orm'?" in unboxed(err)
    assert "there are: " in run("show", "qqqqqq")[2]


def test_what_goes_out_is_shown_with_its_origins(run: Run, site: Path) -> None:
    path = site / "mine.yaml"
    path.write_text("mapping: mine\nextends: status-orm\nfields:\n  MSH-3: {const: MWL}\n")
    code, out, _ = run("show", path, "--effective")
    assert code == 0
    assert re.search(r"const: MWL +# mine.yaml:4", out)
    assert re.search(r"ORC-1: .*# status-orm.yaml:\d+", out)


def test_a_missed_lookup_is_a_step(run: Run) -> None:
    _, out, _ = run("try", CORPUS / "03-code.hl7", "--explain", "--json")
    (outcome,) = json.loads(out)["outcomes"]
    keyword = "ScheduledProcedureStepSequence/Modality"
    (origin,) = [each for each in outcome["origins"] if each["keyword"] == keyword]
    assert [(step["path"], step["call"], step["result"]) for step in origin["steps"]] == [
        ("OBR-24", "lookup(modality)", ""),
        ("OBR-4.1", "lookup(procedure)", "CR"),
    ]
    _, out, _ = run("try", CORPUS / "03-code.hl7", "--explain")
    assert "← OBR-24 'RAD' → lookup(modality) is in no row; OBR-4.1 'X1^CHEST^L' →" in out
    assert "→ lookup(procedure) 'CR'" in out


def test_trying_gives_programs_the_items_and_the_answers(run: Run) -> None:
    code, out, _ = run("try", SCHEDULE, "--json")
    tried = json.loads(out)
    assert code == 0
    (item,) = tried["worklist"]["items"]
    assert item["ScheduledProcedureStepSequence"][0]["ScheduledProcedureStepStatus"] == "SCHEDULED"
    assert item["PatientID"] == "4711"
    assert "MSA|AA|E1" in tried["answers"][0]


@pytest.mark.parametrize(
    ("name", "code", "answer"),
    [("05-no-accession", 1, "AE"), ("06-cancel", 0, "AA"), ("07-patient", 1, "AR")],
)
def test_a_refusal_is_a_finding_and_its_answer_is_shown(
    run: Run, name: str, code: int, answer: str
) -> None:
    ended, out, _ = run("try", CORPUS / f"{name}.hl7")
    assert ended == code
    assert f"the sender is answered {answer}" in out


def test_what_only_the_worklist_refuses_is_refused_here_too(run: Run, tmp_path: Path) -> None:
    """An update of an order that nobody knows must say enough to make one."""
    message = tmp_path / "one.hl7"
    message.write_bytes(
        b"MSH|^~\\&|R|N|||20260316||ORM^O01|1|P|2.3.1\rPID|1||1^^^N^MR\rORC|XO|P|F\rOBR|1|P|F\r"
    )
    code, out, _ = run("try", message)
    assert code == 1
    assert "nothing of the above is done: AE 101 ORC^1" in out
    assert "the sender is answered AE" in out


def test_a_message_in_its_frame_is_tried_as_well(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x0b" + SCHEDULE.read_bytes() + b"\x1c\r")
    assert run("try", tmp_path / "x")[0] == 0


def test_a_file_without_one_message_is_a_usage_mistake(run: Run, tmp_path: Path) -> None:
    """Whoever tries the configuration, or nothing, has made a slip: no broker would answer that."""
    (tmp_path / "broker.yaml").write_text("site: Here")
    (tmp_path / "empty").write_text("")
    (tmp_path / "two").write_bytes(SCHEDULE.read_bytes() * 2)
    for name, fact in (("broker.yaml", "no HL7"), ("empty", "no HL7"), ("two", "2 messages")):
        code, out, err = run("try", tmp_path / name)
        assert (code, out) == (2, "")
        assert fact in unboxed(err)
    assert run("try", tmp_path / "none")[0] == 2
    (tmp_path / "x").write_bytes(b"MSH|^~\\&")
    code, out, _ = run("try", tmp_path / "x")
    assert code == 1
    assert "answered AR" in out


def test_a_name_that_is_none_is_a_usage_mistake_with_a_suggestion(run: Run, site: Path) -> None:
    """One slip has one exit code, whatever the verb."""
    for verb in (
        ["show", "plian"],
        ["diff", site / "plian.yaml"],
        ["check", site / "plian.yaml"],
        ["test", site / "plian.yaml"],
        ["try", SCHEDULE, "--mappings", site / "plian.yaml"],
        ["coverage", "--mappings", site / "plian.yaml"],
        ["new", "--from", SCHEDULE, "--mappings", site / "plian.yaml"],
    ):
        code, out, err = run(*verb)
        assert (code, out) == (2, ""), verb
        assert "did you mean 'plain" in unboxed(err)


def test_no_messages_at_all_are_no_corpus(run: Run, site: Path) -> None:
    code, _, err = run("diff", site, "--corpus", "last:0")
    assert code == 2
    assert "last:500" in err


# diff and coverage


def test_a_new_file_is_compared_in_the_place_of_the_old_one(
    run: Run, site: Path, tmp_path: Path
) -> None:
    new = tmp_path / "next"
    shutil.copytree(site, new)
    replaced(new / "plain.yaml", BIRTH_DATE, "")
    code, out, _ = run("diff", new / "plain.yaml", "--corpus", CORPUS)
    assert code == 1
    assert "     2  PatientBirthDate: value → absent" in out
    assert "in 01-ct.hl7" in out
    assert out.endswith("7 messages, 2 come out otherwise\n")
    code, out, _ = run("diff", new, "--old", site, "--corpus", CORPUS, "--json")
    told = json.loads(out)
    assert code == 1
    assert (told["messages"], told["changed"], told["refusals"]) == (7, 2, [])
    (group,) = told["changes"]
    assert group["what"] == "PatientBirthDate"
    assert len(group["samples"]) == 2


def test_nothing_changed_is_no_finding(run: Run, site: Path) -> None:
    assert run("diff", site, "--corpus", CORPUS)[:2] == (0, "7 messages, 0 come out otherwise\n")


def test_files_may_hold_frames_and_several_messages(run: Run, site: Path, tmp_path: Path) -> None:
    """What a RIS exports: MLLP frames, one message after the other, with line feeds."""
    folder = tmp_path / "export"
    (folder / "deep").mkdir(parents=True)
    raw = SCHEDULE.read_bytes()
    (folder / "frames.bin").write_bytes((b"\x0b" + raw + b"\x1c\r") * 2)
    (folder / "deep" / "many.txt").write_bytes(raw * 3)
    (folder / "notes.md").write_text("no message")
    _, out, _ = run("diff", site, "--corpus", folder, "--json")
    assert json.loads(out)["messages"] == 5


def test_coverage_counts_what_is_left(run: Run) -> None:
    code, out, _ = run("coverage", "--corpus", CORPUS)
    assert code == 0
    assert "modality  'RAD'" in out
    assert "PV1-2" in out
    assert "1  taken by no mapping: AR 200" in out
    _, out, _ = run("coverage", "--corpus", CORPUS, "--json")
    told = json.loads(out)
    (orders,) = told["mappings"]
    assert orders["mapping"] == "plain"
    assert {"table": "modality", "key": "RAD", "count": 2} in orders["misses"]
    assert {"field", "count"} == orders["unread"][0].keys()
    assert sum(told["taken_by_none"].values()) == 1


def test_idle_rules_of_the_base_are_counted_and_listed_on_demand(run: Run, site: Path) -> None:
    """Whoever writes an overlay looks for the rules of the overlay."""
    (site / "own.yaml").write_text(
        "mapping: own\nextends: plain\naccept: {senders: ['RIS|NORTH']}\n"
        "attributes:\n  RouteOfAdmissions: PV1-4\n"
    )
    _, out, _ = run("coverage", "--corpus", CORPUS)
    assert "RouteOfAdmissions   " in out
    assert "PatientAddress" not in out
    assert "idle rules are inherited: --inherited lists them" in out
    _, out, _ = run("coverage", "--corpus", CORPUS, "--inherited")
    assert "attributes that no message filled, inherited" in out
    assert "PatientAddress" in out


def test_what_would_wait_for_a_code_is_counted_apart(run: Run, site: Path) -> None:
    replaced(site / "plain.yaml", "{CT: CT, MR: MR}", "{rows: {CT: CT, MR: MR}, on_miss: hold}")
    _, out, _ = run("coverage", "--corpus", CORPUS)
    assert "2 refused" not in out
    assert "held" in out.splitlines()[0]
    _, out, _ = run("coverage", "--corpus", CORPUS, "--json")
    (told,) = json.loads(out)["mappings"]
    assert told["held"] == 2


def test_an_update_names_what_comes_out_no_more(run: Run, site: Path) -> None:
    """In a difference of many lines it is easily overlooked."""
    replaced(site / "plain.yaml", "PatientName: DOE^JANE", "PatientAddress: Somewhere")
    code, out, _ = run("test", "--update")
    assert code == 0
    assert "gone: PatientAddress comes out no more  plain: examples/schedule.hl7" in out


def test_a_corpus_that_is_none_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    for corpus in (tmp_path / "none", "newest:5"):
        assert run("coverage", "--corpus", corpus)[0] == 2


def test_without_a_store_the_archive_cannot_be_read(run: Run, site: Path) -> None:
    """Exit code 69 with the remedy."""
    for verb in (["diff", site], ["coverage", "--corpus", "last:5"]):
        code, _, err = run(*verb)
        assert code == 69
        assert "broker run" in err


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[None]:
    """A store in the data folder with every message of the corpus, oldest first."""
    server = EmbeddedServer(tmp_path / "data", binary=find_server())
    server.start()
    store = Store(server.url)
    for number, path in enumerate(sorted(CORPUS.glob("*.hl7"))):
        facts: dict[str, Any] = {"outcome": "applied", "cause": "", "orders": ()}
        message = Archived(
            source="RIS|N",
            control_id=f"C{number}",
            message_type="ORM^O01",
            received=AT.timestamp() + number,
            mapping="plain",
            raw=path.read_bytes(),
            **facts,
        )
        store.run(commit(Commit(at=AT, archived=message)))
    store.close()
    yield
    server.stop()


@pytest.mark.peer("redis-server")
@pytest.mark.usefixtures("archive")
def test_messages_of_the_archive_are_replayed(run: Run, site: Path, tmp_path: Path) -> None:
    new = tmp_path / "next"
    shutil.copytree(site, new)
    replaced(new / "plain.yaml", BIRTH_DATE, "")
    _, out, _ = run("diff", new, "--json")
    assert json.loads(out)["messages"] == 7
    _, out, _ = run("diff", new, "--corpus", "last:3", "--json")
    assert json.loads(out)["messages"] == 3
    code, out, _ = run("coverage", "--json")
    assert code == 0
    assert [each["messages"] for each in json.loads(out)["mappings"]] == [6]


# new


def test_an_overlay_is_begun_from_a_message_and_checks(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """What it extends must be beside it, or shipped."""
    out_file = site / "north.yaml"
    sample = CORPUS / "01-ct.hl7"
    code, out, _ = run("new", "--from", sample, "--out", out_file)
    assert code == 0
    assert (out_file.parent / "examples" / "north.hl7").read_bytes() == sample.read_bytes()
    assert run("check", out_file)[0] == 0
    assert run("test", out_file)[0] == 0
    plain = site / "plain.yaml"
    code, _, err = run("new", "--from", sample, "--mappings", plain, "--out", out_file)
    assert code == 2  # never overwritten
    code, _, err = run("new", "--from", sample, "--out", site / "again.yaml")
    assert code == 1
    assert "north is for RIS|NORTH already" in err
    (site / "north.yaml").unlink()
    code, _, err = run("new", "--from", sample, "--out", tmp_path / "own" / "north.yaml")
    assert code == 2
    assert "--out" in err
    code, out, _ = run("new", "--from", sample, "--mappings", PLAIN, "--json")
    assert json.loads(out)["mapping"] == "ris-north"


def test_what_cannot_be_begun_says_why(run: Run, tmp_path: Path) -> None:
    code, out, err = run("new", "--from", CORPUS / "07-patient.hl7")
    assert (code, out) == (1, "")
    assert "no mapping accepts ADT^A08" in err
    assert run("new", "--from", tmp_path / "none")[0] == 2
    (tmp_path / "two").write_bytes(SCHEDULE.read_bytes() * 2)
    assert run("new", "--from", tmp_path / "two")[0] == 2


def test_a_sample_without_a_sender_needs_its_port(run: Run, tmp_path: Path) -> None:
    """A mapping for anybody would take the messages of all others."""
    raw = SCHEDULE.read_bytes().replace(b"RIS|NORTH|", b"||", 1)
    (tmp_path / "nameless.hl7").write_bytes(raw)
    code, _, err = run("new", "--from", tmp_path / "nameless.hl7")
    assert code == 2
    assert "--port" in err
    code, out, _ = run("new", "--from", tmp_path / "nameless.hl7", "--port", "2576")
    assert code == 0
    assert "ports: [2576]" in out
