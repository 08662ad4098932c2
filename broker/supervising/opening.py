"""The processes of the doors: each forked, heard of when it is open, forked anew when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from broker.supervising.doors import LISTENING, Door
from broker.supervising.forking import Child, ForkServer
from broker.supervising.pace import Pace

DRAIN_S: Final = 25.0

log = structlog.get_logger("supervising")


class Doors:
    """Every process that is kept open, and where it listens."""

    def __init__(
        self, doors: Sequence[Door], forkserver: ForkServer, environ: Mapping[str, str]
    ) -> None:
        self.all_open = asyncio.Event()
        self.bound: dict[Door, dict[str, str]] = {}
        self._doors, self._forkserver, self._environ = doors, forkserver, environ
        self._processes: dict[Door, Child] = {}
        self._first_bound = {door.role: asyncio.Event() for door in doors}

    async def keep_open(self, door: Door) -> int:
        """Open it again whenever it ends; the exit code when there is no sense in that."""
        pace = Pace()
        if door.instance and door.role in LISTENING:
            await self._first_bound[door.role].wait()  # it listens where the first one does
        while True:
            try:
                code = await self._run_once(door)
            except OSError as problem:  # no process, no pipe: as bad as one that ends at once
                log.error("door does not start", role=door.role, why=str(problem))
                code = os.EX_OSERR
            if code == os.EX_CONFIG and door not in self.bound:
                return code  # it has said on stderr what is wrong, and trying again mends nothing
            pause_s = pace.pause_s(time.monotonic())
            log.error(
                "door ended", role=door.role, instance=door.instance, code=code, again_in_s=pause_s
            )
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """SIGTERM to every door, which finishes what it has begun; SIGKILL after the grace time."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(_ended(process) for process in self._processes.values()))

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
            self._note_bound(door, json.loads(line))
        return await process.wait()

    def _listen_again(self, door: Door) -> dict[str, str]:
        """Port 0 is chosen once: restarts and further instances listen where the first one did."""
        first = self.bound.get(door) or self.bound.get(Door(door.role, 0))
        return {"BROKER_BOUND": json.dumps(first)} if first else {}

    def _note_bound(self, door: Door, bound: dict[str, str]) -> None:
        if door in self.bound:
            log.info("door open again", role=door.role, instance=door.instance)
        self.bound[door] = bound
        self._first_bound[door.role].set()
        if len(self.bound) == len(self._doors):
            self.all_open.set()


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
