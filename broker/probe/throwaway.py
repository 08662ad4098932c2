"""A broker for one play: a real `broker run` in a folder of its own, removed afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from broker.probe.address import Address, parse_address

POLL_S = 0.01
STOP_S = 30.0
LOG_TAIL_LINES = 15

CONFIG = """\
site: Demo Hospital
data: {data}
hl7: {{listen: '127.0.0.1:0'}}
dicom: {{ae_title: BROKER, listen: '127.0.0.1:0'}}
console: {{listen: '127.0.0.1:0'}}
ris: [{{name: ris, to: '{ris}'}}]
"""


class NotReady(Exception):
    """The broker did not get ready; carries the last lines of its log."""


@dataclass(frozen=True)
class Running:
    """Where a running broker listens, and its process and log; `data` is its folder."""

    hl7: Address
    dicom: Address
    pid: int
    log: Path

    @property
    def data(self) -> Path:
        return self.log.with_name("data")


@contextmanager
def throwaway_broker(
    ris: Address, *, deadline_s: float = 30.0, said: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a broker that reports to `ris` for the length of a with-block; ports are the system's.

    `said` are further settings as environment, e.g. BROKER_HL7__PROCESSES. Raises NotReady when it
    says no `ready` within the deadline.
    """
    with (
        tempfile.TemporaryDirectory(prefix="broker-", ignore_cleanup_errors=True) as name,
        broker_in(Path(name), ris, deadline_s=deadline_s, said=said) as running,
    ):
        yield running


@contextmanager
def broker_in(
    folder: Path, ris: Address, *, deadline_s: float = 30.0, said: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a broker as `throwaway_broker` does, in a folder that stays: another may go on there."""
    process = _start(folder, ris, said or {})
    try:
        yield _ready(process, folder, deadline_s)
    finally:
        _stop(process)


def _start(folder: Path, ris: Address, said: Mapping[str, str]) -> subprocess.Popen[bytes]:
    config = folder / "broker.yaml"
    config.write_text(CONFIG.format(data=folder / "data", ris=ris), encoding="utf-8")
    # The play must not touch the site's broker, so nothing of its configuration is inherited.
    environ = {name: text for name, text in os.environ.items() if not name.startswith("BROKER_")}
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "broker", "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            env={**environ, **said},
            start_new_session=True,
        )


def _ready(process: subprocess.Popen[bytes], folder: Path, deadline_s: float) -> Running:
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        for line in (folder / "out").read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("ready ") and line.endswith("\n"):
                return read_ready(line, pid=process.pid, log=folder / "log")
        if process.poll() is not None:
            raise NotReady(f"the broker ended with code {process.returncode}\n{_words(folder)}")
        time.sleep(POLL_S)
    raise NotReady(f"the broker was not ready within {deadline_s:g} s\n{_words(folder)}")


def read_ready(line: str, *, pid: int, log: Path) -> Running:
    """The addresses in `ready hl7=HOST:PORT dicom=HOST:PORT …`; the first where several."""
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    try:
        hl7, dicom = (parse_address(words[door].split(",")[0]) for door in ("hl7", "dicom"))
    except (KeyError, ValueError) as error:
        raise NotReady(f"cannot read the ready line: {line.strip()}") from error
    return Running(hl7, dicom, pid, log)


def log_tail(log: Path) -> str:
    """The last lines of a log, '' when there is none."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return "\n".join(lines[-LOG_TAIL_LINES:])


def _words(folder: Path) -> str:
    return f"{log_tail(folder / 'out')}\n{log_tail(folder / 'log')}".strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
