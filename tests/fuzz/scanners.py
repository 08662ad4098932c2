"""A whole modality door in this process: what peers are answered, and whether anything broke."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import structlog
import uvloop

from broker.dicom.association import Sizes
from broker.modality.door import admission, handlers, recording_of
from broker.modality.metrics import ModalityMetrics
from broker.modality.server import Limits, Server
from broker.rollout.current import Current
from broker.settings import Settings, shipped_mappings
from broker.store.executors import AsyncStore
from tests.dicom.requestor import associate_rq, echo_rq, find_rq

T = TypeVar("T")
LIMITS = Limits(
    association_s=5.0, message_s=5.0, close_s=0.01, sizes=Sizes({"": 64 * 1024})
)  # nobody waits long for a peer that has nothing more to say


class ScannersDoor:
    """Worklist, MPPS and echo over a store; `broken` is what nobody caught or answered rightly."""

    def __init__(self, url: str) -> None:
        self.broken: list[Any] = []
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.get_loop().set_exception_handler(lambda _, what: self.broken.append(what))
        self.run(self._open(url))

    def run(self, doing: Awaitable[T]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(doing, 50)

        return self._runner.run(bounded())

    def close(self) -> None:
        self.run(self._close())
        self._runner.close()

    @property
    def left(self) -> tuple[int, int, int]:
        """Connections, tasks and held bytes; all are 0 when nobody is here."""
        reception = self._server._reception
        return len(reception.connections), len(reception.tasks), reception.held

    def talk(self, pieces: Sequence[bytes]) -> None:
        """Send the pieces over a connection of their own, and go when they are answered."""
        with structlog.testing.capture_logs() as logs:
            self.run(self._talk(pieces))
        self.broken += [line for line in logs if str(line.get("outcome", "")).startswith("bug")]

    def is_well(self) -> bool:
        """Another scanner gets its echo and its list, and afterwards nothing is left of anybody."""
        self.run(self._ask())
        return self.left == (0, 0, 0)

    async def _open(self, url: str) -> None:
        settings = Settings.model_validate(
            {
                "redis": {"mode": "url", "url": url},
                "mappings": str(shipped_mappings()),
                "timezone": "Europe/Berlin",
            }
        )
        self._store = AsyncStore(url)
        current = await Current.opened(self._store, settings)
        recording = recording_of(settings, self._store, current)
        served = handlers(settings, self._store, recording, ModalityMetrics())
        self._server = Server(served, admission(settings), LIMITS)
        self._address = await self._server.start("127.0.0.1", 0)

    async def _close(self) -> None:
        await self._server.stop(1)
        await self._store.close()

    async def _talk(self, pieces: Sequence[bytes]) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        reading = asyncio.create_task(reader.read())
        for piece in pieces:
            if writer.transport.is_closing():
                break
            writer.write(piece)
            await asyncio.sleep(0)
        await self._answered()
        writer.close()
        await asyncio.wait([reading], timeout=5)
        assert reading.done()
        reading.exception()
        await self._all_gone()

    async def _ask(self) -> None:
        """Echo and query; there is one answer."""
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(associate_rq() + echo_rq(1) + find_rq(2, identifier=EVERYBODY))
        answer = b""
        while answer.count(STATUS) < 3:
            answer += await asyncio.wait_for(reader.read(65536), 10)
        writer.close()
        await self._all_gone()

    async def _all_gone(self) -> None:
        for guest in tuple(self._server._reception.connections):
            await guest.closed.wait()
        await self._answered()

    async def _answered(self) -> None:
        """What was sent is read, what was asked is answered."""
        for _ in range(3):
            await asyncio.sleep(0.001)
        while tasks := tuple(self._server._reception.tasks):
            await asyncio.wait(tasks)


STATUS = b"\0\0\0\x09\2\0\0\0"
EVERYBODY = b"\x10\0\x20\0\0\0\0\0"
"""An identifier with a universal Patient ID."""
