"""What an expression reads while one order or event is worked out, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Protocol

from broker.hl7.header import STANDARD, Separators

if TYPE_CHECKING:
    from broker.hl7.message import Segment

Value = Any
"""'' or [] = absent, NULL = erase, else text or a list of texts, repetitions or items."""

Closure = Callable[["Evaluation"], Value]


class Segments(Protocol):
    """What a message and a group of it have in common."""

    def first(self, name: str) -> Segment | None: ...

    def all(self, name: str) -> list[Segment]: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in an HL7 message as a mapping names it: `label` is the path as written."""

    label: str
    segment: str
    field: int
    component: int = 0


class Unfit(Exception):
    """A value that cannot be used as it stands; `code` is from HL7 table 0357."""

    def __init__(self, fact: str, code: str = "102") -> None:
        super().__init__(fact)
        self.fact = fact
        self.code = code


@dataclass(slots=True)
class Evaluation:
    """The state of one pass over the rules; the same object serves all attributes of one group.

    `rank` and `origin` tell of the value read last: which alternative it was and where it stood.
    """

    segments: Segments | None = None
    separators: Separators = STANDARD
    names: Mapping[str, str] = field(default_factory=dict)
    site_zone: tzinfo | None = None
    message_zone: tzinfo | None = None
    issuer: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    item: dict[str, Any] = field(default_factory=dict)
    # The segment or repetition that `each:` or a predicate looks at.
    element: Any = None
    rank: int = 0
    origin: Origin | None = None
    origin_segment: Segment | None = None
    warnings: list[str] = field(default_factory=list)
    # Only what schedules, updates or corrects has defaults and may be refused.
    strict: bool = True
    schedules: bool = True
    trace: list[Any] | None = None
    # Expressions of the `let:` block that were worked out: value, rank, origin and its segment.
    kept: dict[tuple[str, bool], tuple[Any, int, Origin | None, Any]] = field(default_factory=dict)

    def warn(self, fact: str) -> None:
        """Note something that people should see; never with the value itself."""
        self.warnings.append(f"{self.origin.label} {fact}" if self.origin else fact)
