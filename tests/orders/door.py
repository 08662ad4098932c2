"""An orders door in this process: what it answers, and whether anything in it broke."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from broker.hl7.acknowledgement import read_acknowledgement
from broker.hl7.framing import Block, Deframer, Lost
from broker.mapping.packing import read_folder
from broker.orders.door import intake_of
from broker.orders.intake import Intake
from broker.orders.limits import Limits, Peer
from broker.orders.listener import Listener
from broker.orders.metrics import OrdersMetrics
from broker.rollout.current import Current, Mappings
from broker.rollout.deploying import load_version
from broker.settings import Settings, shipped_mappings
from broker.store.executors import AsyncStore

T = TypeVar("T")
LIMITS = Limits(max_frame_bytes=64 * 1024, end_gap_s=0.02, frame_deadline_s=5.0)


@cache
def compiled(mappings: Path) -> Mappings:
    """The mappings of a folder, loaded once however many tests work with them."""
    bundle = load_version(read_folder(mappings), mappings, ())
    return Mappings(bundle.for_messages(), bundle.version)


class Door:
    """Listener, intake, mappings and store; `broken` is what nobody caught."""

    def __init__(self, url: str, mappings: Path | None = None) -> None:
        self.broken: list[str] = []
        self.events: Counter[str] = Counter()
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.get_loop().set_exception_handler(self._uncaught)
        self.intake, self.listener, self.address = self.run(
            self._open(url, mappings or shipped_mappings())
        )

    def run(self, doing: Awaitable[T]) -> T:
        async def bounded() -> T:
            return await asyncio.wait_for(doing, 50)

        return self._runner.run(bounded())

    def close(self) -> None:
        self.run(self._close())
        self._runner.close()

    @property
    def times_away(self) -> float:
        """How often the store did not answer in time: then messages are rightly not answered."""
        name = "broker_orders_store_unavailable_total"
        return self._metrics.registry.get_sample_value(name) or 0.0

    def talk(self, *streams: Sequence[bytes]) -> list[list[bytes]]:
        """Send each stream in its pieces over a connection of its own; the answers of each."""
        return self.run(self._talk(streams))

    async def _open(self, url: str, mappings: Path) -> tuple[Intake, Listener, tuple[str, int]]:
        settings = Settings.model_validate(
            {
                "redis": {"mode": "url", "url": url},
                "mappings": str(mappings),
                "timezone": "Europe/Berlin",
            }
        )
        self._store = AsyncStore(url)
        self._metrics = OrdersMetrics()
        current = Current(settings, compiled(mappings))
        intake = intake_of(settings, self._store, current, self._metrics)

        async def accept(raw: bytes, peer: Peer) -> list[bytes] | None:
            return await intake.accept(raw, peer)

        async def reject(refusal: Any, head: bytes, peer: Peer) -> list[bytes] | None:
            return await intake.refuse(refusal, head)

        async def lose(lost: Lost, peer: Peer) -> None:
            await intake.lose(lost.head, "torn" if lost.torn else "unframed")

        listener = Listener(accept, LIMITS, reject=reject, lose=lose, observe=self._observed)
        return intake, listener, await listener.start("127.0.0.1", 0)

    async def _close(self) -> None:
        await self.listener.stop(1)
        await self._store.close()

    async def _talk(self, streams: Sequence[Sequence[bytes]]) -> list[list[bytes]]:
        return list(await asyncio.gather(*(self._sender(pieces) for pieces in streams)))

    async def _sender(self, pieces: Sequence[bytes]) -> list[bytes]:
        reader, writer = await asyncio.open_connection(*self.address)
        reading = asyncio.create_task(reader.read())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        deframer = Deframer(1 << 24)
        found = [*deframer.receive(await reading), *deframer.eof()]
        writer.close()
        return [one.payload for one in found if isinstance(one, Block)]

    def _observed(self, event: str) -> None:
        self.events[event] += 1
        if event == "failure":
            self.broken.append("the door answered a bug of its own")

    def _uncaught(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.broken.append(repr(context.get("exception") or context["message"]))


def control_ids(payloads: Sequence[bytes]) -> Counter[str]:
    """MSA-2 of the answers."""
    return Counter(read_acknowledgement(payload).control_id for payload in payloads)
