"""Whether a record of a file can be taken: what is here stays, and what differs is told."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from broker.store import archive, dead, destinations, held, keys, outbox, reads, recall, refused
from broker.store.call import Call, texts
from broker.store.commit import Change, Commit, Guard, MppsChange
from broker.store.commit import commit as committing
from broker.store.destinations import Pause
from broker.store.moving.exporting import OF_IMPORT
from broker.store.moving.portable import Body, Checked, Line
from broker.worklist.finding import Identifier, Known, Wanted, identifiers
from broker.worklist.mpps import Performed
from broker.worklist.records import Order, Patient

REMEMBERED_S: Final = 86_400
"""How long a message that has no key is known to be imported, should the import be repeated."""
SAME_PERSON: Final = ("PatientName", "PatientBirthDate", "PatientSex")


class Became(StrEnum):
    """What became of one record of the file."""

    NEW = "new"
    THERE = "already there"
    REPLACED = "replaced"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class Writing:
    """What is to be written of one record: of its calls the first says what became of it.

    `place` is that of a message in the archive; the calls are made for it, or another one.
    """

    calls: Callable[[str], tuple[Call[Any], ...]]
    place: str = ""


Judged = tuple[Became, Writing | None]
Judging = Generator[Call[Any], Any, Judged]
"""Judges a record: asks the store by yielding calls, and gives what is to be written."""


class Differs(Exception):
    """What is here is not what the file says; the text tells it."""


def judge(line: Line) -> None:
    """Read the values of a line as they will be. Raises ValueError, TypeError, KeyError."""
    body = line.body or {}
    _READ[line.kind](body)


class Judgement:
    """Judges the records of a file, some side by side; it writes nothing, and asks by yielding.

    `ris` are the names of those that status messages go to. `overwrite` lets the file win; in a
    `rehearsal` what the file has before it is as good as here.
    """

    def __init__(
        self,
        file: Checked,
        ris: Collection[str],
        now: datetime,
        *,
        overwrite: bool,
        rehearsal: bool,
    ) -> None:
        self._file, self._ris, self._now = file, ris, now
        self._overwrite, self._rehearsal = overwrite, rehearsal
        self._strangers: set[str] = set()
        self._numbers: dict[Identifier, Order] = {}
        """Of the orders judged side by side: the store does not know them yet."""
        self._full = False
        """Whether one of the messages has its place at the end: so have all after it."""

    def begin(self) -> None:
        """Begin with others, of which the store knows what was judged so far."""
        self._numbers.clear()
        self._full = False

    def of(self, line: Line) -> Judging:
        """Judge one record. Raises Differs."""
        name = line.kind.replace(" ", "_")
        judging: Judging = getattr(self, f"_{name}")(line.key, line.body)
        return judging

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

    def _pause(self, key: str, body: Body) -> Judging:
        if key not in self._ris:
            raise Differs(f"no destination has the name {key}")
        if key in (yield destinations.paused()):
            return Became.THERE, None
        pausing = destinations.pause(key, Pause(**body["pause"]))
        return Became.NEW, Writing(lambda _: (pausing,))

    def _patient(self, key: str, body: Body) -> Judging:
        patient = _patient(body)
        read = yield reads.patients([key])
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
        return became, _commit(at=self._at(body["since"]), changes=[change])

    def _order(self, key: str, body: Body) -> Judging:
        order = _order(body)
        numbers = sorted(each for each in identifiers(order) if each.kind != "accession")
        read = yield reads.lookup(Wanted((key,), (order.patient,), tuple(numbers)))
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
        _refuse_rivals(order, read.known, numbers, self._numbers)
        became = self._replacing(before, "another version of it is here")
        change = Change(read.revisions.get(keys.order(key), ""), before, order)
        return became, _commit(at=self._at(body["since"]), changes=[change])

    def _performed_step(self, key: str, body: Body) -> Judging:
        exam, received = _exam(body), _received(body)
        before, revision = yield reads.mpps(key)
        if before == exam:
            return Became.THERE, None
        became = self._replacing(before, "another version of it is here")
        created, newest = received.get("created", b""), received.get("newest", b"")
        change = MppsChange(revision, before, exam, created if before is None else b"", newest)
        return became, _commit(at=self._at(body["since"]), mpps=[change])

    def _alias(self, key: str, body: Body) -> Judging:
        kind, _, former = key.partition(":")
        record = keys.order(former) if kind == "order" else keys.patient(former)
        if (yield Call(("EXISTS", record), bool)):
            raise Differs(f"there is such {'an order' if kind == 'order' else 'a patient'} here")
        name = keys.alias(kind, former)
        told, aliases = body["to"].encode(), [(kind, former, body["to"])]
        return (yield from self._passing(name, told, body, aliases=aliases, empty=[record]))

    def _tombstone(self, key: str, body: Body) -> Judging:
        told = json.dumps(body["sent"]).encode()
        tombstones = [(key, body["sent"])]
        return (yield from self._passing(keys.tombstone(key), told, body, tombstones=tombstones))

    def _answer(self, key: str, body: Body) -> Judging:
        left_s = self._left_s(body)
        if not left_s or (self._rehearsal and (yield reads.remembered(key)) is not None):
            return Became.THERE, None
        guard = Guard(key, body["answer"].encode("latin-1"), left_s)
        return Became.NEW, _commit(at=self._now, guard=guard)  # what was answered here stays

    def _passing(self, name: str, told: bytes, body: Body, **wanted: object) -> Judging:
        """Judge what stays for a while: what has ended meanwhile is as good as there."""
        before, left_s = (yield Call(("GET", name), lambda reply: reply)), self._left_s(body)
        if before == told or not left_s:
            return Became.THERE, None
        became = self._replacing(before, "another one is here")
        stays = {"alias_keep_s": left_s, "tombstone_keep_s": left_s}
        return became, _commit(at=self._now, **{**stays, **wanted})

    def _left_s(self, body: Body) -> int:
        return max(0, int(body["until"] - self._now.timestamp()))

    def _numbers_given(self, _key: str, body: Body) -> Judging:
        read = yield reads.lookup(Wanted(given=True))
        if read.known.given >= body["count"]:
            return Became.THERE, None
        given = (read.revisions[keys.GIVEN], body["count"])
        return Became.NEW, _commit(at=self._now, given=given)

    def _status_message(self, key: str, body: Body) -> Judging:
        ris, _, order = key.partition(":")
        if ris not in self._ris:
            raise Differs(f"`ris` has none of the name {ris}")
        guard = _imported(key, body)
        if (yield reads.remembered(guard.digest)) is not None:
            return Became.THERE, None
        events = [outbox.of_plain(each) for each in body["events"]]
        here = yield outbox.events(ris, order)
        if here and here == events[-len(here) :]:
            return Became.THERE, None  # the first ones may have been sent
        became = self._replacing(here or None, "other messages about that order wait here")
        known = {each.control_id for each in here}
        missing = [each for each in events if each.control_id not in known]
        return became, _commit(at=self._now, events=missing, guard=guard)

    def _held_message(self, key: str, body: Body) -> Judging:
        waits = yield held.waits(key)
        if waits or (yield reads.remembered(key)) is not None:
            return Became.THERE, None
        return Became.NEW, _commit(at=self._now, held=held.of_plain(body["message"]))

    def _dead_letter(self, key: str, body: Body) -> Judging:
        guard = _imported(key, body)
        remembered = (yield reads.remembered(guard.digest)) is not None
        if remembered or (yield dead.is_there(body["letter"]["control_id"])):
            return Became.THERE, None
        return Became.NEW, _commit(at=self._now, letters=[body["letter"]], guard=guard)

    def _message(self, key: str, body: Body) -> Judging:
        message, digest = archive.of_plain(body["message"]), body.get("refused", "")
        guard = _imported(key, body)
        remembered = (yield reads.remembered(guard.digest)) is not None
        if remembered or (yield Call(("XRANGE", keys.ARCHIVE, key, key, "COUNT", 1), len)):
            return Became.THERE, None
        newest = yield Call(("XREVRANGE", keys.ARCHIVE, "+", "-", "COUNT", 1), _first)

        def calls(place: str) -> tuple[Call[Any], ...]:
            commit = Commit(at=self._now, guard=guard)
            if digest:
                return refused.refusing(message, digest, place), committing(commit)
            return (committing(replace(commit, archived=message, archived_as=place)),)

        return Became.NEW, Writing(calls, self._place_of(key, newest))

    def _place_of(self, key: str, newest: str) -> str:
        """The same ID where it comes behind all that are there, else a new one at the end."""
        self._full = self._full or bool(newest and recall.place(newest) >= recall.place(key))
        return "*" if self._full else key


def _commit(**wanted: Any) -> Writing:
    return Writing(lambda _: (committing(Commit(**wanted)),))


def _first(reply: Any) -> str:
    return next(iter(texts(entry[0] for entry in reply)), "")


def _refuse_rivals(
    order: Order, known: Known, numbers: Sequence[Identifier], taken: dict[Identifier, Order]
) -> None:
    """A number that belongs to another patient is never given to a second one. Raises Differs."""
    for number in numbers:
        for other in (*known.with_number(number), *filter(None, [taken.get(number)])):
            if other.key != order.key and other.patient != order.patient:
                raise Differs(f"its {number.kind} number is of order {other.key} here")
    taken.update(dict.fromkeys(numbers, order))


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
    "pause": lambda body: Pause(**body["pause"]),
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
