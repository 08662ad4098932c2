"""Compiled rules and a message give changes: one per order, or one per message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import PurePath
from typing import Any, Final
from zoneinfo import ZoneInfo

from broker.hl7.charsets import STANDARD_POLICY, CharsetPolicy
from broker.hl7.message import NULL, Message, Segment, groups
from broker.hl7.refusal import Location, Refusal
from broker.mapping.evaluation import (
    Closure,
    Evaluation,
    Origin,
    Step,
    Unfit,
    Value,
    Watch,
)
from broker.mapping.expressions import Test, one
from broker.mapping.fitting import Fit, fit_of
from broker.mapping.judging import judged
from broker.mapping.timestamps import offset_of, time_of
from broker.worklist.changes import FILLS_GAPS, Action, Attributes, Change, Ranked, plain


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
COMMENTS = "ImagingServiceRequestComments"
LONGEST_COMMENTS = 10_240  # LT
MOST_SHAPES = 1024
SHORT = 16  # SH, the shortest of the VRs below
PLAIN_TEXT = frozenset(
    {
        "CodeMeaning",
        "CodeValue",
        "CodingSchemeDesignator",
        "LocalNamespaceEntityID",
        "UniversalEntityID",
    }
)
Place = tuple[str, int]
"""Segment and field; 0 is any segment of that name, wherever its fields are looked for."""
Shape = tuple[tuple[Any, ...], ...]
STRICT = frozenset({Action.SCHEDULE, Action.UPDATE, Action.PATIENT})


@dataclass(frozen=True, slots=True)
class Source:
    """What is true of one sender; `issuer` scopes its numbers, `timezone` is that of its clocks."""

    name: str
    issuer: str
    timezone: ZoneInfo | None = None
    charset: CharsetPolicy = STANDARD_POLICY
    when_store_down: str = "close"
    validate: str = "lenient"


@dataclass(frozen=True, slots=True)
class Traced:
    """How one attribute came about, for people: it holds patient data and never goes to a log."""

    keyword: str
    value: Any
    rank: int
    path: str
    raw: str
    place: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """One place a leaf may come from."""

    read: Closure
    test: Test | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """How one attribute is read, made fit, defaulted and demanded."""

    keyword: str
    name: str
    place: str
    options: tuple[Option, ...]
    defaults: tuple[Option, ...] = ()
    constant: str | None = None
    test: Test | None = None
    fit: Fit | None = None
    multiple: bool = False
    is_sequence: bool = False
    required: str = "no"
    refuse_unfit: bool = False
    looks_up: bool = False
    places: tuple[Origin, ...] = ()
    # Whether an absent value still needs a look: there is a default, or somebody insists on one.
    insists: bool = False
    # What a worklist item cannot be without (type 1 of Table K.6-1) is corrected, never erased.
    erasable: bool = True
    # The fields without all of which the leaf says nothing, None where it may speak anyway.
    needs: frozenset[Place] | None = None
    # The only source where nothing is to be asked before or after: nearly every leaf.
    only: Closure | None = None

    def value(self, evaluation: Evaluation) -> Any:
        """ABSENT, None (erase), or a value with its rank. Raises Refusal."""
        evaluation.origin = evaluation.origin_segment = None
        if self.only is None or evaluation.trace is not None:
            return self._any(evaluation)
        evaluation.rank = 0
        try:
            value = self.only(evaluation)
            if not value:
                return ABSENT
            if value == NULL:
                return None
            if value.__class__ is str and self.fit is not None:
                fitted = self.fit(evaluation, value)
            else:
                fitted = self._fitted(evaluation, value)
        except Unfit as unfit:
            if evaluation.strict:
                raise self._refusal(evaluation, unfit) from unfit
            evaluation.warn(unfit.fact)
            return ABSENT
        if not fitted:
            return ABSENT
        return Ranked(fitted, evaluation.rank) if evaluation.rank else fitted

    def _any(self, evaluation: Evaluation) -> Any:
        if self.test is not None and not self.test(evaluation):
            return ABSENT
        if self.constant is not None:
            found: Any = Ranked(self.constant, FILLS_GAPS)
        else:
            before = len(evaluation.held)
            found = self._said(evaluation)
            if found is ABSENT and self.insists and evaluation.strict:
                found = self._without_word(evaluation, before)
        if found is None and not self.erasable:
            found = self._kept(evaluation)
        if evaluation.trace is not None:
            self._note(evaluation, found)
        return found

    def _said(self, evaluation: Evaluation) -> Any:
        number = -1
        for option in self.options:
            number += 1
            if option.test is not None and not option.test(evaluation):
                continue
            evaluation.rank = 0
            try:
                value = option.read(evaluation)
                if not value:
                    continue
                if value == NULL:
                    return None
                fitted = self._fitted(evaluation, value)
            except Unfit as unfit:
                if evaluation.strict:
                    raise self._refusal(evaluation, unfit) from unfit
                evaluation.warn(unfit.fact)
                continue
            if fitted:
                rank = evaluation.rank if evaluation.rank > number else number
                return Ranked(fitted, rank) if rank else fitted
        return ABSENT

    def _without_word(self, evaluation: Evaluation, before: int) -> Any:
        """What stands in when the message says nothing usable: a default, or a refusal."""
        held = len(evaluation.held) > before
        said = None if held else self._unusable(evaluation)
        if said and self.refuse_unfit:
            raise self._refusal(evaluation, self._unfit(), said)
        for option in self.defaults:
            if option.test is not None and not option.test(evaluation):
                continue
            try:
                value = option.read(evaluation)
                fitted = self._fitted(evaluation, value) if value and value != NULL else ""
            except Unfit as unfit:
                if unfit.final:
                    raise self._refusal(evaluation, unfit) from unfit
                continue  # a number that is no accession number is not one that was said to be one
            if fitted:
                return Ranked(fitted, FILLS_GAPS)
        if len(evaluation.held) > before:
            return ABSENT  # nobody knows yet what it is: the order waits for the answer
        if self.required != "no" and said:
            raise self._refusal(evaluation, self._unfit(), said)
        if self._demanded(evaluation):
            raise self._missing(evaluation)
        return ABSENT

    def _kept(self, evaluation: Evaluation) -> Any:
        if evaluation.strict:
            origin, segment = evaluation.origin, evaluation.origin_segment
            location = None
            if origin is not None and segment is not None:
                location = Location(origin.segment, segment.sequence, origin.field)
            raise Refusal(
                f"{self.keyword} cannot be erased",
                code="101",
                location=location,
                remedy='send the right value, or nothing instead of ""',
            )
        evaluation.warn("cannot be erased")
        return ABSENT

    def _demanded(self, evaluation: Evaluation) -> bool:
        return evaluation.strict and (
            self.required == "always" or (self.required == "schedule" and evaluation.schedules)
        )

    def _fitted(self, evaluation: Evaluation, value: Value) -> Any:
        if isinstance(value, str):
            return self.fit(evaluation, value) if self.fit is not None else value
        if self.is_sequence:
            return [_fitted_item(evaluation, item) for item in value]
        if not self.multiple:
            text = one(value)
            return self.fit(evaluation, text) if self.fit is not None else text
        texts = (each for each in value if isinstance(each, str) and each != NULL)
        fitted = [self.fit(evaluation, each) if self.fit is not None else each for each in texts]
        return [each for each in fitted if each]

    def _unfit(self) -> Unfit:
        if self.looks_up:
            return Unfit("is in no table of the mapping", "103")
        return Unfit("cannot be used")

    def _unusable(self, evaluation: Evaluation) -> Location | None:
        """Where the message says something that came to nothing."""
        for origin in self.places:
            segment = _segment(evaluation, origin)
            if segment is not None and any(
                each.text(origin.component).strip('^~& "')
                for each in segment.repetitions(origin.field)
            ):
                return Location(origin.segment, segment.sequence, origin.field)
        return None

    def _missing(self, evaluation: Evaluation) -> Refusal:
        present = ((each, _segment(evaluation, each)) for each in self.places)
        where = next(((each, segment) for each, segment in present if segment is not None), None)
        origin = where[0] if where else self.places[0] if self.places else None
        location = None
        if origin is not None:
            sequence = where[1].sequence if where else 1
            location = Location(origin.segment, sequence, origin.field)
        remedy = f"fill the field, or give {self.keyword} a default ({_near(self.place)})"
        return Refusal(f"{self.keyword} is missing", code="101", location=location, remedy=remedy)

    def _refusal(
        self, evaluation: Evaluation, unfit: Unfit, location: Location | None = None
    ) -> Refusal:
        segment, origin = evaluation.origin_segment, evaluation.origin
        if location is None and segment is not None and origin is not None:
            component = origin.component
            location = Location(
                origin.segment, segment.sequence, origin.field, 1 if component else 0, component
            )
        remedy = (
            f"add a row to the table at {_near(self.place)}"
            if unfit.code == "103"
            else f"mend the value or the mapping at {_near(self.place)}"
        )
        return Refusal(
            f"{self.keyword}: the value {unfit.fact}",
            code=unfit.code,
            location=location,
            remedy=remedy,
        )

    def _note(self, evaluation: Evaluation, found: Any) -> None:
        watch = evaluation.watch or Watch()
        steps = tuple(watch.steps)
        watch.steps.clear()
        if found is not ABSENT and evaluation.trace is not None:
            evaluation.trace.append(replace(self._traced(evaluation, found), steps=steps))

    def _traced(self, evaluation: Evaluation, found: Any) -> Traced:
        origin, segment = evaluation.origin, evaluation.origin_segment
        raw = segment.field(origin.field) if origin is not None and segment is not None else ""
        rank = found.rank if isinstance(found, Ranked) else 0
        label = origin.label if origin is not None else ""
        return Traced(self.name, plain(found), rank, label, raw, self.place)


def _fitted_item(evaluation: Evaluation, item: Attributes) -> Attributes:
    # What fits every short string needs no look: codes and issuers are that, nearly always.
    return {
        keyword: text
        if len(text) <= SHORT and text.isalnum() and keyword in PLAIN_TEXT
        else fit_of(keyword)(evaluation, text)
        for keyword, text in item.items()
    }


def _segment(evaluation: Evaluation, origin: Origin) -> Any:
    element = evaluation.element
    if getattr(element, "name", None) == origin.segment:
        return element
    return evaluation.segments.first(origin.segment) if evaluation.segments is not None else None


@dataclass(frozen=True, slots=True)
class Items:
    """How a sequence is filled: one item for each element, or one when there is nothing to walk."""

    keyword: str
    rules: tuple[Leaf | Items, ...]
    elements: Callable[[Evaluation], Sequence[Any]]
    test: Test | None = None
    leave_out: tuple[str, ...] = ()
    # Items of steps are records of their own and keep ranks; every other sequence is one value.
    keeps_ranks: bool = False
    needs: frozenset[Place] | None = None

    def value(self, evaluation: Evaluation) -> Any:
        """ABSENT or the items; an item in which the message says nothing is none."""
        if self.test is not None and not self.test(evaluation):
            return ABSENT
        element, item = evaluation.element, evaluation.item
        items: list[Attributes] = []
        for each in self.elements(evaluation):
            evaluation.element = each
            evaluation.item = {}
            _fill(self.rules, evaluation, evaluation.item)
            if _says_something(evaluation.item) and not self._left_out(evaluation):
                items.append(self._kept(evaluation.item))
        evaluation.element, evaluation.item = element, item
        return items or ABSENT

    def _left_out(self, evaluation: Evaluation) -> bool:
        outer, inner = evaluation.attributes, evaluation.item
        return bool(self.leave_out) and all(
            plain(inner.get(keyword)) == plain(outer.get(keyword)) for keyword in self.leave_out
        )

    def _kept(self, item: Attributes) -> Attributes:
        if self.keeps_ranks:
            return item
        return {keyword: plain(value) for keyword, value in item.items() if value is not None}


def _fill(rules: Sequence[Leaf | Items], evaluation: Evaluation, into: Attributes) -> None:
    for rule in rules:
        value = rule.value(evaluation)
        if value is not ABSENT:
            into[rule.keyword] = value


def _says_something(item: Attributes) -> bool:
    return any(
        not (isinstance(value, Ranked) and value.rank == FILLS_GAPS) for value in item.values()
    )


@dataclass(frozen=True, slots=True)
class ActionLine:
    """One line of an actions table."""

    action: Action
    test: Test | None
    note: str
    place: str


@dataclass(frozen=True, slots=True)
class Inbound:
    """A compiled mapping of messages to changes."""

    name: str
    place: str
    messages: frozenset[tuple[str, str]]
    senders: tuple[tuple[str, str], ...]
    versions: tuple[str, ...]
    source: Callable[[str, str, str], Source]
    per_order: bool
    actions: tuple[ActionLine, ...]
    rules: tuple[Leaf | Items, ...]
    shapes: dict[Shape, tuple[Leaf | Items, ...]] = field(default_factory=dict, repr=False)

    def rules_for(self, evaluation: Evaluation) -> tuple[Leaf | Items, ...]:
        """The rules that can say something about segments of this shape; worked out once for each.

        The shape is which fields the first segment of each name fills: one sender has few of them.
        """
        segments = evaluation.segments.segments if evaluation.segments is not None else ()
        firsts = {segment.name: segment for segment in reversed(segments)}
        shape = tuple([(name, *map(bool, each.fields())) for name, each in firsts.items()])
        rules = self.shapes.get(shape)
        if rules is None:
            if len(self.shapes) >= MOST_SHAPES:
                self.shapes.clear()
            rules = self.shapes[shape] = _speaking(self.rules, frozenset(_filled(firsts)))
        return rules


def _filled(firsts: Mapping[str, Segment]) -> Iterator[Place]:
    for name, segment in firsts.items():
        yield name, 0
        yield from ((name, number) for number, text in enumerate(segment.fields()) if text)


def _speaking(rules: Sequence[Leaf | Items], filled: frozenset[Place]) -> tuple[Leaf | Items, ...]:
    return tuple(
        replace(rule, rules=_speaking(rule.rules, filled)) if isinstance(rule, Items) else rule
        for rule in rules
        if rule.needs is None or not rule.needs.isdisjoint(filled)
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One change with the line that decided it, what was odd, and how each attribute came about."""

    change: Change
    line: ActionLine
    warnings: tuple[str, ...] = ()
    traced: tuple[Traced, ...] = ()


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
        _refuse_invalid(message)
    sent = _sent(message)
    names = _Names(sent, received, site_zone, source.issuer)
    zone = offset_of(sent) or source.timezone
    for segments, location in _parts(inbound, message):
        evaluation = Evaluation(segments, message.separators, names, site_zone, zone, source.issuer)
        evaluation.trace, evaluation.watch = [] if watch is not None else None, watch
        yield _outcome(inbound, evaluation, location)


class _Names(dict[str, str]):
    """The names of an inbound mapping; most messages need no clock."""

    def __init__(self, sent: str, received: datetime, zone: ZoneInfo, issuer: str) -> None:
        super().__init__(issuer=issuer)
        self.sent, self.received, self.zone = sent, received, zone

    def get(self, name: str, default: Any = "") -> Any:
        if name not in self:
            clock = self.received.astimezone(self.zone).strftime("%Y%m%d%H%M%S")
            self.update(received=clock, now=clock, today=clock[:8])
            self["message_time"] = self.sent if time_of(self.sent) else clock
        return super().get(name, default)


def _outcome(inbound: Inbound, evaluation: Evaluation, location: str) -> Outcome:
    line = next(each for each in inbound.actions if each.test is None or each.test(evaluation))
    if line.action is Action.REFUSE:
        raise _not_understood(inbound, evaluation)
    if line.action is not Action.IGNORE:
        evaluation.strict = line.action in STRICT
        evaluation.schedules = line.action is Action.SCHEDULE
        _fill(inbound.rules_for(evaluation), evaluation, evaluation.attributes)
        if evaluation.whole:
            _keep_whole(evaluation)
    held = tuple(evaluation.held) if evaluation.strict else ()
    change = Change(line.action, evaluation.attributes, location, held)
    return Outcome(change, line, tuple(evaluation.warnings), tuple(evaluation.trace or ()))


def _not_understood(inbound: Inbound, evaluation: Evaluation) -> Refusal:
    origin = Origin("ORC-1", "ORC", 1) if inbound.per_order else Origin("MSH-9", "MSH", 9)
    segment = _segment(evaluation, origin)
    return Refusal(
        "no line of the actions table is for this order control or event",
        code="103",
        location=Location(origin.segment, segment.sequence if segment else 1, origin.field),
        remedy=f"add a line to the actions of {_near(inbound.place)}",
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
    stamps = header.repetitions(7) if header is not None else []
    return stamps[0].text(1).strip() if stamps else ""


def _refuse_invalid(message: Message) -> None:
    errors = judged("".join(f"{segment.raw}\r" for segment in message.segments))
    if errors:
        raise Refusal(
            f"not valid: {errors[0]}",
            code="102",
            remedy="mend the message, or set 'validate: lenient' for this source",
        )


def _parts(inbound: Inbound, message: Message) -> Iterator[tuple[Any, str]]:
    if not inbound.per_order:
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


def _near(place: str) -> str:
    """File and line without the folders: a sender has no business with our paths."""
    return PurePath(place).name
