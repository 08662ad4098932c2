"""The mappings that a process works with: those in force in the store, swapped between messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import structlog

from broker.mapping.bundle import Bundle
from broker.mapping.text.nodes import Complaints
from broker.rollout.deploying import deploy_bundle, load_version
from broker.rollout.outcome import Deployed
from broker.settings import Settings
from broker.store import bundles
from broker.store.bundles import SHORT, Activation
from broker.store.executors import AsyncStore, Store, StoreUnavailable

LOOK_S = 0.5
AGAIN_S = 30.0
"""How long mappings that do not load here are left alone."""

log = structlog.get_logger("rollout")


@dataclass(frozen=True)
class Mappings:
    """A bundle with the version by which the store knows it."""

    bundle: Bundle
    version: str

    def named(self, mapping: str) -> str:
        """Name a mapping of this bundle with its version, as archive and events keep it."""
        return f"{mapping}@{self.version[:SHORT]}"


_prepared: Mappings | None = None
"""What this process, or the one that it is a copy of, had loaded before any door was open."""


def prepare(store: Store, settings: Settings, *, at: float) -> Deployed:
    """Put the folder in force before any door opens, and keep what was compiled for the doors.

    `at` in epoch s. Raises Complaints, StoreUnavailable.
    """
    global _prepared
    deployed, bundle = deploy_bundle(store, settings, by="start", at=at, always=False)
    if bundle.version == deployed.active.version:
        _prepared = Mappings(bundle.for_messages(), bundle.version)
    return deployed


class Current:
    """Holds the mappings in force; who handles a message takes them once and keeps to them."""

    def __init__(self, settings: Settings, mappings: Mappings) -> None:
        self._settings = settings
        self._refused, self._refused_at = "", 0.0
        self.mappings = mappings

    @classmethod
    async def opened(cls, store: AsyncStore, settings: Settings) -> Self:
        """Take what is in force; without a supervisor that has seen to it, the folder.

        Raises Complaints, StoreUnavailable.
        """
        active = await store.run(bundles.active())
        if active is None:
            active = await asyncio.to_thread(_from_folder, settings)
        return cls(settings, await _fetched(store, settings, active))

    async def follow(self, store: AsyncStore, swapped: Callable[[str], Awaitable[None]]) -> None:
        """Swap whenever other mappings come into force, until cancelled; one that fails is left.

        `swapped` gets each version, shortened, the present one first.
        """
        await swapped(self.mappings.version[:SHORT])
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(StoreUnavailable):
                active = await store.run(bundles.active())
                if active and self._is_news(active.version):
                    await self._swap(store, active, swapped)

    def _is_news(self, version: str) -> bool:
        if version == self._refused and time.monotonic() < self._refused_at + AGAIN_S:
            return False
        return version != self.mappings.version

    async def _swap(
        self, store: AsyncStore, active: Activation, swapped: Callable[[str], Awaitable[None]]
    ) -> None:
        try:
            self.mappings = await _fetched(store, self._settings, active)
        except Complaints as wrong:
            self._refused, self._refused_at = active.version, time.monotonic()
            log.error("mappings in force do not load here", why=f"{wrong}")
        else:
            log.info("other mappings in force", version=active.short, by=active.by)
            await swapped(active.short)


async def _fetched(store: AsyncStore, settings: Settings, active: Activation) -> Mappings:
    if _prepared is not None and _prepared.version == active.version:
        return _prepared
    files = await store.run(bundles.get(active.version))
    if files is None:
        raise StoreUnavailable(f"mappings {active.short} are not in the store")
    bundle = await asyncio.to_thread(load_version, files, settings.mappings, settings.ris)
    return Mappings(bundle.for_messages(), active.version)


def _from_folder(settings: Settings) -> Activation:
    store = Store(settings.redis.full_url)
    try:
        return deploy_bundle(store, settings, by="start", at=time.time())[0].active
    finally:
        store.close()
