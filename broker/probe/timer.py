"""Runs the self-test again and again, in a process of its own that cannot hold anybody up."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from broker.settings import Settings

LONGEST_S = 240.0
"""Less than the sign that one runs stays (store.selftest.LOCK_S)."""

FAILURES = (1, os.EX_SOFTWARE)
"""Exit codes of one that came to an end, or to none, and found a hop that fails."""

log = structlog.get_logger("probe")


@dataclass
class Course:
    """How the self-tests of a run went: whether a new start would mend what fails.

    It would only where one has held since the last start: a mapping that refuses, or a sender that
    is not let in, is the same after it. So no broker is started anew again and again.
    """

    patience: int
    """Failures in a row; 0: it is never asked."""
    held: bool = False
    failed: int = 0

    def note(self, code: int) -> None:
        """Take the exit code of one; whatever could not be tried, as without a store, is none."""
        if code == 0:
            self.held, self.failed = True, 0
        elif code in FAILURES:
            self.failed += 1

    @property
    def illness(self) -> str:
        """Say what a new start could mend, '' when there is nothing."""
        if not (self.held and self.patience and self.failed >= self.patience):
            return ""
        return f"the self-test failed {self.failed} times in a row"


def is_ours(settings: Settings) -> bool:
    """Whether the self-test is run from here: its status messages arrive at an address of ours.

    So of several machines with the same configuration one runs it.
    """
    host = settings.selftest.sink.host
    try:
        (family, _, _, _, place), *_ = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.bind(place)
    except OSError as problem:
        if problem.errno != errno.EADDRNOTAVAIL:
            return True
        log.info("the self-test is run by the machine of selftest.sink", sink=host)
        return False
    return True


async def test_forever(
    settings: Settings, environ: Mapping[str, str], noted: Callable[[int], None]
) -> None:
    """Run `broker selftest` every so often until cancelled; what it finds is in the store.

    `environ` says what the doors were told beside the configuration: their Redis, where they are
    bound. `noted` gets each exit code.
    """
    every = settings.selftest.every
    while every is not None:
        code, said = await _run({**os.environ, **environ})
        noted(code)
        if code == os.EX_TEMPFAIL:
            log.info("self-test put off", why=said)
        elif code:
            log.error("self-test failed", code=code, why=said, remedy="broker doctor")
        await asyncio.sleep(every.total_seconds())


async def _run(environ: Mapping[str, str]) -> tuple[int, str]:
    """Give its exit code, and what it complained of, without what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broker", "selftest"),
        env=dict(environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), LONGEST_S)
    except TimeoutError:
        return os.EX_SOFTWARE, f"it took more than {LONGEST_S:g} s"
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, said.decode(errors="replace")[-500:].strip()
