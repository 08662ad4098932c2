"""The JSON Schema: an editor that knows it accepts the shipped mappings and marks slips."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli.program import program
from broker.mapping.files.schema import schema

SITE = """\
mapping: site
extends: ihe-orders
accept: {senders: [EPIC|*]}
tables: {sex: {W: F, N: ~}, modality: {on_miss: hold}}
attributes:
  PatientName: ~
  PatientSex: {required: always}
  AccessionNumber: {from: [OBR-18, {from: OBR-3, when: OBR-3 valued}], default: ~}
"""


def judged(folder: Path, *files: Path) -> str:
    """What check-jsonschema says, '' when all is well."""
    (folder / "schema.json").write_text(json.dumps(schema()), encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", folder / "schema.json"]
    run = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def test_the_shipped_mappings_validate(tmp_path: Path, mappings: Path) -> None:
    assert judged(tmp_path, *sorted(mappings.glob("*.yaml"))) == ""


def test_an_overlay_may_leave_out_and_take_away(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE, encoding="utf-8")
    assert judged(tmp_path, tmp_path / "site.yaml") == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("accept:", "acept:"),
        ("required: always", "required: allways"),
        ("on_miss: hold", "on_miss: hold, file: [a]"),
        ("mapping: site\n", ""),
        ("extends: ihe-orders\n", ""),
        ("when: OBR-3 valued", "wen: OBR-3 valued"),
    ],
)
def test_a_slip_does_not_validate(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "site.yaml").write_text(SITE.replace(old, new), encoding="utf-8")
    assert "site.yaml" in judged(tmp_path, tmp_path / "site.yaml")


def test_every_key_is_explained() -> None:
    definitions = schema()["$defs"]
    for name in ("InboundFile", "OutboundFile", "AttributeRule", "TableRule", "SourceRule"):
        for key, part in definitions[name]["properties"].items():
            assert part.get("description"), f"{name}.{key}"


def test_broker_schema_prints_it() -> None:
    run = CliRunner().invoke(program(), ["schema"])
    assert json.loads(run.output) == schema()
