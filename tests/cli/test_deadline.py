"""A check of mappings that would never end says so and ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from broker.cli import deadline, run_command
from broker.mapping import checking


def test_a_check_that_takes_too_long_ends_with_75_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(deadline, "DEADLINE_S", 0.05)
    monkeypatch.setattr(checking, "check", lambda _: time.sleep(20))
    assert run_command(["map", "check", str(tmp_path)]) == os.EX_TEMPFAIL
    assert "took more than 0.05 s" in capsys.readouterr().err
