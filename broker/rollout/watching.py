"""A folder of mappings watched: edits come into force by themselves, once they are right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import structlog
from watchfiles import awatch

from broker.mapping.document import Complaints
from broker.rollout.deploying import Deployed, deploy
from broker.settings import Settings
from broker.store.bundles import SHORT
from broker.store.executors import Store, StoreUnavailable

SETTLE_MS = 300
LOOK_MS = 5_000
AGAIN_S = 5.0

log = structlog.get_logger("rollout")


def start(settings: Settings, url: str) -> None:
    """Put the folder in force before any door opens; `url` is the store's.

    Raises Complaints, StoreUnavailable.
    """
    store = Store(url)
    try:
        _tell(deploy(store, settings, by="start", at=time.time(), always=False))
    finally:
        store.close()


async def reload(settings: Settings, url: str, *, by: str, always: bool) -> bool:
    """Put the folder in force while doors are open; a failure is logged and changes nothing.

    `always` undoes a rollback even when the folder is as it was. False when it failed.
    """
    return await asyncio.to_thread(_reload, settings, url, by, always)


async def watch(settings: Settings, url: str) -> None:
    """Reload whenever the folder changes, until cancelled."""
    changes, told = _changes(settings.mappings), False
    while True:
        try:
            async for _ in changes:
                told = False
                await reload(settings, url, by="watch", always=False)
        except OSError as error:  # no inotify to be had, or no folder at the moment
            if not told:
                log.warning("the mappings cannot be watched", why=error.strerror or str(error))
            told = True
        await asyncio.sleep(AGAIN_S)
        changes = _changes(settings.mappings, at_once=True)


async def _changes(folder: Path, *, at_once: bool = False) -> AsyncIterator[None]:
    """Tell of every change; ends when the folder is another one, as after a move into its place."""
    identity = _identity(folder)
    if at_once and identity:
        yield None
    unsure = True  # what changed before the watching began was seen by nobody
    async for changes in awatch(
        folder, step=SETTLE_MS, rust_timeout=LOOK_MS, yield_on_timeout=True
    ):
        moved = _identity(folder) != identity
        if changes or moved or unsure:
            unsure = False
            yield None
        if moved:
            return


def _identity(folder: Path) -> tuple[int, ...]:
    with suppress(FileNotFoundError):
        found = folder.stat()
        return found.st_dev, found.st_ino
    return ()


def _reload(settings: Settings, url: str, by: str, always: bool) -> bool:
    store = Store(url)
    try:
        deployed = deploy(store, settings, by=by, at=time.time(), always=always)
        if deployed.changed or always:
            _tell(deployed)
    except Complaints as wrong:
        log.error("mappings refused, the former ones stay in force", by=by, why=f"{wrong}")
        return False
    except StoreUnavailable as away:
        log.error("mappings not reloaded: store unavailable", by=by, why=f"{away}")
        return False
    finally:
        store.close()
    return True


def _tell(deployed: Deployed) -> None:
    active = deployed.active
    log.info(
        "mappings put in force" if deployed.changed else "mappings stay as they were",
        version=active.short,
        by=active.by,
        folder=deployed.checked[:SHORT],
        mappings=deployed.mappings,
    )
