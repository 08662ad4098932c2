"""Mapping files judged without being put in force."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from broker.mapping.document import Complaint, Complaints
from broker.mapping.loading import load


def check(paths: Path | Iterable[Path], *, examples: bool = True) -> list[Complaint]:
    """Everything that is wrong or odd, warnings too, in the order of the places."""
    try:
        bundle = load(paths, examples=examples)
    except Complaints as wrong:
        return wrong.complaints
    return sorted(bundle.warnings)
