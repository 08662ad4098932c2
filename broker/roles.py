"""`broker run`: embedded Redis and one process per door, watched, restarted, stopped in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog

from broker.forking import Child, ForkServer
from broker.ports import PortTaken, refuse_taken
from broker.probe import timer
from broker.rollout import watching
from broker.rollout.risks import secured
from broker.service_manager import PUBLISHING, READY, STOPPING, ServiceManager
from broker.settings import Settings
from broker.store import external, reserve
from broker.store.executors import AsyncStore, Store, StoreUnavailable
from broker.store.indexing import IndexesTooNew, ensure_indexed
from broker.store.metrics import own_name
from broker.store.server import DataLock, EmbeddedServer, NoServer, find_server
from broker.store.stamping import DataTooNew, ServerProblem, StampDamaged
from broker.tls.credentials import Unusable, context_of

MAPPING = frozenset({"orders", "modality"})
"""Doors that work with mappings."""
ROLES = ("orders", "modality", "updates", "console")
LISTENING = {"orders": ("hl7",), "modality": ("dicom", "dicom-tls"), "console": ("console",)}
DRAIN_S = 25.0
DISK_LOOK_S = 2.0
CHECK_DEADLINE_S = 300.0
"""For the mappings at the start: they take a second, or some on a slow machine."""
GIVES_MEMORY_BACK = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
"""For doors on glibc: what a large message took goes back to the system at its end.

By itself the allocator learns from the first large block to keep all that are smaller."""
EXTERNAL_PATIENCE_S = 30.0
REDIS_CRASHES, REDIS_CRASH_WINDOW_S = 5, 60.0
FREE_RESTARTS, RESTART_WINDOW_S, LONGEST_PAUSE_S = 3, 60.0, 30.0

log = structlog.get_logger("roles")


class CannotRun(Exception):
    """The broker does not start; carries the exit code and the remedy."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Door:
    """One process to keep alive."""

    role: str
    instance: int


@dataclass
class Pace:
    """How soon something that ends is started again: at once the first times, then ever later."""

    ends: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    def pause_s(self, now: float) -> float:
        """Note an end at `now` (seconds) and answer how long to wait."""
        self.ends.append(now)
        recent = sum(now - end < RESTART_WINDOW_S for end in self.ends)
        if recent <= FREE_RESTARTS:
            return 0.0
        return min(LONGEST_PAUSE_S, 0.5 * 2.0 ** (recent - FREE_RESTARTS - 1))


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
    if settings.redis.is_ours and len(wanted) < len(ROLES):
        raise CannotRun(
            os.EX_CONFIG,
            "some doors alone cannot share an embedded Redis; run all of them, or name a Redis "
            "that they share: BROKER_REDIS__URL=redis://host:6379/0",
        )
    _refuse_bad_certificates(settings, wanted)
    doors = [Door(role, n) for role in wanted for n in range(instances(settings, role))]
    with ExitStack() as stack:
        forkserver = ForkServer(wanted, _environ(config))
        stack.callback(forkserver.close)
        server = _redis(settings, stack)
        _refuse_taken_ports(settings, wanted)
        url = server.url if server else settings.redis.full_url
        _index(settings, url)
        mapped = settings if MAPPING & set(wanted) else None
        disk_reserve = settings.redis.disk_reserve
        supervisor = Supervisor(
            doors,
            url,
            server,
            forkserver,
            announce,
            disk_reserve,
            mapped,
            manager or ServiceManager({}),
            config,
        )
        return asyncio.run(supervisor.run(told_to_end))


def _refuse_bad_certificates(settings: Settings, roles: Sequence[str]) -> None:
    """Look at every file of TLS before anything starts."""
    doors = {"orders": ["hl7"], "modality": ["dicom"], "updates": ["ris", "updates"]}
    sections = {"redis", "audit", *(section for role in roles for section in doors.get(role, []))}
    for use, tls in secured(settings):
        try:
            if use.partition(".")[0] in sections:
                context_of(tls)
        except Unusable as problem:
            raise CannotRun(os.EX_CONFIG, f"{use}.tls: {problem}") from problem


def _index(settings: Settings, url: str) -> None:
    """Make the indexes of an earlier version anew before a door reads them."""
    store = Store(url)
    try:
        orders = ensure_indexed(store, datetime.now(settings.timezone))
    except IndexesTooNew as newer:
        raise CannotRun(os.EX_CONFIG, f"redis: {newer}") from newer
    except StoreUnavailable as away:
        raise CannotRun(os.EX_TEMPFAIL, f"redis: {away}") from away
    finally:
        store.close()
    if orders:
        log.info("indexes of an earlier version made anew", orders=orders)


def instances(settings: Settings, role: str) -> int:
    """How many processes a door has; `updates` is a dispatcher and a worker per connection."""
    counts = {
        "orders": settings.hl7.processes,
        "modality": settings.dicom.processes,
        "updates": 1 + sum(each.connections for each in settings.delivered),
    }
    return counts.get(role, 1)


def _redis(settings: Settings, stack: ExitStack) -> EmbeddedServer | None:
    """Our own server, which lives as long as `stack`, or None after judging the given one."""
    if not settings.redis.is_ours:
        _judge_external(settings)
        return None
    try:
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
    except OSError as error:
        raise CannotRun(os.EX_CONFIG, f"data: {settings.data}: {error.strerror}") from error
    except (NoServer, DataTooNew, StampDamaged) as problem:
        raise CannotRun(os.EX_CONFIG, str(problem)) from problem
    except ServerProblem as problem:
        raise CannotRun(os.EX_TEMPFAIL, str(problem)) from problem
    return server


def _judge_external(settings: Settings) -> None:
    deadline, place = time.monotonic() + EXTERNAL_PATIENCE_S, settings.redis.place
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


def _refuse_taken_ports(settings: Settings, roles: Sequence[str]) -> None:
    try:
        refuse_taken(settings, roles)
    except PortTaken as taken:
        raise CannotRun(os.EX_TEMPFAIL, f"{taken}") from taken


def _environ(config: Path | None) -> dict[str, str]:
    environ = {**GIVES_MEMORY_BACK, **os.environ}
    if config is not None:
        environ["BROKER_CONFIG"] = str(config.absolute())
    return environ


class Supervisor:
    """Keeps every door open and Redis alive until it is told to stop."""

    def __init__(
        self,
        doors: Sequence[Door],
        url: str,
        server: EmbeddedServer | None,
        forkserver: ForkServer,
        announce: Callable[[str], None],
        disk_reserve: int = 0,
        mapped: Settings | None = None,
        manager: ServiceManager = ServiceManager({}),  # noqa: B008 - that one tells nobody
        config: Path | None = None,
    ) -> None:
        self._doors, self._config = doors, config
        self._manager, self._ready = manager, asyncio.Event()
        self._disk_reserve = disk_reserve
        self._mapped = mapped
        self._at_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._reloads: set[asyncio.Task[bool]] = set()
        self._url = url
        self._server = server
        self._forkserver = forkserver
        embedded = {"BROKER_REDIS__MODE": "url", "BROKER_REDIS__URL": url}
        self._environ = embedded if server is not None else {}
        self._announce = announce
        self._processes: dict[Door, Child] = {}
        self._bound: dict[Door, dict[str, str]] = {}
        self._first_bound = {door.role: asyncio.Event() for door in doors}
        self._exit_code: asyncio.Future[int] | None = None

    async def run(self, told_to_end: Callable[[], bool]) -> int:
        """Start everything, wait for a reason to end, stop the doors; returns the exit code."""
        loop = asyncio.get_running_loop()
        self._exit_code = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, 0)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        if told_to_end():
            return 0
        if self._mapped and not await self._put_mappings_in_force(self._exit_code):
            return self._exit_code.result()
        tasks = [asyncio.create_task(self._keep_open(door)) for door in self._doors]
        if self._server is not None:
            tasks.append(asyncio.create_task(self._keep_redis(self._server)))
            tasks.append(asyncio.create_task(self._watch_disk(self._server)))
        if self._mapped and self._mapped.watch_mappings:
            tasks.append(asyncio.create_task(watching.watch(self._mapped, self._url)))
        if self._manager.watchdog_s:
            tasks.append(asyncio.create_task(self._feed_watchdog()))
        if (
            self._mapped
            and self._mapped.selftest.every
            and {d.role for d in self._doors} == {*ROLES}
        ):
            tasks.append(asyncio.create_task(self._test(self._mapped)))
        for task in tasks:
            task.add_done_callback(self._unexpected)
        code = await self._exit_code
        self._manager.tell(STOPPING)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close_doors()
        if self._server is not None:
            self._server.stop()  # also when it is loading its data again, which a thread waits for
        return code

    async def _put_mappings_in_force(self, told_to_end: asyncio.Future[int]) -> bool:
        """Put the folder in force; False when we were told to end meanwhile. Raises CannotRun."""
        asked = asyncio.ensure_future(self._forkserver.deploy(self._environ))
        told_to_end.add_done_callback(lambda _: asked.cancel())
        done, _ = await asyncio.wait([asked], timeout=CHECK_DEADLINE_S)
        if not done:
            asked.cancel()
            fact = f"checking the mappings took more than {CHECK_DEADLINE_S:g} s and was given up"
            raise CannotRun(os.EX_TEMPFAIL, f"{fact}; see `broker map check`")
        if asked.cancelled():
            return False
        try:
            told = asked.result()
        except OSError as trouble:
            raise CannotRun(os.EX_TEMPFAIL, f"checking the mappings: {trouble}") from trouble
        if told["code"]:
            raise CannotRun(told["code"], told["why"])
        event = "mappings put in force" if told["changed"] else "mappings stay as they were"
        shown = {name: told[name] for name in ("version", "by", "folder", "mappings")}
        structlog.get_logger("rollout").info(event, **shown)
        return True

    def _end(self, code: int) -> None:
        if self._exit_code is not None and not self._exit_code.done():
            self._exit_code.set_result(code)

    def _unexpected(self, task: asyncio.Task[None]) -> None:
        """A watch that fails must not leave a broker that nobody watches: end, to be restarted."""
        if not task.cancelled() and (problem := task.exception()):
            log.critical("supervision failed", exc_info=problem)
            self._end(os.EX_SOFTWARE)

    def _hang_up(self) -> None:
        """SIGHUP puts the folder of mappings in force, unless it says that the terminal is gone."""
        if self._at_terminal and not sys.stdin.isatty():
            return self._end(0)
        if self._mapped:
            reload = watching.reload(self._mapped, self._url, by="reload (SIGHUP)", always=True)
            task = asyncio.create_task(reload)
            self._reloads.add(task)  # the loop itself keeps no task alive
            task.add_done_callback(self._reloads.discard)
        return None

    async def _keep_open(self, door: Door) -> None:
        pace = Pace()
        if door.instance and door.role in LISTENING:
            await self._first_bound[door.role].wait()  # it listens where the first one does
        while True:
            try:
                code = await self._run_once(door)
            except OSError as problem:  # no process, no pipe: as bad as one that ends at once
                log.error("door does not start", role=door.role, why=str(problem))
                code = os.EX_OSERR
            if code == os.EX_CONFIG and door not in self._bound:
                # It has said on stderr what is wrong, and trying again mends nothing.
                return self._end(code)
            pause_s = pace.pause_s(time.monotonic())
            log.error(
                "door ended", role=door.role, instance=door.instance, code=code, again_in_s=pause_s
            )
            await asyncio.sleep(pause_s)

    async def _run_once(self, door: Door) -> int:
        ours, theirs = os.pipe()
        try:
            environ = {**self._environ, **self._listen_again(door)}
            process = await self._forkserver.fork(door.role, door.instance, environ, theirs)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._processes[door] = process
        if (line := await _first_line(ours)).endswith(b"\n"):  # else it ended while it spoke
            await self._note_bound(door, json.loads(line))
        return await process.wait()

    def _listen_again(self, door: Door) -> dict[str, str]:
        """Port 0 is chosen once: restarts and further instances listen where the first one did."""
        first = self._bound.get(door) or self._bound.get(Door(door.role, 0))
        return {"BROKER_BOUND": json.dumps(first)} if first else {}

    async def _note_bound(self, door: Door, bound: dict[str, str]) -> None:
        again = door in self._bound
        self._bound[door] = bound
        self._first_bound[door.role].set()
        if again:
            log.info("door open again", role=door.role, instance=door.instance)
        elif len(self._bound) == len(self._doors):
            while not await asyncio.to_thread(external.writable, self._url):  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.05)
            self._announce(ready_line(self._bound[each] for each in self._doors))
            self._manager.tell(READY)
            self._ready.set()

    async def _keep_redis(self, server: EmbeddedServer) -> None:
        pace = Pace()
        while True:
            while server.poll() is None:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.05)
            now = time.monotonic()
            pause_s = pace.pause_s(now)
            crashes = sum(now - end < REDIS_CRASH_WINDOW_S for end in pace.ends)
            log.error("redis ended", code=server.poll(), crashes=crashes, again_in_s=pause_s)
            if crashes >= REDIS_CRASHES:
                log.critical("redis keeps ending", remedy="see its log; then start the broker anew")
                return self._end(os.EX_TEMPFAIL)
            await asyncio.sleep(pause_s)
            try:
                server.launch()
                await asyncio.to_thread(server.wait_until_ready)
            except (ServerProblem, OSError) as problem:
                log.error("redis does not start", why=str(problem))

    async def _watch_disk(self, server: EmbeddedServer) -> None:
        """Refuse writes before the disk is full; reads go on, and all resumes by itself."""
        store, told = AsyncStore(server.url), None
        while True:
            reason = reserve.shortage(server.folder, self._disk_reserve)
            if bool(reason) != told:
                with suppress(StoreUnavailable):
                    await store.run(reserve.refuse_writes(reason))
                    told = bool(reason)
                    if reason:
                        log.error("writes are refused", why=reason)
            await asyncio.sleep(DISK_LOOK_S)

    async def _test(self, settings: Settings) -> None:
        """Run the self-test again and again against our own doors."""
        await self._ready.wait()
        bound = {name: place for door in self._bound.values() for name, place in door.items()}
        told = {**_environ(self._config), **self._environ, "BROKER_BOUND": json.dumps(bound)}
        await timer.test_forever(settings, told)

    async def _feed_watchdog(self) -> None:
        await self._ready.wait()
        doors = [own_name(d.role, d.instance) for d in self._doors if d.role in PUBLISHING]
        await self._manager.feed(self._url, doors, embedded=self._server is not None)

    async def _close_doors(self) -> None:
        """SIGTERM to every door, which finishes what it has begun; SIGKILL after the grace time."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(_ended(process) for process in self._processes.values()))


async def _ended(process: Child) -> None:
    try:
        await asyncio.wait_for(process.wait(), DRAIN_S)
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def _first_line(descriptor: int) -> bytes:
    """What a door says when it is open; empty when it ended before."""
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        return await reader.readline()
    finally:
        transport.close()


def ready_line(bound: Iterable[Mapping[str, str]]) -> str:
    """`ready hl7=HOST:PORT dicom=HOST:PORT console=HOST:PORT`; commas join several listeners."""
    listening = {name for names in LISTENING.values() for name in names}
    places = {name: place for door in bound for name, place in door.items() if name in listening}
    return " ".join(["ready", *(f"{name}={place}" for name, place in places.items())])
