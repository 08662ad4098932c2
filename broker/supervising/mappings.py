"""The folder of mappings put in force before a door opens."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final

import structlog

from broker.supervising.forking import ForkServer
from broker.supervising.refusal import CannotRun

CHECK_DEADLINE_S: Final = 300.0
"""They take a second, or some on a slow machine."""


async def put_in_force(
    forkserver: ForkServer, environ: Mapping[str, str], told_to_end: asyncio.Future[int]
) -> bool:
    """Put the folder in force; False when we were told to end meanwhile. Raises CannotRun."""
    asked = asyncio.ensure_future(forkserver.deploy(environ))
    told_to_end.add_done_callback(lambda _: asked.cancel())
    done, _ = await asyncio.wait([asked], timeout=CHECK_DEADLINE_S)
    if not done:
        asked.cancel()
        fact = f"checking the mappings took more than {CHECK_DEADLINE_S:g} s and was given up"
        raise CannotRun(os.EX_TEMPFAIL, f"{fact}; see `broker map check`")
    if asked.cancelled():
        return False
    try:
        _tell(asked.result())
    except OSError as trouble:
        raise CannotRun(os.EX_TEMPFAIL, f"checking the mappings: {trouble}") from trouble
    return True


def _tell(told: Mapping[str, Any]) -> None:
    if told["code"]:
        raise CannotRun(told["code"], told["why"])
    event = "mappings put in force" if told["changed"] else "mappings stay as they were"
    shown = {name: told[name] for name in ("version", "by", "folder", "mappings")}
    structlog.get_logger("supervising").info(event, **shown)
