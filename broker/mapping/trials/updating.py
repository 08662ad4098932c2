"""What examples expect, rewritten to what comes out; the rest of the file stays byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from broker.mapping.running.applying import Outcome
from broker.mapping.trials.examples import Difference, Result, shown_refusal
from broker.mapping.trials.trying import Trial, unranked
from broker.worklist.attributes import STEPS

EXPECTATIONS = ("expect", "refused")


@dataclass(frozen=True, order=True)
class Edit:
    """Characters `start` to `end` of a text become `new`."""

    start: int
    end: int
    new: str


def updated(text: str, results: Iterable[Result]) -> str:
    """The text of a mapping file in which the examples of `results` expect what came out.

    Only differing values are written anew, in their place; a message that is now refused, or gives
    another number of changes, gets a whole new expectation.
    """
    root = yaml.compose(text, Loader=yaml.CSafeLoader)
    nodes = {_position(node): node for node in _values(root)}
    edits = [edit for result in results for edit in _edits(text, nodes, result)]
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.new + text[edit.end :]
    return text


def _edits(text: str, nodes: dict[tuple[int, int], yaml.Node], result: Result) -> Iterator[Edit]:
    wanted = [each for each in result.differences if each.mendable]
    if any(each.whole for each in wanted) and result.trial is not None:
        example = nodes.get((result.node.line, result.node.column))
        if isinstance(example, yaml.MappingNode):
            yield from _anew(text, example, result.trial)
        return
    for each in wanted:
        node = nodes.get((each.node.line, each.node.column))
        if node is not None:
            yield _value(node, each)


def _value(node: yaml.Node, difference: Difference) -> Edit:
    start, end = node.start_mark.index, _end(node)
    gap = " " if start == end else ""  # `Key:` with nothing after it
    return Edit(start, end, gap + _flow(difference.found))


def _anew(text: str, example: yaml.MappingNode, trial: Trial) -> Iterator[Edit]:
    """A whole expectation in the place of the former one, or at the end of the example."""
    former = [
        (key.start_mark.index, _end(value))
        for key, value in example.value
        if key.value in EXPECTATIONS
    ]
    if example.flow_style:
        new = ", ".join(f"{key}: {_flow(value)}" for key, value in _outcome(trial).items())
        at = _end(example) - 1
        yield Edit(*former[0], new) if former else Edit(at, at, f", {new}")
        return
    ending = "\r\n" if "\r\n" in text else "\n"
    indent = example.value[0][0].start_mark.column
    lines = list(expectation(_outcome(trial)))
    new = ending.join([lines[0], *(f"{' ' * indent}{line}" for line in lines[1:])])
    if former:
        yield Edit(*former[0], new)
        return
    at = text.find("\n", _end(example))
    at = len(text) if at < 0 else at - (ending == "\r\n")
    yield Edit(at, at, f"{ending}{' ' * indent}{new}")


def _outcome(trial: Trial) -> dict[str, Any]:
    if trial.refusal is not None:
        return {"refused": shown_refusal(trial.refusal)}
    return {"expect": [_change(outcome) for outcome in trial.outcomes]}


def _change(outcome: Outcome) -> dict[str, Any]:
    change = outcome.change
    attributes = unranked(change.attributes)
    action = {"action": change.action.value}
    return {**action, "attributes": attributes} if attributes else action


def expectation(outcome: dict[str, Any]) -> Iterator[str]:
    """What an example expects, in block style: one attribute a line."""
    if "refused" in outcome:
        yield f"refused: {_flow(outcome['refused'])}"
        return
    yield "expect:"
    for change in outcome["expect"]:
        yield f"  - action: {change['action']}"
        if "attributes" in change:
            yield "    attributes:"
            yield from (f"      {line}" for line in _attributes(change["attributes"]))


def _attributes(attributes: dict[str, Any]) -> Iterator[str]:
    """Plain attributes as lines of YAML; steps are a list below their keyword."""
    for keyword, value in attributes.items():
        if keyword != STEPS or not value:
            yield f"{keyword}: {_flow(value)}"
            continue
        yield f"{keyword}:"
        for item in value:
            first, *others = [f"{key}: {_flow(each)}" for key, each in item.items()]
            yield f"  - {first}"
            yield from (f"    {line}" for line in others)


def _flow(value: Any) -> str:
    """A value on one line, quoted where YAML or an editor would take it for something else."""
    if value is None or value == "":
        return "~"
    dumped: str = yaml.safe_dump(
        [value], default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6
    )
    return dumped.strip()[1:-1]


def _values(node: yaml.Node | None) -> Iterator[yaml.Node]:
    if node is None:
        return
    yield node
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _values(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _values(item)


def _position(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _end(node: yaml.Node) -> int:
    """Where a node's last character is; PyYAML ends a block only where the next one begins."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    end: int = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return end - 1
    return end
