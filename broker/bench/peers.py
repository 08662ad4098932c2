"""Programs that do the same work, as child processes on free ports, ended with their with-block."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from broker.bench.dicom import CALLED
from broker.bench.entries import Entry, write_worklist_file
from broker.bench.timings import MeasurementFailed

HOST = "127.0.0.1"
READY_S = 15.0
STOP_S = 5.0
POLL_S = 0.02

NO_PYTHON_HL7 = "python-hl7 is not installed, so it is left out: pip install hl7"
NO_WLMSCPFS = "DCMTK's wlmscpfs is not installed, so it is left out: apt-get install dcmtk"


@dataclass(frozen=True)
class Serving:
    """Where a server listens and which process it is."""

    address: tuple[str, int]
    pid: int


@contextmanager
def python_hl7() -> Iterator[Serving | None]:
    """python-hl7's MLLP server; None where it is not installed. Raises MeasurementFailed."""
    if find_spec("hl7") is None:
        yield None
        return
    with _child([sys.executable, "-m", "broker.bench.hl7_peer"]) as process:
        assert process.stdout is not None  # noqa: S101 it is a pipe
        port = process.stdout.readline()
        if not port:
            raise MeasurementFailed("python-hl7's server did not start")
        yield Serving((HOST, int(port)), process.pid)


@contextmanager
def pynetdicom_server() -> Iterator[Serving]:
    """pynetdicom's `AE.start_server`, matching nothing. Raises MeasurementFailed."""
    with _child([sys.executable, "-m", "broker.bench.pynetdicom_peer"]) as process:
        assert process.stdout is not None  # noqa: S101 it is a pipe
        port = process.stdout.readline()
        if not port:
            raise MeasurementFailed("pynetdicom's server did not start")
        yield Serving((HOST, int(port)), process.pid)


@contextmanager
def wlmscpfs(entries: Sequence[Entry]) -> Iterator[tuple[str, int] | None]:
    """DCMTK's worklist server on these entries as files; None where it is not installed.

    It cannot be told to listen on one address only: it is on all of them while it runs.
    """
    program = shutil.which("wlmscpfs")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="broker-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name, CALLED)
        folder.mkdir()
        (folder / "lockfile").touch()
        for entry in entries:
            write_worklist_file(entry, folder)
        port = _free_port()
        with _child([program, "--quiet", "--data-files-path", name, str(port)]) as process:
            _await_listening(process, port)
            yield HOST, port


@contextmanager
def _child(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    # A group of its own, because wlmscpfs forks for each association.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as found:
        port: int = found.getsockname()[1]
    return port


def _await_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((HOST, port), POLL_S):
            return
        time.sleep(POLL_S)
    raise MeasurementFailed(f"wlmscpfs did not listen on port {port} within {READY_S:g} s")
