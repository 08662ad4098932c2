"""One message, from its bytes to its answer, without a socket: decode, map, apply, commit, ACK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import structlog

from broker.hl7.charsets import Decoded, decode
from broker.hl7.header import Header, read_header
from broker.hl7.message import batch, parse, said_count
from broker.hl7.refusal import TOO_LONG, Location, NotHL7, Refusal
from broker.instep import all_so_far
from broker.mapping.running.applying import Source, changes
from broker.mapping.running.refusing import refusal_of
from broker.orders.admission import Admission
from broker.orders.answering import Answering
from broker.orders.arrival import Again, Arrival
from broker.orders.echoes import echo_of
from broker.orders.guessing import Guesses
from broker.orders.limits import NOBODY, Peer
from broker.orders.metrics import OrdersMetrics
from broker.orders.news import News
from broker.orders.noticing import remark
from broker.orders.strictness import judged_apart
from broker.orders.turns import Turns
from broker.orders.verdict import told, verdict_on
from broker.orders.waiting import held_back
from broker.rollout.current import Current, Mappings
from broker.settings import Ris
from broker.store import keys, reads
from broker.store.commit import Committed, Conflict, Repeat, commit
from broker.store.consequences import Keeping, consequences
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.worklist import changes as asked
from broker.worklist.apply import Sender, apply_all
from broker.worklist.finding import Wanted, wanted
from broker.worklist.linking import LINKED, linked
from broker.worklist.meant import BY_NUMBER, is_by_patient
from broker.worklist.performing import ExamRules
from broker.worklist.persons import reaches_orders
from broker.worklist.refusals import Refused
from broker.worklist.staleness import instant, stamp

ATTEMPTS: Final = 100
"""Commits of one message that lost a race before we give up and let the sender resend."""
NO_CONTROL_ID: Final = "MSH-10 is empty: its answer says to nobody which message it is for"

UNANSWERED: Final = timedelta(milliseconds=1)
"""Till an answer is out at the soonest: what came in within it may have been sent without it."""
log = structlog.get_logger("orders")


class _Judged(NamedTuple):
    """What a message asks for, before anything of the store is looked at."""

    arrived: Arrival
    groups: Sequence[asked.Change]
    sender: Sender
    mapping: str
    everything: Wanted


@dataclass(frozen=True)
class Intake:
    """Everything that taking a message needs.

    `admission` is by port of the listener. `ris` are told of what order control can end no more,
    and of exams that were there before their order.
    """

    store: AsyncStore
    current: Current
    zone: ZoneInfo
    keep: Keeping
    clock: Callable[[], datetime]
    metrics: OrdersMetrics
    answering: Answering
    turns: Turns = field(default_factory=Turns)
    guesses: Guesses = field(default_factory=Guesses)
    admission: dict[int, Admission] = field(default_factory=dict)
    ris: tuple[Ris, ...] = ()
    rules: ExamRules = field(default_factory=ExamRules)

    async def accept(self, raw: bytes, peer: Peer = NOBODY) -> list[bytes] | None:
        """Answer one MLLP block: payloads to send in order, None to close without an answer.

        Mappings may be for the port of some listeners only.
        """
        try:
            messages = batch(raw)
        except Refusal as refusal:
            return await self.refuse(refusal, raw)
        said = said_count(raw) if len(messages) > 1 or messages[0] is not raw else None
        if said not in (None, len(messages)):
            self.metrics.miscounted()
            log.warning(
                "a batch does not hold as many messages as its trailer says: tell its sender",
                said=said,
                holds=len(messages),
                port=peer.listener,
            )
        answered: list[bytes] = []
        for message in messages:
            payloads = await self._answer(message, peer)
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
        arrived = Arrival(raw, header, self.clock(), whole=False)
        return await self.answering.settled(arrived, "close", refusal)

    async def lose(self, head: bytes, why: str) -> None:
        """Archive the beginning of what never became a message, about which nobody is answered."""
        try:
            header = read_header(head)
        except NotHL7:
            header = None
        arrived = Arrival(head, header, self.clock(), whole=False)
        await self.answering.lost(arrived, why)

    async def judge_again(self, raw: bytes, port: int, again: Again) -> bool:
        """Judge one message of the past once more; `told` hears of it. False when it could not be.

        Nothing is sent: its sender was answered when it came.
        """
        return await self._answer(raw, Peer("", 0, port), again) is not None

    async def _answer(
        self, raw: bytes, peer: Peer, again: Again | None = None
    ) -> list[bytes] | None:
        port = peer.listener
        try:
            header = read_header(raw)
        except NotHL7 as refusal:
            arrived = Arrival(raw, None, self.clock(), again=again)
            return await self.answering.settled(arrived, "close", refusal)
        mappings = self.current.mappings
        source = mappings.bundle.source(header, port)
        arrived = Arrival(
            raw,
            header,
            self.clock(),
            port,
            source.ack,
            again=again,
            issuer=source.issuer,
            zone=source.timezone or self.zone,
            host=peer.host,
        )
        if echo := echo_of(header, raw, mappings, self.ris):
            return await self.answering.echoed(arrived, header, echo)
        try:
            if port in self.admission:
                self.admission[port].judge(header, peer.certificate)
            return await self._apply(arrived, header, source, mappings)
        except Refused as contrary:
            named = _named(mappings, header, port)
            return await self.answering.settled(
                arrived, source.when_store_down, refusal_of(contrary), mapping=named
            )
        except Refusal as refusal:
            named = _named(mappings, header, port)
            return await self.answering.settled(
                arrived, source.when_store_down, refusal, mapping=named
            )
        except StoreUnavailable as problem:
            return self.answering.unavailable(arrived, source.when_store_down, problem)

    async def _apply(
        self, arrived: Arrival, header: Header, source: Source, mappings: Mappings
    ) -> list[bytes] | None:
        if header.is_cut:
            raise Refusal(
                "the header is longer than 16 KiB",
                code=TOO_LONG,
                location=Location("MSH"),
                remedy="send a shorter MSH segment",
            )
        if not header.control_id.strip():
            arrived = replace(arrived, oddity=NO_CONTROL_ID)
        decoded = decode(arrived.raw, header, source.charset)
        if decoded.repaired:
            arrived = self._mislabelled(arrived, header, decoded)
        message = parse(decoded.text, decoded.codec)
        await all_so_far()
        inbound = mappings.bundle.accepting(header, arrived.port)
        asked_for = partial(
            changes, inbound, source, message, received=arrived.received, site_zone=self.zone
        )
        groups = await judged_apart(asked_for) if source.validate == "strict" else asked_for()
        await all_so_far()
        sent = arrived.sent
        if header.sent and (not sent or sent != instant(header.sent, arrived.zone)):
            arrived = replace(arrived, oddity=arrived.oddity or "MSH-7 is no time to go by")
        sender = _sender(arrived, header, source)
        named = mappings.named(inbound.name)
        if unmapped := tuple(dict.fromkeys(each for group in groups for each in group.held)):
            return await held_back(self.answering, arrived, unmapped, named)
        everything = _everything(groups, sender)
        judged = _Judged(arrived, groups, sender, named, everything)
        async with self.turns.of(everything.names) as waited_since:
            return await self._in_turn(judged, waited_since)

    def _mislabelled(self, arrived: Arrival, header: Header, decoded: Decoded) -> Arrival:
        """Count a wrong MSH-18, and warn of it once for each source that sends one."""
        if self.metrics.mislabelled(header.sender):
            log.warning(
                "what this source sends does not fit its MSH-18: tell its owner",
                source=header.sender,
                problem=decoded.oddity,
            )
        return replace(arrived, oddity=decoded.oddity)

    async def _in_turn(self, judged: _Judged, waited_since: str | None) -> list[bytes]:
        """Try till nobody else has changed what was read."""
        arrived, groups, sender, _, everything = judged
        if arrived.again is None and self.guesses.is_new(sender.name, groups):
            with suppress(Refused):  # perhaps because it is not as new as was guessed
                outcome = await self._attempt(judged, reads.NOTHING)
                if not isinstance(outcome, Conflict):
                    return outcome
            self.guesses.learn(sender.name, groups, nothing_known=False)
        taken, first = 0, None
        for _ in range(ATTEMPTS):
            read = await self.read(everything)
            first = first or read
            together = read.written_since(waited_since, first)
            if read.known.orders and arrived.again is None:
                together |= read.written_elsewhere(stamp(arrived.at - UNANSWERED), self.turns.own)
            read = replace(read, known=replace(read.known, together=together))
            if not taken:
                nothing_known = not (read.known.orders or read.known.patients)
                self.guesses.learn(sender.name, groups, nothing_known=nothing_known)
            outcome = await self._attempt(judged, read, taken)
            if not isinstance(outcome, Conflict):
                return outcome
            # A number of ours that some sender has given already is passed over.
            taken += outcome.key.startswith(keys.order("")) and any(g.numbering for g in groups)
            self.metrics.conflict()
        raise StoreUnavailable("other messages kept changing the same records")

    async def _attempt(
        self, judged: _Judged, read: reads.Read, taken: int = 0
    ) -> list[bytes] | Conflict:
        """Apply to what was read and commit, once; AA is given only after the commit.

        What other messages ask of the store in the same turn of the loop goes with it: one write,
        and one flush to the disk for all that has arrived there meanwhile.
        """
        arrived, groups, sender, mapping, everything = judged
        known = replace(read.known, given=read.known.given + taken) if taken else read.known
        applied = apply_all(groups, known, sender)
        if read.guessed and applied.refused:
            return Conflict("")  # perhaps it is refused for not being as new as was guessed
        await all_so_far()
        typed = {key for key, order in read.known.orders.items() if order.by_hand}
        found = linked(applied.known, read.exams.values(), self.rules, typed)
        if found:
            notes = (*applied.notes, LINKED)
            applied = replace(applied, known=found[-1].moments[-1].after, notes=notes)
        verdict = verdict_on(arrived, groups, read, applied, mapping, self.answering)
        await all_so_far()
        news = News(self.current.mappings, self.ris, arrived.at)
        wished = consequences(
            everything,
            read,
            applied,
            at=arrived.at,
            keep=self.keep,
            guard=verdict.remembered(arrived),
            archived=verdict.archived,
            events=news.of(arrived, applied, found, typed),
            exams=[each.exam for each in found],
            refused_in_part=arrived.digest if verdict.refusal else "",
        )
        outcome = await self.store.run(commit(wished))
        if isinstance(outcome, Repeat):
            self.metrics.repeat()
            return await self.answering.repeated(arrived, outcome.answer, mapping)
        if isinstance(outcome, Committed):
            self.turns.committed(outcome.revision)
            remark(arrived, groups, applied, self.metrics)
            return told(arrived, verdict, self.answering)
        return outcome

    async def read(self, everything: Wanted) -> reads.Read:
        """Read what a message is about. Raises Refusal where a record cannot be read."""
        read = await self.store.run(reads.lookup(everything))
        if read.known.patients.keys() & everything.universal and not everything.orders_of_patients:
            everything = everything._replace(orders_of_patients=True)  # they are another one's now
            read = await self.store.run(reads.lookup(everything))
        if read.unreadable:
            raise Refusal(
                "a stored record that this message is about cannot be read",
                code="207",
                acknowledgement="AE",
                remedy="run the version of the broker that wrote it, then resend",
            )
        return read


def _sender(arrived: Arrival, header: Header, source: Source) -> Sender:
    return Sender(
        header.sender,
        source.issuer,
        arrived.sent,
        source.policies,
        force=arrived.is_forced,
        received=stamp(arrived.received),
        replayed=arrived.again is not None,
    )


def _everything(groups: Sequence[asked.Change], sender: Sender) -> Wanted:
    """Name all records that a message may be about."""
    return wanted(
        (group.attributes for group in groups),
        sender.issuer,
        orders_of_patients=any(reaches_orders(g) or is_by_patient(g) for g in groups),
        namesakes=any(group.action in BY_NUMBER for group in groups),
        given=any(group.numbering for group in groups),
    )


def _named(mappings: Mappings, header: Header, port: int) -> str:
    """Name the mapping that refused a message, or the version in which none is for it."""
    try:
        return mappings.named(mappings.bundle.accepting(header, port).name)
    except Refusal:
        return mappings.named("")
