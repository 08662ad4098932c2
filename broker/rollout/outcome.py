"""How a folder came into force, or that it did not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from broker.store import bundles
from broker.store.bundles import Activation, Failure
from broker.store.executors import Store, StoreUnavailable


@dataclass(frozen=True)
class Deployed:
    """What is in force now, whether that is news, and what was checked: version and mappings."""

    active: Activation
    changed: bool
    checked: str
    mappings: int


def note_failure(store: Store, *, by: str, at: float, reason: str) -> None:
    """Note why the folder did not come into force, for status and metrics; `at` is epoch s."""
    with suppress(StoreUnavailable):
        store.run(bundles.note_failure(Failure(at, by, reason)))
