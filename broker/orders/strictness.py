"""Messages of strict sources are judged apart: hl7apy takes tens of milliseconds for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Judged = TypeVar("Judged")

# One thread: the judge shares the interpreter with the door, and must never get most of it.
_JUDGE = ThreadPoolExecutor(max_workers=1, thread_name_prefix="strict")


async def judged_apart(work: Callable[[], Judged]) -> Judged:
    """What `work` gives, without making other connections wait for it; raises what it raises."""
    return await asyncio.get_running_loop().run_in_executor(_JUDGE, work)
