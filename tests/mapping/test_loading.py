"""Loading: every mistake has a place, a fact and a remedy, and nothing loads by half."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.hl7.header import read_header
from broker.hl7.refusal import Refusal
from broker.mapping.checking import check
from broker.mapping.loading import Bundle, load
from broker.mapping.text.nodes import Complaints

SITE = """\
mapping: site
format: 1
accept:
  messages: [ORM^O01]
  senders: ['EPIC|*']
tables:
  sex: {M: M, F: F}
actions:
  - {when: ORC-1 = NW, do: update}
  - otherwise: ignore
attributes:
  PatientSex: PID-8 | lookup(sex)
"""

Written = Callable[..., Path]


def heads(folder: Path) -> list[str]:
    """First lines of the complaints, the folder taken off."""
    return [str(each).splitlines()[0].replace(f"{folder}/", "") for each in check(folder)]


def test_the_shipped_mappings_have_nothing_to_complain_about(mappings: Path) -> None:
    assert check(mappings) == []


def test_a_small_mapping_is_right(written: Written) -> None:
    assert heads(written(SITE)) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "PID-8 | lookup(sex)",
            "PID-8 | lokup(sex)",
            "site.yaml:12:23: unknown function 'lokup' — did you mean 'lookup'?",
        ),
        (
            "PatientSex:",
            "PatientSecks:",
            "site.yaml:12:3: 'PatientSecks' is not a DICOM keyword — did you mean 'PatientSex'?",
        ),
        (
            "PID-8 |",
            "PID-55 |",
            "site.yaml:12:15: PID-55 does not exist in HL7 2.3.1 and 2.5.1 — PID ends at 39",
        ),
        (
            "PID-8 |",
            "PID-5.99 |",
            "site.yaml:12:15: PID-5.99 does not exist in HL7 2.3.1 and 2.5.1 — PID-5 is XPN",
        ),
        (
            "PID-8 |",
            "PIX-8 |",
            "site.yaml:12:15: HL7 2.3.1 and 2.5.1 has no segment PIX — did you mean 'PID'?",
        ),
        (
            "PatientSex: PID-8 | lookup(sex)",
            "PatientName: PV1-8 | person",
            "site.yaml:12:16: 'person' does not understand XCN, the type of PV1-8 — "
            "for XCN there is: clinician",
        ),
        (
            "PatientSex:",
            "Modality:",
            "site.yaml:12:3: Modality belongs to a step — put it under Scheduled",
        ),
        ("format: 1", "formt: 1", "site.yaml:2:1: unknown key 'formt' — did you mean 'format'?"),
        (
            "do: update",
            "do: updaet",
            "site.yaml:9:28: do: 'updaet' is none — did you mean 'update'?",
        ),
        (
            "  - otherwise: ignore\n",
            "",
            "site.yaml:9:3: the actions table has no 'otherwise' — "
            "end with 'otherwise: ignore', so that nothing falls through",
        ),
        (
            "{M: M, F: F}",
            "{file: tables/none.csv}",
            "site.yaml:7:15: 'tables/none.csv' cannot be read: no such file or directory",
        ),
        (
            "{M: M, F: F}",
            "{file: tables/sexx.csv}",
            "site.yaml:7:15: 'tables/sexx.csv' cannot be read: no such file or directory — "
            "did you mean 'tables/sex.csv'?",
        ),
        (
            "mapping: site",
            "mapping: [site]",
            "site.yaml:1:10: mapping: must be text — write one value, without '-' or [ ]",
        ),
        (
            "lookup(sex)",
            "lookup(sex)\n  PatientID:",
            "site.yaml:13:13: PatientID: must be a block of keys — fill it, or take it away",
        ),
        ("[ORM^O01]", "ORM^O01", "site.yaml:4:13: messages: must be a list — put [ ] around it"),
        (
            "{M: M, F: F}",
            "M",
            "site.yaml:7:8: sex: must be a block of keys — write its keys below it, each as "
            "KEY: value; known: case, default, file",
        ),
        (
            "{M: M, F: F}",
            "{file: tables/sex.csv, key: side, value: sex}",
            "site.yaml:7:36: tables/sex.csv has no column 'side' — did you mean 'said'?",
        ),
        (
            "{M: M, F: F}",
            "{file: ../secret.csv}",
            "site.yaml:7:15: lies outside the folder of the mapping",
        ),
        ("[ORM^O01]", "[ORM]", "site.yaml:4:14: 'ORM' is not a message type"),
        ("['EPIC|*']", "[EPIC]", "site.yaml:5:13: 'EPIC' is not a sender"),
        (
            "tables:",
            "source: {timezone: Europe/Berln}\ntables:",
            "site.yaml:6:20: 'Europe/Berln' is not a time zone — did you mean 'Europe/Berlin'?",
        ),
        (
            "PID-8 | lookup(sex)",
            "{from: PID-8 | lookup(sex), const: M}",
            "site.yaml:12:15: has two sources",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(
    written: Written, old: str, new: str, complaint: str
) -> None:
    assert old in SITE
    found = heads(written(SITE.replace(old, new)))
    assert any(each.startswith(complaint) for each in found), found


def test_all_mistakes_are_told_at_once(written: Written) -> None:
    text = SITE.replace("PID-8 | lookup(sex)", "PID-8 | lokup(sex)\n  PatientNam: PID-5")
    with pytest.raises(Complaints) as raised:
        load(written(text))
    errors = [each for each in raised.value.complaints if each.severity == "error"]
    assert [each.line for each in errors] == [12, 13]


def test_an_unused_table_is_a_warning_and_loads(written: Written) -> None:
    folder = written(SITE.replace("PID-8 | lookup(sex)", "PID-8 | upper"))
    assert heads(folder) == ["site.yaml:7:3: warning: table 'sex' is used nowhere"]
    assert load(folder).inbound


def test_a_row_said_twice_is_told_with_its_line(written: Written) -> None:
    folder = written(SITE.replace("{M: M, F: F}", "{file: tables/sex.csv, key: said, value: sex}"))
    with (folder / "tables" / "sex.csv").open("a", encoding="utf-8") as table:
        table.write("M,F\n")
    (complaint,) = check(folder)
    assert complaint.fact == "'M' again; the first row holds (line 2)"
    assert complaint.file.endswith("tables/sex.csv")


def test_a_mapping_whose_example_fails_does_not_load(written: Written) -> None:
    examples = """\
examples:
  - message: one.hl7
    expect: [{action: update, attributes: {PatientSex: M}}]
"""
    folder = written(SITE + examples)
    (folder / "one.hl7").write_text(
        "MSH|^~\\&|EPIC|N|||20260316||ORM^O01|1|P|2.3\nPID|1||1||A^B||19600101|F\nORC|NW\n"
    )
    assert heads(folder) == ["site.yaml:15:56: PatientSex is 'F' — expected 'M'"]
    assert load(folder, examples=False).inbound
    (folder / "one.hl7").write_text("MSH|^~\\&|EPIC|N|||20260316||ORM^O01|1|P|2.3\nORC|XX\n")
    assert heads(folder)[0] == "site.yaml:15:23: the action is ignore, expected update"


def test_two_mappings_for_the_same_sender_and_message_are_a_tie(written: Written) -> None:
    written(SITE)
    folder = written(SITE.replace("mapping: site", "mapping: other"), "tie.yaml")
    assert heads(folder) == [
        "tie.yaml:4:3: ORM^O01 from EPIC|* is accepted by site.yaml as well — "
        "name the sender or port of one of them, or versions that only one accepts"
    ]


def test_what_a_predicate_reads_is_looked_up_as_well(written: Written) -> None:
    text = SITE + "  MedicalAlerts: OBX[.99 = X]-5\n  PatientID: PID-3[.77 = X and .4.1 = A].1\n"
    folder = written(text + "  PatientComments: ZKE[.70 = X]-1\n")
    assert heads(folder) == [
        "site.yaml:13:22: OBX-99 does not exist in HL7 2.3.1 and 2.5.1 — OBX ends at 25",
        "site.yaml:14:20: PID-3.77 does not exist in HL7 2.3.1 and 2.5.1 — PID-3 is CX",
    ]


def test_an_empty_folder_is_a_complaint(tmp_path: Path) -> None:
    assert "holds no mapping" in str(check(tmp_path)[0])


def test_the_version_follows_mappings_and_tables(written: Written) -> None:
    folder = written(SITE.replace("{M: M, F: F}", "{file: tables/sex.csv, key: said, value: sex}"))
    before = load(folder).version
    assert load(folder).version == before
    with (folder / "tables" / "sex.csv").open("a", encoding="utf-8") as table:
        table.write("HERR,M\n")
    assert load(folder).version != before


def header(text: str) -> bytes:
    return f"MSH|^~\\&|{text}\r".encode()


def test_the_closest_sender_wins(written: Written, bundle: Bundle, mappings: Path) -> None:
    folder = written(SITE)
    both = load([folder / "site.yaml", mappings / "ihe-orders.yaml"], examples=False)
    of_epic = read_header(header("EPIC|NORTH|||20260316||ORM^O01|1|P|2.3"))
    of_other = read_header(header("RIS|NORTH|||20260316||ORM^O01|1|P|2.3"))
    assert both.accepting(of_epic).name == "site"
    assert both.accepting(of_other).name == "ihe-orders"


ALL_AT_ONCE = """\
mapping: site
format: 2
accept: {messages: [ORM^O01], sender: [EPIC|*]}
tables:
  sex: {file: tables/sex.csv, keyy: said, value: sex}
  priority: {S: STAT}
actions:
  - {when: ORC-1 = NW, doo: schedule}
  - {when: ORC-98 = NW, do: schedul}
  - otherwise: refus
attributes:
  PatientName: {frm: PID-5, required: maybe}
  PatientName: PID-5 | person
  PatientID: PID-3 | frist
  PatientSex: PID-8 | lookup(sex)
  RequestedProcedurePriority: {from: ORC-7.6 | lookup(prioriti), required: schedul}
  ScheduledProcedureStepSequence:
    item:
      Modality: {from: OBR-24, requird: schedule}
      ScheduledStationAETitle: {const: TOO-LONG-TITLE-FOR-US}
"""


def test_mistakes_of_form_and_of_meaning_are_told_in_one_run_over_all_files(
    written: Written,
) -> None:
    written(SITE.replace("ORC-1 = NW", "ORC-97 = NW"), "other.yaml")
    found = heads(written(ALL_AT_ONCE))
    assert [each.partition(" — ")[0] for each in found] == [
        "other.yaml:9:12: ORC-97 does not exist in HL7 2.3.1 and 2.5.1",
        "site.yaml:2:9: format: '2' is none",
        "site.yaml:3:31: unknown key 'sender'",
        "site.yaml:5:31: unknown key 'keyy'",
        "site.yaml:8:24: unknown key 'doo'",
        "site.yaml:9:12: ORC-98 does not exist in HL7 2.3.1 and 2.5.1",
        "site.yaml:9:29: do: 'schedul' is none",
        "site.yaml:10:16: otherwise: 'refus' is none",
        "site.yaml:12:17: unknown key 'frm'",
        "site.yaml:12:39: required: 'maybe' is none",
        "site.yaml:13:3: key 'PatientName' again; it is already on line 12",
        "site.yaml:14:22: unknown function 'frist'",
        "site.yaml:16:55: unknown table 'prioriti'",
        "site.yaml:16:76: required: 'schedul' is none",
        "site.yaml:19:32: unknown key 'requird'",
        "site.yaml:20:40: the constant is not an AE title of up to 16 plain characters",
    ]


def of_ports(written: Written, *ports: str) -> Bundle:
    """One mapping for any port and others for these, of one sender all of them."""
    written(SITE)
    for number, each in enumerate(ports):
        text = SITE.replace("mapping: site", f"mapping: p{number}")
        folder = written(
            text.replace("accept:\n", f"accept:\n  ports: {each}\n"), f"p{number}.yaml"
        )
    return load(folder, examples=False)


def test_the_mapping_that_names_the_port_comes_before_any_other(written: Written) -> None:
    bundle = of_ports(written, "[2575, 2576]", "2577")
    of_epic = read_header(header("EPIC|NORTH|||20260316||ORM^O01|1|P|2.3.1"))
    chosen = {port: bundle.accepting(of_epic, port).name for port in (0, 2575, 2576, 2577, 2578)}
    assert chosen == {0: "site", 2575: "p0", 2576: "p0", 2577: "p1", 2578: "site"}
    assert bundle.source(of_epic, 2575).name == "EPIC|NORTH"


def test_a_port_that_only_other_senders_have_a_mapping_for_is_no_help(written: Written) -> None:
    folder = written(SITE.replace("accept:\n", "accept:\n  ports: 2576\n"))
    only = load(folder, examples=False)
    of_epic = read_header(header("EPIC|NORTH|||20260316||ORM^O01|1|P|2.3.1"))
    with pytest.raises(Refusal) as raised:
        only.accepting(of_epic, 2575)
    assert (raised.value.acknowledgement, raised.value.code) == ("AR", "200")


def test_two_mappings_for_one_port_are_a_tie(written: Written) -> None:
    with pytest.raises(Complaints) as raised:
        of_ports(written, "2576", "[2577, 2576]")
    [fact] = [each.fact for each in raised.value.complaints]
    assert fact.startswith("ORM^O01 from EPIC|* to port 2576 is accepted by ")


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "٣"])
def test_what_is_no_port_is_a_complaint(written: Written, port: str) -> None:
    folder = written(SITE.replace("accept:\n", f"accept:\n  ports: ['{port}']\n"))
    assert f"'{port}' is not a port" in heads(folder)[0]


def test_the_event_may_be_missing_where_only_one_is_possible(written: Written) -> None:
    only = load(written(SITE))
    assert only.accepting(read_header(header("EPIC|N|||2026||ORM|1|P|2.3"))).name == "site"


@pytest.mark.parametrize(
    ("kind", "code"), [("ORM^O02", "201"), ("MDM^T02", "200"), ("ADT^A24", "201"), ("", "200")]
)
def test_what_no_mapping_accepts_is_refused_with_a_remedy(
    bundle: Bundle, kind: str, code: str
) -> None:
    with pytest.raises(Refusal) as raised:
        bundle.accepting(read_header(header(f"RIS|NORTH|||20260316||{kind}|1|P|2.3")))
    assert (raised.value.acknowledgement, raised.value.code) == ("AR", code)
    assert "accept" in raised.value.remedy


def test_a_source_takes_its_issuer_from_msh_4_unless_told(written: Written, bundle: Bundle) -> None:
    of_epic = read_header(header("EPIC|NORTH|||20260316||ORM^O01|1|P|2.3"))
    assert bundle.source(of_epic).issuer == "NORTH"
    told = SITE + "source: {issuer: MRN, timezone: America/New_York, when_store_down: AE}\n"
    source = load(written(told)).source(of_epic)
    assert (source.issuer, str(source.timezone)) == ("MRN", "America/New_York")
    assert source.when_store_down == "AE"
    assert source.name == "EPIC|NORTH"


def test_a_sender_that_nothing_accepts_still_has_a_source(written: Written) -> None:
    only = load(written(SITE))
    stranger = read_header(header("WHO|SOUTH|||20260316||ORM^O01|1|P|2.3"))
    assert only.source(stranger).issuer == "SOUTH"


def test_examples_of_what_compiles_are_run_though_another_file_has_mistakes(
    written: Written,
) -> None:
    example = (
        "examples: [{message: one.hl7, expect: [{action: update, attributes: {PatientSex: M}}]}]\n"
    )
    folder = written(SITE + example)
    (folder / "one.hl7").write_text(
        "MSH|^~\\&|EPIC|N|||20260316||ORM^O01|1|P|2.3\nPID|1||1||A^B||19600101|F\nORC|NW\n"
    )
    written(SITE.replace("EPIC|*", "OTHER|*").replace("mapping: site", "mappin: a"), "a.yaml")
    assert [each.split(" — ")[0] for each in heads(folder)] == [
        "a.yaml:1:1: unknown key 'mappin'",
        "site.yaml:13:82: PatientSex is 'F'",
    ]
    with pytest.raises(Complaints):
        load(folder)


def test_a_table_with_a_mistake_of_form_still_misses_its_file(written: Written) -> None:
    folder = written(SITE.replace("{M: M, F: F}", "{file: tables/none.csv, keyy: said}"))
    assert [each.split(" — ")[0] for each in heads(folder)] == [
        "site.yaml:7:15: 'tables/none.csv' cannot be read: no such file or directory",
        "site.yaml:7:32: unknown key 'keyy'",
    ]


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ("{CT: A-TITLE-FAR-TOO-LONG}", "site.yaml:7:15"),
        ("{rows: {CT: A-TITLE-FAR-TOO-LONG}}", "site.yaml:7:22"),
        ("{rows: {CT: CT1}, default: A-TITLE-FAR-TOO-LONG}", "site.yaml:7:37"),
        ("{file: tables/rooms.csv, key: kind, value: room}", "tables/rooms.csv:3:11"),
        ("{file: tables/rooms.csv, key: kind, value: room, rows: {MR: MR1}}", ""),
    ],
)
def test_a_value_of_a_table_that_does_not_fit_is_told_where_it_is_written(
    written: Written, table: str, place: str
) -> None:
    site = SITE.replace("{M: M, F: F}", table).replace("sex", "rooms")
    step = "ScheduledProcedureStepSequence: {item: {ScheduledStationAETitle: OBR-24 | lookup"
    folder = written(site.replace("PatientSex: PID-8 | lookup(rooms)", f"{step}(rooms)}}}}"))
    rooms = "kind,note,room\nCT,a,CT1\nMR,'b, 2',A-TITLE-FAR-TOO-LONG\n".replace("'", '"')
    (folder / "tables" / "rooms.csv").write_text(rooms)
    fact = "'A-TITLE-FAR-TOO-LONG' of table 'rooms' is not an AE title of up to 16"
    needed = "plain characters, as ScheduledStationAETitle must be"
    assert [each for each in heads(folder) if "of table" in each] == [
        f"{each}: {fact} {needed}" for each in [place] if each
    ]
