"""What happened to an order, from all that the store keeps of it, by time; no patient data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from broker.cli.looking import exams_to_look_at, known_of, received
from broker.store import archive, dead, destinations, outbox, reads, recall, sent
from broker.store.archive import Archived
from broker.store.dead import Letter
from broker.store.executors import Store
from broker.store.recall import Entry, Selection
from broker.worklist.finding import Identifier, Known
from broker.worklist.mpps import CREATE, IN_PROGRESS, SET, Performed
from broker.worklist.reconciling import leads
from broker.worklist.records import Order


class Moment(NamedTuple):
    """One line of the timeline; `at` in epoch seconds, `ms` how long it took where that is known.

    `peer` is the sender, AE, destination or operator, `id` what leads to more: of `broker log
    show`, `broker mpps show` or an MSH-10. `again` is when the same happened last.
    """

    at: float
    door: str
    peer: str
    what: str
    outcome: str
    id: str = ""
    ms: int | None = None
    again: float | None = None


class Trace(NamedTuple):
    """The orders that are stored under an accession number, and what happened, by time."""

    orders: tuple[str, ...]
    moments: tuple[Moment, ...]


def traced(store: Store, accession: str, names: Sequence[str]) -> Trace:
    """Follow an accession number, or an order by its key, through all doors.

    `names` are the destinations. Reads the whole archive. Raises StoreUnavailable.
    """
    known = known_of(store, accession)
    exams = _exams(store, known, accession)
    boxes = _boxes(known, exams)
    found = [
        *_came(store, accession, known, exams),
        *(moment for order in known.orders.values() for moment in _seen(store, order)),
        *(moment for exam in exams for moment in _performed(exam)),
        *(moment for box in boxes for moment in _sent(store, box, names)),
        *(moment for box in boxes for name in names for moment in _waiting(store, name, box)),
    ]
    return Trace(tuple(sorted(known.orders)), tuple(sorted(found, key=lambda each: each.at)))


def _exams(store: Store, known: Known, accession: str) -> list[Performed]:
    """Exams of its steps, and those to look at whose scanner named its accession number."""
    uids = [
        uid
        for order in known.orders.values()
        for _, step in order.steps()
        for uid in step.performed
    ]
    found = (store.run(reads.mpps(uid))[0] for uid in dict.fromkeys(uids))
    named = Identifier("accession", accession.rpartition("|")[2])
    lost = (exam for exam in exams_to_look_at(store) if named in leads(exam.attributes))
    ours = {exam.sop_instance_uid: exam for exam in (*found, *lost) if exam}
    return list(ours.values())


def _boxes(known: Known, exams: Iterable[Performed]) -> list[str]:
    """Mailboxes of an order: what it was called when its first message arose, and each exam."""
    named = (key for order in known.orders.values() for key in (order.key, order.mailbox))
    return list(dict.fromkeys((*named, *(exam.sop_instance_uid for exam in exams))))


def _came(
    store: Store, accession: str, known: Known, exams: Sequence[Performed]
) -> Iterator[Moment]:
    """What arrived about it, and what persons did; a decision on an exam names only that."""
    number = accession.rpartition("|")[2]
    meant = Selection(accession=number)
    uids = [exam.sop_instance_uid.encode() for exam in exams]
    for entry in recall.newest_first(store, Selection()):
        message = entry.message
        if message is None:
            continue
        changed = not known.orders.keys().isdisjoint(message.orders)
        by_hand = message.outcome == archive.BY_HAND
        named = by_hand and any(uid in message.raw for uid in uids)
        if changed or named or (meant.means(entry) and not _of_another(message.orders, known)):
            yield _by_hand(entry, message) if by_hand else _message(entry, message)


def _of_another(orders: Sequence[str], known: Known) -> bool:
    """Whether it changed orders, none of them ours, as with one number of two issuers."""
    return bool(orders and known.orders) and known.orders.keys().isdisjoint(orders)


def _message(entry: Entry, message: Archived) -> Moment:
    answered = "+".join(entry.acks) or "no answer"
    what = f"{message.message_type} {message.control_id}"
    if message.replay_of:
        what = f"replay of {Entry(message.replay_of, None).id}"
    outcome = f"{message.outcome}, {answered}" if not message.replay_of else message.outcome
    said = f"{outcome}: {message.cause}" if message.cause else outcome
    at = message.received or entry.stored_ms / 1000
    return Moment(at, "orders", message.source, what, said, entry.id, entry.took_ms)


def _by_hand(entry: Entry, message: Archived) -> Moment:
    operator = message.source.partition("|")[2]
    at = entry.stored_ms / 1000
    return Moment(at, "by hand", operator, message.message_type, message.cause, entry.id)


def _seen(store: Store, order: Order) -> Iterator[Moment]:
    for (_, step), receptions in received(store, order).items():
        for each in receptions:
            again = each["last"] if each["last"] > each["first"] else None
            yield Moment(
                each["first"],
                "modality",
                each["aet"],
                f"C-FIND, step {step}",
                "listed",
                again=again,
            )


def _performed(exam: Performed) -> Iterator[Moment]:
    """Its first and its last request; those between leave only what they said."""
    uid, first = exam.sop_instance_uid, exam.began or exam.changed
    odd = "".join(f"; {each}" for each in exam.exceptions)
    ended = exam.changed > first
    began = f"0000, {IN_PROGRESS}{'' if ended else odd}"
    yield Moment(first, "modality", exam.station, CREATE, began, uid)
    if ended:
        yield Moment(exam.changed, "modality", exam.station, SET, f"0000, {exam.status}{odd}", uid)


def _sent(store: Store, box: str, names: Sequence[str]) -> Iterator[Moment]:
    """What was answered for good, and the dead letters, each of which is one of these or older."""
    letters = {(name, each.id): each for name in names for each in _letters(store, name, box)}
    for each in store.run(sent.of(box)):
        outcome = each.cause + (f" at try {each.attempts}" if each.attempts > 1 else "")
        if each.verdict != "done":
            waits = letters.pop((each.to, each.control_id), None) is not None
            outcome += ": waits in `broker dead`" if waits else ", to `broker dead`"
        took_ms = round(each.took_s * 1000)
        yield Moment(each.at, "updates", each.to, each.note, outcome, each.control_id, took_ms)
    for (name, id), letter in letters.items():
        note = letter.event.note if letter.event else "unreadable"
        said = f"{letter.cause}: waits in `broker dead`"
        yield Moment(letter.parked, "updates", name, note, said, id)


def _letters(store: Store, name: str, box: str) -> list[Letter]:
    ids = store.run(dead.of(name, box))
    return store.run(dead.read(ids)) if ids else []


def _waiting(store: Store, name: str, box: str) -> Iterator[Moment]:
    trouble = store.run(destinations.troubles(name)).get(box)
    away = name in store.run(destinations.away())
    for event in store.run(outbox.events(name, box)):
        said = "waits"
        if trouble and trouble.control_id == event.control_id:
            said += f" after {trouble.attempts} tries: {trouble.cause}"
        elif away:
            said += f": {name} cannot be reached"
        yield Moment(event.created, "updates", name, event.note, said, event.control_id)


def plain(trace: Trace) -> dict[str, Any]:
    """Give it for a program."""
    return {"orders": list(trace.orders), "moments": [each._asdict() for each in trace.moments]}
