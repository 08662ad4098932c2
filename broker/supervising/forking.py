"""What the supervisor asks of the fork server: the mappings in force, a process for each door."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

GONE = -signal.SIGKILL
"""What is told as the code of a door whose forkserver ended: it has been killed with it."""


@dataclass
class Child:
    """The process of a door."""

    pid: int
    code: asyncio.Future[int] = field(default_factory=asyncio.Future)

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        return await asyncio.shield(self.code)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if not self.code.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkServer:
    """The process that doors are forked from; another one begins when it ends."""

    def __init__(self, roles: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it at once, so that it loads while the store does: requests wait for it."""
        self._roles, self._environ = roles, environ
        self._one_at_a_time = asyncio.Lock()
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._children: dict[int, Child] = {}
        self._listening: asyncio.Task[None] | None = None
        self._start()

    async def deploy(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """Put the folder of mappings in force; `code` of the answer is 0, or `why` says why not.

        Raises OSError when the forkserver ends over it.
        """
        return await self._asked({"do": "deploy", "environ": dict(environ)})

    async def fork(self, role: str, instance: int, environ: Mapping[str, str], ready: int) -> Child:
        """A process for a door, which says on `ready` where it listens. Raises OSError."""
        wanted = {"do": "door", "role": role, "instance": instance, "environ": dict(environ)}
        child: Child = (await self._asked(wanted, [ready]))["child"]
        return child

    def close(self) -> None:
        """End it; the doors have ended before, and it has nothing to lose."""
        self._control.close()
        if self._listening is not None:
            self._listening.cancel()
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "broker", "forkserver", str(theirs.fileno()), *self._roles],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),  # stdout is for the line with `ready`
                env={**self._environ, "BROKER_SUPERVISOR": str(os.getpid())},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for us: doors first, Redis last
            )
        self._control.setblocking(False)

    async def _asked(
        self, request: Mapping[str, Any], descriptors: Sequence[int] = ()
    ) -> dict[str, Any]:
        async with self._one_at_a_time:
            if self._listening is not None and self._listening.done():
                self._start()
                self._listening = None
            if self._listening is None:
                self._listening = asyncio.create_task(self._listen())
            self._answer = asyncio.get_running_loop().create_future()
            socket.send_fds(self._control, [json.dumps(request).encode() + b"\n"], descriptors)
            return await self._answer

    async def _listen(self) -> None:
        """Hear its answers and of every end, until it ends itself."""
        reader, writer = await asyncio.open_connection(sock=self._control)
        try:
            while line := await reader.readline():
                self._heard(json.loads(line))
        except OSError:
            pass  # as good as an end
        finally:
            writer.close()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        for child in self._children.values():
            child.code.set_result(GONE)
        self._children.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the fork server has ended"))

    def _heard(self, told: dict[str, Any]) -> None:
        if "ended" not in told:
            if "pid" in told:
                told["child"] = self._children[told["pid"]] = Child(told["pid"])
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(told)
        elif child := self._children.pop(told["ended"], None):
            child.code.set_result(told["code"])
