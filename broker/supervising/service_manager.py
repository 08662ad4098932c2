"""What a service manager is told (sd_notify(3)): that we are ready, alive, about to end."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Collection, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from broker.store.executors import AsyncStore

if TYPE_CHECKING:
    from broker.console.health import Health

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"
LOOK_S: Final = 5.0
"""No look takes longer, so that one that hangs feeds nobody."""
PUBLISHING: Final = ("orders", "modality", "updates")
"""Doors that leave a sign of life in the store every other second."""

log = structlog.get_logger("supervising")


class ServiceManager:
    """The one that started us, if it wants to be told.

    Its variables are taken out of `environ`: doors and Redis must not speak for us.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        limit_us, whose = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        mine = whose in ("", f"{os.getpid()}")
        self.watchdog_s = int(limit_us) / 1e6 if mine and limit_us.isdecimal() else 0.0

    def tell(self, *words: str) -> None:
        """Tell it something; one that has gone, or does not read, must not end us."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.setblocking(False)
            told.sendto("\n".join(words).encode(), self._address)

    async def feed(
        self,
        url: str,
        doors: Collection[str],
        *,
        embedded: bool,
        also: Callable[[], str] = lambda: "",
    ) -> None:
        """Tell it that we live, thrice in its time limit, while there is nothing a new start mends.

        `doors` are the names under which they publish; they have half a minute to begin with it.
        `also` is asked what else a new start would mend, '' for nothing.
        """
        from broker.console.health import SILENT_S

        store, began = AsyncStore(url), time.monotonic()
        try:
            while True:
                expected = doors if time.monotonic() - began > SILENT_S else ()
                why = await _ill(store, expected, embedded) or also()
                if why:
                    log.error("the watchdog of the service manager is not fed", why=why)
                self.tell(f"STATUS={why or 'serving'}", *([] if why else [ALIVE]))
                await asyncio.sleep(self.watchdog_s / 3)
        finally:
            await store.close()


async def _ill(store: AsyncStore, doors: Collection[str], embedded: bool) -> str:
    from broker.console.health import look

    try:
        async with asyncio.timeout(LOOK_S):
            health = await look(store, (), now=time.time())
    except TimeoutError:
        return "the store does not answer in time" if embedded else ""
    return illness(health, doors, embedded=embedded)


def illness(health: Health, doors: Collection[str], *, embedded: bool) -> str:
    """Say what a new start could mend, '' when there is nothing.

    A store of others that is away, one that loads its data or is full is not mended by that.
    """
    if health.counts is None:
        hangs = embedded and "Loading" not in health.refusal
        return f"the store does not answer: {health.refusal}" if hangs else ""
    silent = sorted(name for name in doors if not health.hears(name))
    return f"silent: {', '.join(silent)}" if silent else ""
