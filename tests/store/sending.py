"""What tests of the outbox write and ask."""

from __future__ import annotations

from collections.abc import Sequence

from broker.store import outbox
from broker.store.commit import Commit, Committed, commit
from broker.store.executors import Store
from broker.store.outbox import Delivered, Event, Taken
from broker.store.sent import Sent
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
    store: Store,
    token: str = "t1",
    *,
    order: str = ORDER,
    ttl_ms: int = 60_000,
    now_ms: int | None = None,
    ris: str = "north",
) -> Event | None:
    """Take an order."""
    taken = taken_by(store, token, order, ttl_ms=ttl_ms, now_ms=now_ms, ris=ris)
    return taken.event if taken else None


def refused(store: Store, order: str, control_id: str, *, ris: str, words: str = "") -> None:
    """The destination refuses the first message of an order."""
    head = take(store, order=order, ris=ris)
    assert head is not None
    assert head.control_id == control_id
    done = outbox.refuse(head, "t1", cause="AE 204", words=words, at=head.created)
    assert not store.run(done).lost
    store.run(outbox.release(ris, order, "t1"))


def taken_by(
    store: Store,
    token: str,
    order: str = ORDER,
    *,
    ttl_ms: int = 60_000,
    now_ms: int | None = None,
    ris: str = "north",
) -> Taken | None:
    """Take an order, with what went wrong with it."""
    settled = store.run(outbox.settle(ris, token, [], [order], ttl_ms=ttl_ms, now_ms=now_ms))
    return settled.ours[0] if settled.ours else None


def delivered(
    store: Store,
    control_id: str,
    token: str = "t1",
    *,
    order: str = ORDER,
    then: Sequence[str] = (),
    ris: str = "north",
    told: Sent | None = None,
) -> list[Event | None] | None:
    """Settle a delivery; gives what is ours to send then, None where the order was lost."""
    gone = [Delivered(order, control_id, told)]
    settled = store.run(
        outbox.settle(ris, token, gone, then, ttl_ms=60_000, now_ms=NOW, keep_s=3600)
    )
    return None if settled.lost else [each.event for each in settled.ours]
