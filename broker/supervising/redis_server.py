"""The Redis of a run: ours is started and kept alive, one of others is judged."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from typing import Final

import structlog

from broker.settings import Settings
from broker.store import external
from broker.store.server import DataLock, EmbeddedServer, NoServer, find_server
from broker.store.stamping import DataTooNew, ServerProblem, StampDamaged
from broker.supervising.pace import Pace
from broker.supervising.refusal import CannotRun

PATIENCE_S: Final = 30.0
"""For a server of others that may be starting with us."""
CRASHES, CRASH_WINDOW_S = 5, 60.0
LOOK_S: Final = 0.05

log = structlog.get_logger("supervising")


def have_redis(settings: Settings, stack: ExitStack) -> EmbeddedServer | None:
    """Our own server, which lives as long as `stack`, or None after judging the given one.

    Raises CannotRun.
    """
    if not settings.redis.is_ours:
        judge(settings)
        return None
    try:
        return _begin(settings, stack)
    except OSError as error:
        raise CannotRun(os.EX_CONFIG, f"data: {settings.data}: {error.strerror}") from error
    except (NoServer, DataTooNew, StampDamaged) as problem:
        raise CannotRun(os.EX_CONFIG, str(problem)) from problem
    except ServerProblem as problem:
        raise CannotRun(os.EX_TEMPFAIL, str(problem)) from problem


def _begin(settings: Settings, stack: ExitStack) -> EmbeddedServer:
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    stack.enter_context(DataLock(settings.data))
    server = EmbeddedServer(
        settings.data,
        binary=find_server(settings.redis.server),
        max_memory=settings.redis.max_memory,
        progress=log.info,
    )
    stack.callback(server.stop)
    server.start()
    return server


def judge(settings: Settings) -> None:
    """Wait for a server of others, and refuse one that may lose orders. Raises CannotRun."""
    deadline, place = time.monotonic() + PATIENCE_S, settings.redis.place
    try:
        while not external.writable(settings.redis.full_url):
            if time.monotonic() > deadline:
                raise CannotRun(os.EX_TEMPFAIL, f"{place}: no server there that takes writes")
            time.sleep(0.2)
        found = external.objections(settings.redis.full_url)
    except ServerProblem as problem:
        raise CannotRun(os.EX_CONFIG, f"{place}: {problem}") from problem
    if found and not settings.redis.accept_loss:
        remedy = "or say redis.accept_loss: true"
        raise CannotRun(os.EX_CONFIG, f"{place}: {'; '.join(found)}; {remedy}")
    for sentence in found:
        log.warning("redis may lose acknowledged orders", why=sentence)


async def keep_alive(server: EmbeddedServer) -> int:
    """Start our server anew whenever it ends; the exit code when it ends too often."""
    pace = Pace()
    while True:
        while server.poll() is None:  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(LOOK_S)
        now = time.monotonic()
        pause_s = pace.pause_s(now)
        crashes = pace.recent(now, CRASH_WINDOW_S)
        log.error("redis ended", code=server.poll(), crashes=crashes, again_in_s=pause_s)
        if crashes >= CRASHES:
            log.critical("redis keeps ending", remedy="see its log; then start the broker anew")
            return os.EX_TEMPFAIL
        await asyncio.sleep(pause_s)
        try:
            server.launch()
            await asyncio.to_thread(server.wait_until_ready)
        except (ServerProblem, OSError) as problem:
            log.error("redis does not start", why=str(problem))


async def until_writable(url: str) -> None:
    """Wait until it takes writes."""
    while not await asyncio.to_thread(external.writable, url):  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(LOOK_S)
