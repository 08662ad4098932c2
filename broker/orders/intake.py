"""One message, from its bytes to its answer, without a socket: decode, map, apply, commit, ACK."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from broker.hl7.acknowledgement import answers, is_acknowledgement, read_acknowledgement
from broker.hl7.charsets import decode
from broker.hl7.header import Header, read_header
from broker.hl7.message import batch, parse
from broker.hl7.refusal import NotHL7, Refusal
from broker.mapping.applying import Source, changes
from broker.mapping.refusing import refusal_of
from broker.orders.arrival import Arrival
from broker.orders.metrics import OrdersMetrics
from broker.rollout.current import Current, Mappings
from broker.store import held, reads
from broker.store.archive import Archived
from broker.store.commit import Commit, Committed, Conflict, Repeat, commit
from broker.store.consequences import Keeping, changed, consequences, order_keys
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.worklist import changes as asked
from broker.worklist.apply import Sender, apply_all
from broker.worklist.changes import Unmapped
from broker.worklist.finding import Wanted, wanted
from broker.worklist.refusals import Refused
from broker.worklist.staleness import instant

ATTEMPTS: Final = 100
"""Commits of one message that lost a race before we give up and let the sender resend."""

_FRAME_SEPARATOR: Final = b"\x1c"  # cannot occur in a payload

log = structlog.get_logger("orders")


@dataclass(frozen=True)
class Intake:
    """Everything that answering a message needs; `ids` gives MSH-10s of our own.

    `told` hears of every message that was archived.
    """

    store: AsyncStore
    current: Current
    zone: ZoneInfo
    keep: Keeping
    ids: Iterator[str]
    clock: Callable[[], datetime]
    metrics: OrdersMetrics
    told: Callable[[Archived], None] = lambda _: None

    async def accept(self, raw: bytes) -> list[bytes] | None:
        """Answer one MLLP block: payloads to send in order, None to close without an answer."""
        try:
            messages = batch(raw)
        except Refusal as refusal:
            return await self.refuse(refusal, raw)
        answered: list[bytes] = []
        for message in messages:
            payloads = await self._answer(message)
            if payloads is None:
                return None
            answered += payloads
        return answered

    async def refuse(self, refusal: Refusal, raw: bytes) -> list[bytes] | None:
        """Answer and archive bytes that never became a message."""
        try:
            header = read_header(raw)
        except NotHL7:
            header = None
        return await self._settled(Arrival(raw, header, self.clock()), None, refusal)

    async def _answer(self, raw: bytes) -> list[bytes] | None:
        try:
            header = read_header(raw)
        except NotHL7 as refusal:
            return await self._settled(Arrival(raw, None, self.clock()), None, refusal)
        arrived = Arrival(raw, header, self.clock())
        if is_acknowledgement(header):
            log.warning("an acknowledgement came in as a message", source=header.sender)
            self.metrics.refused("acknowledgement")
            return await self._settled(arrived, None, None, note="acknowledgement")
        mappings = self.current.mappings
        source = mappings.bundle.source(header)
        try:
            return await self._apply(arrived, header, source, mappings)
        except Refused as refused:
            named = _named(mappings, header)
            return await self._settled(arrived, source, refusal_of(refused), mapping=named)
        except Refusal as refusal:
            named = _named(mappings, header)
            return await self._settled(arrived, source, refusal, mapping=named)
        except StoreUnavailable as problem:
            return self._unavailable(arrived, source, problem)

    async def _apply(
        self, arrived: Arrival, header: Header, source: Source, mappings: Mappings
    ) -> list[bytes] | None:
        decoded = decode(arrived.raw, header, source.charset)
        if decoded.repaired:
            log.warning(
                "MSH-18 does not fit the bytes", source=header.sender, read_as=decoded.codec
            )
        message = parse(decoded.text, decoded.codec)
        inbound = mappings.bundle.accepting(header)
        groups = changes(inbound, source, message, received=arrived.at, site_zone=self.zone)
        sent = instant(header.sent, source.timezone or self.zone)
        sender = Sender(header.sender, source.issuer, sent)
        named = mappings.named(inbound.name)
        if unmapped := tuple(dict.fromkeys(each for group in groups for each in group.held)):
            return await self._held(arrived, unmapped, named)
        for _ in range(ATTEMPTS):
            outcome = await self._attempt(arrived, groups, sender, named)
            if not isinstance(outcome, Conflict):
                return outcome
            self.metrics.conflict()
        raise StoreUnavailable("other messages kept changing the same records")

    async def _attempt(
        self, arrived: Arrival, groups: Sequence[asked.Change], sender: Sender, mapping: str
    ) -> list[bytes] | Conflict:
        """Read, apply, commit once; AA is given only after the commit."""
        everything = wanted(
            (group.attributes for group in groups),
            sender.issuer,
            orders_of_patients=any(group.action is asked.Action.PATIENT for group in groups),
        )
        read = await self._read(everything)
        applied = apply_all(groups, read.known, sender)
        payloads = self._payloads(arrived, None)
        orders = order_keys(changed(read, applied))
        archived = arrived.archived("applied", applied.notes, payloads, orders, mapping)
        outcome = await self.store.run(
            commit(
                consequences(
                    everything,
                    read,
                    applied,
                    at=arrived.at,
                    keep=self.keep,
                    guard=(arrived.digest, _FRAME_SEPARATOR.join(payloads)),
                    archived=archived,
                )
            )
        )
        if isinstance(outcome, Repeat):
            self.metrics.repeat()
            return self._repeated(arrived, outcome.answer)
        if isinstance(outcome, Committed):
            if "stale" in applied.notes:
                self.metrics.stale()
            self.told(archived)
            self._log(arrived, payloads, orders=list(orders), notes=list(applied.notes))
            return payloads
        return outcome

    async def _read(self, everything: Wanted) -> reads.Read:
        read = await self.store.run(reads.lookup(everything))
        if read.unreadable:
            raise Refusal(
                "a stored record that this message is about cannot be read",
                code="207",
                acknowledgement="AE",
                remedy="run the version of the broker that wrote it, then resend",
            )
        return read

    async def _held(
        self, arrived: Arrival, unmapped: tuple[Unmapped, ...], mapping: str
    ) -> list[bytes]:
        """Keep a whole message till its codes are in a table: accepted, but on no list.

        It is not remembered as answered: the same bytes are judged afresh. Raises Refusal when no
        more can wait.
        """
        remembered = await self.store.run(reads.remembered(arrived.digest))
        if remembered is not None:
            return self._repeated(arrived, remembered)
        waiting = held.Waiting(
            digest=arrived.digest,
            source=arrived.facts["source"],
            control_id=arrived.facts["control_id"],
            received=arrived.at.timestamp(),
            mapping=mapping,
            unmapped=unmapped,
            raw=arrived.raw,
        )
        await self._make_sure_it_can_wait(waiting)
        payloads = self._payloads(arrived, None)
        notes = [f"table '{each.table}' has no '{each.key[:80]}'" for each in unmapped]
        archived = arrived.archived("held", notes, payloads, (), mapping)
        await self.store.run(commit(Commit(at=arrived.at, held=waiting, archived=archived)))
        self.told(archived)
        tables = sorted({each.table for each in unmapped})
        log.warning("a message waits for its codes: see `broker unmapped`", tables=tables)
        self._log(arrived, payloads, note="held")
        return payloads

    async def _make_sure_it_can_wait(self, waiting: held.Waiting) -> None:
        if not held.fits(waiting):
            raise Refusal(
                "its codes are in no table, and it is too large to wait for that",
                code="103",
                remedy="assign the codes to the tables of the mapping, then resend",
            )
        full = await self.store.run(held.count()) >= held.MOST
        if full and not await self.store.run(held.waits(waiting.digest)):
            raise Refusal(
                "its codes are in no table, and too many messages wait for that already",
                code="207",
                acknowledgement="AE",
                remedy="assign the codes that `broker unmapped` lists, then resend",
            )

    # --- answers

    def _payloads(self, arrived: Arrival, refusal: Refusal | None) -> list[bytes]:
        return answers(arrived.header, refusal, stored=True, control_ids=self.ids, now=arrived.at)

    async def _settled(
        self,
        arrived: Arrival,
        source: Source | None,
        refusal: Refusal | None,
        note: str = "",
        mapping: str = "",
    ) -> list[bytes] | None:
        """Archive a message that changes nothing, then answer it."""
        payloads = self._payloads(arrived, refusal)
        notes = (f"{refusal}" if refusal else note,)
        outcome = "refused" if refusal else "ignored"
        try:
            if refusal and source:
                remembered = await self.store.run(reads.remembered(arrived.digest))
                if remembered is not None:
                    return self._repeated(arrived, remembered)
            archived = arrived.archived(outcome, notes, payloads, (), mapping)
            await self.store.run(commit(Commit(at=arrived.at, archived=archived)))
        except StoreUnavailable as problem:
            return self._unavailable(arrived, source, problem)
        self.told(archived)
        if refusal:
            self.metrics.refused(refusal.code)
            self._log(arrived, payloads, reason=f"{refusal}")
        return payloads

    def _repeated(self, arrived: Arrival, answer: bytes) -> list[bytes]:
        payloads = answer.split(_FRAME_SEPARATOR) if answer else []
        self._log(arrived, payloads, note="repeat")
        return payloads

    def _unavailable(
        self, arrived: Arrival, source: Source | None, problem: StoreUnavailable
    ) -> list[bytes] | None:
        """Nothing is stored, so nothing is promised: close, or AE/AR where a source wants it."""
        self.metrics.store_unavailable()
        log.error("store unavailable", problem=f"{problem}", **arrived.facts)
        policy = source.when_store_down if source else "close"
        if policy == "close" or arrived.header is None:
            self._log(arrived, (), reason="closed without an answer")
            return None
        refusal = Refusal(
            "the broker cannot store messages at the moment",
            code="207",
            remedy="resend",
            acknowledgement="AR" if policy == "AR" else "AE",
        )
        payloads = answers(
            arrived.header, refusal, stored=False, control_ids=self.ids, now=arrived.at
        )
        self._log(arrived, payloads, reason=f"{refusal}")
        return payloads

    def _log(self, arrived: Arrival, payloads: Sequence[bytes], **facts: object) -> None:
        code = "+".join(read_acknowledgement(payload).code for payload in payloads)
        seconds = (self.clock() - arrived.at).total_seconds()
        source = arrived.header.sender if arrived.header else "unknown"
        self.metrics.answered(source, arrived.message_type, code, seconds)
        log.info("message", ack=code, took_ms=round(seconds * 1000, 1), **arrived.facts, **facts)


def _named(mappings: Mappings, header: Header) -> str:
    """Name the mapping that refused a message, or the version in which none is for it."""
    try:
        return mappings.named(mappings.bundle.accepting(header).name)
    except Refusal:
        return mappings.named("")
