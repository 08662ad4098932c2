"""A process works with what is in force in the store, and swaps when something else comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from broker.mapping.text.nodes import Complaints
from broker.rollout import current
from broker.rollout.current import Current, Mappings
from broker.rollout.deploying import deploy
from broker.settings import Address, Ris, Settings
from broker.store import bundles
from broker.store.executors import AsyncStore, Store

Step = Callable[[Current, list[str]], Awaitable[None]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "LOOK_S", 0.01)


@asynccontextmanager
async def closed(store: AsyncStore) -> AsyncIterator[AsyncStore]:
    try:
        yield store
    finally:
        await store.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(0.01)


def followed(settings: Settings, step: Step) -> list[str]:
    """Open what is in force and follow it while `step` runs; gives every version it had."""
    seen: list[str] = []

    async def swapped(version: str) -> None:
        seen.append(version)

    async def play() -> None:
        async with closed(AsyncStore(settings.redis.url)) as store:
            held = await Current.opened(store, settings)
            following = asyncio.create_task(held.follow(store, swapped))
            try:
                await asyncio.wait_for(step(held, seen), 10)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    asyncio.run(play())
    return seen


def change(store: Store, settings: Settings, old: str, new: str) -> str:
    path = settings.mappings / "out.yaml"
    path.write_text(path.read_text().replace(old, new))
    return deploy(store, settings, by="test", at=2.0).active.version


def test_what_was_compiled_before_the_door_began_is_taken_while_it_is_in_force(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current, "_prepared", None)
    current.prepare(store, settings, at=1.0)
    prepared = current._prepared
    assert prepared is not None

    async def opened() -> Mappings:
        async with closed(AsyncStore(settings.redis.url)) as asked:
            return (await Current.opened(asked, settings)).mappings

    assert asyncio.run(opened()) is prepared
    later = change(store, settings, "SC", "SN")
    assert asyncio.run(opened()).version == later


def test_without_a_supervisor_the_first_process_puts_the_folder_in_force(
    store: Store, settings: Settings
) -> None:
    async def nothing(held: Current, seen: list[str]) -> None:
        await until(lambda: bool(seen))
        assert held.mappings.named("out") == f"out@{seen[0]}"

    seen = followed(settings, nothing)
    active = store.run(bundles.active())
    assert active is not None
    assert (active.by, [active.short]) == ("start", seen)


def test_a_folder_that_is_wrong_opens_nothing(store: Store, settings: Settings) -> None:
    (settings.mappings / "out.yaml").write_text("mapping: [")

    async def never(held: Current, seen: list[str]) -> None:
        raise AssertionError

    with pytest.raises(Complaints):
        followed(settings, never)


def test_what_is_in_force_is_taken_and_not_the_folder(store: Store, settings: Settings) -> None:
    deploy(store, settings, by="start", at=1.0)
    (settings.mappings / "out.yaml").write_text("mapping: [")

    async def nothing(held: Current, seen: list[str]) -> None:
        assert "out" in held.mappings.bundle.outbound

    followed(settings, nothing)


def test_other_mappings_are_swapped_in(store: Store, settings: Settings) -> None:
    first = deploy(store, settings, by="start", at=1.0).active

    async def swap(held: Current, seen: list[str]) -> None:
        former = held.mappings
        second = await asyncio.to_thread(change, store, settings, "mapping: out", "mapping: oud")
        await until(lambda: len(seen) == 2)
        assert held.mappings.version == second
        assert "oud" in held.mappings.bundle.outbound
        assert "out" in former.bundle.outbound  # whoever works with them still has them

    seen = followed(settings, swap)
    assert seen[0] == first.short
    assert len(seen) == 2


def test_what_does_not_fit_this_process_is_left(store: Store, settings: Settings) -> None:
    deploy(store, settings, by="start", at=1.0)
    ris = Ris(name="north", to=Address("127.0.0.1", 9), mapping="out")
    needing = settings.model_copy(update={"ris": (ris,)})

    async def swap(held: Current, seen: list[str]) -> None:
        await asyncio.to_thread(change, store, settings, "mapping: out", "mapping: oud")
        await asyncio.sleep(0.3)
        assert "out" in held.mappings.bundle.outbound
        third = await asyncio.to_thread(change, store, settings, "mapping: oud", "mapping: out")
        await until(lambda: held.mappings.version == third)

    assert len(followed(needing, swap)) == 1
