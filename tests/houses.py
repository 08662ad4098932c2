"""Folders of mappings for houses of tests: what ships, less what only reading costs, a second."""

from __future__ import annotations

import shutil
from pathlib import Path

from broker.settings import shipped_mappings

FEW = ("ihe-orders", "ihe-patients", "status-omi", "status-orm")
GOES_OUT = """\
mapping: out
format: 1
direction: out
message: ORM^O01
version: 2.3.1
fields:
  ORC-1: {const: SC}
  ORC-5: PerformedProcedureStepStatus
"""
"""A mapping of status messages, as small as one can be."""
TABLE = "{file: tables/modalities.csv, key: said, value: modality"


def few_mappings(folder: Path, *more: str) -> Path:
    """Make this folder: FEW of the mappings and these, with the tables and the examples."""
    shipped = shipped_mappings()
    folder.mkdir(parents=True)
    for name in (*FEW, *more):
        shutil.copy(shipped / f"{name}.yaml", folder)
    for name in ("tables", "examples"):
        shutil.copytree(shipped / name, folder / name)
    return folder


def free_mappings(folder: Path) -> Path:
    """The same with orders that no example holds to what ships, so that a test may change them."""
    mapping = few_mappings(folder) / "ihe-orders.yaml"
    mapping.write_text(mapping.read_text().partition("\nexamples:")[0] + "\n")
    return folder


def holding_mappings(folder: Path) -> Path:
    """The same, but that a modality which no table has makes an order wait."""
    mapping = free_mappings(folder) / "ihe-orders.yaml"
    text = mapping.read_text()
    at, end = text.index(f"  modality: {TABLE}"), text.index("  procedure: {file")
    mapping.write_text(f"{text[:at]}  modality: {TABLE}, on_miss: hold}}\n{text[end:]}")
    return folder
