"""One message through two sets of mappings: what comes out otherwise, gathered over many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from broker.mapping.bundle import Bundle
from broker.mapping.running.applying import Outcome
from broker.mapping.trials.examples import as_text, shown_refusal
from broker.mapping.trials.trying import Trial, try_message, unranked
from broker.worklist.changes import FILLS_GAPS, Attributes, Change, Ranked

SAMPLES = 3
"""How many messages of a group are kept for people to look at."""
ABSENT = "absent"
SAME = "the same value"


@dataclass(frozen=True)
class Sample:
    """One message of a group, by its name, with both values. Holds patient data.

    Where a message is accepted that was refused, `gains` are the changes that it asks for now.
    """

    message: str
    old: str
    new: str
    gains: tuple[Attributes, ...] = ()


@dataclass
class Group:
    """All changes of one attribute (or action, or refusal) from one kind of value to another."""

    what: str
    old: str
    new: str
    count: int = 0
    samples: list[Sample] = field(default_factory=list)

    def add(self, message: str, old: Any, new: Any, gained: Trial | None = None) -> None:
        """Count a change; the first few are kept."""
        self.count += 1
        if len(self.samples) < SAMPLES:
            gains = tuple(map(_gain, gained.outcomes)) if gained else ()
            self.samples.append(Sample(message, _text(_plain(old)), _text(_plain(new)), gains))


class Comparison:
    """Gathers what differs; add messages one by one, then read `groups` and `refusals`."""

    def __init__(self, old: Bundle, new: Bundle, site_zone: ZoneInfo) -> None:
        """Compare two bundles; times of messages are told in `site_zone`."""
        self.old, self.new, self.zone = old, new, site_zone
        self.messages = self.changed = self._differences = 0
        self._groups: dict[tuple[str, str, str], Group] = {}
        self._refusals: dict[tuple[str, str, str], Group] = {}

    @property
    def groups(self) -> list[Group]:
        """Changed actions and attributes, the most frequent first."""
        return _sorted(self._groups)

    @property
    def refusals(self) -> list[Group]:
        """Refusals that appear, vanish or turn into others, the most frequent first."""
        return _sorted(self._refusals)

    def add(self, name: str, raw: bytes, received: datetime, port: int = 0) -> bool:
        """Compare one message; tells whether anything differs. `name` is what people call it."""
        old, new = (
            try_message(
                bundle, raw, received=received, site_zone=self.zone, explain=False, port=port
            )
            for bundle in (self.old, self.new)
        )
        before = self._differences
        self._compare_verdicts(name, old, new)
        if not (old.refusal or new.refusal):
            self._compare(name, old, new)
        differs = self._differences > before
        self.messages += 1
        self.changed += differs
        return differs

    def _compare_verdicts(self, name: str, old: Trial, new: Trial) -> None:
        before, after = _verdict(old), _verdict(new)
        if before != after:
            key = ("refusal", before, after)
            gained = new if old.refusal and not new.refusal else None
            self._differences += 1
            self._refusals.setdefault(key, Group(*key)).add(name, before, after, gained)

    def _compare(self, name: str, old: Trial, new: Trial) -> None:
        first = [outcome.change for outcome in old.outcomes]
        second = [outcome.change for outcome in new.outcomes]
        if first == second:
            return
        if len(first) != len(second):
            self._note(name, "changes", f"{len(first)}", f"{len(second)}", "", "")
            return
        for before, after in zip(first, second, strict=True):
            self._compare_changes(name, before, after)

    def _compare_changes(self, name: str, old: Change, new: Change) -> None:
        if old.action is not new.action:
            self._note(name, "action", old.action.value, new.action.value, "", "")
        for what, before, after in _differences(old.attributes, new.attributes, ""):
            ranked = isinstance(before, Ranked) or isinstance(after, Ranked)
            same = f"{SAME}, " if ranked and _plain(before) == _plain(after) else ""
            if same and _kind(before) == _kind(after):
                continue  # both are defaults, which follow different things
            self._note(name, what, f"{same}{_kind(before)}", _kind(after), before, after)

    def _note(self, name: str, what: str, kind: str, other: str, old: Any, new: Any) -> None:
        key = (what, kind, other)
        self._differences += 1
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(*key)
        group.add(name, old, new)


class _Nothing:
    pass


NOTHING = _Nothing()


def _differences(old: Attributes, new: Attributes, above: str) -> Iterator[tuple[str, Any, Any]]:
    """Every leaf that differs, named with the sequences above it."""
    for keyword in dict.fromkeys((*old, *new)):
        before, after = old.get(keyword, NOTHING), new.get(keyword, NOTHING)
        if before == after:
            continue
        if _is_sequence(before) and _is_sequence(after) and len(before) == len(after):
            for one, other in zip(before, after, strict=True):
                yield from _differences(one, other, f"{above}{keyword}/")
        else:
            yield f"{above}{keyword}", before, after


def _plain(value: Any) -> Any:
    return None if value is NOTHING else unranked(value)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _kind(value: Any) -> str:
    """How a leaf is said, as people compare it; later choices are a kind of their own."""
    if value is NOTHING:
        return ABSENT
    if value is None:
        return "erased"
    if isinstance(value, Ranked):
        return "default" if value.rank >= FILLS_GAPS else f"choice {value.rank + 1}"
    return f"{len(value)} items" if _is_sequence(value) else "value"


def _verdict(trial: Trial) -> str:
    """What becomes of the whole message.

    The remedy of a refusal names a line of the mapping, which moves with every edit: it does not
    count.
    """
    if trial.refusal:
        return f"{shown_refusal(trial.refusal)}: {trial.refusal.text}"
    waits = ", ".join(f"table '{each.table}' has no '{each.key}'" for each in trial.held)
    return f"held: {waits}" if waits else "accepted"


def _gain(outcome: Outcome) -> Attributes:
    return {"action": outcome.change.action.value, **unranked(outcome.change.attributes)}


def _text(value: Any) -> str:
    """A plain value on one line, also of a sequence."""
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return " ".join(f"[{_text(each)}]" for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{keyword} {_text(each)}" for keyword, each in value.items())
    return as_text(value)


def _sorted(groups: dict[tuple[str, str, str], Group]) -> list[Group]:
    return sorted(groups.values(), key=lambda each: (-each.count, each.what, each.old, each.new))
