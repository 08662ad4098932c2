"""Compiled rules and a message give changes: one per order, per patient or per message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from broker.hl7.acknowledgement import Mode
from broker.hl7.charsets import STANDARD_POLICY, CharsetPolicy
from broker.hl7.header import STANDARD as USUAL
from broker.hl7.message import Message, by_patient, groups
from broker.hl7.refusal import Location, Refusal
from broker.mapping.running.deciding import ActionLine, Decisions
from broker.mapping.running.items import Items, fill
from broker.mapping.running.leaf import Leaf, Traced, near, segment_of
from broker.mapping.running.shapes import Shapes
from broker.mapping.standards.judging import refuse_invalid
from broker.mapping.values.evaluation import Evaluation, Origin, Watch
from broker.mapping.values.identifying import dated
from broker.mapping.values.timestamps import offset_of, time_of
from broker.worklist.changes import FILLS_GAPS, OF_PATIENTS, Action, Change, Ranked, plain
from broker.worklist.policies import STANDARD, Groups, Policies

COMMENTS = "ImagingServiceRequestComments"
LONGEST_COMMENTS = 10_240  # LT
SEND = "send a code of the actions table"


PER_ORDER, PER_PATIENT = "per order", "per patient"
STRICT = OF_PATIENTS | {Action.SCHEDULE, Action.UPDATE, Action.REPLACE, Action.MOVE}


@dataclass(frozen=True, slots=True)
class Source:
    """What is true of one sender; `issuer` scopes its numbers, `timezone` is that of its clocks."""

    name: str
    issuer: str
    timezone: ZoneInfo | None = None
    charset: CharsetPolicy = STANDARD_POLICY
    when_store_down: str = "close"
    validate: str = "lenient"
    ack: Mode = "auto"
    policies: Policies = STANDARD


@dataclass(frozen=True, slots=True)
class Inbound:
    """A compiled mapping of messages to changes."""

    name: str
    place: str
    messages: frozenset[tuple[str, str]]
    senders: tuple[tuple[str, str], ...]
    versions: tuple[str, ...]
    source: Callable[[str, str, str], Source]
    parted: str
    actions: Decisions
    rules: tuple[Leaf | Items, ...] = field(repr=False)
    shapes: Shapes
    # The ports of ours that it is for; none is every one.
    ports: frozenset[int] = frozenset()
    # What an accession number that nobody gives is made by, '' where none is.
    numbering: str = ""


@dataclass(slots=True)  # as a Change
class Outcome:
    """One change with the line that decided it, what was odd, and how each attribute came about."""

    change: Change
    line: ActionLine
    warnings: tuple[str, ...] = ()
    traced: tuple[Traced, ...] = ()
    # The attributes that stay without a value, and why.
    silent: tuple[Traced, ...] = ()


def changes(
    inbound: Inbound, source: Source, message: Message, *, received: datetime, site_zone: ZoneInfo
) -> list[Change]:
    """What a message asks for, in its order; `received` is aware. Raises Refusal with its place."""
    worked = outcomes(inbound, source, message, received=received, site_zone=site_zone)
    return [outcome.change for outcome in worked]


def outcomes(
    inbound: Inbound,
    source: Source,
    message: Message,
    *,
    received: datetime,
    site_zone: ZoneInfo,
    watch: Watch | None = None,
) -> Iterator[Outcome]:
    """The changes with their warnings; a `watch` adds how values came about. Raises Refusal."""
    if source.validate == "strict":
        refuse_invalid(message)
    sent = _sent(message)
    names = _Names(sent, received, site_zone, source.issuer)
    zone = offset_of(sent) or source.timezone
    for segments, location in _parts(inbound, message):
        evaluation = Evaluation(segments, message.separators, names, site_zone, zone, source.issuer)
        if watch is not None:
            watch.traced, watch.silent, watch.given = [], [], {}
            evaluation.trace, evaluation.watch = watch.traced, watch
        try:
            yield _outcome(inbound, evaluation, location)
        except Refusal as refusal:
            if source.policies.groups is not Groups.APPLY_GOOD:
                raise
            yield _left_out(location, refusal)


class _Names(dict[str, str]):
    """The names of an inbound mapping; most messages need no clock."""

    def __init__(self, sent: str, received: datetime, zone: ZoneInfo, issuer: str) -> None:
        self["issuer"] = issuer
        self.sent, self.received, self.zone = sent, received, zone

    def get(self, name: str, default: Any = "") -> Any:
        if name not in self:
            clock = self.received.astimezone(self.zone).strftime("%Y%m%d%H%M%S")
            self.update(received=clock, now=clock, today=clock[:8])
            self["message_time"] = self.sent if time_of(self.sent) else clock
        return super().get(name, default)


def _outcome(inbound: Inbound, evaluation: Evaluation, location: str) -> Outcome:
    line = inbound.actions.line_for(evaluation)
    if line.action is Action.REFUSE:
        raise _not_understood(inbound, line, evaluation)
    if line.action is not Action.IGNORE:
        lenient = evaluation.watch is not None and evaluation.watch.lenient
        evaluation.strict = line.action in STRICT and not lenient
        evaluation.schedules = line.action is Action.SCHEDULE
        fill(inbound.shapes.rules_for(evaluation), evaluation, evaluation.attributes)
        if evaluation.whole:
            _keep_whole(evaluation)
    held = tuple(evaluation.held) if evaluation.strict else ()
    numbering = ""
    if inbound.numbering and evaluation.strict and "AccessionNumber" not in evaluation.attributes:
        numbering = dated(inbound.numbering, evaluation.names.get("today", ""))
    warnings = tuple(evaluation.warnings)
    change = Change(
        line.action, evaluation.attributes, location, held, numbering, warnings=warnings
    )
    watch = evaluation.watch
    if watch is None:
        return Outcome(change, line, warnings)
    return Outcome(change, line, warnings, tuple(watch.traced), tuple(watch.silent))


def _left_out(location: str, refusal: Refusal) -> Outcome:
    """A group that cannot be read, beside others of the message that are good."""
    change = Change(Action.REFUSE, {}, location, refused=refusal)
    return Outcome(change, ActionLine(Action.REFUSE, None, "", ""))


def _not_understood(inbound: Inbound, line: ActionLine, evaluation: Evaluation) -> Refusal:
    by_control = inbound.parted == PER_ORDER
    origin = Origin("ORC-1", "ORC", 1) if by_control else Origin("MSH-9.2", "MSH", 9)
    segment = segment_of(evaluation, origin)
    fact = "no line of the actions table is for this code"
    remedy = f"{SEND}, or add a line for it, as {{when: {origin.label} = CODE, do: schedule}}"
    if line.note:
        fact, remedy = "the actions table refuses this code", line.note
    if segment is None:
        fact, remedy = f"there is no {origin.segment} segment", SEND
    elif not segment.field(origin.field).strip():
        fact, remedy = "no code says what to do: the field is empty", SEND
    return Refusal(
        fact,
        code="201" if line.note and not by_control else "103",
        location=Location(origin.segment, segment.sequence if segment else 1, origin.field),
        remedy=remedy,
        rule=near(line.place),
    )


def _keep_whole(evaluation: Evaluation) -> None:
    """No attribute of a worklist item takes a longer identifier: the comments tell it in full."""
    said = evaluation.attributes.get(COMMENTS)
    texts = [plain(said)] if plain(said) else []
    comments = "\r\n".join([*texts, *evaluation.whole])[:LONGEST_COMMENTS]
    ranked = said is None or isinstance(said, Ranked)
    rank = said.rank if isinstance(said, Ranked) else FILLS_GAPS
    evaluation.attributes[COMMENTS] = Ranked(comments, rank) if ranked else comments


def _sent(message: Message) -> str:
    header = message.first("MSH")
    said = header.field(7) if header is not None else ""
    if header is None or not said or (said.isdigit() and message.separators is USUAL):
        return said
    return header.repetitions(7)[0].text(1).strip()


def _parts(inbound: Inbound, message: Message) -> Iterator[tuple[Any, str]]:
    if inbound.parted == PER_PATIENT and message.all("PID"):
        for patient in by_patient(message):
            yield patient, f"PID[{patient.index}]"
        return
    if inbound.parted != PER_ORDER:
        yield message, "PID"
        return
    orders = groups(message)
    if not orders:
        raise Refusal(
            "the message has no order",
            code="100",
            location=Location("ORC"),
            remedy="send ORC and OBR segments",
        )
    for group in orders:
        yield group, f"ORC[{group.index}]"
