"""A private Redis, and settings over a folder of mappings that a test may edit."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.settings import Redis, Settings
from broker.store.server import EmbeddedServer
from tests.houses import GOES_OUT


@pytest.fixture
def settings(server: EmbeddedServer, tmp_path: Path) -> Settings:
    """Settings over the folder of one small mapping `out`."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "out.yaml").write_text(GOES_OUT)
    return Settings(mappings=rules, redis=Redis(mode="url", url=server.url))
