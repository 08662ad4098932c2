"""What becomes of stored attributes when a message speaks: what stays, gives way, goes with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from broker.worklist.changes import FILLS_GAPS, SAID, Attributes, Ranked, plain

Basis = dict[str, tuple[str, ...]]
"""The attributes that a default was worked out from."""

DAY_OF = {
    "ScheduledProcedureStepStartTime": "ScheduledProcedureStepStartDate",
    "AdmittingTime": "AdmittingDate",
    "IssueTimeOfImagingServiceRequest": "IssueDateOfImagingServiceRequest",
}
"""A time is of its day: one moment is never made of two messages."""
_TEXT_OF = {
    "RequestedProcedureCodeSequence": "RequestedProcedureDescription",
    "ScheduledProtocolCodeSequence": "ScheduledProcedureStepDescription",
}
TOGETHER = _TEXT_OF | {text: code for code, text in _TEXT_OF.items()}
"""Text and code of one exam: a new one does not stand beside the other of an older message."""


class Telling:
    """Stored attributes while one message speaks: absent keeps, None erases, a guess fills gaps.

    `ranks` are those of what did not come from its best place. A default that is worked out from
    what the message says takes the place of another default. Where an attribute changes, what
    stands on it goes, and so does what belongs together with it.
    """

    def __init__(
        self, attributes: Mapping[str, Any], ranks: Mapping[str, int], stands_on: Basis
    ) -> None:
        """What is stored stays as it is: the result is in `attributes`, `ranks`, `stands_on`."""
        self.attributes, self.ranks = dict(attributes), dict(ranks)
        self.stands_on = dict(stands_on)
        self._before, self._ranks = attributes, ranks

    def hear(self, said: Attributes, only: Collection[str] | None = None) -> None:
        """Apply what is said, or `only` these attributes of it."""
        heard = said if only is None else {k: v for k, v in said.items() if k in only}
        if not self.attributes:  # nothing to mind: nearly every order
            self.attributes, self.ranks, self.stands_on = heard_first(heard)
            return
        self._before, self._ranks = dict(self.attributes), dict(self.ranks)
        gone: list[str] = []
        for keyword, leaf in heard.items():
            read = leaf is not None and leaf.__class__ is not Ranked  # where it belongs
            anew = read and keyword not in self._before and not self.stands_on
            if anew and TOGETHER.get(keyword, "") not in self._before:  # nothing goes with it
                self.attributes[keyword] = leaf
                continue
            if keyword in self._before and not self._gives_way(keyword, leaf, said):
                continue
            if _is_worked_out(leaf) and not self._still_holds(leaf, said):
                continue
            self._forget(keyword)
            self._put(keyword, leaf)
            if self.attributes.get(keyword) != self._before.get(keyword):
                gone += self._gone_with(keyword, leaf, said)
        for keyword in gone:
            self._forget(keyword)
            self._put(keyword, heard.get(keyword))

    def _gives_way(self, keyword: str, leaf: Any, said: Attributes) -> bool:
        rank, held = _rank(leaf), self._ranks.get(keyword, SAID)
        if keyword in DAY_OF:
            moved = self._moved(DAY_OF[keyword], said)
            if moved is not None and (rank < FILLS_GAPS or _is_worked_out(leaf)):
                return moved
            if moved and held == FILLS_GAPS:
                return True  # a guess is of the day that it was made for
        if rank < FILLS_GAPS:
            return rank <= held
        return held == FILLS_GAPS and _is_worked_out(leaf)

    def _moved(self, day: str, said: Attributes) -> bool | None:
        """Whether another day that is said takes its place; None where no other day is said."""
        leaf = said.get(day)
        if plain(leaf) in (None, self._before.get(day)) or _rank(leaf) >= FILLS_GAPS:
            return None
        return _rank(leaf) <= self._ranks.get(day, SAID)

    def _still_holds(self, leaf: Ranked, said: Attributes) -> bool:
        """Whether what a default was worked out from is what is stored now."""
        return all(
            each not in said or self.attributes.get(each) == plain(said[each])
            for each in leaf.stands_on or ()
        )

    def _gone_with(self, keyword: str, leaf: Any, said: Attributes) -> Iterator[str]:
        yield from [each for each, basis in self.stands_on.items() if keyword in basis]
        other = TOGETHER.get(keyword, "")
        is_said = plain(leaf) is not None and _rank(leaf) < FILLS_GAPS
        unsaid = other not in said or _rank(said[other]) >= FILLS_GAPS
        if other in self._before and is_said and unsaid:
            yield other

    def _forget(self, keyword: str) -> None:
        self.attributes.pop(keyword, None)
        self.ranks.pop(keyword, None)
        self.stands_on.pop(keyword, None)

    def _put(self, keyword: str, leaf: Any) -> None:
        value = plain(leaf)
        if value is None:
            return
        self.attributes[keyword] = value
        if rank := _rank(leaf):
            self.ranks[keyword] = rank
            if leaf.stands_on:
                self.stands_on[keyword] = leaf.stands_on


def heard_first(said: Attributes) -> tuple[Attributes, dict[str, int], Basis]:
    """Give attributes, ranks and what they stand on where nothing was stored before."""
    attributes, ranks, stands_on = said.copy(), dict[str, int](), Basis()
    for keyword, leaf in said.items():
        if leaf is None:
            del attributes[keyword]
        elif leaf.__class__ is Ranked:
            if leaf.value is None:
                del attributes[keyword]
                continue
            attributes[keyword] = leaf.value
            if leaf.rank:
                ranks[keyword] = leaf.rank
                if leaf.stands_on:
                    stands_on[keyword] = leaf.stands_on
    return attributes, ranks, stands_on


def _rank(leaf: Any) -> int:
    return leaf.rank if leaf.__class__ is Ranked else SAID


def _is_worked_out(leaf: Any) -> bool:
    return leaf.__class__ is Ranked and leaf.stands_on is not None
