"""Redis with Sentinel: the master is found and followed, and what it alone has is not promised."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.exceptions import ConnectionError as Disconnected

from broker.cli import run_command
from broker.mapping.text.nodes import Complaints
from broker.settings import Settings
from broker.store import engine, external, keys, reads, vitals
from broker.store.call import Call
from broker.store.commit import Change, Commit, Committed, Guard, Repeat, commit
from broker.store.executors import AsyncStore, Store, StoreUnavailable
from broker.store.sentinels import group_of
from tests.store.watched import OF_SENTINELS, OF_SERVERS, Watched
from tests.store.writing import AT, order, read

pytestmark = pytest.mark.peer("redis-server")

HANDBOOK = (Path(__file__).parents[2] / "docs/handbook.md").read_text(encoding="utf-8")
WRITE = commit(Commit(at=AT))
GET = Call(("GET", "{broker}:a"), lambda reply: reply)
OUTAGE_S = 5.0


@pytest.fixture(scope="module")
def group() -> Iterator[Watched]:
    """A group whose master stays."""
    running = Watched(down_after_ms=30_000)
    try:
        yield running.start()
    finally:
        running.end()


@pytest.fixture
def watched(group: Watched) -> Watched:
    """The group, with all its replicas."""
    group.wait(lambda: external.standing(group.url).replicas == 2)  # type: ignore[union-attr]
    return group


@pytest.fixture
def harmed() -> Iterator[Watched]:
    """A group that a test may harm."""
    running = Watched()
    try:
        yield running.start()
    finally:
        running.end()


def run_anew(url: str, *calls: Call[Any]) -> Sequence[object]:
    """What the calls give over connections of their own."""

    async def story() -> Sequence[object]:
        store = AsyncStore(url)
        try:
            return await store.run_all(calls)
        finally:
            await store.close()

    return asyncio.run(story())


def test_what_no_replica_has_is_not_promised_nor_is_its_repeat(watched: Watched) -> None:
    guard = Guard("only-on-the-master", b"AA", 3600)
    written = commit(Commit(at=AT, guard=guard))
    with watched.alone():
        for _ in "first", "repeat":
            with pytest.raises(StoreUnavailable, match="no replica has it"):
                run_anew(watched.url, written)
        with pytest.raises(StoreUnavailable, match="no replica has it"):
            run_anew(watched.url, reads.mpps("1.9"))  # a repeat of what it holds is a Success
        with closing(Store(watched.url)) as store:
            with pytest.raises(StoreUnavailable, match="no replica has it"):
                store.run(written)
            with pytest.raises(StoreUnavailable, match="no replica has it"):
                store.run(reads.mpps("1.9"))  # a repeat of what it holds is a Success
            assert store.run(reads.ping())
    assert run_anew(watched.url, written), "who sends again is answered"


def test_queries_do_not_wait_for_replicas(watched: Watched) -> None:
    async def story() -> None:
        store = AsyncStore(watched.url)
        await store.run(WRITE)
        with watched.alone():
            commits = [asyncio.ensure_future(store.run(WRITE)) for _ in range(3)]
            await asyncio.sleep(0)
            assert await store.run(reads.ping())
            assert not any(each.done() for each in commits)
            told = await asyncio.gather(*commits, return_exceptions=True)
        assert all(isinstance(each, StoreUnavailable) for each in told)
        await store.close()

    asyncio.run(story())


def test_one_wait_is_enough_for_what_is_written_together(watched: Watched) -> None:
    master = watched.client(watched.master())

    async def story() -> None:
        store = AsyncStore(watched.url)
        await store.run(WRITE)
        before = master.info("commandstats")["cmdstat_wait"]["calls"]
        await asyncio.gather(*(store.run(WRITE) for _ in range(50)))
        assert master.info("commandstats")["cmdstat_wait"]["calls"] == before + 1
        await store.close()

    asyncio.run(story())


def test_a_sentinel_that_is_away_harms_nothing_and_none_at_all_is_unavailable(
    watched: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = watched.settings["sentinel"]
    some = {**settings, "hosts": ["127.0.0.1:1", *settings["hosts"]]}
    url = Settings.model_validate({"redis": {"sentinel": some}}).redis.full_url
    assert isinstance(run_anew(url, WRITE)[0], Committed)
    config = tmp_path / "broker.yaml"
    for nobody in ({"hosts": ["127.0.0.1:1"]}, {**settings, "master": "stranger"}):
        url = Settings.model_validate({"redis": {"sentinel": nobody}}).redis.full_url
        with pytest.raises(StoreUnavailable, match="no Sentinel names a master"):
            run_anew(url, WRITE)
        with closing(Store(url)) as store, pytest.raises(StoreUnavailable):
            store.run(WRITE)
        assert not external.writable(url)
        config.write_text(f"redis: {{sentinel: {nobody}}}\n")
        assert run_command(["status", "--config", str(config)]) == 69
        assert "redis.sentinel: the store does not answer" in capsys.readouterr().err


def test_a_store_that_is_closed_has_left_its_sentinels_too(watched: Watched) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    store = Store(watched.url)
    store.run(WRITE)
    opened = set(Path("/proc/self/fd").iterdir()) - before
    assert len(opened) > 1  # the master and a Sentinel at least
    store.close()
    assert not opened & set(Path("/proc/self/fd").iterdir())


def test_the_check_of_a_configuration_names_what_a_failover_would_lose(
    watched: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "broker.yaml"
    first = watched.settings["sentinel"]["hosts"][:1]
    config.write_text(f"redis: {{sentinel: {{hosts: {['127.0.0.1:1', *first]}, replicas: 0}}}}\n")
    weak = next(port for port in watched.ports if port != watched.master())
    watched.client(weak).config_set("maxmemory-policy", "allkeys-lru")
    try:
        run_command(["config", "check", "--config", str(config)])
    finally:
        watched.client(weak).config_set("maxmemory-policy", "noeviction")
    told = "".join(capsys.readouterr())
    for risk in (
        "redis.sentinel: replicas: 0 loses acknowledged orders",
        f"the replica 127.0.0.1:{weak}: maxmemory-policy is allkeys-lru",
        "Sentinel 127.0.0.1:1: ",
        "fewer than three Sentinels are named",
        "records of patients cross the network in clear; say redis.tls",
    ):
        assert risk in told, told


def test_status_says_who_is_master_and_that_nothing_can_be_promised(
    watched: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "broker.yaml"
    config.write_text(f"redis: {watched.settings}\n")
    assert run_command(["status", "--config", str(config)]) == 0
    told = capsys.readouterr().out
    assert f"redis     master 127.0.0.1:{watched.master()}, followed by 2\n" in told
    demanding = {"sentinel": {**watched.settings["sentinel"], "replicas": 3}}
    config.write_text(f"redis: {demanding}\n")
    run_command(["status", "--config", str(config)])
    told = capsys.readouterr().out
    assert "followed by 2; ! too few, so nothing is acknowledged" in told
    assert run_command(["doctor", "--config", str(config)]) == 1
    told = capsys.readouterr().out
    assert "3 are needed: nothing is acknowledged, senders send again" in told


def test_what_is_refused_for_want_of_replicas_is_written_and_another_try_makes_it_right(
    watched: Watched,
) -> None:
    guard = Guard("refused-and-written", b"AA", 3600)
    first = commit(Commit(at=AT, guard=guard, changes=[Change("", None, order("R77"))]))

    there = Call(("EXISTS", keys.order("H|R77")), bool)

    async def story() -> None:
        store = AsyncStore(watched.url)
        await store.run(WRITE)  # so that the server knows the script
        with watched.alone():
            with pytest.raises(StoreUnavailable, match="no replica has it"):
                await store.run(first)
            assert await store.run(there)
        assert store.shortfalls == 1
        assert store.replicas_needed == 1
        assert (await store.run(vitals.followers())).there == 2
        assert isinstance(await store.run(first), Repeat)
        await store.close()

    asyncio.run(story())


def test_a_server_that_is_named_no_more_is_left_though_it_answers_as_a_master() -> None:
    """As one does that is cut off from the Sentinels and from its replicas, and not from us."""
    group = Watched(replicas=0, sentinels=1)
    try:
        other, (sentinel,) = group.start().add(), group.watching
        group.client(group.ports[0]).set("{broker}:a", "old")
        group.client(other).set("{broker}:a", "new")

        async def story() -> None:
            store, worker = AsyncStore(group.url), Store(group.url)
            assert (await store.run(GET), worker.run(GET)) == (b"old", b"old")
            group.monitor(sentinel, other)
            began = time.monotonic()
            for _ in range(1000):
                with suppress(StoreUnavailable):
                    if (await store.run(GET), worker.run(GET)) == (b"new", b"new"):
                        break
                await asyncio.sleep(0.02)
            assert time.monotonic() - began < OUTAGE_S
            worker.close()
            await store.close()

        asyncio.run(story())
    finally:
        group.end()


def test_passwords_and_tls_are_those_of_the_servers_and_of_the_sentinels(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of-sentinel\n")
    (tmp_path / "broker.yaml").write_text(
        "redis:\n"
        "  sentinel: {hosts: ['s1:26379', '[::1]:26379'], username: watcher,"
        " password_file: secret, tls: {ca: ca.pem}}\n"
        "  password: s3cr:t/@\n"
        "  database: 2\n"
    )
    redis = Settings.load(tmp_path / "broker.yaml", {}).redis
    group = group_of(redis.full_url)
    assert group is not None
    assert redis.mode == "sentinel"
    assert group.server == "redis://:s3cr%3At%2F%40@master:0/2"
    ca = quote(f"{tmp_path}/ca.pem", "")
    assert group.sentinels == (
        f"rediss://watcher:of-sentinel@s1:26379?ssl_ca_certs={ca}",
        f"rediss://watcher:of-sentinel@[::1]:26379?ssl_ca_certs={ca}",
    )
    assert (group.name, group.replicas, group.wait_ms) == ("mymaster", 1, 1000)
    assert "of-sentinel" not in f"{redis!r}"


def test_the_example_of_the_handbook_means_what_it_says(tmp_path: Path) -> None:
    found = re.search(r"^```yaml sentinel\n(.*?)^```", HANDBOOK, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "redis.password").write_text("secret")
    (tmp_path / "broker.yaml").write_text(found[1])
    group = group_of(Settings.load(tmp_path / "broker.yaml", {}).redis.full_url)
    assert group is not None
    assert group.server == "redis://:secret@master:0/0"
    assert (len(group.sentinels), group.replicas, group.wait_ms) == (3, 1, 1000)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{url: 'redis://h', sentinel: {hosts: ['h:1']}}", "not both"),
        ("{mode: sentinel}", "needs sentinel"),
        ("{mode: embedded, sentinel: {hosts: ['h:1']}}", "no sentinel"),
        ("{sentinel: {hosts: []}}", "hosts"),
        ("{sentinel: {hosts: ['h:1'], wait: 3s}}", "wait"),
        ("{database: 1}", "database is for sentinel"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, said: str, why: str) -> None:
    (tmp_path / "broker.yaml").write_text(f"redis: {said}\n")
    with pytest.raises(Complaints, match=why):
        Settings.load(tmp_path / "broker.yaml", {})


# --- TLS and passwords, as real servers have them


@pytest.fixture(scope="module")
def locked() -> Iterator[Watched]:
    """A group that speaks nothing but TLS, to whoever has the passwords."""
    running = Watched(secured=True)
    try:
        yield running.start()
    finally:
        running.end()


def test_servers_and_sentinels_with_tls_and_passwords_are_found_and_waited_for(
    locked: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locked.wait(lambda: external.standing(locked.url).replicas == 2)  # type: ignore[union-attr]
    assert isinstance(run_anew(locked.url, WRITE)[0], Committed)
    with closing(Store(locked.url)) as store:
        assert isinstance(store.run(WRITE), Committed)
        with locked.alone(), pytest.raises(StoreUnavailable, match="no replica has it"):
            store.run(WRITE)
    assert external.objections(locked.url) == []
    config = tmp_path / "broker.yaml"
    config.write_text(json.dumps({"redis": locked.settings}))
    run_command(["status", "--config", str(config)])
    told = capsys.readouterr()
    assert f"master 127.0.0.1:{locked.master()}, followed by 2" in told.out
    assert "3 of 3 Sentinels would carry a failover" in told.out
    run_command(["doctor", "--config", str(config)])
    told = capsys.readouterr()
    assert f"ok   replicas      2 follow 127.0.0.1:{locked.master()}, " in told.out
    for secret in (OF_SERVERS, OF_SENTINELS):
        assert secret not in told.out + told.err


@pytest.mark.parametrize(
    "other",
    [
        {"password": "wrong"},
        {"tls": None},
        {"sentinel": {"password": "wrong"}},
        {"sentinel": {"tls": None}},
    ],
    ids=["password", "no TLS", "password of the Sentinels", "no TLS to the Sentinels"],
)
def test_whoever_lacks_a_password_or_tls_is_told_nothing(
    locked: Watched, other: dict[str, Any]
) -> None:
    said = {**locked.settings, **other}
    said["sentinel"] = {**locked.settings["sentinel"], **other.get("sentinel", {})}
    url = Settings.model_validate({"redis": said}).redis.full_url
    with pytest.raises(StoreUnavailable) as refused:
        run_anew(url, WRITE)
    assert "wrong" not in f"{refused.value}"
    assert not external.writable(url)


def test_a_failover_among_servers_with_tls_and_passwords_is_followed() -> None:
    group = Watched(secured=True)
    try:
        former = group.start().master()
        with closing(Store(group.url)) as store:
            assert isinstance(store.run(WRITE), Committed)
            group.signal(former, signal.SIGKILL)
            group.wait(lambda: group.master() != former)

            def goes_on() -> bool:
                with suppress(StoreUnavailable):
                    return isinstance(store.run(WRITE), Committed)
                return False

            group.wait(goes_on)
    finally:
        group.end()


# --- another master


def test_a_master_that_is_deposed_while_it_lives_is_left_at_once(harmed: Watched) -> None:
    """Also by who only reads, though a replica would answer."""

    async def story() -> None:
        store, former = AsyncStore(harmed.url), harmed.master()
        assert await store.run(reads.ping())
        harmed.client(harmed.watching[0]).execute_command("SENTINEL", "FAILOVER", "mymaster")
        harmed.wait(lambda: harmed.master() != former)
        began = time.monotonic()
        harmed.client(harmed.master()).set("{broker}:a", "new")
        for _ in range(1000):
            with suppress(StoreUnavailable):
                if await store.run(GET) == b"new" and isinstance(await store.run(WRITE), Committed):
                    break
            await asyncio.sleep(0.02)
        assert time.monotonic() - began < OUTAGE_S
        await store.close()

    asyncio.run(story())


def test_what_was_committed_is_there_when_the_master_is_killed_and_work_goes_on(
    harmed: Watched,
) -> None:
    async def story() -> None:
        serving, worker = AsyncStore(harmed.url), Store(harmed.url)
        job_engine = engine.connection(harmed.url)
        job_engine.ping()
        written = commit(Commit(at=AT, changes=[Change("", None, order(accession="K1"))]))
        assert isinstance(await serving.run(written), Committed)
        before, began = serving.connections, time.monotonic()
        harmed.signal(harmed.master(), signal.SIGKILL)
        for _ in range(1000):
            with suppress(StoreUnavailable, Disconnected):
                outcomes = (await serving.run(WRITE), worker.run(WRITE), job_engine.ping())
                break
            await asyncio.sleep(0.02)
        assert time.monotonic() - began < OUTAGE_S
        assert isinstance(outcomes[0], Committed)
        assert await serving.run(reads.ping())
        assert serving.connections > before, "what is kept of the former one is forgotten"
        assert set(read(worker, "H|K1").known.orders) == {"H|K1"}
        worker.close()
        await serving.close()

    asyncio.run(story())
