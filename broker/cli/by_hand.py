"""What a person decides, as the archive keeps it: who, what, when and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from broker.cli.map_deploy import who

if TYPE_CHECKING:
    from broker.store.executors import Store


def note(store: Store, verb: str, what: str, reason: str, orders: Sequence[str] = ()) -> None:
    """Keep a decision about what is on its way. Raises StoreUnavailable."""
    from broker.store.archive import BY_HAND, Archived
    from broker.store.commit import Commit, commit

    now = datetime.now(UTC)
    archived = Archived(
        source=f"broker|{who()}",
        control_id="",
        message_type=verb,
        outcome=BY_HAND,
        cause=reason,
        received=now.timestamp(),
        orders=tuple(orders)[:100],
        mapping="",
        raw=f"{verb} {what}".encode(),
    )
    store.run(commit(Commit(at=now, archived=archived, frees=True)))
