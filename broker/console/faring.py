"""How each sender and AE fares, read from what the doors have counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from broker.store.metrics import Family, Snapshot, summed

SOURCES = ("broker_orders_message", "broker_orders_last_message", "source")
AES = ("broker_modality_ae_find", "broker_modality_last_ae_find", "aet")
ERRORS = ("AE", "AR", "CE", "CR", "none")
"""Answers (label `ack`) that are none of success."""


class Faring(NamedTuple):
    """One peer: answers, those that were errors or (of AEs) empty lists, and seconds waited.

    `within` bounds the wait of 95 of 100 answers, None where it is longer than is measured; `last`
    is in epoch seconds.
    """

    peer: str
    answers: int
    errors: int
    empty: int
    within: float | None
    last: float


def senders(doors: Iterable[Snapshot]) -> list[Faring]:
    """Give the senders of orders, the one heard last first."""
    families = {family.name: family for family in summed(doors)}
    errors = _counted(families.get("broker_orders_messages"), "source", ("ack", ERRORS))
    return _faring(families, SOURCES, errors, {})


def aes(doors: Iterable[Snapshot]) -> list[Faring]:
    """Give the AEs that asked for a list, the one heard last first."""
    families = {family.name: family for family in summed(doors)}
    errors = _counted(families.get("broker_modality_ae_failures"), "aet")
    empty = _counted(families.get("broker_modality_ae_empty"), "aet")
    return _faring(families, AES, errors, empty)


def _faring(
    families: dict[str, Family],
    names: tuple[str, str, str],
    errors: dict[str, int],
    empty: dict[str, int],
) -> list[Faring]:
    seconds, last, label = names
    when = _counted(families.get(f"{last}_timestamp_seconds"), label)
    buckets: dict[str, dict[float, float]] = {}
    for peer, bound, count in _buckets(families.get(f"{seconds}_seconds"), label):
        buckets.setdefault(peer, {})[bound] = count
    found = [
        Faring(
            peer,
            int(max(counts.values())),
            errors.get(peer, 0),
            empty.get(peer, 0),
            _within(counts),
            when.get(peer, 0),
        )
        for peer, counts in buckets.items()
        if max(counts.values())
    ]
    return sorted(found, key=lambda each: each.last, reverse=True)


def _within(counts: dict[float, float], share: float = 0.95) -> float | None:
    most = max(counts.values())
    bound = min(bound for bound, count in counts.items() if count >= share * most)
    return None if bound == float("inf") else bound


def _buckets(family: Family | None, label: str) -> Iterator[tuple[str, float, float]]:
    for sample in family.samples if family else ():
        labels = dict(sample.labels)
        if sample.name.endswith("_bucket"):
            yield labels[label], float(labels["le"]), sample.value


def _counted(
    family: Family | None, label: str, only: tuple[str, tuple[str, ...]] | None = None
) -> dict[str, int]:
    found: dict[str, int] = {}
    for sample in family.samples if family else ():
        labels = dict(sample.labels)
        if only is None or labels.get(only[0]) in only[1]:
            found[labels[label]] = found.get(labels[label], 0) + int(sample.value)
    return found
