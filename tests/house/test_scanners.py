"""`dicom.aes` in broker.yaml: the example of docs/scanners.md, and mistakes with their place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.mapping.text.nodes import Complaints
from broker.settings import Lenient, Settings
from broker.worklist.directory import Unrecognised
from broker.worklist.rules import MAX_ANSWERS, Rules

DOC = (Path(__file__).parents[2] / "docs" / "scanners.md").read_text(encoding="utf-8")


def load(text: str, folder: Path) -> Settings:
    path = folder / "broker.yaml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path, {})


def example() -> str:
    found = re.search(r"^```yaml scanners\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_example_of_the_documentation_means_what_it_says(tmp_path: Path) -> None:
    dicom = load(example(), tmp_path).dicom
    directory = dicom.directory()
    ct, ward = directory.profile("CT1_OLD", "10.1.4.9"), directory.profile("US_WARD")
    assert ct.title == "CT1"
    assert ct.shared == {"CT1", "CT1_OLD", "CT2"}
    assert ct.rules.own_station
    assert ct.rules.past_days == directory.stranger.rules.past_days == 30
    assert (ward.rules.past_days, ward.rules.terms) == (1, ("ISO_IR 100",))
    assert directory.recognise("CT1", "10.1.2.4") is Unrecognised.ELSEWHERE
    assert dicom.aliases == ("OLD_MWL",)


def test_every_rule_is_documented_and_nothing_else() -> None:
    """A key in the table is a key of the settings."""
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", DOC, re.MULTILINE)
    said = {word for row in rows for word in re.findall(r"`([a-z_]+)`", row)}
    assert said == set(Rules.model_fields)
    for name in Lenient.model_fields:
        assert f"`{name}`" in DOC


def test_without_a_word_any_scanner_sees_all_that_is_to_be_done() -> None:
    rules = Settings.load(None, {}).dicom.directory().profile("ANY").rules
    assert rules.max_answers == MAX_ANSWERS == 5000
    assert rules == Rules()


def test_rules_can_be_given_as_variables() -> None:
    settings = Settings.load(
        None,
        {
            "BROKER_DICOM__RULES__PAST_DAYS": "3",
            "BROKER_DICOM__RULES__LENGTHS": "{PatientName: 32}",
            "BROKER_DICOM__AES": "[{title: CT1, ahead_days: 2}]",
        },
    )
    rules = settings.dicom.directory().profile("CT1").rules
    assert (rules.past_days, rules.ahead_days) == (3, 2)
    assert rules.lengths == (("PatientName", 32),)


@pytest.mark.parametrize(
    ("aes", "fact"),
    [
        ("[{title: A}, {title: A}]", "'A' is there twice"),
        ("[{title: A, addresses: [10.1.1.1]}, {title: B, aliases: [A]}]", "'A' is there twice"),
        ("[{title: A, omit: [PatientName]}]", "'PatientName' is type 1"),
        ("[{title: A, lengths: {PatientID: 4}}]", "it is not cut"),
        ("[{title: A, hide: [GONE]}]", "hide: 'GONE' is none"),
        ("[{title: A, modalitys: [CT]}]", "did you mean 'modalities'?"),
        ("[{title: A, charset: ISO_IR_100}]", "as ISO_IR 100 is"),
        ("[{title: A, addresses: [ward 7]}]", "a network is written like"),
    ],
)
def test_a_mistake_is_told_with_its_place(aes: str, fact: str, tmp_path: Path) -> None:
    with pytest.raises(Complaints) as caught:
        load(f"dicom:\n  aes: {aes}\n", tmp_path)
    (complaint,) = caught.value.complaints
    assert "broker.yaml:" in str(complaint)
    assert fact in str(complaint)


def test_to_refuse_everybody_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Complaints, match="wants the AEs that may call"):
        load("dicom: {unknown_ae: refuse}\n", tmp_path)


def test_devices_with_addresses_may_share_a_title(tmp_path: Path) -> None:
    text = "dicom: {aes: [{title: A, addresses: [10.0.0.1]}, {title: A, addresses: [10.0.0.2]}]}\n"
    assert len(load(text, tmp_path).dicom.directory().profiles) == 2
