"""What another store has written, into this one: what is here stays, and what differs is named."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

from redis.exceptions import ResponseError

from broker.store import archive, dead, held, keys, outbox, reads, recall, refused
from broker.store.call import Call, texts
from broker.store.commit import Change, Commit, Committed, Conflict, Guard, MppsChange, Repeat
from broker.store.commit import commit as committing
from broker.store.executors import Store
from broker.store.exporting import KINDS, OF_IMPORT
from broker.store.portable import Body, Checked, Line
from broker.worklist.finding import Identifier, Known, Wanted, identifiers
from broker.worklist.mpps import Performed
from broker.worklist.records import Order, Patient

T = TypeVar("T")
SLICE: Final = 100
OUT_OF_TURN: Final = "equal or smaller"
"""What Redis says of an ID that is not behind all others of its stream; nothing was written."""
REMEMBERED_S: Final = 86_400
"""How long a message that has no key is known to be imported, should the import be repeated."""
SAME_PERSON: Final = ("PatientName", "PatientBirthDate", "PatientSex")
ORDER: Final = ("patient", *(k.name for k in KINDS if k.name != "patient"), "message")
"""An order after its patient, a status message after its order."""


class Became(StrEnum):
    """What became of one record of the file."""

    NEW = "new"
    THERE = "already there"
    REPLACED = "replaced"
    CONFLICT = "conflict"


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


Judged = tuple[Became, Commit | None]


class Differs(Exception):
    """What is here is not what the file says; the text tells it."""


def judge(line: Line) -> None:
    """Read the values of a line as they will be. Raises ValueError, TypeError, KeyError."""
    body = line.body or {}
    _READ[line.kind](body)


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
        self._store, self._file, self._ris, self._now = store, file, ris, now
        self._overwrite, self._rehearsal = overwrite, rehearsal
        self._strangers: set[str] = set()
        self.report = Report()

    def run(self, seen: Callable[[int], None]) -> Report:
        """Take everything; `seen` is told how many more are done. Raises StoreUnavailable."""
        for kind in ORDER:
            names = list(self._file.places.get(kind, ()))
            if kind == "message":
                names.sort(key=recall.place)
            for at in range(0, len(names), SLICE):
                for line in self._file.lines(kind, names[at : at + SLICE]):
                    self._take(line)
                seen(len(names[at : at + SLICE]))
        return self.report

    def _take(self, line: Line) -> None:
        judged = getattr(self, f"_{line.kind.replace(' ', '_')}")
        try:
            became, wanted = judged(line.key, line.body)
            if wanted is not None and not self._rehearsal:
                became = self._written(wanted, became)
        except Differs as difference:
            became = Became.CONFLICT
            self.report.conflicts.append(Conflicting(line.kind, line.key, f"{difference}"))
        self.report.counts[line.kind, became] += 1

    def _written(self, wanted: Commit, became: Became) -> Became:
        anew = replace(wanted, archived_as="*")
        outcome = self._placed(committing(wanted), committing(anew))
        if isinstance(outcome, Conflict):
            raise Differs("it was written by others at this moment; import again")
        return Became.THERE if isinstance(outcome, Repeat) else became

    def _replacing(self, before: object, why: str) -> Became:
        """NEW where nothing is here; else REPLACED when the file shall win. Raises Differs."""
        if before is None:
            return Became.NEW
        if not self._overwrite:
            raise Differs(why)
        return Became.REPLACED

    def _at(self, since: int) -> datetime:
        """Since when a record is kept here: from then on its time runs."""
        return datetime.fromtimestamp(since, UTC) if since else self._now

    def _patient(self, key: str, body: Body) -> Judged:
        patient = _patient(body)
        read = self._store.run(reads.patients([key]))
        before = read.known.patients.get(key)
        if merged := read.known.aliases.get(f"patient:{key}"):
            self._strangers.add(key)
            raise Differs(f"that patient was merged into {merged} here")
        if before == patient:
            return Became.THERE, None
        if before and not self._overwrite:
            if _person(before) == _person(patient):
                return Became.THERE, None
            self._strangers.add(key)
            raise Differs("another name, birth date or sex is here; so is not taken what is theirs")
        became = self._replacing(before, "")
        change = Change(read.revisions.get(keys.patient(key), ""), before, patient)
        return became, Commit(at=self._at(body["since"]), changes=[change])

    def _order(self, key: str, body: Body) -> Judged:
        order = _order(body)
        numbers = sorted(each for each in identifiers(order) if each.kind != "accession")
        read = self._store.run(reads.lookup(Wanted((key,), (order.patient,), tuple(numbers))))
        before = read.known.orders.get(key)
        if before == order:
            return Became.THERE, None
        if renamed := read.known.aliases.get(f"order:{key}"):
            raise Differs(f"that order is {renamed} here")
        if order.patient in self._strangers:
            raise Differs("its patient is another person here")
        comes = self._rehearsal and order.patient in self._file.places.get("patient", ())
        if not comes and read.known.patient(order.patient) is None:
            raise Differs("its patient is neither in the file nor here")
        _refuse_rivals(order, read.known, numbers)
        became = self._replacing(before, "another version of it is here")
        change = Change(read.revisions.get(keys.order(key), ""), before, order)
        return became, Commit(at=self._at(body["since"]), changes=[change])

    def _performed_step(self, key: str, body: Body) -> Judged:
        exam, received = _exam(body), _received(body)
        before, revision = self._store.run(reads.mpps(key))
        if before == exam:
            return Became.THERE, None
        became = self._replacing(before, "another version of it is here")
        created, newest = received.get("created", b""), received.get("newest", b"")
        change = MppsChange(revision, before, exam, created if before is None else b"", newest)
        return became, Commit(at=self._at(body["since"]), mpps=[change])

    def _alias(self, key: str, body: Body) -> Judged:
        kind, _, former = key.partition(":")
        record = keys.order(former) if kind == "order" else keys.patient(former)
        if self._store.run(Call(("EXISTS", record), bool)):
            raise Differs(f"there is such {'an order' if kind == 'order' else 'a patient'} here")
        name = keys.alias(kind, former)
        return self._passing(
            name, body["to"].encode(), body, aliases=[(kind, former, body["to"])], empty=[record]
        )

    def _tombstone(self, key: str, body: Body) -> Judged:
        told = json.dumps(body["sent"]).encode()
        return self._passing(keys.tombstone(key), told, body, tombstones=[(key, body["sent"])])

    def _answer(self, key: str, body: Body) -> Judged:
        left_s = self._left_s(body)
        if not left_s or (self._rehearsal and self._store.run(reads.remembered(key)) is not None):
            return Became.THERE, None
        guard = Guard(key, body["answer"].encode("latin-1"), left_s)
        return Became.NEW, Commit(at=self._now, guard=guard)  # what was answered here stays

    def _passing(self, name: str, told: bytes, body: Body, **wanted: object) -> Judged:
        """Judge what stays for a while: what has ended meanwhile is as good as there."""
        before, left_s = (
            self._store.run(Call(("GET", name), lambda reply: reply)),
            self._left_s(body),
        )
        if before == told or not left_s:
            return Became.THERE, None
        became = self._replacing(before, "another one is here")
        stays = {"alias_keep_s": left_s, "tombstone_keep_s": left_s}
        return became, Commit(at=self._now, **{**stays, **wanted})  # type: ignore[arg-type]

    def _left_s(self, body: Body) -> int:
        return max(0, int(body["until"] - self._now.timestamp()))

    def _numbers_given(self, _key: str, body: Body) -> Judged:
        read = self._store.run(reads.lookup(Wanted(given=True)))
        if read.known.given >= body["count"]:
            return Became.THERE, None
        given = (read.revisions[keys.GIVEN], body["count"])
        return Became.NEW, Commit(at=self._now, given=given)

    def _status_message(self, key: str, body: Body) -> Judged:
        ris, _, order = key.partition(":")
        if ris not in self._ris:
            raise Differs(f"`ris` has none of the name {ris}")
        guard = _imported(key, body)
        if self._store.run(reads.remembered(guard.digest)) is not None:
            return Became.THERE, None
        events = [outbox.of_plain(each) for each in body["events"]]
        here = self._store.run(outbox.events(ris, order))
        if here and here == events[-len(here) :]:
            return Became.THERE, None  # the first ones may have been sent
        became = self._replacing(here or None, "other messages about that order wait here")
        known = {each.control_id for each in here}
        missing = [each for each in events if each.control_id not in known]
        return became, Commit(at=self._now, events=missing, guard=guard)

    def _held_message(self, key: str, body: Body) -> Judged:
        waits = self._store.run(held.waits(key))
        if waits or self._store.run(reads.remembered(key)) is not None:
            return Became.THERE, None
        return Became.NEW, Commit(at=self._now, held=held.of_plain(body["message"]))

    def _dead_letter(self, key: str, body: Body) -> Judged:
        guard = _imported(key, body)
        remembered = self._store.run(reads.remembered(guard.digest)) is not None
        if remembered or self._store.run(dead.is_there(body["letter"]["control_id"])):
            return Became.THERE, None
        return Became.NEW, Commit(at=self._now, letters=[body["letter"]], guard=guard)

    def _message(self, key: str, body: Body) -> Judged:
        message, digest = archive.of_plain(body["message"]), body.get("refused", "")
        guard = _imported(key, body)
        remembered = self._store.run(reads.remembered(guard.digest)) is not None
        if remembered or self._is_there(keys.ARCHIVE, key):
            return Became.THERE, None
        place = self._place_in(keys.ARCHIVE, key)
        if digest and not self._rehearsal:
            calls = (refused.refusing(message, digest, each) for each in (place, "*"))
            outcome = self._placed(*calls)
            if not isinstance(outcome, Committed):
                return Became.THERE, None  # it was accepted here
            return Became.NEW, Commit(at=self._now, guard=guard)
        wanted = Commit(at=self._now, archived=message, archived_as=place, guard=guard)
        return Became.NEW, wanted

    def _placed(self, call: Call[T], anew: Call[T]) -> T:
        """Write what has a place in a stream, or `anew` at the end when others were quicker."""
        try:
            return self._store.run(call)
        except ResponseError as late:
            if OUT_OF_TURN not in str(late):
                raise
            return self._store.run(anew)

    def _is_there(self, stream: str, name: str) -> bool:
        found = Call(("XRANGE", stream, name, name, "COUNT", 1), len)
        return self._store.run(found) > 0

    def _place_in(self, stream: str, name: str) -> str:
        """The same ID where it comes behind all that are there, else a new one."""
        newest = self._store.run(
            Call(("XREVRANGE", stream, "+", "-", "COUNT", 1), lambda r: texts(e[0] for e in r))
        )
        return name if not newest or recall.place(newest[0]) < recall.place(name) else "*"


def _refuse_rivals(order: Order, known: Known, numbers: Sequence[Identifier]) -> None:
    """A number that belongs to another patient is never given to a second one. Raises Differs."""
    for number in numbers:
        for other in known.with_number(number):
            if other.key != order.key and other.patient != order.patient:
                raise Differs(f"its {number.kind} number is of order {other.key} here")


def _imported(key: str, body: Body) -> Guard:
    said = hashlib.sha256(json.dumps([key, body], sort_keys=True).encode()).hexdigest()
    return Guard(f"{OF_IMPORT}{said}", b"imported", REMEMBERED_S)


def _person(patient: Patient) -> tuple[str, ...]:
    return tuple(patient.facts.text(keyword).strip().upper() for keyword in SAME_PERSON)


def _patient(body: Body) -> Patient:
    return Patient.model_validate_json(json.dumps(body["record"]))


def _order(body: Body) -> Order:
    return Order.model_validate_json(json.dumps(body["record"]))


def _exam(body: Body) -> Performed:
    return Performed.model_validate_json(json.dumps(body["record"]))


def _received(body: Body) -> dict[str, bytes]:
    return {which: b64decode(text, validate=True) for which, text in body["received"].items()}


_READ: Final[dict[str, Callable[[Body], object]]] = {
    "patient": lambda body: (_patient(body), int(body["since"])),
    "order": lambda body: (_order(body), int(body["since"])),
    "performed step": lambda body: (_exam(body), _received(body), int(body["since"])),
    "alias": lambda body: (body["to"].encode(), int(body["until"])),
    "tombstone": lambda body: (body["sent"].items(), int(body["until"])),
    "answer": lambda body: (body["answer"].encode("latin-1"), int(body["until"])),
    "numbers given": lambda body: int(body["count"]),
    "status message": lambda body: [outbox.of_plain(each) for each in body["events"]],
    "held message": lambda body: held.of_plain(body["message"]),
    "dead letter": lambda body: body["letter"].items(),
    "message": lambda body: archive.of_plain(body["message"]),
}
