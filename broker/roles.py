"""`broker run`: embedded Redis and one process per door, watched, restarted, stopped in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from broker.mapping.document import Complaints
from broker.rollout import watching
from broker.settings import Address, Settings
from broker.store import external, reserve
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.store.server import (
    DataLock,
    DataTooNew,
    EmbeddedServer,
    NoServer,
    ServerProblem,
    find_server,
)

MAPPING = frozenset({"orders", "modality"})
"""Doors that work with mappings."""
ROLES = ("orders", "modality", "updates", "console")
LISTENING = {"orders": "hl7", "modality": "dicom", "console": "console"}
DRAIN_S = 25.0
DISK_LOOK_S = 2.0
PORT_PATIENCE_S = 5.0
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
) -> int:
    """Run the doors named (default: all) until SIGTERM or SIGINT; returns the exit code.

    `announce` gets one line, `ready hl7=HOST:PORT …`, when every listener is bound and Redis takes
    writes. Raises CannotRun.
    """
    wanted = [role for role in ROLES if role in (roles or ROLES)]
    if settings.redis.mode == "embedded" and len(wanted) < len(ROLES):
        raise CannotRun(
            os.EX_CONFIG,
            "some doors alone cannot share an embedded Redis; run all of them, or name a Redis "
            "that they share: BROKER_REDIS__URL=redis://host:6379/0",
        )
    doors = [Door(role, n) for role in wanted for n in range(instances(settings, role))]
    with ExitStack() as stack:
        server = _redis(settings, stack)
        _refuse_taken_ports(settings, wanted)
        url = server.url if server else settings.redis.url
        mapped = settings if MAPPING & set(wanted) else None
        if mapped:
            _put_mappings_in_force(mapped, url)
        environ = _environ(config, server)
        disk_reserve = settings.redis.disk_reserve
        supervisor = Supervisor(doors, url, server, environ, announce, disk_reserve, mapped)
        return asyncio.run(supervisor.run())


def _put_mappings_in_force(settings: Settings, url: str) -> None:
    try:
        watching.start(settings, url)
    except Complaints as wrong:
        raise CannotRun(os.EX_CONFIG, str(wrong)) from wrong
    except StoreUnavailable as away:
        raise CannotRun(os.EX_TEMPFAIL, f"redis: {away}") from away


def instances(settings: Settings, role: str) -> int:
    """How many processes a door has; `updates` is a dispatcher and one worker per RIS."""
    counts = {
        "orders": settings.hl7.processes,
        "modality": settings.dicom.processes,
        "updates": 1 + len(settings.ris),
    }
    return counts.get(role, 1)


def _redis(settings: Settings, stack: ExitStack) -> EmbeddedServer | None:
    """Our own server, which lives as long as `stack`, or None after judging the given one."""
    if settings.redis.mode == "url":
        _judge_external(settings)
        return None
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(DataLock(settings.data))
        server = EmbeddedServer(
            settings.data,
            binary=find_server(settings.redis.server),
            max_memory=settings.redis.max_memory,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )
        stack.callback(server.stop)
        server.start()
    except OSError as error:
        raise CannotRun(os.EX_CONFIG, f"data: {settings.data}: {error.strerror}") from error
    except (NoServer, DataTooNew) as problem:
        raise CannotRun(os.EX_CONFIG, str(problem)) from problem
    except ServerProblem as problem:
        raise CannotRun(os.EX_TEMPFAIL, str(problem)) from problem
    return server


def _judge_external(settings: Settings) -> None:
    deadline = time.monotonic() + EXTERNAL_PATIENCE_S
    try:
        while not external.writable(settings.redis.url):
            if time.monotonic() > deadline:
                raise CannotRun(os.EX_TEMPFAIL, "redis.url: no server there that takes writes")
            time.sleep(0.2)
        found = external.objections(settings.redis.url)
    except ServerProblem as problem:
        raise CannotRun(os.EX_CONFIG, f"redis.url: {problem}") from problem
    if found and not settings.redis.accept_loss:
        remedy = "or say redis.accept_loss: true"
        raise CannotRun(os.EX_CONFIG, f"redis.url: {'; '.join(found)}; {remedy}")
    for sentence in found:
        log.warning("redis may lose acknowledged orders", why=sentence)


def _listen_addresses(settings: Settings, role: str) -> list[tuple[str, Address]]:
    addresses = {
        "orders": [("hl7.listen", each.listen) for each in settings.hl7.listeners],
        "modality": [("dicom.listen", settings.dicom.listen)],
        "console": [("console.listen", settings.console.listen)],
    }
    return addresses.get(role, [])


def _refuse_taken_ports(settings: Settings, roles: Sequence[str]) -> None:
    """Doors share their port among instances, so the kernel would let a second broker join in."""
    for role in roles:
        for key, address in _listen_addresses(settings, role):
            deadline = time.monotonic() + PORT_PATIENCE_S  # an earlier run may still be leaving
            while (reason := _unbindable(address)) and time.monotonic() < deadline:
                time.sleep(0.1)
            if reason:
                raise CannotRun(
                    os.EX_TEMPFAIL, f"{key}: {address}: {reason}; end that one or choose another"
                )


def _unbindable(address: Address) -> str:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _environ(config: Path | None, server: EmbeddedServer | None) -> dict[str, str]:
    environ = dict(os.environ)
    environ["BROKER_SUPERVISOR"] = str(os.getpid())
    if config is not None:
        environ["BROKER_CONFIG"] = str(config.absolute())
    if server is not None:
        environ |= {"BROKER_REDIS__MODE": "url", "BROKER_REDIS__URL": server.url}
    return environ


class Supervisor:
    """Keeps every door open and Redis alive until it is told to stop."""

    def __init__(
        self,
        doors: Sequence[Door],
        url: str,
        server: EmbeddedServer | None,
        environ: Mapping[str, str],
        announce: Callable[[str], None],
        disk_reserve: int = 0,
        mapped: Settings | None = None,
    ) -> None:
        self._doors = doors
        self._disk_reserve = disk_reserve
        self._mapped = mapped
        self._at_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._reloads: set[asyncio.Task[bool]] = set()
        self._url = url
        self._server = server
        self._environ = environ
        self._announce = announce
        self._processes: dict[Door, asyncio.subprocess.Process] = {}
        self._bound: dict[Door, dict[str, str]] = {}
        self._first_bound = {door.role: asyncio.Event() for door in doors}
        self._exit_code: asyncio.Future[int] | None = None

    async def run(self) -> int:
        """Start everything, wait for a reason to end, stop the doors; returns the exit code."""
        loop = asyncio.get_running_loop()
        self._exit_code = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, 0)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        tasks = [asyncio.create_task(self._keep_open(door)) for door in self._doors]
        if self._server is not None:
            tasks.append(asyncio.create_task(self._keep_redis(self._server)))
            tasks.append(asyncio.create_task(self._watch_disk(self._server)))
        if self._mapped and self._mapped.watch_mappings:
            tasks.append(asyncio.create_task(watching.watch(self._mapped, self._url)))
        for task in tasks:
            task.add_done_callback(self._unexpected)
        code = await self._exit_code
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close_doors()
        if self._server is not None:
            self._server.stop()  # also when it is loading its data again, which a thread waits for
        return code

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
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "broker", "door", door.role),
                *("--instance", str(door.instance)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),  # stdout is for the line with `ready`
                env={**self._environ, **self._listen_again(door), "BROKER_READY_FD": str(theirs)},
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C is for us: doors first, Redis last
            )
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
        first = self._bound.get(door) or self._bound.get(Door(door.role, 0)) or {}
        variables: dict[str, str] = {}
        for name, places in first.items():
            if name == "hl7":
                listeners = [{"listen": place} for place in places.split(",")]
                variables["BROKER_HL7__LISTENERS"] = json.dumps(listeners)
            elif name in LISTENING.values():
                variables[f"BROKER_{name.upper()}__LISTEN"] = places
        return variables

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

    async def _close_doors(self) -> None:
        """SIGTERM to every door, which finishes what it has begun; SIGKILL after the grace time."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.terminate()
        await asyncio.gather(*(_ended(process) for process in self._processes.values()))


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), DRAIN_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
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
    listening = set(LISTENING.values())
    places = {name: place for door in bound for name, place in door.items() if name in listening}
    return " ".join(["ready", *(f"{name}={place}" for name, place in places.items())])
