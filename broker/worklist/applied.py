"""Who says something, and what has become of the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.worklist.finding import Known
from broker.worklist.policies import STANDARD, Policies
from broker.worklist.staleness import OURS, is_stale, newest

STALE = "stale"
"""Note of what was sent before something that is known."""
FINISHED = "finished"
"""Note of an order of which every step has ended."""
NO_START = "no start was sent: the default of the mapping stands in"
"""Note of a step that is planned for a time which nobody said."""


@dataclass(slots=True)  # frozen ones are slow to make, and every message has one
class Sender:
    """Who sent a message: its name (MSH-3|MSH-4), its issuer, and when by its clock (MSH-7).

    `received` is when it came over the wire, by ours. One that is `replayed` came in the past, and
    `force` takes it although newer ones are known: a person wants it so. `by_hand` is a person
    beside the broker, not a system that orders.
    """

    name: str
    issuer: str
    sent: str
    policies: Policies = STANDARD
    force: bool = False
    received: str = ""
    replayed: bool = False
    by_hand: bool = False

    def is_late(self, heard: Mapping[str, str]) -> bool:
        """Tell whether this sender has said something newer, by the newest times of all senders."""
        if self.force:
            return False
        return is_stale(self.sent, heard.get(self.name, "")) or self.is_outlived(heard)

    def is_outlived(self, heard: Mapping[str, str]) -> bool:
        """Tell whether a replay is of a time before the last word of anybody.

        It counts as of when it came, unless its sender's clock says that it is newer than all that
        this sender has said.
        """
        newer = is_stale(heard.get(self.name, ""), self.sent)
        return self.replayed and not (self.force or newer) and self.is_before(heard)

    def is_before(self, heard: Mapping[str, str]) -> bool:
        """Tell whether something was said after this message had come."""
        return is_stale(self.received, heard.get(OURS, ""))

    def stamped(self, heard: Mapping[str, str]) -> dict[str, str]:
        """Remember when this sender has spoken, by its clock and by ours."""
        times = newest(heard, self.name, self.sent)
        return newest(times, OURS, self.received) if self.received else times


class Unable(NamedTuple):
    """A step that order control could not end, since its exam has begun; control is ORC-1."""

    order: str
    procedure: str
    step: str
    control: str


@dataclass(frozen=True)
class Applied:
    """The records after a change, and what was odd about it (notes are fixed words).

    `buried` names what was cancelled before it was known, `heard` the patients of whom nothing new
    was said, each with the time by each sender's clock. `merged` are patient keys, former to new.
    `refused` are the groups that were left out, where a source wants the good ones applied.
    """

    known: Known
    notes: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    buried: dict[str, dict[str, str]] = field(default_factory=dict)
    heard: dict[str, dict[str, str]] = field(default_factory=dict)
    unable: tuple[Unable, ...] = ()
    refused: tuple[Exception, ...] = ()

    def with_known(self, known: Known) -> Applied:
        """Put other records in the place of these."""
        return Applied(
            known,
            self.notes,
            self.renamed,
            self.merged,
            self.buried,
            self.heard,
            self.unable,
            self.refused,
        )

    def then(self, later: Applied) -> Applied:
        """Add what the next group of the same message made of the records."""
        told = self.notes or self.unable or self.refused
        if not (told or self.renamed or self.merged or self.buried or self.heard):
            return later  # nearly always
        return Applied(
            later.known,
            self.notes + later.notes,
            {**self.renamed, **later.renamed},
            {**self.merged, **later.merged},
            {**self.buried, **later.buried},
            {**self.heard, **later.heard},
            self.unable + later.unable,
            self.refused + later.refused,
        )
