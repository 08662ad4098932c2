"""Which later places are remembered as poorer ones, and what a default is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.mapping.loading import load
from broker.mapping.trials.trying import Trial
from broker.worklist.changes import FILLS_GAPS, Ranked
from tests.mapping.test_policies import ORC, PID, SITE

Written = Callable[..., Path]
Tried = Callable[..., Trial]
OBR = "OBR|1|PLACER-1|FILLER-1|CT1^CT HEAD||||||||||||||ACC1||||||CT|||^^^202603170900"


def said(written: Written, tried: Tried, keyword: str, source: str) -> Any:
    """What the only step says where the site reads it from this source."""
    lines = [each for each in SITE.splitlines() if not each.strip().startswith(f"{keyword}:")]
    place = "      " if keyword in STEP else "  "
    before = "ScheduledStationAETitle" if keyword in STEP else "  ScheduledProcedureStepSequence"
    before = before if keyword != "ScheduledStationAETitle" else "ScheduledProcedureStepStartDate"
    at = next(n for n, each in enumerate(lines) if before in each)
    lines.insert(at, f"{place}{keyword}: {source}")
    text = "\n".join([*lines, ""]).replace("tables:\n", "tables:\n  at: {CT: CT1, '*': ANY}\n")
    (outcome,) = tried("\n".join([PID, ORC, OBR]), of=load(written(text))).outcomes
    attributes = outcome.change.attributes
    (step,) = attributes["ScheduledProcedureStepSequence"]
    return {**attributes, **step}[keyword]


STEP = {"ScheduledStationAETitle", "ScheduledProcedureStepLocation"}


@pytest.mark.parametrize(
    ("keyword", "source", "expected"),
    [
        ("VisitComments", "OBR-13 ?? OBR-4.2", "CT HEAD"),
        ("VisitComments", "{from: OBR-13 ?? OBR-4.2, ranked: yes}", Ranked("CT HEAD", 1)),
        ("VisitComments", "{from: [OBR-13, {from: OBR-4.2 | lower, when: ORC-1 = NW}]}", "ct head"),
        ("AccessionNumber", "OBR-13 ?? OBR-18", Ranked("ACC1", 1)),
        ("AccessionNumber", "{from: OBR-13 ?? OBR-18, ranked: no}", "ACC1"),
    ],
)
def test_only_identifiers_remember_a_later_place_unless_it_is_said(
    written: Written, tried: Tried, keyword: str, source: str, expected: Any
) -> None:
    assert said(written, tried, keyword, source) == expected


@pytest.mark.parametrize(
    ("keyword", "source", "made_of"),
    [
        (
            "ScheduledStationAETitle",
            "{from: OBR-13, default: Modality | lookup(at)}",
            ("Modality",),
        ),
        ("ScheduledStationAETitle", "Modality | lookup(at)", ("Modality",)),
        ("ScheduledProcedureStepLocation", "{from: OBR-13, default: OBR-4.1}", ()),
        ("ScheduledProcedureStepLocation", "{from: OBR-13, default: OBR-4.1 + today}", None),
        ("ScheduledProcedureStepLocation", "{from: OBR-13, default: MSH-4}", None),
        ("ScheduledProcedureStepLocation", "{from: OBR-13, default: \"'HERE'\"}", None),
        ("ScheduledProcedureStepLocation", "{const: HERE}", None),
        ("AccessionNumber", "{from: OBR-13, default: OBR-4.1}", None),
    ],
)
def test_a_default_tells_what_it_is_made_of(
    written: Written, tried: Tried, keyword: str, source: str, made_of: Any
) -> None:
    found = said(written, tried, keyword, source)
    assert (found.rank, found.stands_on) == (FILLS_GAPS, made_of)


@pytest.mark.parametrize(
    ("keyword", "text", "expected"),
    [
        ("PatientWeight", "-5", ""),
        ("PatientWeight", "0", ""),
        ("PatientWeight", "7000", ""),
        ("PatientWeight", "650", "650"),
        ("PatientSize", "0.1", ""),
        ("PatientSize", "170", ""),
        ("PatientSize", "1.7", "1.7"),
    ],
)
def test_no_scanner_is_told_a_weight_or_height_that_nobody_has(
    written: Written, tried: Tried, keyword: str, text: str, expected: str
) -> None:
    site = SITE.replace("  AdmissionID", f"  {keyword}: OBR-13\n  AdmissionID")
    obr = OBR.replace("^CT HEAD|||||||||", f"^CT HEAD|||||||||{text}")
    (outcome,) = tried("\n".join([PID, ORC, obr]), of=load(written(site))).outcomes
    assert outcome.change.attributes.get(keyword, "") == expected
    assert len(outcome.warnings) == (not expected)
