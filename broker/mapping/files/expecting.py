"""Expectations of examples that could never fail: no keyword, or nothing that the mapping fills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from broker.mapping.files.rules import AttributeRule, InboundFile
from broker.mapping.standards.dictionaries import keyword_hint, vr_of
from broker.mapping.text.nodes import Complaint, Node


def judge_expectations(file: InboundFile, root: Node) -> Iterator[Complaint]:
    """Complaints about the attributes that the examples of a mapping expect."""
    for number, example in enumerate(file.examples):
        for change in range(len(example.expect)):
            node = root.at(["examples", number, "expect", change]).entries.get("attributes")
            if node is not None and node.kind == "mapping":
                yield from _judge(node, file.attributes)


def _judge(node: Node, rules: Mapping[str, AttributeRule] | None) -> Iterator[Complaint]:
    """`rules` are None inside what a function fills as a whole."""
    for keyword, wanted in node.entries.items():
        if not vr_of(keyword):
            fact = f"'{keyword}' is not a DICOM keyword"
            yield node.key_complaint(keyword, fact, keyword_hint(keyword))
        elif wanted.value is None and rules is not None and keyword not in rules:
            fact = f"the mapping never fills {keyword}: that it is absent cannot fail"
            yield replace(node.key_complaint(keyword, fact), severity="warning")
        inner = rules.get(keyword) if rules is not None else None
        for item in wanted.items:
            if item.kind == "mapping":
                yield from _judge(item, inner.item if inner is not None else None)
