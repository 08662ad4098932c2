"""`broker demo` as people run it: a real broker, every hop holds, nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for Redis's socket; pytest's own is too deep for that."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


@pytest.mark.peer("redis-server")
def test_the_demo_plays_the_whole_round_trip(short_folder: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "broker", "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env={**os.environ, "TMPDIR": str(short_folder), "COLUMNS": "120"},
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "all 9 steps held" in told.stdout
    assert list(short_folder.iterdir()) == []


@pytest.mark.peer("redis-server")
def test_a_terminated_demo_takes_its_broker_with_it(short_folder: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "broker", "demo"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(short_folder)},
    )
    deadline = time.monotonic() + 20
    while not list(short_folder.glob("*/broker.yaml")) and time.monotonic() < deadline:
        time.sleep(0.02)
    demo.terminate()
    assert demo.wait(40) == 128 + signal.SIGTERM
    assert list(short_folder.iterdir()) == []
