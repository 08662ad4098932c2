"""What a destination refused, or nobody can read, and its groups by cause."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from broker.store.dead import Letter
    from broker.store.executors import Store

OVERTAKEN: Final = "overtaken"
_WORD = re.compile(r"\w+")
_PLAIN = re.compile(r"[^\W\d]{1,2}")


@dataclass(frozen=True)
class Refusals:
    """Letters of one destination and cause; `words` are the destination's without patient data.

    Those that were `overtaken` were followed by a later message about the same order.
    """

    to: str
    cause: str
    words: str
    overtaken: bool
    letters: tuple[Letter, ...] = field(repr=False)

    @property
    def id(self) -> str:
        """A short name that stays as long as the cause is the same."""
        said = "\0".join((self.to, self.cause, self.words, *self.overtaken * (OVERTAKEN,)))
        return hashlib.sha256(said.encode()).hexdigest()[:6]

    def facts(self) -> dict[str, Any]:
        """As `broker dead` lists it."""
        newest = self.letters[-1]
        kind = newest.event.kind if newest.event else "damaged"
        times = [int(each.parked * 1000) for each in self.letters]
        return {
            "group": self.id,
            "kind": OVERTAKEN if self.overtaken else "status" if kind == "hl7" else kind,
            "messages": len(self.letters),
            "code": self.cause,
            "location": "",
            "cause": f"{self.to}: {self.words}" if self.words else f"{self.to} says no more",
            "senders": [self.to],
            "mappings": sorted({e.event.mapping for e in self.letters if e.event} - {""}),
            "first": min(times),
            "last": max(times),
            "sample": newest.id,
            "holds": sum(each.holds for each in self.letters),
        }


def undelivered(store: Store) -> list[Letter]:
    """Every letter, those that arose first at the beginning. Raises StoreUnavailable."""
    from broker.store import dead

    ids = store.run(dead.ids())
    found = [letter for each in dead.slices(ids) for letter in store.run(dead.read(each))]
    later: dict[tuple[str, str], dict[str, str]] = {}
    for place in {(each.to, each.box) for each in found}:
        later[place] = store.run(dead.overtaken(*place))
    marked = (replace(each, overtaken=later[each.to, each.box].get(each.id, "")) for each in found)
    return sorted(marked, key=arose)


def arose(letter: Letter) -> tuple[float, str]:
    """When what it tells of happened."""
    return letter.event.created if letter.event else letter.parked, letter.id


def grouped(found: Iterable[Letter]) -> list[Refusals]:
    """Groups by destination and cause, the largest first."""
    by_cause: dict[tuple[str, str, str, bool], list[Letter]] = {}
    for letter in found:
        cause = (letter.to, letter.cause, without_patient(letter), bool(letter.overtaken))
        by_cause.setdefault(cause, []).append(letter)
    groups = [Refusals(*cause, tuple(each)) for cause, each in by_cause.items()]
    return sorted(groups, key=lambda group: -len(group.letters))


def without_patient(letter: Letter) -> str:
    """What a destination said, where it quotes neither a number nor a name of the message."""
    if not letter.words:
        return ""
    said = _names(letter)
    return _WORD.sub(lambda word: _masked(word[0], said), letter.words)[:200]


def _masked(word: str, said: frozenset[str]) -> str:
    if any(letter.isdigit() for letter in word) or word.casefold() in said:
        return "…"
    return word


def _names(letter: Letter) -> frozenset[str]:
    """Words of PID, or of a whole data set: what a refusal may quote of a patient."""
    if letter.event is None:
        return frozenset()
    text = letter.event.payload.decode("utf-8", "replace")
    if letter.event.kind == "hl7":
        text = "\r".join(line for line in text.split("\r") if line.startswith("PID"))[3:]
    words = {word.casefold() for word in _WORD.findall(text)}
    return frozenset(word for word in words if not _PLAIN.fullmatch(word))
