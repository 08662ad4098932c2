"""Which fields a value comes from, and whether what a worklist needs comes from any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.mapping.compiling.compiler import Compiler
from broker.mapping.compiling.kinds import OF_NAME
from broker.mapping.language.mentioning import heads_in, paths_in
from broker.mapping.language.syntax import (
    Alternatives,
    Expression,
    Given,
    Parts,
    Path,
    Pipe,
    Sum,
    Text,
)
from broker.mapping.running.items import Items
from broker.mapping.running.leaf import Leaf, Place
from broker.mapping.standards.dictionaries import vr_of
from broker.mapping.text.nodes import Complaint, Node
from broker.worklist.attributes import ROWS, STEPS

DERIVED_LATER = frozenset({"StudyInstanceUID", "RequestedProcedureID", "ScheduledProcedureStepID"})
"""Type 1 attributes that the worklist derives where a message has none."""
NEEDED = (
    "AccessionNumber",  # the identity of an order
    *(key for key, row in ROWS.items() if row.returned == "1" and key not in DERIVED_LATER),
)
NEEDED_EITHER = (
    ("RequestedProcedureDescription", "RequestedProcedureCodeSequence"),
    ("ScheduledProcedureStepDescription", "ScheduledProtocolCodeSequence"),
)


def judge_sources(compiler: Compiler, rules: Sequence[Leaf | Items], own: Node) -> None:
    """Whether an order that schedules can be a worklist item: type 1 of Table K.6-1 (PS3.4).

    `own` is what the file says itself: where an overlay takes an attribute away, it is told there.
    """
    steps = next(
        (each.rules for each in rules if isinstance(each, Items) and each.keyword == STEPS), ()
    )
    filled = {each.keyword for each in (*rules, *steps) if isinstance(each, Leaf)}
    place = compiler.root.key_complaint("attributes", "")
    lacking = [keyword for keyword in NEEDED if keyword not in filled]
    hint = "no worklist item is without (type 1, PS3.4 Table K.6-1): name a field or a default"
    for keyword in [*lacking]:
        if taken_away := _taken_away(own, keyword):
            lacking.remove(keyword)
            fact = f"nothing fills {keyword} after this"
            compiler.complaints.append(replace(taken_away, fact=fact, hint=hint))
    if lacking:
        fact = f"nothing fills {', '.join(lacking)}"
        compiler.complaints.append(replace(place, fact=fact, hint=hint))
    for either in NEEDED_EITHER:
        if filled.isdisjoint(either):
            fact = f"nothing fills {' or '.join(either)}"
            hint = "scanners show one of them (type 1C, PS3.4 Table K.6-1)"
            warning = replace(place, fact=fact, hint=hint, severity="warning")
            compiler.complaints.append(warning)


def _taken_away(own: Node, keyword: str) -> Complaint | None:
    """The place at which an overlay says `keyword: ~`."""
    for block in (["attributes"], ["attributes", STEPS, "item"]):
        node = own.at(block)
        if keyword in node.entries and node.entries[keyword].value is None:
            return node.key_complaint(keyword, "")
    return None


def sources(tree: Expression) -> list[Path]:
    """The paths a value is read from, without those that only select."""
    if isinstance(tree, Path):
        return [tree] if tree.segment else []
    inner: Sequence[Expression] = ()
    if isinstance(tree, Pipe):
        inner = (tree.source,)
    elif isinstance(tree, Given):
        inner = (tree.tree,)
    elif isinstance(tree, Alternatives):
        inner = tree.choices
    else:
        inner = getattr(tree, "terms", ())
    return [path for each in inner for path in sources(each)]


def stands_on(tree: Expression, *, default: bool) -> tuple[str, ...] | None:
    """The attributes a value is worked out from, () where it is fields alone.

    None where it reads the clock, or nothing of what the message says of its order; and where it is
    no `default` and reads a field: that is what the message says.
    """
    names = dict.fromkeys(each.steps[0] for each in heads_in(tree))
    keywords = tuple(name for name in names if vr_of(name))
    fields = any(path.segment != "MSH" for path in paths_in(tree))
    if names.keys() & OF_NAME.keys() or not (fields or keywords) or (fields and not default):
        return None
    return keywords


def needs(trees: Sequence[Expression], element: str) -> frozenset[Place] | None:
    """Fields without all of which these expressions say nothing; None when they may anyway."""
    needed: frozenset[Place] = frozenset()
    for tree in trees:
        inner: frozenset[Place] | None
        if isinstance(tree, Path):
            anywhere = tree.segment_selector is not None or tree.segment == element
            place = (tree.segment, 0 if anywhere else tree.field)
            inner = frozenset({place}) if tree.segment else None
        elif isinstance(tree, Pipe):
            speaks = any(call.function == "default" for call in tree.calls)
            inner = None if speaks else needs([tree.source], element)
        elif isinstance(tree, Given):
            inner = needs([tree.tree], element)
        elif isinstance(tree, Alternatives):
            inner = needs(tree.choices, element)
        elif isinstance(tree, (Sum, Parts)):
            said = [term for term in tree.terms if not isinstance(term, Text)]
            inner = needs(said, element) if said else None
        else:
            inner = None  # a text or a name speaks for itself
        if inner is None:
            return None
        needed |= inner
    return needed
