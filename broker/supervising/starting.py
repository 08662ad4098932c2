"""The start of a broker: what has to be right before a door opens, then the supervisor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from broker.rollout.risks import secured
from broker.settings import Settings
from broker.store.executors import Store, StoreUnavailable
from broker.store.indexing import (
    IndexesTooNew,
    OthersRun,
    ensure_indexed,
    see_nobody_earlier,
)
from broker.supervising.doors import ROLES, doors
from broker.supervising.forking import ForkServer
from broker.supervising.ports import refuse_taken
from broker.supervising.redis_server import have_redis
from broker.supervising.refusal import CannotRun
from broker.supervising.service_manager import ServiceManager
from broker.supervising.supervisor import Run, Supervisor
from broker.tls.credentials import Unusable, context_of

GIVES_MEMORY_BACK: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
"""For doors on glibc: what a large message took goes back to the system at its end.

By itself the allocator learns from the first large block to keep all that are smaller."""

log = structlog.get_logger("supervising")


def run(
    settings: Settings,
    roles: Sequence[str] = (),
    *,
    config: Path | None = None,
    announce: Callable[[str], None] = lambda line: print(line, flush=True),
    told_to_end: Callable[[], bool] = lambda: False,
    manager: ServiceManager | None = None,
) -> int:
    """Run the doors named (default: all) until SIGTERM or SIGINT; returns the exit code.

    `announce` gets one line, `ready hl7=HOST:PORT …`, when every listener is bound and Redis takes
    writes; then the service `manager` is told too. `told_to_end`: whether SIGTERM came before we
    could listen to it. Raises CannotRun.
    """
    wanted = [role for role in ROLES if role in (roles or ROLES)]
    _refuse_an_embedded_redis_for_some(settings, wanted)
    _refuse_bad_certificates(settings, wanted)
    environ = _environ(config)
    with ExitStack() as stack:
        forkserver = ForkServer(wanted, environ)
        stack.callback(forkserver.close)
        server = have_redis(settings, stack)
        refuse_taken(settings, wanted)
        made = Run(
            settings,
            doors(settings, wanted),
            server,
            forkserver,
            environ,
            announce,
            manager or ServiceManager({}),
        )
        _index(settings, made.url)
        return asyncio.run(_supervise(made, told_to_end))


async def _supervise(run: Run, told_to_end: Callable[[], bool]) -> int:
    return await Supervisor(run).run(told_to_end)


def _refuse_an_embedded_redis_for_some(settings: Settings, roles: Sequence[str]) -> None:
    if settings.redis.is_ours and len(roles) < len(ROLES):
        raise CannotRun(
            os.EX_CONFIG,
            "some doors alone cannot share an embedded Redis; run all of them, or name a Redis "
            "that they share: BROKER_REDIS__URL=redis://host:6379/0",
        )


def _refuse_bad_certificates(settings: Settings, roles: Sequence[str]) -> None:
    """Look at every file of TLS before anything starts."""
    of_roles = {
        "orders": ["hl7"],
        "modality": ["dicom"],
        "updates": ["ris", "updates"],
        "console": ["console"],
    }
    sections = {
        "redis",
        "audit",
        *(section for role in roles for section in of_roles.get(role, [])),
    }
    for use, tls in secured(settings):
        try:
            if use.partition(".")[0] in sections:
                context_of(tls)
        except Unusable as problem:
            raise CannotRun(os.EX_CONFIG, f"{use}.tls: {problem}") from problem


def _index(settings: Settings, url: str) -> None:
    """Make the indexes of an earlier version anew before a door reads them."""
    store = Store(url)

    def waits(running: str) -> None:
        log.warning("waits for doors of an earlier version to end", doors=running)

    try:
        if not settings.redis.is_ours:
            see_nobody_earlier(store, waits)
        orders = ensure_indexed(store, datetime.now(settings.timezone))
    except IndexesTooNew as newer:
        raise CannotRun(os.EX_CONFIG, f"redis: {newer}") from newer
    except OthersRun as others:
        raise CannotRun(os.EX_TEMPFAIL, f"redis: {others}") from others
    except StoreUnavailable as away:
        raise CannotRun(os.EX_TEMPFAIL, f"redis: {away}") from away
    finally:
        store.close()
    if orders:
        log.info("indexes of an earlier version made anew", orders=orders)


def _environ(config: Path | None) -> dict[str, str]:
    """Of every process that we start."""
    environ = {**GIVES_MEMORY_BACK, **os.environ}
    if config is not None:
        environ["BROKER_CONFIG"] = str(config.absolute())
    return environ
