"""What another store has written, into this one: a hundred records at a time, each whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from broker.store import recall
from broker.store.call import Call
from broker.store.commit import Conflict, Repeat
from broker.store.executors import Store
from broker.store.moving.exporting import KINDS
from broker.store.moving.judging import Became, Differs, Judged, Judgement, Judging, Writing
from broker.store.moving.portable import Checked, Line

SLICE: Final = 100
"""Records that are read together, and written together: one sync to disk for all of them."""
MOST_BYTES: Final = 4 * 2**20
OUT_OF_TURN: Final = "equal or smaller"
"""What Redis says of an ID that is not behind all others of its stream; nothing was written."""
ORDER: Final = ("patient", *(k.name for k in KINDS if k.name != "patient"), "message")
"""An order after its patient, a status message after its order and the pause of its RIS."""


class Conflicting(NamedTuple):
    """One record that was not taken, and why."""

    kind: str
    key: str
    why: str


@dataclass
class Report:
    """What an import did, or would do: how many records by kind and outcome, and the conflicts."""

    counts: Counter[tuple[str, Became]] = field(default_factory=Counter)
    conflicts: list[Conflicting] = field(default_factory=list)


class Import:
    """Takes the records of a file into a store by the one way to write; `now` is the time.

    `ris` are the names of those that status messages go to. `overwrite` lets the file win, and a
    `rehearsal` writes nothing. Done again it carries on: what is there already is left alone.
    """

    def __init__(
        self,
        store: Store,
        file: Checked,
        *,
        ris: Collection[str],
        now: datetime,
        overwrite: bool = False,
        rehearsal: bool = False,
    ) -> None:
        self._store, self._file, self._rehearsal = store, file, rehearsal
        self._judgement = Judgement(file, ris, now, overwrite=overwrite, rehearsal=rehearsal)
        self.report = Report()

    def run(self, seen: Callable[[int], None]) -> Report:
        """Take everything; `seen` is told how many more are done. Raises StoreUnavailable."""
        for kind in ORDER:
            names = list(self._file.places.get(kind, ()))
            if kind == "message":
                names.sort(key=recall.place)
            for lines in _some(self._file.lines(kind, names)):
                self._take(lines)
                seen(len(lines))
        return self.report

    def _take(self, lines: Sequence[Line]) -> None:
        """Judge records side by side, then write them; each is written whole or not at all."""
        judged: list[tuple[Line, Became, Writing]] = []
        self._judgement.begin()
        for line, found in zip(lines, self._judged(lines), strict=True):
            if isinstance(found, Differs):
                self._became(line, found)
            elif found[1] is None or self._rehearsal:
                self._became(line, found[0])
            else:
                judged.append((line, found[0], found[1]))
        calls = [writing.calls(writing.place) for _, _, writing in judged]
        outcomes = iter(self._store.run_all([call for each in calls for call in each]))
        for (line, became, writing), asked in zip(judged, calls, strict=True):
            self._became(line, self._written(writing, became, list(islice(outcomes, len(asked)))))

    def _became(self, line: Line, what: Became | Differs) -> None:
        if isinstance(what, Differs):
            self.report.conflicts.append(Conflicting(line.kind, line.key, f"{what}"))
            what = Became.CONFLICT
        self.report.counts[line.kind, what] += 1

    def _judged(self, lines: Sequence[Line]) -> list[Judged | Differs]:
        """Go through the judging of all in step: what they ask of the store is asked at once."""
        judging = [self._judgement.of(line) for line in lines]
        found: dict[int, Judged | Differs] = {}
        answers: dict[int, Any] = dict.fromkeys(range(len(judging)))
        while answers:
            asked: dict[int, Call[Any]] = {}
            for number, answer in answers.items():
                try:
                    asked[number] = _went_on(judging[number], answer)
                except StopIteration as end:
                    found[number] = end.value
                except Differs as difference:
                    found[number] = difference
            replies = self._store.run_all(list(asked.values())) if asked else []
            answers = dict(zip(asked, replies, strict=True))
        return [found[number] for number in range(len(judging))]

    def _written(self, writing: Writing, became: Became, outcomes: list[Any]) -> Became | Differs:
        """What became of it; a message whose place was taken meanwhile comes to the end."""
        if any(isinstance(o, ResponseError) and OUT_OF_TURN in f"{o}" for o in outcomes):
            outcomes = self._store.run_all(writing.calls("*"))
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        if isinstance(outcomes[0], Conflict):
            return Differs("it was written by others at this moment; import again")
        return Became.THERE if isinstance(outcomes[0], Repeat) else became


def _some(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Give as many at once as are taken together."""
    some: list[Line] = []
    for line in lines:
        some.append(line)
        if len(some) == SLICE or sum(each.size for each in some) > MOST_BYTES:
            yield some
            some = []
    if some:
        yield some


def _went_on(judging: Judging, answer: Any) -> Call[Any]:
    """Let it ask further. Raises StopIteration with what it has judged, Differs."""
    return judging.throw(answer) if isinstance(answer, Exception) else judging.send(answer)
