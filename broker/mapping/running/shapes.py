"""Rules made ready for messages of one shape: what cannot speak is left out, plain text read.

One sender's messages have few shapes, and nearly all of their fields are clean: no escape, no
second repetition, no null, no control character. Of such a field a plain path needs a split and no
more. All else, and all that turns out odd on the way, is left to the rule itself, which also
explains and refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import truth
from typing import Any, Final

from broker.hl7.header import STANDARD
from broker.hl7.message import NULL, Segment
from broker.mapping.running.items import Items, Rule
from broker.mapping.running.leaf import Leaf, Place
from broker.mapping.running.ready import CLEAN, EMPTY, ODD, REPEATED, Ready, ready_leaf
from broker.mapping.running.selecting import ready_selection
from broker.mapping.values.evaluation import Evaluation, Origin, Segments

REPETITION: Final = STANDARD.repetition
ESCAPE: Final = STANDARD.escape
MOST_SHAPES: Final = 1024
Shape = tuple[str | bytes, ...]
"""For each segment that is read its name, then what each of its fields is."""


class Shapes:
    """The rules of a mapping by the shape of the message; worked out once for each."""

    def __init__(self, rules: Sequence[Leaf | Items]) -> None:
        """`rules` are all of the mapping."""
        self._rules = rules
        self._names = frozenset(_names(rules))
        self._known: dict[Shape, tuple[Rule, ...]] = {}

    def __len__(self) -> int:
        """How many shapes are remembered."""
        return len(self._known)

    def rules_for(self, evaluation: Evaluation) -> Sequence[Rule]:
        """The rules that can say something about this message, ready for it.

        All of them as they are where somebody watches, or separators are not the usual ones.
        """
        if evaluation.trace is not None or evaluation.separators is not STANDARD:
            return self._rules
        shape = self._shape(evaluation.segments)
        rules = self._known.get(shape)
        if rules is None:
            if len(self._known) >= MOST_SHAPES:
                self._known.clear()
            rules = self._known[shape] = tuple(_ready(self._rules, _OfShape(shape)))
        return rules

    def _shape(self, segments: Segments | None) -> Shape:
        names, shape = self._names, list[str | bytes]()
        for name, same in segments.named.items() if segments is not None else ():
            if name in names:
                shape += name, _kinds(same[0])
        return tuple(shape)


def _names(rules: Sequence[Leaf | Items]) -> Iterator[str]:
    for rule in rules:
        yield from (name for name, _ in rule.needs or ())
        if isinstance(rule, Items):
            yield from _names(rule.rules)
        else:
            yield from (each.origin.segment for option in rule.options for each in option.readings)


def _kinds(segment: Segment) -> bytes:
    fields, raw = segment.fields(), segment.raw
    if segment.name == "MSH":
        # MSH-2 holds the marks that make other fields odd, and is read by none
        return bytes((*map(truth, fields[:2]), ODD, *_kinds_of(fields[3:], raw[8:])))
    return bytes(_kinds_of(fields, raw))


def _kinds_of(fields: Sequence[str], raw: str) -> Iterable[int]:
    if ESCAPE not in raw and NULL not in raw and raw.isprintable():
        if REPETITION not in raw:
            return map(truth, fields)
        return [REPEATED if REPETITION in each else truth(each) for each in fields]
    return [_kind(each) if each else EMPTY for each in fields]


def _kind(text: str) -> int:
    odd = REPETITION in text or ESCAPE in text or NULL in text or not text.isprintable()
    return ODD if odd else CLEAN


class _OfShape:
    """What the first segment of each name says."""

    def __init__(self, shape: Shape) -> None:
        self.kinds: dict[Any, Any] = dict(zip(shape[::2], shape[1::2], strict=True))
        self.filled = frozenset(self._filled())

    def _filled(self) -> Iterator[Place]:
        for name, kinds in self.kinds.items():
            yield name, 0
            yield from ((name, number) for number, kind in enumerate(kinds) if kind)

    def kind(self, origin: Origin) -> int:
        kinds: bytes = self.kinds.get(origin.segment, b"")
        return kinds[origin.field] if origin.field < len(kinds) else EMPTY

    def lacks(self, needs: frozenset[Place] | None) -> bool:
        return needs is not None and needs.isdisjoint(self.filled)


def _ready(rules: Sequence[Leaf | Items], fields: _OfShape) -> Iterator[Rule]:
    for rule in rules:
        if fields.lacks(rule.needs):
            continue
        if isinstance(rule, Items):
            yield rule.made_ready(tuple(_ready(rule.rules, fields)))
        else:
            yield _ready_leaf(rule, fields) or rule


def _ready_leaf(leaf: Leaf, fields: _OfShape) -> Ready | None:
    walked = leaf.walked in fields.kinds
    return ready_selection(leaf, fields) or ready_leaf(leaf, fields, walked=walked)
