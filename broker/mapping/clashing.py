"""Mappings that cannot be in force together: one name twice, or one message claimed twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from broker.mapping.applying import Inbound
from broker.mapping.bundle import Loaded
from broker.mapping.document import Complaint

Claim = tuple[tuple[str, str], tuple[str, str], str]
"""Sender, message and HL7 version."""


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
    for each in loaded:
        if not isinstance(each.mapping, Inbound):
            continue
        mapping = each.mapping
        for claim in product(mapping.senders, sorted(mapping.messages), mapping.versions):
            rival = claims.setdefault(claim, each)
            if rival is each or (each.path, *claim[:2]) in told:
                continue
            told.add((each.path, *claim[:2]))
            sender, message = "|".join(claim[0]), "^".join(claim[1])
            fact = f"{message} from {sender} is accepted by {rival.path} as well"
            hint = "name the sender of one of them, or versions that only one accepts"
            yield each.root.at(["accept"]).complaint(fact, hint)
