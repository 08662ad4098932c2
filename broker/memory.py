"""What a door need not hold: it stays small, also after a large message.

Measured on Linux with glibc, Python 3.11 and the mappings that ship (MiB resident of the orders
door): at start 87 with all that libraries and the command line import, 78 as it is (`__main__`,
`cli`, `Bundle.for_messages`). After sixty messages of up to 15 MB, six of them at once: 367 by the
allocator's own rules, 98 with those of `GIVES_MEMORY_BACK` (supervising.starting), 81 with `settle`
and `tidy`.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

YOUNG_OBJECTS: Final = 10_000
LOOK_S: Final = 5.0
GROWN: Final = 4 * 2**20
"""Bytes by which a door may grow before it is asked what it can give back."""


def settle() -> None:
    """Take all that was loaded out of the garbage collector's rounds: it stays as long as we do.

    Libraries and mappings are half a million objects; a message makes a few thousand, nearly none
    of them in circles.
    """
    gc.collect()
    _give_back()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


async def tidy() -> None:
    """Give back what large messages have left empty, until cancelled; it takes milliseconds."""
    lowest = _resident()
    while lowest:
        await asyncio.sleep(LOOK_S)
        if _resident() > lowest + GROWN:
            _give_back()
            lowest = _resident()


def _give_back() -> None:
    """Hand empty pages to the system, where the C library can (glibc)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    """Bytes in memory, 0 where the system does not say."""
    with suppress(OSError), Path("/proc/self/statm").open(encoding="ascii") as sizes:
        return int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
