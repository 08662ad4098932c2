"""The HL7 fields that hospitals expect in a worklist: each is read, or left out with a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.mapping.bundle import Bundle
from broker.mapping.trials.coverage import Coverage, Covering

MAPPED = """
PID-3 PID-5 PID-6 PID-7 PID-8 PID-9 PID-10 PID-11 PID-13 PID-14 PID-15 PID-17 PID-18 PID-22 PID-27
NTE-3 PV1-2 PV1-3 PV1-8 PV1-15 PV1-16 PV1-19 PV1-44 AL1-3 DG1-3 DG1-4
ORC-1 ORC-2 ORC-3 ORC-5 ORC-7 ORC-9 ORC-10 ORC-12 ORC-13 ORC-14 ORC-17 ORC-22
TQ1-7 TQ1-9 OBR-4 OBR-12 OBR-13 OBR-16 OBR-18 OBR-19 OBR-20 OBR-24 OBR-27 OBR-30 OBR-31 OBR-34
OBR-36 OBR-44 IPC-1 IPC-2 IPC-3 IPC-4 IPC-5 IPC-6 IPC-7 IPC-8 IPC-9 ZDS-1 OBX-3 OBX-5 OBX-6 MSH-4
"""
"""What the order mapping of widely used archives reads, and what their users ask for beyond it."""

LEFT_OUT = """
PID-2 PID-4 PID-16 PID-35 PID-36 PV1-7 PV1-9 PV1-17 ORC-15 ORC-18 ORC-21 ORC-28 OBR-5 OBR-7 OBR-10
OBR-15 OBR-45 OBR-46 OBR-47 MRG-1 MRG-7 IN1 PD1 PV2 PRT SCH AIS AIG AIL AIP
"""
"""What is deliberately not read: the mapping names it, and why."""


def words(text: str) -> set[str]:
    """The fields and segments that comment lines name, as OBR-5 and `PID-2, 4`."""
    found: set[str] = set()
    for segment, first, others in re.findall(
        r"\b([A-Z][A-Z0-9]{2})(?:-(\d+)(?:\.\d+)?((?:, \d+(?:\.\d+)?)*))?", text
    ):
        numbers = [first, *re.findall(r", (\d+)", others)] if first else []
        found |= {f"{segment}-{number}" for number in numbers} or {segment}
    return found


@pytest.fixture(scope="module")
def read(bundle: Bundle) -> set[str]:
    """Every field that a rule of the orders mapping reads."""
    coverage: Coverage = Covering(bundle).of["ihe-orders"]
    return {f"{segment}-{number}" for segment, number in coverage.mentioned}


@pytest.fixture(scope="module")
def reasons(mappings: Path) -> str:
    """The comment at the end of the attributes that says what is not filled."""
    text = (mappings / "ihe-orders.yaml").read_text(encoding="utf-8")
    return text[text.index("# Deliberately not") : text.index("# What must come out")]


def test_what_is_expected_is_read(read: set[str]) -> None:
    assert set(MAPPED.split()) - read == set()


def test_what_is_not_read_has_a_reason_beside_the_mapping(read: set[str], reasons: str) -> None:
    assert set(LEFT_OUT.split()) - words(reasons) == set()
    assert set(LEFT_OUT.split()) & read == set()


def test_every_reason_is_more_than_a_name(reasons: str) -> None:
    lines = [line for line in reasons.splitlines()[1:] if line.strip("#\n ")]
    assert lines
    for line in lines:
        assert re.match(r"#   \S.*?\S {3,}\S+ \S", line), line


def test_no_field_stands_in_both_lists() -> None:
    assert set(MAPPED.split()).isdisjoint(LEFT_OUT.split())
