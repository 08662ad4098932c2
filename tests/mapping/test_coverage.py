"""What messages say and a mapping leaves; what a mapping says and no message needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from broker.mapping.loading import load
from broker.mapping.trials.coverage import Coverage, Covering
from broker.mapping.trials.trying import Trial

PLAIN = Path(__file__).parent / "plain"
Tried = Callable[..., Trial]


@pytest.fixture
def covered(tried: Tried) -> Callable[..., Covering]:
    """Coverage of the tests' own mapping by messages of its folder, named by their numbers."""
    bundle = load(PLAIN / "plain.yaml")

    def cover(numbers: Iterable[str]) -> Covering:
        covering = Covering(bundle)
        for number in numbers:
            (path,) = (PLAIN / "messages").glob(f"{number}-*.hl7")
            covering.add(tried(path.read_bytes(), of=bundle))
        return covering

    return cover


def only(covering: Covering) -> Coverage:
    (coverage,) = covering.used
    return coverage


def test_fields_that_are_filled_and_never_read_are_counted(
    covered: Callable[..., Covering],
) -> None:
    """Z segments too; set IDs, empty fields and the header are nothing to read."""
    coverage = only(covered(["01", "03"]))
    assert dict(coverage.unread) == {
        **dict.fromkeys([("PID", 20), ("PV1", 2), ("ORC", 3), ("ORC", 5), ("OBR", 3)], 2),
        **dict.fromkeys([("ZX1", 1), ("ZX1", 3)], 2),
    }


def test_codes_in_no_table_are_counted_even_when_the_message_is_refused(
    covered: Callable[..., Covering],
) -> None:
    """A default of the table is a miss too: somebody should look at the code."""
    coverage = only(covered(["01", "02", "03", "03", "04"]))
    assert (coverage.messages, coverage.refused) == (5, 1)
    assert dict(coverage.misses) == {
        ("modality", "RAD"): 3,
        ("procedure", "X2"): 1,
        ("sex", "Q"): 1,
    }


def test_rules_that_no_message_needed_are_named_with_their_lines(
    covered: Callable[..., Covering],
) -> None:
    """Of what is put together only the last part is known to be read, so no part is called idle."""
    coverage = only(covered(["01"]))
    lines = (PLAIN / "plain.yaml").read_text(encoding="utf-8").splitlines()

    def line(place: str) -> str:
        return lines[int(place.rpartition(":")[2]) - 1]

    assert [each.what for each in coverage.idle_lines()] == ["update", "cancel", "ignore"]
    assert "XO" in line(coverage.idle_lines()[0].place)
    attributes = {each.what: each.place for each in coverage.idle_attributes()}
    assert attributes.keys() == {
        "PatientAddress",
        "ScheduledProcedureStepSequence/ScheduledStationName",
    }
    assert "PID-11.1" in line(attributes["PatientAddress"])
    assert [each.what for each in coverage.idle_sources()] == [
        "PlacerOrderNumberImagingServiceRequest ← OBR-2.1",
        "ScheduledProcedureStepSequence/ScheduledStationAETitle ← OBR-21",
    ]


def test_messages_that_no_mapping_takes_are_counted_by_their_refusal(
    covered: Callable[..., Covering],
) -> None:
    covering = covered(["01", "07", "07"])
    assert only(covering).messages == 1
    ((refusal, count),) = covering.strays.items()
    assert (refusal[:6], count) == ("AR 200", 2)


def test_what_is_counted_holds_no_names(covered: Callable[..., Covering]) -> None:
    """Coverage is pasted into tickets."""
    covering = covered(["01", "02"])
    coverage = only(covering)
    told = repr([coverage.unread, coverage.misses, coverage.idle_sources(), covering.strays])
    assert "DOE" not in told
    assert "4711" not in told


def test_a_base_comes_after_the_mappings_that_extend_it_and_its_rules_are_no_news(
    tried: Tried, tmp_path: Path
) -> None:
    shutil.copytree(PLAIN, tmp_path / "all")
    overlay = tmp_path / "all" / "zz.yaml"
    overlay.write_text("mapping: zz\nextends: plain\naccept: {senders: ['ZZ|*']}\n")
    bundle = load(tmp_path / "all", examples=False)
    covering = Covering(bundle)
    (path,) = (PLAIN / "messages").glob("02-*.hl7")
    raw = path.read_bytes()
    application = raw.split(b"|")[2]
    for each in (raw, raw.replace(b"|" + application + b"|", b"|ZZ|", 1)):
        covering.add(tried(each, of=bundle))
    assert [each.inbound.name for each in covering.used] == ["zz", "plain"]
    base = covering.used[-1]
    assert base.idle_attributes()
    assert not any(map(base.owns, base.idle_attributes()))
