"""What a message asks for: an action and what it says, by DICOM keyword in MWL nesting."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Attributes = dict[str, Any]
"""By DICOM keyword: a leaf is `str` or `list[str]` (VM > 1), a sequence is `list[Attributes]`,
`None` erases (HL7 null), an absent key says nothing."""

SAID = 0
FILLS_GAPS = 99


@dataclass(slots=True, unsafe_hash=True)  # frozen ones are slow to make, and orders have many
class Ranked:
    """A leaf from a later alternative of a fallback (rank 1, 2 …) or a default (FILLS_GAPS).

    A stored value of rank r gives way only to a value of rank r or lower: what a message says in
    the best place is never overwritten by a guess, but the same place can correct itself. A default
    that is worked out from what the message says names in `stands_on` the attributes it was made
    of, () where it was fields: it takes the place of another default. None only fills a gap.
    """

    value: Any
    rank: int
    stands_on: tuple[str, ...] | None = None


class Action(StrEnum):
    """What an order control code or a trigger event makes of the worklist."""

    SCHEDULE = "schedule"
    UPDATE = "update"
    REPLACE = "replace"
    MOVE = "move"
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"
    NO_SHOW = "no-show"
    DISCONTINUE = "discontinue"
    COMPLETE = "complete"
    REOPEN = "reopen"
    PATIENT = "patient"
    ARRIVE = "arrive"
    DEPART = "depart"
    MERGE = "merge"
    IGNORE = "ignore"
    REFUSE = "refuse"


OF_PATIENTS = frozenset({Action.PATIENT, Action.ARRIVE, Action.DEPART, Action.MERGE})
"""What is about a person, and through the person about the orders."""


@dataclass(frozen=True)
class Unmapped:
    """A code that a table of the mapping does not have, so that a person must say what it means."""

    table: str
    key: str


@dataclass(slots=True)  # frozen ones are slow to make, and every order has one
class Change:
    """One action of one message; `location` names the segment group it came from, e.g. ORC[2].

    What is `held` waits for a row in a table before it belongs on any list. `numbering` is the
    pattern of the accession number that an order gets which nobody gave one, '' for none. `refused`
    says why the mapping could not read a group, where a source takes the good ones of a message.
    `warnings` tell what was left empty or cut, by field and never by value.
    """

    action: Action
    attributes: Attributes
    location: str
    held: tuple[Unmapped, ...] = ()
    numbering: str = ""
    refused: Exception | None = None
    warnings: tuple[str, ...] = ()


def plain(value: Any) -> Any:
    """Take the rank off a leaf."""
    return value.value if isinstance(value, Ranked) else value


def text_of(attributes: Attributes, keyword: str) -> str:
    """Give one leaf as text, '' when it is absent, erased or multi-valued without a first value."""
    value = attributes.get(keyword)
    if value.__class__ is Ranked:
        value = value.value
    if value is None:
        return ""
    if value.__class__ is str:  # nearly always
        return value
    if isinstance(value, list):
        value = value[0] if value and isinstance(value[0], str) else ""
    return value or ""
