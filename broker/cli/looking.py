"""What `list` and `show` read from the store, as plain nested values."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from broker.store import dead, keys, outbox, reads, sightings
from broker.store.executors import Store
from broker.store.indexes import STEP_MARK, member_of
from broker.worklist.attributes import START_DATE, START_TIME, STEPS
from broker.worklist.canary import is_canary
from broker.worklist.changes import text_of
from broker.worklist.finding import Identifier, Known, Wanted
from broker.worklist.mpps import SERIES, Performed, series_of
from broker.worklist.query.matching import Query
from broker.worklist.query.narrowing import Narrowing, narrow
from broker.worklist.records import OPEN, Item, Order, Patient, Step, items

MARK = STEP_MARK.encode()
MOST_EXAMS = 500
A_MINUTE = 60.0
"""So much may our clock be behind that of the process which noted an exam."""


def open_steps(store: Store, *, station_ae: str, dates: str, modality: str) -> list[dict[str, str]]:
    """Give the open steps that match, by start; keys as in a C-FIND, '' matches all.

    Raises StoreUnavailable.
    """
    asked = {"ScheduledStationAETitle": station_ae, "Modality": modality, START_DATE: dates}
    query = Query.of({STEPS: [asked]})
    found = [
        row_of(item)
        for known in _candidates(store, query)
        for order in known.orders.values()
        if (patient := known.patient(order.patient))
        for item in items(order, patient)
        if item.step.status in OPEN
        and not is_canary(item.attributes)
        and query.matches(item.attributes)
    ]
    return sorted(found, key=lambda row: (row["start"], row["accession"], row["step"]))


def orders_of(store: Store, accession: str, ris: Iterable[str]) -> list[dict[str, Any]]:
    """Give every order with an accession number, or the one with this key (ISSUER|ACCESSION).

    Raises StoreUnavailable.
    """
    known, names = known_of(store, accession), tuple(ris)
    return [
        _whole(store, order, known.patient(order.patient), names)
        for _, order in sorted(known.orders.items())
    ]


def items_of(store: Store, accession: str) -> list[Item]:
    """Give the worklist items of every order with an accession number, or with this key.

    Raises StoreUnavailable.
    """
    return list(_items(known_of(store, accession)))


def rows_of(store: Store, members: Sequence[bytes]) -> list[dict[str, str]]:
    """Give the row of each worklist item by its member (store.indexes); {} of one that has gone.

    Raises StoreUnavailable.
    """
    wanted = [sightings.unversioned(member) for member in members]
    rows: dict[bytes, dict[str, str]] = {}
    orders = list(dict.fromkeys(member.split(MARK)[0].decode() for member in wanted))
    for at in range(0, len(orders), reads.SLICE):
        known = store.run(reads.orders(orders[at : at + reads.SLICE])).known
        rows |= {member_of(item): row_of(item) for item in _items(known)}
    return [rows.get(member, {}) for member in wanted]


def known_of(store: Store, accession: str) -> Known:
    """Give the orders with an accession number, or the one with this key.

    Raises StoreUnavailable.
    """
    keys = (accession,) if "|" in accession else ()
    numbers = () if keys else (Identifier("accession", accession),)
    return store.run(reads.lookup(Wanted(keys, (), numbers, False))).known


def exams_to_look_at(store: Store) -> list[Performed]:
    """Give the exams that a person should look at, oldest first. Raises StoreUnavailable."""
    return exams_by(store, keys.EXCEPTIONS)


def exams_by(store: Store, index: str) -> list[Performed]:
    """Give the exams of an index by time, the oldest ones. Raises StoreUnavailable."""
    uids = store.run(reads.due(index, before=time.time() + A_MINUTE, limit=MOST_EXAMS))
    return [exam for uid in uids if (exam := store.run(reads.mpps(uid))[0])]


def _items(known: Known) -> Iterator[Item]:
    for _, order in sorted(known.orders.items()):
        if patient := known.patient(order.patient):
            yield from items(order, patient)


def _candidates(store: Store, query: Query) -> Iterator[Known]:
    """What the index leads to, some hundred orders at a time, each once."""
    rest: Narrowing | None = narrow(query)
    given = set[str]()
    while rest is not None:
        slice_ = store.run(reads.members(rest))
        leads = dict.fromkeys(reads.stood(member).order for member in slice_.found)
        orders = [key for key in leads if key not in given]
        given.update(orders)
        yield store.run(reads.orders(orders)).known
        rest = slice_.rest


def row_of(item: Item) -> dict[str, str]:
    """Give what a list says of one worklist item."""
    step = item.attributes[STEPS][0]
    return {
        "start": _moment(step.get(START_DATE, ""), step.get(START_TIME, "")),
        "status": item.step.status.value,
        "accession": item.order.accession,
        "step": item.step.id,
        "patient": text_of(item.attributes, "PatientName"),
        "patient_id": text_of(item.attributes, "PatientID"),
        "modality": _joined(step.get("Modality")),
        "station": _joined(step.get("ScheduledStationAETitle")),
        "description": text_of(step, "ScheduledProcedureStepDescription"),
    }


def _whole(
    store: Store, order: Order, patient: Patient | None, ris: Iterable[str]
) -> dict[str, Any]:
    seen = received(store, order)
    return {
        "accession": order.accession,
        "issuer": order.issuer,
        "flags": list(order.flags),
        "sent": order.sent,
        "patient": {
            "key": order.patient,
            "attributes": patient.facts.attributes if patient else {},
        },
        "attributes": order.facts.attributes,
        "procedures": [
            {
                "id": procedure.id,
                "attributes": procedure.facts.attributes,
                "steps": [
                    {**_step(store, step), "received": seen.get((procedure.id, step.id), [])}
                    for step in procedure.steps
                ],
            }
            for procedure in order.procedures
        ],
        "pending": [message for name in ris for message in _pending(store, name, order.mailbox)],
        "dead_letters": [each for name in ris for each in _dead(store, name, order.mailbox)],
    }


def received(store: Store, order: Order) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Give the AEs that received each step, under any key that the order has had.

    Raises StoreUnavailable.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key in dict.fromkeys((order.key, order.mailbox)):
        for seen in store.run(sightings.sightings(key)):
            member = STEP_MARK.join((key, seen.procedure, seen.step)).encode()
            asked = (
                q.at for q in store.run(sightings.last_asked(seen.aet)) if member in q.answered
            )
            said = {"aet": seen.aet, "first": seen.first, "last": max(seen.last, *asked, 0.0)}
            found.setdefault((seen.procedure, seen.step), []).append(said)
    return found


def _step(store: Store, step: Step) -> dict[str, Any]:
    return {
        "id": step.id,
        "status": step.status.value,
        "attributes": step.facts.attributes,
        "mpps": [_performed(store, uid, status) for uid, status in step.performed.items()],
    }


def _performed(store: Store, uid: str, status: str) -> dict[str, Any]:
    record, _ = store.run(reads.mpps(uid))
    if record is None:
        return {"sop_instance_uid": uid, "status": status, "attributes": {}}
    series, objects = series_of(record.attributes)
    return {
        "sop_instance_uid": uid,
        "status": status,
        "attributes": {k: v for k, v in record.attributes.items() if k != SERIES},
        "series": series,
        "objects": objects,
        "matched_by": sorted({r.evidence for r in record.references if r.evidence}),
        "to_look_at": list(record.exceptions),
    }


def _pending(store: Store, ris: str, order_key: str) -> Iterator[dict[str, Any]]:
    for event in store.run(outbox.events(ris, order_key)):
        facts = asdict(event)
        del facts["payload"], facts["order"], facts["facts"]
        yield facts


def _dead(store: Store, ris: str, box: str) -> Iterator[dict[str, Any]]:
    ids = store.run(dead.of(ris, box))
    for letter in store.run(dead.read(ids)) if ids else ():
        yield {
            "ris": letter.to,
            "control_id": letter.id,
            "note": letter.event.note if letter.event else "",
            "cause": f"{letter.cause}: {letter.words}" if letter.words else letter.cause,
            "parked": letter.parked,
        }


def _moment(date: str, time: str) -> str:
    """A DA and a TM as people read them: 2026-11-23 14:05."""
    day = f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else date
    return f"{day} {time[:2]}:{time[2:4]}" if len(time) >= 4 else day


def _joined(value: str | list[str] | None) -> str:
    return ", ".join(value) if isinstance(value, list) else value or ""
