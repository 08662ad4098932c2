"""Mappings that cannot be in force together: one name twice, or one message claimed twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from broker.mapping.bundle import Loaded
from broker.mapping.running.applying import Inbound
from broker.mapping.text.nodes import Complaint

Claim = tuple[int, tuple[str, str], tuple[str, str], str]
"""Port (0 any), sender, message and HL7 version."""


def clashes(loaded: Sequence[Loaded]) -> list[Complaint]:
    """Two mappings of one name, or as specific as each other for one message."""
    return [*_names(loaded), *_claims(loaded)]


def _names(loaded: Sequence[Loaded]) -> Iterator[Complaint]:
    names: dict[str, Loaded] = {}
    for each in loaded:
        first = names.setdefault(each.file.mapping, each)
        if first is not each:
            node = each.root.at(["mapping"])
            yield node.complaint(f"'{each.file.mapping}' is the name of {first.path} already")


def _claims(loaded: Sequence[Loaded]) -> Iterator[Complaint]:
    claims: dict[Claim, Loaded] = {}
    told: set[tuple[object, ...]] = set()
    # Last those that say nothing of their own: it is they who have to change.
    for each in sorted(loaded, key=_inherits_accept):
        if not isinstance(each.mapping, Inbound):
            continue
        mapping = each.mapping
        ports = sorted(mapping.ports) or [0]
        for claim in product(ports, mapping.senders, sorted(mapping.messages), mapping.versions):
            rival = claims.setdefault(claim, each)
            if rival is each or (each.path, *claim[:3]) in told:
                continue
            told.add((each.path, *claim[:3]))
            if unnamed := _without_accept(each, rival):
                yield unnamed
                break
            port = f" to port {claim[0]}" if claim[0] else ""
            sender, message = "|".join(claim[1]), "^".join(claim[2])
            fact = f"{message} from {sender}{port} is accepted by {rival.path} as well"
            hint = "name the sender or port of one of them, or versions that only one accepts"
            yield each.root.at(["accept"]).complaint(fact, hint)


def _inherits_accept(loaded: Loaded) -> bool:
    return loaded.root.key_source("accept") is not loaded.root.source


def _without_accept(loaded: Loaded, rival: Loaded) -> Complaint | None:
    """An overlay that forgot to say whose messages it is for is told so at its own first line."""
    if not _inherits_accept(loaded):
        return None
    fact = f"accepts the same messages as {rival.path}: it has no 'accept' of its own"
    hint = "say whose it is for, as accept: {senders: ['EPIC|NORTH']}"
    return loaded.root.key_complaint("extends", fact, hint)
