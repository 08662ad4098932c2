"""Members of an index → encoded answers: what is kept of the same versions, else read and encoded.

Nothing here can be out of date: a member says which versions of order and patient it means.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

import structlog

from broker.dicom.dictionary import UnencodableValue
from broker.modality.kept import Kept
from broker.modality.plan import Plan, Shape
from broker.store import reads, stored
from broker.store.executors import AsyncStore
from broker.worklist.attributes import START_DATE, START_TIME, STEPS
from broker.worklist.changes import Attributes, text_of
from broker.worklist.query.criteria import fold
from broker.worklist.query.returning import matched
from broker.worklist.records import stored_items
from broker.worklist.rules import AnswerOrder

MALFORMED: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What comes of values that an earlier release or mapping stored and no attribute can hold."""
ANSWERS_BYTES: Final = 16 * 2**20
FACTS_BYTES: Final = 12 * 2**20
STEPS_BYTES: Final = 2**20
FACTS_SIZE: Final = 2500
"""What some twenty attributes take in memory."""
GONE: Final[Attributes] = {}
"""The facts of a step that was there in another version only."""

log = structlog.get_logger("modality")


class Answer(NamedTuple):
    """One encoded answer and its member, after what it is sorted by where that is needed."""

    place: tuple[str, ...]
    member: bytes
    data: bytes


class _Item(NamedTuple):
    """An item as it is in the store now, which may be newer than the member that led to it."""

    member: bytes
    attributes: Attributes


class Answers:
    """What one process knows of items, bounded; reads the rest from the store.

    `left_out` is called for each item that no answer can be made of.
    """

    def __init__(self, store: AsyncStore, left_out: Callable[[], None]) -> None:
        self._store = store
        self._left_out = left_out
        self._connection = store.connections
        self.encoded: Kept[tuple[int, bytes], bytes] = Kept(ANSWERS_BYTES)
        self.facts: Kept[bytes, Attributes] = Kept(FACTS_BYTES)
        self.steps: Kept[bytes, tuple[bytes, ...]] = Kept(STEPS_BYTES)

    def heed_reconnection(self) -> None:
        """Forget everything when another Redis may have answered: it may give revisions anew."""
        if self._connection != self._store.connections:
            self._connection = self._store.connections
            for kept in (self.encoded, self.facts, self.steps):
                kept.clear()

    def of(
        self, plan: Plan, members: Sequence[bytes], today: date
    ) -> list[Answer] | Coroutine[Any, Any, list[Answer]]:
        """Give the answers of these members in their order, or what reads and then gives them."""
        if not plan.settled:
            return self.matching(plan, members, today)
        found = self._encoded(plan, members)
        return self._settled(plan, members, found) if None in found else _together(members, found)

    async def _settled(
        self, plan: Plan, members: Sequence[bytes], found: Sequence[bytes | None]
    ) -> list[Answer]:
        """Give the answers of members that need not be matched.

        What this AE does not see is kept as b'' beside them.
        """
        number = plan.shape.number
        missing = [member for member, data in zip(members, found, strict=True) if data is None]
        items, fresh = await self._items(missing), dict[bytes, bytes]()
        for member in missing:
            item = next(iter(items.get(member, ())), None)
            if item is None or (item.member == member and not _seen(plan, item.attributes)):
                self.encoded.put((number, member), b"", len(member))
            elif item.member == member or _matches(plan, item.attributes):
                fresh[member] = self._encode(plan.shape, item)
        whole = [
            fresh.get(member) if data is None else data
            for member, data in zip(members, found, strict=True)
        ]
        return _together(members, whole)

    async def matching(self, plan: Plan, members: Sequence[bytes], today: date) -> list[Answer]:
        """Give the answers of those members that match, in their order, each step once."""
        orders, members = self._steps_of(members)
        known = dict(zip(members, self.facts.all(members), strict=True))
        candidates = [m for m, f in known.items() if f is None or _matches(plan, f, today)]
        # What is here now may be gone when the store has answered: it is taken once.
        encoded = dict(zip(candidates, self._encoded(plan, candidates), strict=True))
        missing = [m for m in candidates if not encoded[m] or known[m] is None]
        items = await self._items([*orders, *missing]) if orders or missing else {}
        found: list[Answer] = []
        for member in candidates:
            facts, data = known[member], encoded[member]
            if facts and data:
                found.append(Answer(_place(plan, facts), member, data))
            else:
                found += self._judged(plan, member, items.get(member, ()), today)
        for order in orders:
            found += self._judged(plan, order, items.get(order, ()), today)
        return found

    def _steps_of(self, members: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Part members for all that an order has: into its steps, where they are known."""
        orders: list[bytes] = []
        steps: list[bytes] = []
        for member in members:
            if reads.STEP_MARK in member:
                steps.append(member)
            elif (known := self.steps.get(member)) is not None:
                steps += known
            else:
                orders.append(member)
        return orders, steps

    def _encoded(self, plan: Plan, members: Sequence[bytes]) -> list[bytes | None]:
        return self.encoded.all([(plan.shape.number, member) for member in members])

    def _judged(
        self, plan: Plan, member: bytes, items: Sequence[_Item], today: date
    ) -> Iterator[Answer]:
        """Match and encode what was read for a member: nothing where it is there no more."""
        if reads.STEP_MARK not in member:
            self.steps.put(member, tuple(item.member for item in items), 100 * len(items))
        elif not items:
            self.facts.put(member, GONE, len(member))
        for item in items:
            facts = item.attributes
            self.facts.put(item.member, matched(facts), FACTS_SIZE + len(item.member))
            if _matches(plan, facts, today) and (data := self._encode(plan.shape, item)):
                yield Answer(_place(plan, facts), item.member, data)

    def _encode(self, shape: Shape, item: _Item) -> bytes:
        """Encode one answer; b'' of one that cannot be, which is left out and reported."""
        try:
            data = shape.encoded(item.attributes)
        except UnencodableValue as fault:
            accession = text_of(item.attributes, "AccessionNumber")
            log.error(
                "answer left out", accession=accession, keyword=fault.keyword, fact=fault.fact
            )
            self._left_out()
            return b""
        except MALFORMED as fault:
            self._left_out()
            _left_out(text_of(item.attributes, "AccessionNumber"), fault)
            return b""
        self.encoded.put((shape.number, item.member), data, len(data) + len(item.member))
        return data

    async def _items(self, members: Sequence[bytes]) -> dict[bytes, list[_Item]]:
        """Read the items that members lead to; what is there no more is left out."""
        asked = {member.rpartition(b"@")[0]: member for member in members}
        names = dict.fromkeys(step.partition(reads.STEP_MARK)[0] for step in asked)
        raw = await self._store.run(reads.records(list(names)))
        found: dict[bytes, list[_Item]] = {}
        unreadable = 0
        for order, record in raw.orders:
            try:
                items = list(_items_of(order, record, raw.patients))
            except MALFORMED:
                unreadable += 1
                continue
            for step, item in items:
                for led in (asked.get(step), asked.get(order)):
                    if led is not None:
                        found.setdefault(led, []).append(item)
        if unreadable:  # their keys hold patient IDs, which have no place in a log
            log.error("records left out: this version cannot read them", count=unreadable)
        return found


def _together(members: Sequence[bytes], encoded: Sequence[bytes | None]) -> list[Answer]:
    return [Answer((), m, data) for m, data in zip(members, encoded, strict=True) if data]


def _items_of(
    order: bytes, record: bytes, patients: Mapping[bytes, bytes]
) -> Iterator[tuple[bytes, _Item]]:
    owner, values = stored.order_values(record)
    patient = patients.get(owner)
    if patient is None:
        return
    versions = b"@%b.%b" % (stored.number(record), stored.number(patient))
    person: Any = stored.patient_values(patient)
    for procedure, step, attributes in stored_items(values, person):
        member = reads.STEP_MARK.join((order, procedure.encode(), step.encode()))
        yield member, _Item(member + versions, attributes)


def _matches(plan: Plan, facts: Attributes, today: date | None = None) -> bool:
    """Match one item that this AE sees; what holds something unusable matches nothing."""
    try:
        return _seen(plan, facts, today) and plan.query.matches(facts)
    except MALFORMED as fault:
        _left_out(text_of(facts, "AccessionNumber"), fault)
        return False


def _seen(plan: Plan, facts: Attributes, today: date | None = None) -> bool:
    """Tell whether an AE sees an item; the day matters only where the AE has a window."""
    day = today or date.min
    return bool(facts) and not plan.profile.hidden(facts, day, any_status=plan.any_status)


def _left_out(accession: str, fault: Exception) -> None:
    log.error("answer left out", accession=accession, fact=f"{type(fault).__name__} in its values")


def _place(plan: Plan, facts: Attributes) -> tuple[str, ...]:
    return _PLACES[plan.profile.rules.order](facts)


def _start(facts: Attributes) -> tuple[str, ...]:
    step = facts[STEPS][0]
    return (
        text_of(step, START_DATE),
        text_of(step, START_TIME),
        text_of(facts, "AccessionNumber"),
    )


def _by_name(facts: Attributes) -> tuple[str, ...]:
    return (fold(text_of(facts, "PatientName")), *_start(facts))


def _by_accession(facts: Attributes) -> tuple[str, ...]:
    return (text_of(facts, "AccessionNumber"), *_start(facts))


_PLACES: Final[Mapping[AnswerOrder, Callable[[Attributes], tuple[str, ...]]]] = {
    AnswerOrder.START: _start,
    AnswerOrder.NAME: _by_name,
    AnswerOrder.ACCESSION: _by_accession,
}
