"""The disk of our Redis: writes are refused before it is full."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, NoReturn

import structlog

from broker.store import reserve
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.store.server import EmbeddedServer

LOOK_S: Final = 2.0

log = structlog.get_logger("supervising")


async def watch(server: EmbeddedServer, disk_reserve: int) -> NoReturn:
    """Refuse writes before the disk is full; reads go on, and all resumes by itself."""
    store, told = AsyncStore(server.url), None
    while True:
        reason = reserve.shortage(server.folder, disk_reserve)
        if bool(reason) != told:
            with suppress(StoreUnavailable):
                await store.run(reserve.refuse_writes(reason))
                told = bool(reason)
                if reason:
                    log.error("writes are refused", why=reason)
        await asyncio.sleep(LOOK_S)
