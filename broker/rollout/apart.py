"""A folder put in force by a process of its own: what runs away there is ended, alone."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from typing import Any

from broker.mapping.text.nodes import Complaint, Complaints
from broker.rollout.outcome import Deployed
from broker.settings import Settings
from broker.store.bundles import Activation
from broker.store.executors import StoreUnavailable

DEADLINE_S = 60.0
"""All shipped mappings take a second."""


class Unfinished(Exception):
    """The process ended, or was ended, before it had an answer; says how."""


async def deploy_apart(settings: Settings, url: str, *, by: str, always: bool) -> Deployed:
    """Do what `deploy` does, elsewhere; cancelled, it is over at once.

    Raises Complaints, StoreUnavailable, Unfinished, OSError when no process starts.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broker.rollout.inside", str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            asked = json.dumps(_asked(settings) | {"url": url, "by": by, "always": always})
            said, _ = await process.communicate(asked.encode())
    except TimeoutError:
        fact = f"checking the mappings took more than {DEADLINE_S:g} s and was given up"
        raise Unfinished(fact) from None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode or not said:
        raise Unfinished(f"checking the mappings ended with code {process.returncode}")
    return _answered(json.loads(said))


def _asked(settings: Settings) -> dict[str, Any]:
    """What putting a folder in force has to know: where it is, and what each RIS is sent."""
    ris = [{"name": e.name, "to": str(e.to), "mapping": e.mapping} for e in settings.ris]
    return {"mappings": str(settings.mappings), "ris": ris}


def _answered(said: dict[str, Any]) -> Deployed:
    if "complaints" in said:
        raise Complaints(Complaint(**each) for each in said["complaints"])
    if "away" in said:
        raise StoreUnavailable(said["away"])
    return Deployed(**said | {"active": Activation(**said["active"])})
