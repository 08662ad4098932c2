"""A folder of mappings watched: edits come into force by themselves, once they are right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import structlog
from watchfiles import awatch

from broker.mapping.text.nodes import Complaints
from broker.rollout.apart import Unfinished, deploy_apart
from broker.rollout.outcome import Deployed, note_failure
from broker.settings import Settings
from broker.store.bundles import SHORT
from broker.store.executors import Store, StoreUnavailable

SETTLE_MS = 300
LOOK_MS = 5_000
AGAIN_S = 5.0

log = structlog.get_logger("rollout")


async def reload(settings: Settings, url: str, *, by: str, always: bool) -> bool:
    """Put the folder in force while doors are open; a failure is logged and changes nothing.

    `always` undoes a rollback even when the folder is as it was. False when it failed.
    """
    try:
        deployed = await deploy_apart(settings, url, by=by, always=always)
    except Complaints as wrong:
        log.error("mappings refused, the former ones stay in force", by=by, why=f"{wrong}")
        return False
    except StoreUnavailable as away:
        log.error("mappings not reloaded: store unavailable", by=by, why=f"{away}")
        return False
    except (Unfinished, OSError) as trouble:
        log.error("mappings not reloaded, the former ones stay in force", by=by, why=f"{trouble}")
        await asyncio.to_thread(_note, url, by, f"{trouble}")
        return False
    if deployed.changed or always:
        _tell(deployed)
    return True


async def watch(settings: Settings, url: str) -> None:
    """Reload whenever the folder changes, until cancelled."""
    changes, told, right = _changes(settings.mappings), False, True
    while True:
        try:
            async for _ in changes:
                told = False
                was_right = right
                right = await reload(settings, url, by="watch", always=False)
                if right and not was_right:
                    log.info("the folder of mappings is right again", folder=f"{settings.mappings}")
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


def _note(url: str, by: str, reason: str) -> None:
    """What a process that was ended could not note itself."""
    store = Store(url)
    try:
        note_failure(store, by=by, at=time.time(), reason=reason)
    finally:
        store.close()


def _tell(deployed: Deployed) -> None:
    active = deployed.active
    log.info(
        "mappings put in force" if deployed.changed else "mappings stay as they were",
        version=active.short,
        by=active.by,
        folder=deployed.checked[:SHORT],
        mappings=deployed.mappings,
    )
