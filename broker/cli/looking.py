"""What `list` and `show` read from the store, as plain nested values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from broker.store import outbox, reads
from broker.store.executors import Store
from broker.worklist.attributes import STEPS
from broker.worklist.changes import Attributes, text_of
from broker.worklist.finding import Identifier, Known, Wanted
from broker.worklist.matching import START_DATE, START_TIME, Query
from broker.worklist.narrowing import narrow
from broker.worklist.records import OPEN, Item, Order, Patient, Step, items

DEAD_LETTERS_LOOKED_AT = 1000


def open_steps(store: Store, *, station_ae: str, dates: str, modality: str) -> list[dict[str, str]]:
    """Give the open steps that match, by start; keys as in a C-FIND, '' matches all.

    Raises StoreUnavailable.
    """
    asked = {"ScheduledStationAETitle": station_ae, "Modality": modality, START_DATE: dates}
    query = Query.of({STEPS: [asked]})
    found = [
        _row(item)
        for known in _candidates(store, query)
        for order in known.orders.values()
        if (patient := known.patient(order.patient))
        for item in items(order, patient)
        if item.step.status in OPEN and query.matches(item.attributes)
    ]
    return sorted(found, key=lambda row: (row["start"], row["accession"], row["step"]))


def orders_of(store: Store, accession: str, ris: Iterable[str]) -> list[dict[str, Any]]:
    """Give every order with an accession number, or the one with this key (ISSUER|ACCESSION).

    Raises StoreUnavailable.
    """
    keys = (accession,) if "|" in accession else ()
    numbers = () if keys else (Identifier("accession", accession),)
    known = store.run(reads.lookup(Wanted(keys, (), numbers, False))).known
    names = tuple(ris)
    return [
        _whole(store, order, known.patient(order.patient), names)
        for _, order in sorted(known.orders.items())
    ]


def _candidates(store: Store, query: Query) -> Iterator[Known]:
    """What the index leads to, some hundred orders at a time."""
    first = store.run(reads.candidates(narrow(query)))
    yield first.known
    for at in range(reads.SLICE, len(first.found), reads.SLICE):
        yield store.run(reads.orders(first.found[at : at + reads.SLICE])).known


def _row(item: Item) -> dict[str, str]:
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
                "steps": [_step(store, step) for step in procedure.steps],
            }
            for procedure in order.procedures
        ],
        "pending": [message for name in ris for message in _pending(store, name, order.mailbox)],
        "dead_letters": [
            {key: letter.get(key) for key in ("ris", "control_id", "note", "cause", "parked")}
            for letter in store.run(outbox.dead_letters(DEAD_LETTERS_LOOKED_AT))
            if letter.get("order") == order.mailbox
        ],
    }


def _step(store: Store, step: Step) -> dict[str, Any]:
    return {
        "id": step.id,
        "status": step.status.value,
        "attributes": step.facts.attributes,
        "mpps": [_performed(store, uid, status) for uid, status in step.performed.items()],
    }


def _performed(store: Store, uid: str, status: str) -> dict[str, Any]:
    record, _ = store.run(reads.mpps(uid))
    attributes: Attributes = record.attributes if record else {}
    return {"sop_instance_uid": uid, "status": status, "attributes": attributes}


def _pending(store: Store, ris: str, order_key: str) -> Iterator[dict[str, Any]]:
    for event in store.run(outbox.events(ris, order_key)):
        facts = asdict(event)
        del facts["payload"], facts["order"]
        yield facts


def _moment(date: str, time: str) -> str:
    """A DA and a TM as people read them: 2026-11-23 14:05."""
    day = f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else date
    return f"{day} {time[:2]}:{time[2:4]}" if len(time) >= 4 else day


def _joined(value: str | list[str] | None) -> str:
    return ", ".join(value) if isinstance(value, list) else value or ""
