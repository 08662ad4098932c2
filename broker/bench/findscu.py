"""DCMTK's findscu as the client: what a scanner with that toolkit feels on one association."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time

from broker.bench.dicom import ANSWERS, CALLED, CALLING
from broker.bench.timings import GRACE_S, MeasurementFailed, Timings

ANSWER = "Find Response:"


def ask_stock(
    address: tuple[str, int], identifier: bytes, *, queries: int, seconds: float
) -> Timings | None:
    """Ask over and over on one association; None where findscu is not installed.

    Only the mean can be told: the difference of a long and of a short run, so that the start of the
    program and the association do not count. Raises MeasurementFailed.
    """
    program = shutil.which("findscu")
    if program is None:
        return None
    with tempfile.NamedTemporaryFile(prefix="broker-", suffix=".dcm") as file:
        file.write(identifier)
        file.flush()
        titles = ("-aet", CALLING, "-aec", CALLED)
        command = [program, "-W", *titles, *map(str, address), file.name]
        _, said = _run([*command, "--verbose"], seconds)
        once, _ = _run([*command, "--quiet"], seconds)
        often, _ = _run([*command, "--quiet", "--repeat", f"{queries + 1}"], seconds)
    elapsed = max(often - once, 1e-9)
    return Timings([elapsed / queries] * queries, elapsed, int(said.count(ANSWER) != ANSWERS))


def _run(command: list[str], seconds: float) -> tuple[float, str]:
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + GRACE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementFailed(f"findscu did not end within {error.timeout:g} s") from error
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise MeasurementFailed(f"findscu: {words[-1] if words else done.returncode}")
    return time.perf_counter() - began, done.stdout + done.stderr
