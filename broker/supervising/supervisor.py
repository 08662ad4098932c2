"""The supervisor: what goes on while a broker runs, and what ends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from broker.probe import timer
from broker.rollout import watching
from broker.settings import Settings
from broker.store.metrics import own_name
from broker.store.server import EmbeddedServer
from broker.supervising import disk, mappings, redis_server
from broker.supervising.doors import ROLES, WITH_MAPPINGS, Door, ready_line
from broker.supervising.forking import ForkServer
from broker.supervising.opening import Doors
from broker.supervising.service_manager import PUBLISHING, READY, STOPPING, ServiceManager

log = structlog.get_logger("supervising")


@dataclass(frozen=True)
class Run:
    """What a run of the broker is made of, and whom it tells."""

    settings: Settings
    doors: Sequence[Door]
    server: EmbeddedServer | None
    """Ours; None where Redis is one of others."""
    forkserver: ForkServer
    environ: Mapping[str, str]
    """Of every process that we start."""
    announce: Callable[[str], None]
    manager: ServiceManager

    @property
    def url(self) -> str:
        """Where Redis is."""
        return self.server.url if self.server else self.settings.redis.full_url

    @property
    def roles(self) -> set[str]:
        """Which doors are open."""
        return {door.role for door in self.doors}


class Supervisor:
    """Keeps every door open and Redis alive until it is told to stop."""

    def __init__(self, run: Run) -> None:
        self._run = run
        embedded = {"BROKER_REDIS__MODE": "url", "BROKER_REDIS__URL": run.url}
        self._environ = embedded if run.server is not None else {}
        self._doors = Doors(run.doors, run.forkserver, self._environ)
        self._has_mappings = bool(WITH_MAPPINGS & run.roles)
        # Doors of other machines are not mended by a new start of ours.
        patience = run.settings.selftest.restart_after if run.roles == {*ROLES} else 0
        self._course = timer.Course(patience)
        self._ready = asyncio.Event()
        self._at_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._reloads: set[asyncio.Task[bool]] = set()
        self._exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self, told_to_end: Callable[[], bool]) -> int:
        """Start everything, wait for a reason to end, stop the doors; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, 0)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        if told_to_end():
            return 0
        if self._has_mappings and not await mappings.put_in_force(
            self._run.forkserver, self._environ, self._exit_code
        ):
            return self._exit_code.result()
        tasks = [asyncio.create_task(each) for each in self._what_goes_on()]
        for task in tasks:
            task.add_done_callback(self._over)
        code = await self._exit_code
        self._run.manager.tell(STOPPING)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._doors.close()
        if self._run.server is not None:
            # Also when it is loading its data again, which a thread waits for.
            self._run.server.stop()
        return code

    def _what_goes_on(self) -> Iterator[Coroutine[Any, Any, int | None]]:
        """All that is done meanwhile; what gives an exit code ends the broker with it."""
        settings, server = self._run.settings, self._run.server
        yield from map(self._doors.keep_open, self._run.doors)
        yield self._announce()
        if server is not None:
            yield redis_server.keep_alive(server)
            yield disk.watch(server, settings.redis.disk_reserve)
        if self._has_mappings and settings.watch_mappings:
            yield watching.watch(settings, self._run.url)
        if self._run.manager.watchdog_s:
            yield self._feed_watchdog()
        if settings.selftest.every and "console" in self._run.roles and timer.is_ours(settings):
            yield self._test()

    def _end(self, code: int) -> None:
        if not self._exit_code.done():
            self._exit_code.set_result(code)

    def _over(self, task: asyncio.Task[int | None]) -> None:
        """A watch that fails must not leave a broker that nobody watches: end, to be restarted."""
        if task.cancelled():
            return
        if problem := task.exception():
            log.critical("supervision failed", exc_info=problem)
            self._end(os.EX_SOFTWARE)
        elif (code := task.result()) is not None:
            self._end(code)

    def _hang_up(self) -> None:
        """SIGHUP puts the folder of mappings in force, unless it says that the terminal is gone."""
        if self._at_terminal and not sys.stdin.isatty():
            self._end(0)
        elif self._has_mappings:
            settings, url = self._run.settings, self._run.url
            reload = watching.reload(settings, url, by="reload (SIGHUP)", always=True)
            task = asyncio.create_task(reload)
            self._reloads.add(task)  # the loop itself keeps no task alive
            task.add_done_callback(self._reloads.discard)

    async def _announce(self) -> None:
        """Say once that every listener is bound and Redis takes writes."""
        await self._doors.all_open.wait()
        await redis_server.until_writable(self._run.url)
        self._run.announce(ready_line(self._doors.bound[door] for door in self._run.doors))
        self._run.manager.tell(READY)
        self._ready.set()

    async def _test(self) -> None:
        """Run the self-test again and again, where nothing else is said against our own doors."""
        await self._ready.wait()
        bound = {name: place for door in self._doors.bound.values() for name, place in door.items()}
        told = {**self._run.environ, **self._environ, "BROKER_BOUND": json.dumps(bound)}
        await timer.test_forever(self._run.settings, told, self._course.note)

    async def _feed_watchdog(self) -> None:
        await self._ready.wait()
        doors = [own_name(d.role, d.instance) for d in self._run.doors if d.role in PUBLISHING]
        await self._run.manager.feed(
            self._run.url,
            doors,
            embedded=self._run.server is not None,
            also=lambda: self._course.illness,
        )
