"""Runs the self-test again and again, in a process of its own that cannot hold anybody up."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import suppress

import structlog

from broker.settings import Settings

LONGEST_S = 240.0
"""Less than the sign that one runs stays (store.selftest.LOCK_S)."""

log = structlog.get_logger("selftest")


async def test_forever(settings: Settings, environ: Mapping[str, str]) -> None:
    """Run `broker selftest` every so often until cancelled; what it finds is in the store.

    `environ` says what the doors were told beside the configuration: their Redis, where they are
    bound.
    """
    every = settings.selftest.every
    while every is not None:
        code, said = await _run({**os.environ, **environ})
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
