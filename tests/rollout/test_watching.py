"""A watched folder: edits come in by themselves, also when the folder itself is another one."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.rollout import apart, watching
from broker.rollout.deploying import deploy, roll_back
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
    deploy(store, settings, by="start", at=time.time(), always=False)
    right = "the folder of mappings is right again"
    with capture_logs() as told:
        watched(
            settings,
            (lambda: edit(settings, "SC", "SN"), lambda: len(versions(store)) == 2),
            (lambda: edit(settings, "ORC-5", "ORC5"), lambda: bool(store.run(bundles.failure()))),
            (
                lambda: edit(settings, "ORC5", "ORC-5"),
                lambda: right in [each["event"] for each in told],
            ),
        )
    assert not store.run(bundles.failure())
    assert len(versions(store)) == 2


def test_another_folder_moved_into_its_place_comes_in(store: Store, settings: Settings) -> None:
    deploy(store, settings, by="start", at=time.time(), always=False)
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
    deploy(store, settings, by="start", at=time.time(), always=False)
    folder = settings.mappings
    away = folder.with_name("away")
    watched(
        settings,
        (lambda: folder.rename(away), lambda: bool(store.run(bundles.failure()))),
        (lambda: away.rename(folder), lambda: not store.run(bundles.failure())),
        (lambda: edit(settings, "SC", "SN"), lambda: len(versions(store)) == 2),
    )


def test_a_rollback_is_left_alone_till_something_changes(store: Store, settings: Settings) -> None:
    deploy(store, settings, by="start", at=time.time(), always=False)
    first = versions(store)[0]
    edit(settings, "SC", "SN")
    deploy(store, settings, by="start", at=time.time(), always=False)
    roll_back(store, settings, "", by="me", at=1.0)
    assert versions(store)[0] == first
    deploy(store, settings, by="start", at=time.time(), always=False)
    assert versions(store)[0] == first
    watched(settings, (lambda: edit(settings, "SN", "NA"), lambda: len(set(versions(store))) == 3))


def test_a_reload_by_hand_tells_whether_it_succeeded(store: Store, settings: Settings) -> None:
    url = settings.redis.url
    assert asyncio.run(watching.reload(settings, url, by="reload (SIGHUP)", always=True))
    edit(settings, "ORC-5", "ORC5")
    assert not asyncio.run(watching.reload(settings, url, by="reload (SIGHUP)", always=True))
    away = "redis://127.0.0.1:9"
    assert not asyncio.run(watching.reload(settings, away, by="reload (SIGHUP)", always=True))


def test_a_mistake_of_the_judge_leaves_everything_as_it_was(
    store: Store, settings: Settings
) -> None:
    deploy(store, settings, by="start", at=time.time(), always=False)
    overlay = "mapping: x\nextends: ihe-orders\naccept: {messages: [ORM^O01], senders: [A|B]}\n"
    bomb = f"{overlay}attributes: {{MedicalAlerts: \"OBR-4.2 | extract('a{{1,99999999999}}')\"}}\n"
    path = settings.mappings / "bomb.yaml"
    watched(
        settings,
        (lambda: path.write_text(bomb), lambda: bool(store.run(bundles.failure()))),
        (path.unlink, lambda: not store.run(bundles.failure())),
        (lambda: edit(settings, "SC", "SN"), lambda: len(versions(store)) == 2),
    )


def test_a_check_that_takes_too_long_is_given_up(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(store, settings, by="start", at=time.time(), always=False)
    edit(settings, "SC", "SN")
    monkeypatch.setattr(apart, "DEADLINE_S", 0.01)
    assert not asyncio.run(watching.reload(settings, settings.redis.url, by="me", always=True))
    failure = store.run(bundles.failure())
    assert failure is not None
    assert failure.reason == "checking the mappings took more than 0.01 s and was given up"
    assert len(versions(store)) == 1


def test_a_check_ends_with_whoever_waits_for_it(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []
    started = asyncio.create_subprocess_exec

    async def noted(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
        process = await started(*arguments, **options)
        pids.append(process.pid)
        return process

    async def play() -> None:
        monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
        wanted = watching.reload(settings, settings.redis.url, by="me", always=True)
        task = asyncio.create_task(wanted)
        while not pids:  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(play())
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert versions(store) == []
