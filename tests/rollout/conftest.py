"""A private Redis, and settings over a folder of mappings that a test may edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.settings import Redis, Settings
from broker.store.server import EmbeddedServer

OUT = """\
mapping: out
format: 1
direction: out
message: ORM^O01
version: 2.3.1
fields:
  ORC-1: {const: SC}
  ORC-5: PerformedProcedureStepStatus
"""


@pytest.fixture
def settings(server: EmbeddedServer, tmp_path: Path) -> Settings:
    """Settings over the folder of one small mapping `out`."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "out.yaml").write_text(OUT)
    return Settings(mappings=rules, redis=Redis(mode="url", url=server.url))
