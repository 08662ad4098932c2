"""What messages say and mappings leave, and what mappings say and no message needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.hl7.message import NULL, Message
from broker.mapping.bundle import Bundle, Loaded
from broker.mapping.language.mentioning import fields_in, paths_in
from broker.mapping.language.parsing import parse_condition, parse_expression
from broker.mapping.language.syntax import Condition, Expression, Mistake, Path, Sum
from broker.mapping.running.applying import Inbound
from broker.mapping.running.items import Items
from broker.mapping.running.leaf import Leaf
from broker.mapping.text.nodes import Node
from broker.mapping.trials.trying import Trial

EXPRESSIONS = ("let", "actions", "attributes")
NO_EXPRESSIONS = frozenset(
    {"const", "note", "do", "required", "missing", "too_long", "unfit", "leave_out"}
)
ENVELOPE = frozenset({("MSH", number) for number in range(1, 26)})
"""The header is read by the broker itself, whatever a mapping says."""
SEQUENCE = 1
"""Field 1 of most segments (Set ID) only counts them."""
COUNTED = frozenset({"PID", "PV1", "OBR", "OBX", "NTE", "NK1", "GT1", "IN1", "AL1", "DG1", "TQ1"})


@dataclass(frozen=True)
class Place:
    """A line of a mapping: what it fills or decides, and where it stands."""

    what: str
    place: str


@dataclass
class Coverage:
    """Gathers what one mapping makes of its messages; of values only keys of tables stay."""

    loaded: Loaded
    inbound: Inbound
    is_base: bool = False  # another mapping extends it: its rules serve more than its messages
    messages: int = 0
    refused: int = 0
    held: int = 0
    unread: Counter[tuple[str, int]] = field(default_factory=Counter)
    misses: Counter[tuple[str, str]] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    filled: Counter[tuple[str, str]] = field(default_factory=Counter)
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        trees = list(_trees(self.loaded.root))
        self.mentioned = ENVELOPE | {place for tree in trees for place in fields_in(tree)}
        # Of what is put together only the last part is known to be read.
        self.added = {path.label for tree in trees for path in _added(tree)}

    def add(self, trial: Trial, message: Message) -> None:
        """Count one message that this mapping accepted."""
        self.messages += 1
        self.refused += trial.refusal is not None
        self.held += bool(trial.held)
        self.misses.update(trial.misses)
        for outcome in trial.outcomes:
            self.lines[outcome.line.place] += 1
            for traced in outcome.traced:
                self.filled[traced.keyword, traced.place] += 1
                self.sources[traced.place, traced.path] += 1
        said = {place for place in _said(message) if place not in self.mentioned}
        self.unread.update(said)

    def owns(self, place: Place) -> bool:
        """Whether a line stands in the mapping's own file, and no other mapping inherits it."""
        return not self.is_base and place.place.rpartition(":")[0] == str(self.loaded.path)

    def idle_lines(self) -> list[Place]:
        """The lines of the actions table that no message met."""
        lines = self.inbound.actions.lines
        return [
            Place(each.action.value, each.place) for each in lines if each.place not in self.lines
        ]

    def idle_attributes(self) -> list[Place]:
        """The attributes that no message filled."""
        return [
            Place(leaf.name, leaf.place)
            for leaf in leaves(self.inbound)
            if (leaf.name, leaf.place) not in self.filled
        ]

    def idle_sources(self) -> list[Place]:
        """The fields that an attribute was never taken from, though it was taken from others."""
        return [
            Place(f"{leaf.name} ← {label}", leaf.place)
            for leaf in leaves(self.inbound)
            if (leaf.name, leaf.place) in self.filled
            for label in dict.fromkeys(origin.label for origin in leaf.places)
            if (leaf.place, label) not in self.sources and label not in self.added
        ]


class Covering:
    """Counts trials by the mapping that accepted them; `strays` were accepted by none."""

    def __init__(self, bundle: Bundle) -> None:
        """Start with nothing seen of any inbound mapping."""
        extended = (each.file.extends.rpartition("/")[2] for each in bundle.loaded)
        bases = {name.removesuffix(".yaml") for name in extended}
        self.of = {
            each.mapping.name: Coverage(each, each.mapping, each.path.stem in bases)
            for each in bundle.loaded
            if isinstance(each.mapping, Inbound)
        }
        self.strays: Counter[str] = Counter()

    def add(self, trial: Trial) -> None:
        """Count one tried message."""
        if trial.inbound is None:
            self.strays[str(trial.refusal)] += 1
        elif trial.message is not None:
            self.of[trial.inbound.name].add(trial, trial.message)
        else:
            self.strays[f"{trial.inbound.name}: {trial.refusal}"] += 1

    @property
    def used(self) -> list[Coverage]:
        """The mappings that accepted any message: first where codes are missing, bases last."""
        used = [each for each in self.of.values() if each.messages]
        return sorted(used, key=lambda each: (not each.misses, each.is_base))


def leaves(inbound: Inbound) -> Iterator[Leaf]:
    """Every rule of a mapping that reads a value, those inside sequences too."""
    yield from _leaves(inbound.rules)


def _leaves(rules: Sequence[Leaf | Items]) -> Iterator[Leaf]:
    for rule in rules:
        if isinstance(rule, Leaf):
            yield rule
        else:
            yield from _leaves(rule.rules)


def _trees(root: Node) -> Iterator[Expression | Condition]:
    """Every expression and condition of a mapping."""
    for name in EXPRESSIONS:
        if name in root.entries:
            yield from _trees_in(root.entries[name])


def _trees_in(node: Node) -> Iterator[Expression | Condition]:
    for key, inner in node.entries.items():
        if key not in NO_EXPRESSIONS:
            yield from _trees_in(inner)
    for inner in node.items:
        yield from _trees_in(inner)
    for parse in (parse_expression, parse_condition) if node.text else ():
        try:
            yield parse(node.text or "")
        except Mistake:
            continue


def _added(tree: Any) -> Iterator[Path]:
    """The paths inside sums."""
    if isinstance(tree, Sum):
        yield from paths_in(tree)
    for inner in (*getattr(tree, "choices", ()), *filter(None, [getattr(tree, "source", None)])):
        yield from _added(inner)


def _said(message: Message) -> Iterator[tuple[str, int]]:
    for segment in message.segments:
        number, last = 0, segment.raw.count(message.separators.field)
        while number < last:
            number += 1
            if number == SEQUENCE and segment.name in COUNTED:
                continue
            if segment.field(number).strip("^~& ") not in ("", NULL):
                yield segment.name, number
