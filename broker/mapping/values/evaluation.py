"""What an expression reads while one order or event is worked out, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from broker.hl7.header import STANDARD, Separators
from broker.hl7.message import NULL
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
    def named(self) -> Mapping[str, list[Segment]]: ...

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

    A `final` one refuses the message even where another value could stand in, one that `narrows`
    refuses even a cancel: without it the cancel could be about more, or about somebody else.
    """

    def __init__(
        self,
        fact: str,
        code: str = "102",
        *,
        final: bool = False,
        narrows: bool = False,
        remedy: str = "",
    ) -> None:
        super().__init__(fact)
        self.final = final
        self.narrows = narrows
        self.remedy = remedy
        self.fact = fact
        self.code = code


@dataclass(frozen=True, slots=True)
class Step:
    """A function that was called while a value was worked out, and what it gave.

    `path` and `raw` are the field that was read last. A `source` is no function: a name, a relative
    path or a sum that a value was read from.
    """

    call: str
    result: Value
    path: str = ""
    raw: str = ""
    source: bool = False


@dataclass(slots=True)
class Watch:
    """What people want to know about a pass over the rules; it holds patient data.

    `steps` are those of the attribute in work, `misses` the table and key of every failed lookup;
    `traced` and `silent` are the attributes of the order in work, with a value and without one.
    """

    steps: list[Step] = field(default_factory=list)
    traced: list[Any] = field(default_factory=list)
    silent: list[Any] = field(default_factory=list)
    # Nothing is demanded, and no default stands in.
    lenient: bool = False
    # The steps of what `let:` names, since it is worked out once.
    given: dict[tuple[str, bool], list[Step]] = field(default_factory=dict)
    misses: list[tuple[str, str]] = field(default_factory=list)


NO_NAMES: Mapping[str, str] = MappingProxyType({})


class Firsts(dict[str, "tuple[Segment, list[str]] | None"]):
    """The first segment of each name with its fields: where nearly every path looks."""

    __slots__ = ("segments",)
    segments: Segments | None

    def __missing__(self, name: str) -> tuple[Segment, list[str]] | None:
        segment = self.segments.first(name) if self.segments is not None else None
        found = self[name] = (segment, segment.fields()) if segment is not None else None
        return found


class Evaluation:
    """The state of one pass over the rules; the same object serves all attributes of one group.

    `rank` and `origin` tell of the value read last: which alternative it was and where it stood.
    """

    __slots__ = (
        "attributes",
        "element",
        "firsts",
        "held",
        "issuer",
        "item",
        "kept",
        "message_zone",
        "names",
        "origin",
        "origin_segment",
        "rank",
        "schedules",
        "segments",
        "separators",
        "site_zone",
        "strict",
        "trace",
        "warnings",
        "watch",
        "whole",
    )

    def __init__(
        self,
        segments: Segments | None = None,
        separators: Separators = STANDARD,
        names: Mapping[str, str] = NO_NAMES,
        site_zone: tzinfo | None = None,
        message_zone: tzinfo | None = None,
        issuer: str = "",
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """`names` are those of the clock and the source, `attributes` what is known before."""
        self.segments = segments
        self.separators = separators
        self.names = names
        self.site_zone = site_zone
        self.message_zone = message_zone
        self.issuer = issuer
        self.attributes: dict[str, Any] = {} if attributes is None else attributes
        self.item: dict[str, Any] = {}
        # The segment or repetition that `each:` or a predicate looks at.
        self.element: Any = None
        self.rank = 0
        self.origin: Origin | None = None
        self.origin_segment: Segment | None = None
        self.warnings: list[str] = []
        # Identifiers that a derived number stands for, in full.
        self.whole: list[str] = []
        # Keys that tables with `on_miss: hold` do not have.
        self.held: list[Unmapped] = []
        # Only what schedules, updates or corrects has defaults and may be refused.
        self.strict = self.schedules = True
        self.trace: list[Any] | None = None
        self.watch: Watch | None = None
        # Expressions of the `let:` block that were worked out: value, rank, origin, its segment.
        self.kept: dict[tuple[str, bool], tuple[Any, int, Origin | None, Any]] = {}
        self.firsts = Firsts()
        self.firsts.segments = segments

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
            note(self, f"lookup({table})", "")


def note(evaluation: Evaluation, call: str, value: Value, *, source: bool = False) -> Value:
    """Give the value back; what a function or a source gave is a step of whoever watches."""
    if evaluation.watch is not None:
        path, raw = last_read(evaluation)
        step = Step(call, value, path, raw, source)
        if value or step not in evaluation.watch.steps[-1:]:  # a lookup tells of its own miss
            evaluation.watch.steps.append(step)
    return value


def last_read(evaluation: Evaluation) -> tuple[str, str]:
    """The path that was read last and its whole field as it was sent, ('', '') before the first."""
    origin, segment = evaluation.origin, evaluation.origin_segment
    if origin is None:
        return "", ""
    return origin.label, segment.field(origin.field) if segment is not None else ""


def one(value: Value) -> str:
    """The value as one text: of several the first that is not null."""
    if isinstance(value, str):
        return value
    if len(value) == 1 and value[0].__class__ is str:  # nearly always
        return str(value[0])
    texts = [each for each in value if isinstance(each, str) and each]
    return next((text for text in texts if text != NULL), texts[0] if texts else "")
