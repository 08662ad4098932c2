"""What a load client hands back, and how a client is run: as a process, never as our own thread."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

GRACE_S = 15.0  # to start, connect and report, beside the time that is measured


class MeasurementFailed(Exception):
    """A load client or a peer ended without a result; carries its last words."""


@dataclass(frozen=True)
class Timings:
    """One measurement: seconds of each answer and of the whole; `faults` are wrong answers."""

    latencies_s: list[float]
    elapsed_s: float
    faults: int


def print_timings(timings: Timings) -> None:
    """Hand the result of a client process to whoever started it."""
    print(json.dumps(asdict(timings)))


def run_client(module: str, *arguments: object, given: bytes, seconds: float) -> Timings:
    """Run `python -m module SECONDS arguments…` on `given`; it is killed if it does not end.

    Raises MeasurementFailed when it fails, hangs or got no answer at all.
    """
    command = [sys.executable, "-m", module, str(seconds), *map(str, arguments)]
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=seconds + GRACE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementFailed(f"{module} did not end within {error.timeout:g} s") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise MeasurementFailed(f"{module}: {words[-1] if words else f'code {done.returncode}'}")
    timings = Timings(**json.loads(done.stdout))
    if not timings.latencies_s:
        raise MeasurementFailed(f"{module}: no answer within {seconds:g} s")
    return timings
