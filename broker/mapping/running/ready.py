"""A leaf for clean fields: a plain path needs a split and no more; what is odd, it does itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from broker.hl7.header import STANDARD
from broker.hl7.message import NULL
from broker.mapping.language.reading import Applied, Kept, Reading
from broker.mapping.language.scope import Test
from broker.mapping.running.leaf import ABSENT, Leaf, Option, Place
from broker.mapping.values.clean import OF_TEXT
from broker.mapping.values.evaluation import Evaluation, Origin, Unfit
from broker.worklist.changes import FILLS_GAPS, SAID, Ranked

EMPTY, CLEAN, ODD, REPEATED = 0, 1, 2, 3
SEPARATOR: Final = STANDARD.component
REPETITION: Final = STANDARD.repetition
MOST_KEPT: Final = 512
LONGEST_KEPT: Final = 250
Called = tuple[Callable[..., Any], tuple[Any, ...], bool]
Functions = Sequence[Called]
WHOLE, AS_TEXT = 0, -1
"""In the place of a component: the repetitions of a field, and its text where it is clean."""
_CalledPlace = tuple[
    int, Test | None, str, int, int, Kept | None, bool, bool, tuple[Origin, Functions]
]
"""Rank, test, segment, field, component (or WHOLE, AS_TEXT), what is remembered of it, whether the
functions are for all after the first component, whether nothing follows, what is to be done."""
Spot = tuple[int, Reading, Test | None]
"""The rank of what a field says, the field with its functions, and when it is looked at."""


class Fields(Protocol):
    """What the fields of messages of one shape are."""

    def kind(self, origin: Origin) -> int:
        """EMPTY, CLEAN, ODD or REPEATED."""
        ...

    def lacks(self, needs: frozenset[Place] | None) -> bool:
        """Whether all that something needs is empty."""
        ...


class Ready:
    """A rule for one shape: as a Leaf or Items, what fills `keyword` is its `value`."""

    __slots__ = ("keyword", "value")

    def __init__(self, keyword: str, value: Callable[[Evaluation], Any]) -> None:
        """`value` gives what the rule's own would."""
        self.keyword = keyword
        self.value = value


def ready_leaf(leaf: Leaf, fields: Fields, *, walked: bool) -> Ready | None:
    """The leaf made ready, None where it is to work as it is.

    `walked` tells whether messages of the shape have the segments that `each:` walks.
    """
    if leaf.test is not None:
        return None
    if leaf.constant is not None:
        constant = Ranked(leaf.constant, FILLS_GAPS)
        return Ready(leaf.keyword, lambda _: constant)
    spots, alone = _spots(leaf, fields)
    if walked and any(each.origin.segment == leaf.walked for _, each, _ in spots):
        return None  # it depends on the element
    spots = [spot for spot in spots if fields.kind(spot[1].origin)]
    if not spots:
        return _stand_in(leaf)
    if not all(_is_ready(each, fields.kind(each.origin)) for _, each, _ in spots):
        return None
    if any(each.calls for _, each, _ in spots):
        return Ready(leaf.keyword, _called(leaf, spots, fields, alone=alone))
    rank, reading, test = spots[0]
    if len(spots) == 1 and test is None and leaf.clean_limit is not None:
        return Ready(leaf.keyword, _only_text(leaf, rank, reading, alone=alone))
    return Ready(leaf.keyword, _text(leaf, spots, alone=alone))


def _spots(leaf: Leaf, fields: Fields) -> tuple[list[Spot], bool]:
    """What a leaf tries before it needs to ask anything, and whether nothing else is left then."""
    spots: list[Spot] = []
    for number, option in enumerate(leaf.options):
        if option.quiet and not option.readings and fields.lacks(option.needs):
            continue
        if not option.quiet or not option.readings:
            return spots, False
        for rank, each in enumerate(option.readings):
            spots.append((max(rank, number) if leaf.ranked else SAID, each, option.test))
    return spots, not leaf.insists


def _is_ready(reading: Reading, kind: int) -> bool:
    whole = bool(reading.calls) and reading.calls[0].whole
    return kind == CLEAN or (kind == REPEATED and whole)


def _stand_in(leaf: Leaf) -> Ready | None:
    """The first default, where every field that a leaf reads is empty."""
    limit = leaf.clean_limit
    if limit is None or not all(map(_only_reads, (*leaf.options, *leaf.defaults[:1]))):
        return None
    if not leaf.defaults or any(each.calls for each in leaf.defaults[0].readings):
        return None
    read, itself, longest = leaf.defaults[0].read, leaf.value, limit
    stands_on = leaf.defaults[0].stands_on

    def value(evaluation: Evaluation) -> Any:
        if not evaluation.strict:
            return ABSENT
        said = read(evaluation)
        if said.__class__ is str and said.isprintable() and len(said) <= longest:
            fitted = said.strip()
            if fitted and said != NULL and "\\" not in said:
                return Ranked(fitted, FILLS_GAPS, stands_on)
        return itself(evaluation)

    return Ready(leaf.keyword, value)


def _only_reads(option: Option) -> bool:
    return option.test is None and bool(option.readings)


def _only_text(leaf: Leaf, rank: int, reading: Reading, *, alone: bool) -> Callable[..., Any]:
    origin = reading.origin
    name, number, component = origin.segment, origin.field, origin.component or 1
    itself, limit = leaf.value, leaf.clean_limit or 0

    def value(evaluation: Evaluation) -> Any:
        text = evaluation.firsts[name][1][number]  # type: ignore[index] # the shape says so
        if SEPARATOR in text or component > 1:
            text = _component(text, component)
        fitted = text.strip()
        if not fitted or len(text) > limit:
            return ABSENT if alone and not text else itself(evaluation)
        return Ranked(fitted, rank) if rank else fitted

    return value


def _text(leaf: Leaf, spots: Sequence[Spot], *, alone: bool) -> Callable[..., Any]:
    origins = [(rank, test, each.origin) for rank, each, test in spots]
    places = [
        (rank, test, each.segment, each.field, each.component or 1) for rank, test, each in origins
    ]
    itself = leaf.value
    limit = -1 if leaf.clean_limit is None else leaf.clean_limit

    def value(evaluation: Evaluation) -> Any:
        firsts = evaluation.firsts
        for rank, test, name, number, component in places:
            if test is not None and not test(evaluation):
                continue
            text = firsts[name][1][number]  # type: ignore[index] # the shape says so
            if SEPARATOR in text or component > 1:
                text = _component(text, component)
            if text:
                fitted = text.strip() if len(text) <= limit else _fitted(leaf, evaluation, text)
                if not fitted:
                    return itself(evaluation)
                return Ranked(fitted, rank) if rank else fitted
        return ABSENT if alone else itself(evaluation)

    return value


def _fitted(leaf: Leaf, evaluation: Evaluation, text: str) -> Any:
    """The text as its VR wants it, '' where it does not fit: the leaf then says why."""
    if leaf.clean_limit is not None:
        return ""
    warned = len(evaluation.warnings)
    try:
        fit = leaf.fit
        fitted = fit(evaluation, text) if fit is not None else leaf.fitted(evaluation, text)
    except Unfit:
        fitted = ""
    if not fitted:
        del evaluation.warnings[warned:]
    return fitted


def _component(text: str, number: int) -> str:
    parts = text.split(SEPARATOR, number)
    return parts[number - 1] if number <= len(parts) else ""


def _called(
    leaf: Leaf, spots: Sequence[Spot], fields: Fields, *, alone: bool
) -> Callable[..., Any]:
    places = [
        _place(
            *spot,
            ends=alone and _is_followed_by_none(spots, number),
            clean=fields.kind(spot[1].origin) == CLEAN,
        )
        for number, spot in enumerate(spots)
    ]

    def value(evaluation: Evaluation) -> Any:
        firsts = evaluation.firsts
        for rank, test, name, number, component, kept, rest, ends, work in places:
            if test is not None and not test(evaluation):
                continue
            segment, fields = firsts[name]  # type: ignore[misc] # the shape says so
            said: Any = fields[number]
            if component <= WHOLE:
                if not said.strip("^&~ "):
                    continue
            elif SEPARATOR in said or component > 1:
                said = _component(said, component)
            key = said
            if kept is not None:
                if rest and REPETITION not in said:
                    key = said.partition(SEPARATOR)[2]
                known = kept.get(key)
                if known is not None:
                    value, ranked = known
                    if value.__class__ is str and not ranked:  # nearly always
                        return value
                    if ends or value is not ABSENT:
                        return again(leaf, value, ranked)
            if component == WHOLE:
                said = segment.repetitions(number)
                if len(said) > 1:
                    said = [each for each in said if each.raw.strip("^&~ ")]
            if said:
                evaluation.rank, evaluation.origin_segment = rank, segment
                evaluation.origin, functions = work
                return worked_out(leaf, evaluation, said, functions, kept, key, last=ends)
        return ABSENT if alone else leaf.value(evaluation)

    return value


def _is_followed_by_none(spots: Sequence[Spot], number: int) -> bool:
    """Whether no other place is asked when the functions make nothing of what this one says."""
    _, reading, _ = spots[number]
    following = [each for _, each, _ in spots[number + 1 :]]
    return not following or (
        not reading.alone and all(each.calls is reading.calls for each in following)
    )


def _place(
    rank: int, reading: Reading, test: Test | None, *, ends: bool, clean: bool
) -> _CalledPlace:
    origin, calls = reading.origin, reading.calls
    whole = bool(calls) and calls[0].whole
    kept = reading.kept if calls and all(each.steady for each in calls) else None
    component = WHOLE if whole else origin.component or 1
    rest = bool(calls) and calls[0].rest
    functions = functions_of(calls)
    if whole and clean and (of_text := OF_TEXT.get(calls[0].call)):
        component = AS_TEXT
        functions[0] = (of_text, *functions[0][1:])
    work = (origin, functions)
    return rank, test, origin.segment, origin.field, component, kept, rest, ends, work


def functions_of(calls: Sequence[Applied]) -> list[Called]:
    return [(each.call, each.arguments, each.whole) for each in calls]


def worked_out(
    leaf: Leaf,
    evaluation: Evaluation,
    said: Any,
    functions: Functions,
    kept: Kept | None,
    key: str,
    *,
    last: bool = False,
) -> Any:
    """What functions make of what was said; where that is nothing or odd, the leaf starts anew.

    The `last` place of a leaf that insists on nothing may say nothing.
    """
    warnings, held, whole = evaluation.warnings, evaluation.held, evaluation.whole
    before = (len(warnings), len(held), len(whole))
    try:
        for call, arguments, whole_field in functions:
            if said.__class__ is list and not whole_field:
                if len(said) != 1 or leaf.multiple or leaf.is_sequence:
                    break  # each of several texts, which is for the leaf
                said = said[0]
            said = call(evaluation, said, *arguments)
            if not said and last and before == (len(warnings), len(held), len(whole)):
                if kept is not None:
                    _keep(kept, key, ABSENT, 0)
                return ABSENT
            if not said or said == NULL:
                break
        else:
            if said.__class__ is str and leaf.fit is not None:  # nearly always
                fitted = leaf.fit(evaluation, said)
            else:
                fitted = leaf.fitted(evaluation, said)
            rank = evaluation.rank
            if fitted:
                if kept is not None and before == (len(warnings), len(held), len(whole)):
                    _keep(kept, key, fitted, rank)
                return leaf.said(fitted, rank) if rank else fitted
    except Unfit:
        pass
    del warnings[before[0] :], held[before[1] :], whole[before[2] :]
    return leaf.value(evaluation)


def _keep(kept: Kept, key: str, value: Any, rank: int) -> None:
    if len(kept) >= MOST_KEPT:
        kept.clear()
    if len(key) <= LONGEST_KEPT:
        kept[key] = (_copied(value) if value.__class__ is list else value, rank)


def again(leaf: Leaf, value: Any, rank: int) -> Any:
    if value.__class__ is list:
        value = _copied(value)  # whoever gets it may change it
    return leaf.said(value, rank) if rank else value


def _copied(value: list[Any]) -> list[Any]:
    return [{**each} if each.__class__ is dict else each for each in value]
