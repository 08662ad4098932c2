"""Judging messages without writing: what would be written is laid over what is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from broker.store import reads
from broker.store.archive import Archived
from broker.store.call import Call
from broker.store.commit import Change, Commit, Committed
from broker.store.executors import AsyncStore
from broker.worklist.finding import Identifier, Wanted, leads
from broker.worklist.records import Facts, Order, Patient

T = TypeVar("T")
R = TypeVar("R", Order, Patient)


class Rehearsal(AsyncStore):
    """A store that reads, takes every commit and writes nothing; `changes` are those taken."""

    def __init__(self, url: str) -> None:
        """Begin with what the store at `url` holds."""
        super().__init__(url)
        self.changes: list[Change] = []
        self._given = 0
        self._orders: dict[str, Order | None] = {}
        self._patients: dict[str, Patient | None] = {}
        self._aliases: dict[str, str] = {}
        self._tombstones: dict[str, Mapping[str, str]] = {}
        self._by_number: dict[Identifier, set[str]] = defaultdict(set)
        self._by_patient: dict[str, set[str]] = defaultdict(set)

    async def run_all(self, calls: Sequence[Call[T]]) -> list[T | Exception]:
        """Read, or keep in mind what would be written. Raises StoreUnavailable."""
        outcomes: list[T | Exception] = []
        for call in calls:
            outcome = await self._rehearsed(call)
            outcomes.append(outcome)
        return outcomes

    async def _rehearsed(self, call: Call[T]) -> T | Exception:
        if isinstance(call.about, Commit):
            self._take(call.about)
            return cast(T, Committed(""))
        if isinstance(call.about, Archived):
            return cast(T, Committed(""))
        (outcome,) = await super().run_all((call,))
        if isinstance(call.about, Wanted) and isinstance(outcome, reads.Read):
            return cast(T, await self._laid_over(outcome, call.about))
        return outcome

    def _take(self, wanted: Commit) -> None:
        self.changes += wanted.changes
        self._aliases |= {f"{kind}:{former}": key for kind, former, key in wanted.aliases}
        self._tombstones |= dict(wanted.tombstones)
        self._given = max(self._given, wanted.given[1] if wanted.given else 0)
        for change in wanted.changes:
            for record, after in ((change.before, None), (change.after, change.after)):
                if isinstance(record, Order):
                    self._orders[record.key] = cast(Order | None, after)
                    self._by_patient[record.patient].add(record.key)
                    for number in leads(record):
                        self._by_number[number].add(record.key)
                elif record is not None:
                    self._patients[record.key] = cast(Patient | None, after)

    async def _laid_over(self, read: reads.Read, wanted: Wanted) -> reads.Read:
        orders = _over(read.known.orders, self._orders, self._meant(wanted))
        patients = dict(read.known.patients)
        strangers = {order.patient for order in orders.values()} - patients.keys()
        if unread := tuple(sorted(strangers - self._patients.keys())):
            (found,) = await super().run_all((reads.lookup(Wanted(patients=unread)),))
            patients |= found.known.patients if isinstance(found, reads.Read) else {}
        aliases = {**read.known.aliases, **self._aliases}
        named = {aliases.get(f"patient:{key}", key) for key in wanted.patients}
        patients = _over(patients, self._patients, named | strangers)
        tombstones = {**read.known.tombstones, **self._tombstones}
        given = max(self._given, read.known.given)
        known = replace(
            read.known,
            orders=orders,
            patients=patients,
            aliases=aliases,
            tombstones=tombstones,
            given=given,
        )
        return replace(read, known=known)

    def _meant(self, wanted: Wanted) -> Iterator[str]:
        """Orders that the store does not find yet, or not any more under these numbers."""
        for key in wanted.orders:
            yield self._aliases.get(f"order:{key}", key)
        for number in wanted.identifiers:
            yield from self._by_number.get(number, ())
        if wanted.orders_of_patients:
            for key in wanted.patients:
                yield from self._by_patient.get(self._aliases.get(f"patient:{key}", key), ())


def _over(
    stored: Mapping[str, R], laid: Mapping[str, R | None], more: Iterable[str]
) -> dict[str, R]:
    keys = dict.fromkeys((*stored, *more))
    found = {key: laid[key] if key in laid else stored.get(key) for key in keys}
    return {key: record for key, record in found.items() if record is not None}


@dataclass(frozen=True)
class Difference:
    """What would change in a record: `what` is a keyword with its procedure and step; '' is absent.

    Holds patient data: for the person who asked.
    """

    record: str
    what: str
    before: str = field(repr=False)
    after: str = field(repr=False)


def differences(changes: Iterable[Change]) -> Iterator[Difference]:
    """Give every attribute that would be another one, in the order of the records."""
    for change in changes:
        before, after = _flat(change.before), _flat(change.after)
        for what in dict.fromkeys((*before, *after)):
            if before.get(what, "") != after.get(what, ""):
                name = _name(change.after or change.before)
                yield Difference(name, what, before.get(what, ""), after.get(what, ""))


def _name(record: Order | Patient | None) -> str:
    kind = "order" if isinstance(record, Order) else "patient"
    return f"{kind} {record.key if record else ''}"


def _flat(record: Order | Patient | None) -> dict[str, str]:
    if record is None:
        return {}
    flat = dict(_attributes("", record.facts))
    if isinstance(record, Order):
        flat |= {"patient": record.patient, "flags": ", ".join(record.flags)}
        for procedure in record.procedures:
            flat |= dict(_attributes(f"procedure {procedure.id} ", procedure.facts))
            for step in procedure.steps:
                flat[f"step {step.id} status"] = step.status.value
                flat |= dict(_attributes(f"step {step.id} ", step.facts))
    return flat


def _attributes(prefix: str, facts: Facts) -> Iterator[tuple[str, str]]:
    for keyword, value in sorted(facts.attributes.items()):
        yield from _leaves(f"{prefix}{keyword}", value)


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        for number, item in enumerate(value, 1):
            for keyword, inner in sorted(item.items()):
                yield from _leaves(f"{path}[{number}].{keyword}", inner)
    else:
        yield path, "\\".join(value) if isinstance(value, list) else str(value)
