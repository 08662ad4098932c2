"""What an expression reads while one order or event is worked out, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Protocol

from broker.hl7.header import STANDARD, Separators
from broker.worklist.changes import Unmapped

if TYPE_CHECKING:
    from broker.hl7.message import Segment

Value = Any
"""'' or [] = absent, NULL = erase, else text or a list of texts, repetitions or items."""

Closure = Callable[["Evaluation"], Value]


class Segments(Protocol):
    """What a message and a group of it have in common."""

    def first(self, name: str) -> Segment | None: ...

    def all(self, name: str) -> list[Segment]: ...

    @property
    def segments(self) -> tuple[Segment, ...]: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in an HL7 message as a mapping names it: `label` is the path as written."""

    label: str
    segment: str
    field: int
    component: int = 0


class Unfit(Exception):
    """A value that cannot be used as it stands; `code` is from HL7 table 0357.

    A `final` one refuses the message even where another value could stand in.
    """

    def __init__(self, fact: str, code: str = "102", *, final: bool = False) -> None:
        super().__init__(fact)
        self.final = final
        self.fact = fact
        self.code = code


@dataclass(frozen=True, slots=True)
class Step:
    """A function that was called while a value was worked out, and what it gave."""

    call: str
    result: Value


@dataclass(slots=True)
class Watch:
    """What people want to know about a pass over the rules; it holds patient data.

    `steps` are those of the attribute in work, `misses` the table and key of every failed lookup.
    """

    steps: list[Step] = field(default_factory=list)
    misses: list[tuple[str, str]] = field(default_factory=list)


class Firsts(dict[str, "tuple[Segment, list[str]] | None"]):
    """The first segment of each name with its fields: where nearly every path looks."""

    def __init__(self, segments: Segments | None) -> None:
        super().__init__()
        self.segments = segments

    def __missing__(self, name: str) -> tuple[Segment, list[str]] | None:
        segment = self.segments.first(name) if self.segments is not None else None
        found = self[name] = (segment, segment.fields()) if segment is not None else None
        return found


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
    # Identifiers that a derived number stands for, in full.
    whole: list[str] = field(default_factory=list)
    # Keys that tables with `on_miss: hold` do not have.
    held: list[Unmapped] = field(default_factory=list)
    # Only what schedules, updates or corrects has defaults and may be refused.
    strict: bool = True
    schedules: bool = True
    trace: list[Any] | None = None
    watch: Watch | None = None
    # Expressions of the `let:` block that were worked out: value, rank, origin and its segment.
    kept: dict[tuple[str, bool], tuple[Any, int, Origin | None, Any]] = field(default_factory=dict)
    firsts: Firsts = field(init=False)

    def __post_init__(self) -> None:
        self.firsts = Firsts(self.segments)

    def warn(self, fact: str) -> None:
        """Note something that people should see; never with the value itself."""
        self.warnings.append(f"{self.origin.label} {fact}" if self.origin else fact)

    def hold(self, table: str, key: str) -> None:
        """Note that somebody must say what a key means before the order goes on a list."""
        unmapped = Unmapped(table, key)
        if unmapped not in self.held:
            self.held.append(unmapped)

    def miss(self, table: str, key: str) -> None:
        """Note a key that a table does not have."""
        if self.watch is not None:
            self.watch.misses.append((table, key))
            self.watch.steps.append(Step(f"lookup({table})", ""))


def note(evaluation: Evaluation, call: str, value: Value) -> Value:
    """Give the value back; what a function gave is a step of whoever watches."""
    if value and evaluation.watch is not None:
        evaluation.watch.steps.append(Step(call, value))
    return value
