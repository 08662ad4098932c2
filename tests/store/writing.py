"""Short words for tests: apply a message and commit it as the orders door does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.store import reads
from broker.store.call import texts
from broker.store.commit import Change, Commit, Committed, Conflict, Guard, Repeat, commit
from broker.store.consequences import Keeping, consequences
from broker.store.executors import Store
from broker.worklist.apply import Applied, Sender, apply_all
from broker.worklist.changes import OF_PATIENTS, Action, Attributes
from broker.worklist.changes import Change as Asked
from broker.worklist.finding import wanted
from broker.worklist.records import Order, Patient

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEEP = Keeping(guard=timedelta(minutes=1), alias=timedelta(minutes=1))
Outcome = Committed | Conflict | Repeat


def order(accession: str = "A1", patient: str = "H|1", **changed: Any) -> Order:
    """An order without procedures."""
    return Order(issuer="H", accession=accession, patient=patient, source="H", **changed)


def patient(patient_id: str = "1", **facts: Any) -> Patient:
    """A patient with these attributes."""
    return Patient(
        issuer="H",
        patient_id=patient_id,
        facts={"attributes": {"PatientID": patient_id, **facts}},
    )


def write(store: Store, *changes: Change, **more: Any) -> Outcome:
    """One commit."""
    return store.run(commit(Commit(at=AT, changes=changes, **more)))


def create(store: Store, *records: Order | Patient) -> None:
    """Commit records that were not there before."""
    outcome = write(store, *(Change("", None, record) for record in records))
    assert isinstance(outcome, Committed)


def read(store: Store, *order_keys: str) -> reads.Read:
    """Read orders and their patients."""
    return store.run(reads.orders(order_keys))


def attempt(
    store: Store, sender: Sender, groups: list[tuple[Action, Attributes]], **more: Any
) -> tuple[Outcome, Applied]:
    """Read, apply and commit one message, once."""
    asked = wanted(
        (attributes for _, attributes in groups),
        sender.issuer,
        orders_of_patients=any(action in OF_PATIENTS for action, _ in groups),
    )
    before = store.run(reads.lookup(asked))
    message = [Asked(action, attributes, "ORC[1]") for action, attributes in groups]
    applied = apply_all(message, before.known, sender)
    wanted_commit = consequences(asked, before, applied, at=AT, keep=KEEP)
    outcome = store.run(commit(replace(wanted_commit, **more)))
    return outcome, applied


def apply(store: Store, sender: Sender, *groups: tuple[Action, Attributes]) -> Applied:
    """Apply one message, again while it loses races."""
    for _ in range(100):
        outcome, applied = attempt(store, sender, list(groups))
        if isinstance(outcome, Committed):
            return applied
    raise AssertionError(f"lost a hundred races: {outcome}")


def whole(**said: Any) -> Attributes:
    """What one ORC group says that leaves no type 1 key of its worklist item empty."""
    step = {
        "ScheduledStationAETitle": "CT1",
        "ScheduledProcedureStepStartDate": "20260101",
        "ScheduledProcedureStepStartTime": "0800",
        "Modality": "CT",
        **said.pop("step", {}),
    }
    return {
        "PatientID": "1",
        "PatientName": "DOE^JOHN",
        "AccessionNumber": "A1",
        "ScheduledProcedureStepSequence": [step],
        **said,
    }


def everything(store: Store, skip: tuple[str, ...] = ()) -> dict[str, object]:
    """Every key of the store with its value, whatever its type; for comparing."""
    found: dict[str, object] = {}
    for key in texts(store.redis.keys("*")):
        kind = store.redis.type(key)
        value: object
        if kind == b"string":
            value = store.redis.get(key)
        elif kind == b"set":
            value = store.redis.smembers(key)
        elif kind == b"zset":
            value = sorted(store.redis.zrange(key, 0, -1, withscores=True))
        elif kind == b"hash":
            value = store.redis.hgetall(key)
        elif kind == b"list":
            value = store.redis.lrange(key, 0, -1)
        else:
            value = store.redis.xlen(key)
        if not key.endswith(skip or ("\0",)):
            found[key] = value
    return found


def guard(answer: bytes = b"AA", digest: str = "d1") -> Guard:
    """What remembers an answer."""
    return Guard(digest, answer, 60)
