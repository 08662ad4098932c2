"""The executors: a Redis that is away is told within three seconds, and work resumes with it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from redis.exceptions import RedisError, ResponseError

from broker.store import reads
from broker.store.call import Call
from broker.store.commit import Change, Commit, Committed, commit
from broker.store.executors import AsyncStore, Store, StoreUnavailable
from broker.store.server import EmbeddedServer
from tests.store.writing import AT, order, read

SOON_S = 3.0
WRITE = commit(Commit(at=AT, changes=[Change("", None, order())]))


def refused(store: Store) -> float:
    """How long it takes to learn that nothing can be had."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.run(WRITE)
    return time.monotonic() - began


async def refused_async(store: AsyncStore) -> float:
    """The same on the event loop."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.run(WRITE)
    return time.monotonic() - began


def test_a_redis_that_is_away_is_told_at_once_and_work_resumes(own_server: EmbeddedServer) -> None:
    store = Store(own_server.url)
    assert store.run(reads.ping())
    own_server.stop()
    assert refused(store) < SOON_S
    own_server.start()
    assert isinstance(store.run(WRITE), Committed)
    assert set(read(store, "H|A1").known.orders) == {"H|A1"}
    store.close()


def test_a_redis_that_hangs_is_told_soon_and_work_resumes(own_server: EmbeddedServer) -> None:
    store = Store(own_server.url)
    assert store.run(reads.ping())
    pid = own_server.pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert refused(store) < SOON_S
    finally:
        os.kill(pid, signal.SIGCONT)
    assert store.run(reads.ping())
    store.close()


def test_the_async_executor_does_the_same(own_server: EmbeddedServer) -> None:
    async def story() -> None:
        store, never_connected = AsyncStore(own_server.url), AsyncStore(own_server.url)
        assert await store.run(reads.ping())
        pid = own_server.pid
        assert pid
        os.kill(pid, signal.SIGSTOP)
        try:
            waits = await asyncio.gather(refused_async(store), refused_async(never_connected))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert max(waits) < SOON_S
        own_server.stop()
        assert await refused_async(store) < SOON_S
        own_server.start()
        assert await store.run(reads.ping())
        await store.run(WRITE)
        found = await store.run(reads.orders(["H|A1"]))
        assert set(found.known.orders) == {"H|A1"}
        await store.close()
        await never_connected.close()

    asyncio.run(story())


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_one(
    own_server: EmbeddedServer,
) -> None:
    """A connection that timed out must not be used again: its late reply is still on its way."""
    store = Store(own_server.url)
    store.run(reads.ping())
    slow = Call(("BLPOP", "{broker}:nothing", 3), lambda reply: reply)
    with pytest.raises(StoreUnavailable):
        store.run(slow)
    assert store.run(reads.mpps("1.9")) == (None, "")
    assert store.run(reads.open_steps()) == 0
    store.close()


def test_a_committed_order_survives_the_death_of_redis(own_server: EmbeddedServer) -> None:
    store = Store(own_server.url)
    assert isinstance(store.run(WRITE), Committed)
    assert own_server.pid
    os.kill(own_server.pid, signal.SIGKILL)
    own_server.stop()
    own_server.start()
    assert set(read(store, "H|A1").known.orders) == {"H|A1"}
    store.close()


def test_a_wrong_command_of_ours_is_a_bug_and_not_an_absence(store: Store) -> None:
    store.redis.set("{broker}:text", "x")
    with pytest.raises(ResponseError):
        store.run(Call(("LRANGE", "{broker}:text", 0, -1), list))
    with pytest.raises(ResponseError):
        store.run(Call(("NOSUCHCOMMAND",), str))


def test_a_redis_that_takes_no_writes_is_unavailable(store: Store) -> None:
    """As a replica says it, and as a script says it that runs into it."""
    store.redis.config_set("min-replicas-to-write", 1)
    try:
        for call in (reads.writable(), WRITE):
            with pytest.raises(StoreUnavailable):
                store.run(call)  # type: ignore[arg-type]
        assert store.run(reads.ping())
    finally:
        store.redis.config_set("min-replicas-to-write", 0)


def test_nobody_at_all_is_unavailable(tmp_path: Path) -> None:
    for url in (f"unix://{tmp_path}/none.sock", "redis://127.0.0.1:1/0"):
        store = Store(url)
        assert refused(store) < SOON_S
        with pytest.raises(RedisError):
            store.redis.ping()
        store.close()
