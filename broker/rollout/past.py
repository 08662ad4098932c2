"""The mappings that handled a message of the past, as long as their version is kept."""

from __future__ import annotations

from broker.mapping.text.nodes import Complaints
from broker.rollout.current import Mappings
from broker.rollout.deploying import load_version
from broker.settings import Settings
from broker.store import bundles
from broker.store.executors import Store


def mappings_of(store: Store, settings: Settings, version: str) -> Mappings | None:
    """Give a version, which may be shortened ('': the one in force); None when it is not kept.

    Nor is one given that this release of the program does not understand. Raises StoreUnavailable.
    """
    kept = store.run(bundles.history())
    found = next((each.version for each in kept if each.version.startswith(version)), None)
    files = store.run(bundles.get(found)) if found else None
    if not found or files is None:
        return None
    try:
        return Mappings(load_version(files, settings.mappings, settings.ris), found)
    except Complaints:
        return None
