"""What a sender is told, and what is archived, counted and logged of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from broker.hl7.acknowledgement import answers, as_told
from broker.hl7.header import Header
from broker.hl7.refusal import Refusal
from broker.orders.arrival import Arrival
from broker.orders.echoes import ACKNOWLEDGEMENT
from broker.orders.metrics import OrdersMetrics
from broker.store import refused
from broker.store.archive import Archived
from broker.store.commit import Commit, Repeat, commit
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.worklist import canary

FRAME_SEPARATOR: Final = b"\x1c"  # cannot occur in a payload

_MSA: Final = re.compile(rb"\rMSA.([A-Z]{2})", re.DOTALL)

log = structlog.get_logger("orders")


Heard = Callable[[Arrival, Archived], None]


def heard_by_nobody(arrived: Arrival, archived: Archived) -> None:
    """The default: nobody keeps a trail of messages."""


@dataclass(frozen=True)
class Answering:
    """Everything that an answer needs; `ids` gives MSH-10s of our own.

    `told` hears of every message that was archived, `heard` of it and of how it came.
    """

    store: AsyncStore
    ids: Iterator[str]
    clock: Callable[[], datetime]
    metrics: OrdersMetrics
    told: Callable[[Archived], None] = lambda _: None
    heard: Heard = heard_by_nobody

    def tell(self, arrived: Arrival, archived: Archived) -> None:
        """Tell whoever wants to know that a message was archived."""
        self.told(archived)
        self.heard(arrived, archived)

    def payloads(
        self, arrived: Arrival, refusal: Refusal | None, *, stored: bool = True, note: str = ""
    ) -> list[bytes]:
        """Write the answer or answers that the sender wants, [] when it wants none.

        A `note` goes with AA.
        """
        return answers(
            arrived.header,
            refusal,
            stored=stored,
            control_ids=self.ids,
            now=arrived.at,
            mode=arrived.ack,
            note=note,
        )

    async def settled(
        self,
        arrived: Arrival,
        when_store_down: str,
        refusal: Refusal | None,
        note: str = "",
        mapping: str = "",
    ) -> list[bytes] | None:
        """Archive a message that changes nothing, then answer it."""
        refusal = as_told(refusal, arrived.header)
        payloads = self.payloads(arrived, refusal)
        notes = (f"{refusal}" if refusal else note,)
        outcome = "refused" if refusal else "ignored"
        archived = arrived.archived(outcome, notes, payloads, (), mapping)
        try:
            if refusal and not arrived.was_accepted:
                done = await self.store.run(refused.refusing(archived, arrived.digest))
            else:
                done = await self.store.run(commit(Commit(at=arrived.at, archived=archived)))
            if isinstance(done, Repeat):
                return await self.repeated(arrived, done.answer, mapping)
        except StoreUnavailable as problem:
            return self.unavailable(arrived, when_store_down, problem)
        self.tell(arrived, archived)
        if refusal:
            self.metrics.refused(refusal.code)
            self.answered(arrived, payloads, reason=f"{refusal}")
        return payloads

    async def echoed(self, arrived: Arrival, header: Header, echo: str) -> list[bytes] | None:
        """Archive what is nobody's order; an acknowledgement is never answered."""
        if echo == ACKNOWLEDGEMENT:
            log.warning("an acknowledgement came in as a message", source=header.sender)
            self.metrics.refused(ACKNOWLEDGEMENT)
        else:
            log.info("a status message of ours came back; not applied", source=header.sender)
            self.metrics.returned()
        return await self.settled(arrived, "close", None, note=echo)

    async def lost(self, arrived: Arrival, why: str) -> None:
        """Archive what nobody can be answered about, unless the store is away."""
        archived = arrived.archived("ignored", (why,), (), (), "")
        with suppress(StoreUnavailable):
            await self.store.run(commit(Commit(at=arrived.at, archived=archived)))
        self.metrics.refused("lost")
        log.warning("a message was lost", reason=why, **arrived.facts)

    async def repeated(self, arrived: Arrival, answer: bytes, mapping: str) -> list[bytes]:
        """Answer as the first time; that it came again is archived unless the store is away."""
        payloads = answer.split(FRAME_SEPARATOR) if answer else []
        if not arrived.again:
            archived = arrived.archived("repeat", (), payloads, (), mapping)
            with suppress(StoreUnavailable):
                await self.store.run(commit(Commit(at=arrived.at, archived=archived)))
        self.answered(arrived, payloads, note="repeat")
        return payloads

    def unavailable(
        self, arrived: Arrival, when_store_down: str, problem: StoreUnavailable
    ) -> list[bytes] | None:
        """Nothing is stored, so nothing is promised: close, or AE/AR where a source wants it."""
        self.metrics.store_unavailable()
        log.error("store unavailable", problem=f"{problem}", **arrived.facts)
        if when_store_down == "close" or arrived.header is None:
            self.answered(arrived, (), reason="closed without an answer")
            return None
        refusal = Refusal(
            "the broker cannot store messages at the moment",
            code="207",
            remedy="resend",
            acknowledgement="AR" if when_store_down == "AR" else "AE",
        )
        payloads = self.payloads(arrived, refusal, stored=False)
        self.answered(arrived, payloads, reason=f"{refusal}")
        return payloads

    def answered(self, arrived: Arrival, payloads: Sequence[bytes], **facts: object) -> None:
        """Count and log an answer, with the facts that are worth a word beside it."""
        code = "+".join([found[1].decode() for each in payloads if (found := _MSA.search(each))])
        seconds = (self.clock() - arrived.at).total_seconds()
        source = arrived.header.sender if arrived.header else ""
        if not arrived.facts["control_id"].startswith(canary.MARK):
            source = source if source.strip("|") else "unknown"
            self.metrics.answered(source, arrived.message_type, code, seconds)
        if arrived.oddity:
            facts["oddity"] = arrived.oddity
        log.info("message", ack=code, ms=round(seconds * 1000, 1), **arrived.facts, **facts)
