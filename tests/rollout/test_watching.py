"""A watched folder: edits come in by themselves, also when the folder itself is another one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable

import pytest

from broker.rollout import watching
from broker.rollout.deploying import roll_back
from broker.settings import Settings
from broker.store import bundles
from broker.store.executors import Store


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SETTLE_MS", 50)
    monkeypatch.setattr(watching, "LOOK_MS", 100)
    monkeypatch.setattr(watching, "AGAIN_S", 0.05)


def edit(settings: Settings, old: str, new: str) -> None:
    path = settings.mappings / "out.yaml"
    path.write_text(path.read_text().replace(old, new))


def versions(store: Store) -> list[str]:
    return [each.version for each in store.run(bundles.history())]


def watched(settings: Settings, *acts: tuple[Callable[[], object], Callable[[], bool]]) -> None:
    """Watch while each act is done and what must come of it has come."""

    async def play() -> None:
        task = asyncio.create_task(watching.watch(settings, settings.redis.url))
        await asyncio.sleep(0.3)  # till the watching has begun
        for act, come in acts:
            act()
            async with asyncio.timeout(10):
                while not come():  # noqa: ASYNC110 - nobody tells us
                    await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(play())


def test_edits_come_in_and_mistakes_do_not(store: Store, settings: Settings) -> None:
    watching.start(settings, settings.redis.url)
    watched(
        settings,
        (lambda: edit(settings, "SC", "SN"), lambda: len(versions(store)) == 2),
        (lambda: edit(settings, "ORC-5", "ORC5"), lambda: bool(store.run(bundles.failure()))),
        (lambda: edit(settings, "ORC5", "ORC-5"), lambda: not store.run(bundles.failure())),
    )
    assert len(versions(store)) == 2


def test_another_folder_moved_into_its_place_comes_in(store: Store, settings: Settings) -> None:
    watching.start(settings, settings.redis.url)
    folder = settings.mappings
    newer, former = folder.with_name("newer"), folder.with_name("former")
    shutil.copytree(folder, newer)
    edit(settings.model_copy(update={"mappings": newer}), "SC", "SN")

    def move() -> None:
        folder.rename(former)
        newer.rename(folder)

    watched(
        settings,
        (move, lambda: len(versions(store)) == 2),
        (lambda: edit(settings, "SN", "NA"), lambda: len(versions(store)) == 3),
    )


def test_a_folder_that_goes_and_comes_back_is_watched_again(
    store: Store, settings: Settings
) -> None:
    watching.start(settings, settings.redis.url)
    folder = settings.mappings
    away = folder.with_name("away")
    watched(
        settings,
        (lambda: folder.rename(away), lambda: bool(store.run(bundles.failure()))),
        (lambda: away.rename(folder), lambda: not store.run(bundles.failure())),
        (lambda: edit(settings, "SC", "SN"), lambda: len(versions(store)) == 2),
    )


def test_a_rollback_is_left_alone_till_something_changes(store: Store, settings: Settings) -> None:
    watching.start(settings, settings.redis.url)
    first = versions(store)[0]
    edit(settings, "SC", "SN")
    watching.start(settings, settings.redis.url)
    roll_back(store, settings, "", by="me", at=1.0)
    assert versions(store)[0] == first
    watching.start(settings, settings.redis.url)
    assert versions(store)[0] == first
    watched(settings, (lambda: edit(settings, "SN", "NA"), lambda: len(set(versions(store))) == 3))


def test_a_reload_by_hand_tells_whether_it_succeeded(store: Store, settings: Settings) -> None:
    url = settings.redis.url
    assert asyncio.run(watching.reload(settings, url, by="reload (SIGHUP)", always=True))
    edit(settings, "ORC-5", "ORC5")
    assert not asyncio.run(watching.reload(settings, url, by="reload (SIGHUP)", always=True))
    away = "redis://127.0.0.1:9"
    assert not asyncio.run(watching.reload(settings, away, by="reload (SIGHUP)", always=True))
