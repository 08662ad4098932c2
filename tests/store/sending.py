"""What tests of the outbox write and ask."""

from __future__ import annotations

from broker.store import outbox
from broker.store.commit import Commit, Committed, commit
from broker.store.executors import Store
from broker.store.outbox import Event
from tests.store.writing import AT

ORDER = "H|A/1 *?[x]%7C%25"
NOW = 10_000


def event(
    control_id: str, *, ris: str = "north", order: str = ORDER, created: float = 1.0
) -> Event:
    """One status message."""
    payload = f"MSH|{control_id}|Müller".encode("latin-1") + b"\x00\xff"
    return Event(ris, order, control_id, created, "status-orm", "IN PROGRESS", payload)


def add(store: Store, *events: Event) -> None:
    """Put messages into the outbox as a commit does."""
    assert isinstance(store.run(commit(Commit(at=AT, events=events))), Committed)


def due(store: Store, ris: str = "north", *, now_ms: int = NOW, limit: int = 10) -> list[str]:
    """Orders to send for."""
    return store.run(outbox.dirty(ris, now_ms=now_ms, limit=limit))


def take(
    store: Store, token: str = "t1", *, order: str = ORDER, ttl_ms: int = 60_000
) -> Event | None:
    """Take an order."""
    taken = store.run(outbox.take("north", order, token, ttl_ms=ttl_ms))
    return taken.event if taken else None
