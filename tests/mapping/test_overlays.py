"""Overlays: a site file holds its differences, and every line knows where it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli.program import program
from broker.hl7.header import read_header
from broker.mapping.checking import check
from broker.mapping.files.overlaying import read_layers
from broker.mapping.loading import Bundle, load
from broker.mapping.text.document import read_text
from broker.mapping.text.nodes import Complaints
from broker.mapping.trials import showing

BASE = """\
mapping: base
format: 1
accept: {messages: [ORM^O01]}
tables:
  sex: {M: M, F: F}
let:
  patient: PID-3[.5 = MR] ?? PID-3
actions:
  - {when: ORC-1 = XO, do: update}
  - otherwise: ignore
attributes:
  PatientName: {from: PID-5 | person, required: always}
  PatientID: patient | part(1)
  PatientSex: PID-8 | lookup(sex)
  ScheduledProcedureStepSequence:
    item:
      Modality: OBR-24 | trim
      ScheduledStationName: {const: ROOM}
examples:
  - {message: none.hl7}
"""
SITE = """\
mapping: site
extends: base.yaml
accept: {senders: ['EPIC|*']}
tables:
  sex: {W: F, M: ~}
attributes:
  PatientName: PID-9 | person
  PatientID: ~
  PatientBirthDate: PID-7 | date
  ScheduledProcedureStepSequence:
    item:
      ScheduledStationName: IPC-7
"""

Written = Callable[..., Path]


def layers(written: Written, site: str = SITE, base: str = BASE) -> Path:
    written(base, "base.yaml")
    return written(site, "site.yaml")


def facts(folder: Path, *names: str) -> list[str]:
    paths = [folder / name for name in names or ("site.yaml",)]
    found = check(paths, examples=False)
    return [str(each).splitlines()[0].replace(f"{folder}/", "") for each in found]


def test_maps_merge_by_key_null_removes_and_lists_replace(written: Written) -> None:
    folder = layers(written, SITE + "actions:\n  - otherwise: update\n")
    root = read_layers(folder / "site.yaml").root.plain()
    assert root["format"] == "1"
    assert root["accept"] == {"messages": ["ORM^O01"], "senders": ["EPIC|*"]}
    assert root["tables"] == {"sex": {"rows": {"F": "F", "W": "F"}}}
    assert root["actions"] == [{"otherwise": "update"}]
    attributes = root["attributes"]
    assert attributes["PatientName"] == {"from": "PID-9 | person", "required": "always"}
    assert "PatientID" not in attributes
    assert list(attributes)[-1] == "PatientBirthDate"
    item = attributes["ScheduledProcedureStepSequence"]["item"]
    assert item == {"Modality": "OBR-24 | trim", "ScheduledStationName": {"from": "IPC-7"}}
    assert "examples" not in root


def test_an_overlay_loads_and_its_base_needs_not_be_in_force(written: Written) -> None:
    folder = layers(written)
    bundle = load(folder / "site.yaml", examples=False)
    assert [each.name for each in bundle.inbound] == ["site"]
    assert bundle.files.keys() == {f"{folder}/site.yaml", f"{folder}/base.yaml"}


def test_a_mistake_is_told_in_the_file_that_made_it(written: Written) -> None:
    folder = layers(written, base=BASE.replace("OBR-24", "OBR-240"))
    assert facts(folder)[0].startswith("base.yaml:17:17: OBR-240 does not exist")
    folder = layers(written, SITE.replace("IPC-7", "IPC-77"))
    assert facts(folder)[0].startswith("site.yaml:12:29: IPC-77 does not exist")
    folder = layers(written, SITE.replace("PatientBirthDate:", "PatientBirthDat:"))
    assert facts(folder)[0].startswith("site.yaml:9:3: 'PatientBirthDat' is not a DICOM keyword")


def test_each_file_is_judged_by_the_versions_it_was_written_for(written: Written) -> None:
    site = SITE.replace("{senders", "{versions: ['2.3'], senders")
    assert "site.yaml:12:29: HL7 2.3 has no segment IPC" in facts(layers(written, site))[0]
    site = site.replace("      ScheduledStationName: IPC-7\n", "      Modality: OBR-24.1 | trim\n")
    base = BASE.replace("{const: ROOM}", "IPC-7")
    assert facts(layers(written, site, base)) == []


def test_a_base_that_two_files_share_complains_once(written: Written) -> None:
    folder = layers(written, base=BASE.replace("OBR-24", "OBR-240"))
    written(SITE.replace("mapping: site", "mapping: other").replace("EPIC", "CERNER"), "two.yaml")
    assert len(facts(folder, "site.yaml", "two.yaml")) == 1


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("base.yaml", "bass.yaml", "2:10: there is no mapping 'bass.yaml' — did you mean 'base"),
        ("base.yaml", "ihe-order", "2:10: there is no mapping 'ihe-order' — did you mean 'ihe-"),
        ("base.yaml", "site.yaml", "2:10: a mapping cannot extend itself — site.yaml → site.yaml"),
        ("base.yaml", "/etc", "2:10: there is no mapping '/etc'"),
        ("PatientID: ~", "PatientAge: ~", "8:3: warning: there is no 'PatientAge' to take away"),
        ("mapping: site\n", "", "1:1: 'mapping' is missing"),
    ],
)
def test_a_slip_in_an_overlay_has_a_place(written: Written, old: str, new: str, fact: str) -> None:
    found = facts(layers(written, SITE.replace(old, new)))
    assert any(each.startswith(f"site.yaml:{fact}") for each in found), found


def test_a_circle_of_mappings_is_told_with_its_way(written: Written) -> None:
    folder = layers(written, base=BASE + "extends: site.yaml\n")
    (complaint,) = facts(folder)
    assert complaint.endswith("a mapping cannot extend itself — site.yaml → base.yaml → site.yaml")


def test_a_base_that_is_broken_yaml_is_told_and_never_half_loaded(written: Written) -> None:
    folder = layers(written, base="mapping: [\n")
    with pytest.raises(Complaints, match=r"base\.yaml:1:10: this '\[' is never closed"):
        load(folder / "site.yaml")


def test_a_chain_has_an_end(written: Written) -> None:
    written(BASE, "m0.yaml")
    for number in range(1, 12):
        folder = written(f"mapping: m{number}\nextends: m{number - 1}.yaml\n", f"m{number}.yaml")
    assert "more than 8 mappings on each other" in facts(folder, "m11.yaml")[0]
    assert all(
        ": warning: accepts the same messages as" in each for each in facts(folder, "m5.yaml")
    )


def test_an_overlay_of_a_closer_sender_wins_over_its_base_and_a_tie_is_an_error(
    written: Written,
) -> None:
    folder = layers(written)
    both = load([folder / "base.yaml", folder / "site.yaml"], examples=False)
    epic, other = (
        read_header(f"MSH|^~\\&|{name}|N|||2026||ORM^O01|1|P|2.3\r".encode())
        for name in ("EPIC", "RIS")
    )
    assert (both.accepting(epic).name, both.accepting(other).name) == ("site", "base")
    folder = layers(written, SITE.replace("accept: {senders: ['EPIC|*']}\n", ""))
    (tie,) = facts(folder, "base.yaml", "site.yaml")
    assert tie == (
        "site.yaml:2:1: accepts the same messages as base.yaml: it has no 'accept' of its own"
        " — say whose it is for, as accept: {senders: ['EPIC|NORTH']}"
    )


def test_a_file_is_held_against_its_neighbours(written: Written) -> None:
    folder = layers(written, SITE.replace("accept: {senders: ['EPIC|*']}\n", ""))
    (odd,) = facts(folder, "site.yaml")
    assert odd.startswith("site.yaml:2:1: warning: accepts the same messages as base.yaml")
    folder = layers(written, SITE.replace("mapping: site", "mapping: base"))
    assert facts(folder) == ["site.yaml:1:10: warning: 'base' is the name of base.yaml already"]


def test_what_an_editor_hides_in_the_folder_is_no_mapping(written: Written) -> None:
    folder = layers(written)
    (folder / ".#site.yaml").write_text("mapping: [")
    assert check(folder, examples=False) == []


def test_a_source_taken_away_is_one_mistake(written: Written) -> None:
    folder = layers(written, SITE.replace("PID-9 | person", "{const: ~}"))
    (mistake,) = facts(folder)
    assert mistake.startswith("site.yaml:7:16: needs a source")


def test_what_an_overlay_takes_away_is_missed_at_its_place(written: Written) -> None:
    site = "mapping: site\nextends: ihe-orders\naccept: {senders: ['X|*']}\nattributes:\n"
    folder = written(site + "  PatientID: ~\n", "site.yaml")
    (mistake,) = facts(folder)
    assert mistake.startswith("site.yaml:5:3: nothing fills PatientID after this — no worklist")
    step = "  ScheduledProcedureStepSequence: {item: {Modality: ~, ScheduledStationAETitle: CT}}\n"
    folder = written(site + step, "site.yaml")
    assert any(
        "site.yaml:5:43: nothing fills Modality after this" in each for each in facts(folder)
    )


def test_who_extends_the_name_a_file_gives_itself_is_told_the_file(written: Written) -> None:
    folder = layers(written, SITE.replace("extends: base.yaml", "extends: common"))
    written(BASE.replace("mapping: base", "mapping: common"), "base.yaml")
    (mistake,) = facts(folder)
    assert mistake.endswith("— that is what base.yaml calls itself: write 'extends: base.yaml'")


def test_an_abstract_base_is_judged_and_never_in_force(written: Written) -> None:
    site = SITE.replace("accept: {senders: ['EPIC|*']}\n", "")
    folder = layers(written, site, BASE + "abstract: yes\n")
    bundle = load([folder / "base.yaml", folder / "site.yaml"], examples=False)
    assert [each.name for each in bundle.inbound] == ["site"]
    folder = layers(written, site, BASE.replace("OBR-24", "OBR-240") + "abstract: yes\n")
    assert facts(folder, "base.yaml", "site.yaml")[0].startswith("base.yaml:17:17")


def test_versions_choose_between_mappings_of_one_sender(written: Written) -> None:
    old = BASE.replace("[ORM^O01]", "[ORM^O01], versions: ['2.3', '2.4']")
    new = old.replace("mapping: base", "mapping: new").replace("'2.3', '2.4'", "'2.5', 2.5.1")
    written(old, "old.yaml")
    folder = written(new, "new.yaml")
    both = load([folder / "new.yaml", folder / "old.yaml"], examples=False)
    for version, name in {"2.3": "base", "2.4": "base", "2.5": "new", "2.9": "new"}.items():
        header = read_header(f"MSH|^~\\&|A|N|||2026||ORM^O01|1|P|{version}\r".encode())
        assert both.accepting(header).name == name
    written(new.replace("'2.5'", "'2.4', '2.5'"), "new.yaml")
    assert "is accepted by" in facts(folder, "old.yaml", "new.yaml")[0]


def test_a_shipped_mapping_is_extended_by_its_name(written: Written, bundle: Bundle) -> None:
    site = "mapping: site\nextends: ihe-orders\naccept: {senders: ['X|*']}\n"
    folder = written(site + "tables: {sex: {Q: O}}\n", "site.yaml")
    assert facts(folder) == []
    loaded = load(folder / "site.yaml", examples=False)
    assert any(name.endswith("mappings/ihe-orders.yaml") for name in loaded.files)


def test_what_is_in_force_is_shown_with_the_origin_of_each_line(written: Written) -> None:
    folder = layers(written)
    lines = {each.path: each for each in showing.effective(read_layers(folder / "site.yaml"))}
    assert lines["attributes", "PatientSex"].origin == "base.yaml:14"
    assert lines["attributes", "PatientName", "from"].origin == "site.yaml:7"
    assert lines["attributes", "PatientName", "required"].origin == "base.yaml:12"
    assert lines["tables", "sex", "rows", "W"].origin == "site.yaml:5"
    assert ("attributes", "PatientID") not in lines


@pytest.mark.parametrize("name", ["ihe-orders", "ihe-patients", "status-orm"])
def test_what_is_shown_is_the_mapping_again(mappings: Path, name: str) -> None:
    layered = read_layers(mappings / f"{name}.yaml")
    text = "\n".join(line.text for line in showing.effective(layered))
    assert read_text(text, "shown.yaml").plain() == layered.root.plain()


def test_broker_map_show_tells_what_an_overlay_changes(written: Written) -> None:
    folder = layers(written)
    run = CliRunner().invoke(program(), ["map", "show", str(folder / "site.yaml")])
    assert run.exit_code == 0
    notes = [line.split("  # ")[1].strip() for line in run.output.splitlines() if "  # " in line]
    assert "replaces base.yaml:12" in notes
    assert "takes away base.yaml:13" in notes
    assert "new" in notes
    both = ["map", "show", "--effective", "--json", str(folder / "site.yaml")]
    rows = json.loads(CliRunner().invoke(program(), both).output)
    assert {"path", "text", "value", "origin", "note"} == rows[0].keys()
    assert CliRunner().invoke(program(), ["map", "show", "nothing"]).exit_code == 2
