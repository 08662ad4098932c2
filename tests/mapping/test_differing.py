"""Messages through two sets of mappings: every change is found, grouped and counted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from broker.mapping.loading import Bundle, load
from broker.mapping.trials.differing import Comparison

RECEIVED = datetime(2026, 3, 16, 9, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
PLAIN = Path(__file__).parent / "plain"
Edited = Callable[..., Bundle]
Groups = set[tuple[str, str, str, int]]


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    """The tests' own mapping with some of its text replaced."""

    def bundle(*changes: tuple[str, str]) -> Bundle:
        text = (PLAIN / "plain.yaml").read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "plain.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path, examples=False)

    return bundle


def compared(old: Bundle, new: Bundle) -> Comparison:
    comparison = Comparison(old, new, BERLIN)
    for path in sorted((PLAIN / "messages").iterdir()):
        comparison.add(path.stem, path.read_bytes(), RECEIVED)
    return comparison


def groups(comparison: Comparison) -> Groups:
    return {(each.what, each.old, each.new, each.count) for each in comparison.groups}


def test_nothing_differs_from_itself(edited: Edited) -> None:
    comparison = compared(edited(), edited())
    assert (comparison.messages, comparison.changed) == (7, 0)
    assert comparison.groups == comparison.refusals == []


def test_changes_are_grouped_by_attribute_and_by_the_kinds_of_its_values(edited: Edited) -> None:
    """A value may change, come, go, or be said with less certainty; steps show their sequence."""
    new = edited(
        ("  PatientBirthDate: PID-7 | date\n", ""),
        ("  PatientSex: PID-8 | lookup(sex)", "  PatientSex: {const: O}"),
        ("ORC-2.1 ?? OBR-2.1", "OBR-2.2 ?? OBR-2.1"),
        ("      ScheduledStationName: OBR-22", "      ScheduledStationName: ORC-1"),
    )
    comparison = compared(edited(), new)
    assert groups(comparison) == {
        ("PatientBirthDate", "value", "absent", 2),
        ("PatientSex", "value", "default", 3),
        ("PlacerOrderNumberImagingServiceRequest", "the same value, value", "choice 2", 4),
        ("ScheduledProcedureStepSequence/ScheduledStationName", "absent", "value", 4),
    }
    assert comparison.changed == 4
    assert [each.count for each in comparison.groups] == [4, 4, 3, 2]


def test_a_group_shows_its_first_messages_with_both_values(edited: Edited) -> None:
    """No more than three, however many there are."""
    (group,) = compared(
        edited(), edited(("Description: OBR-4.2\n  Sch", "Description: OBR-4.1\n  Sch"))
    ).groups
    assert (group.what, group.count) == ("RequestedProcedureDescription", 4)
    assert [each.message for each in group.samples] == ["01-ct", "02-mr", "03-code"]
    assert (group.samples[0].old, group.samples[0].new) == ("CHEST", "X1")


def test_an_attribute_that_goes_has_no_new_value(edited: Edited) -> None:
    (group,) = compared(edited(), edited(("  PatientBirthDate: PID-7 | date\n", ""))).groups
    assert {(each.old, each.new) for each in group.samples} == {("19800101", "")}


def test_refusals_that_appear_and_vanish_are_told_apart(edited: Edited) -> None:
    """What one side refuses has no attributes to compare."""
    old, new = (
        edited(),
        edited(("AccessionNumber: {from: OBR-18, required: schedule}", "AccessionNumber: OBR-18")),
    )
    accession = "AE 101 OBR^1^18: AccessionNumber is missing"
    vanished, appeared = compared(old, new), compared(new, old)
    assert [(each.old, each.new, each.count) for each in vanished.refusals] == [
        (accession, "accepted", 1)
    ]
    assert [(each.old, each.new, each.count) for each in appeared.refusals] == [
        ("accepted", accession, 1)
    ]
    assert vanished.groups == appeared.groups == []


def test_what_is_accepted_anew_tells_what_it_asks_for(edited: Edited) -> None:
    """All of it: each of its attributes is a change."""
    new = edited(("AccessionNumber: {from: OBR-18,", "AccessionNumber: {from: OBR-18 ?? OBR-2,"))
    (group,) = compared(edited(), new).refusals
    ((gain,),) = (sample.gains for sample in group.samples)
    assert gain["action"] == "schedule"
    assert gain["AccessionNumber"]
    assert gain["PatientID"]
    assert gain["ScheduledProcedureStepSequence"][0]["Modality"]


def test_sequences_are_told_in_words(edited: Edited) -> None:
    code = "RequestedProcedureCodeSequence: OBR-4 | code"
    new = edited(("  PatientSex:", f"  {code}('99X')\n  PatientSex:"))
    (group,) = compared(edited(), new).groups
    assert "[CodeValue " in group.samples[0].new
    assert "{" not in group.samples[0].new


def test_a_message_that_waits_for_a_code_is_not_accepted_as_the_others(edited: Edited) -> None:
    """It would be on no list."""
    new = edited(("{CT: CT, MR: MR}", "{rows: {CT: CT, MR: MR}, on_miss: hold}"))
    told = {(each.old, each.new) for each in compared(edited(), new).refusals}
    assert ("accepted", "held: table 'modality' has no 'RAD'") in told


def test_a_refusal_for_another_reason_is_a_change(edited: Edited) -> None:
    """A message that no mapping accepts is refused as well."""
    comparison = compared(edited(), edited(("ORM^O01", "ORM^O02")))
    told = {each.old[:6]: each for each in comparison.refusals}
    assert {each.new[:6] for each in told.values()} == {"AR 201"}
    assert told["accept"].count == 4
    assert told["AE 103"].samples[0].message == "04-refused"


def test_a_moved_line_is_no_change(edited: Edited) -> None:
    """Remedies of refusals name lines of the mapping."""
    assert (
        compared(edited(), edited(("tables:\n", "# one\n# two\n# three\ntables:\n"))).changed == 0
    )


def test_another_action_and_another_number_of_changes_are_told(edited: Edited) -> None:
    found = groups(compared(edited(), edited(("ORC-1 = NW", "ORC-1 = ZZ"))))
    assert ("action", "schedule", "ignore", 3) in found
    per_message = edited(("tables:\n", "changes: per message\ntables:\n"))
    two = b"MSH|^~\\&|R|N|||20260316||ORM^O01|1|P|2.3.1\rORC|CA|1\rOBR|1|1\rORC|CA|2\rOBR|1|2\r"
    comparison = Comparison(edited(), per_message, BERLIN)
    assert comparison.add("two", two, RECEIVED)
    assert groups(comparison) == {("changes", "2", "1", 1)}
