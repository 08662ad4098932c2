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


@dataclass(frozen=True)
class Ranked:
    """A leaf from a later alternative of a fallback (rank 1, 2 …) or a default (FILLS_GAPS).

    A stored value of rank r gives way only to a value of rank r or lower: what a message says in
    the best place is never overwritten by a guess, but the same place can correct itself.
    """

    value: Any
    rank: int


class Action(StrEnum):
    """What an order control code or a trigger event makes of the worklist."""

    SCHEDULE = "schedule"
    UPDATE = "update"
    CANCEL = "cancel"
    DISCONTINUE = "discontinue"
    COMPLETE = "complete"
    PATIENT = "patient"
    IGNORE = "ignore"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Unmapped:
    """A code that a table of the mapping does not have, so that a person must say what it means."""

    table: str
    key: str


@dataclass(frozen=True)
class Change:
    """One action of one message; `location` names the segment group it came from, e.g. ORC[2].

    What is `held` waits for a row in a table before it belongs on any list.
    """

    action: Action
    attributes: Attributes
    location: str
    held: tuple[Unmapped, ...] = ()


def plain(value: Any) -> Any:
    """Take the rank off a leaf."""
    return value.value if isinstance(value, Ranked) else value


def text_of(attributes: Attributes, keyword: str) -> str:
    """Give one leaf as text, '' when it is absent, erased or multi-valued without a first value."""
    value = plain(attributes.get(keyword))
    if isinstance(value, list):
        value = value[0] if value and isinstance(value[0], str) else ""
    return value or ""
