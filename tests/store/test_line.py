"""The connection of the doors: many commands in one write, each with its own reply or error."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
import trustme
from redis.exceptions import ResponseError

from broker.store import line, reads
from broker.store.call import Call
from broker.store.commit import Commit, Committed, commit
from broker.store.executors import AsyncStore, Store, StoreUnavailable
from broker.store.server import EmbeddedServer, find_server
from tests.store.writing import AT

SET = Call(("SET", "{broker}:a", "1"), bytes)
GET = Call(("GET", "{broker}:a"), lambda reply: reply)
WRONG = Call(("LRANGE", "{broker}:a", 0, -1), list)


@pytest.fixture
def url(store: Store, server: EmbeddedServer) -> str:
    """An emptied server."""
    assert store.run(reads.ping())
    return server.url


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that wants a password."""
    server = EmbeddedServer(tmp_path, binary=find_server())
    server.start()
    admin = Store(server.url)
    admin.redis.config_set("requirepass", "s3cr:t/@")
    admin.close()
    yield server
    server.stop()


def run_all(url: str, *calls: Call[object]) -> list[object]:
    """What a batch gives."""

    async def story() -> list[object]:
        store = AsyncStore(url)
        try:
            return list(await store.run_all(calls))
        finally:
            await store.close()

    return asyncio.run(story())


def test_an_error_in_a_batch_stands_in_its_place_and_harms_no_other(url: str) -> None:
    first, wrong, last = run_all(url, SET, WRONG, GET)
    assert (first, last) == (b"OK", b"1")
    assert isinstance(wrong, ResponseError)


def test_a_script_that_redis_forgot_is_sent_whole_also_within_a_batch(
    url: str, store: Store
) -> None:
    store.redis.script_flush()
    write = commit(Commit(at=AT))
    outcomes = run_all(url, SET, write, write, GET)
    assert [type(each) for each in outcomes] == [bytes, Committed, Committed, bytes]


def test_who_does_not_wait_any_more_leaves_the_others_their_replies(url: str) -> None:
    async def story() -> None:
        store = AsyncStore(url)
        await store.run(SET)
        impatient = asyncio.ensure_future(store.run(reads.ping()))
        await asyncio.sleep(0)
        patient = asyncio.ensure_future(store.run(GET))
        impatient.cancel()
        assert await patient == b"1"
        assert impatient.cancelled()
        await store.close()

    asyncio.run(story())


def test_many_ask_at_once_over_one_connection_that_is_made_once(url: str, store: Store) -> None:
    async def story() -> None:
        asking, before = AsyncStore(url), store.redis.info("stats")["total_connections_received"]
        assert all(await asyncio.gather(*(asking.run(reads.ping()) for _ in range(50))))
        after = store.redis.info("stats")["total_connections_received"]
        assert after - before == 1
        await asking.close()

    asyncio.run(story())


def test_a_password_and_a_database_of_the_url_are_used(guarded: EmbeddedServer) -> None:
    place = guarded.url.removeprefix("unix://")
    assert run_all(f"unix://:s3cr%3At%2F%40@{place}?db=0", SET, GET) == [b"OK", b"1"]
    assert run_all(f"unix://default:s3cr%3At%2F%40@{place}", GET) == [b"1"]
    with pytest.raises(StoreUnavailable, match="out of range"):  # the embedded server has one
        run_all(f"unix://:s3cr%3At%2F%40@{place}?db=1", GET)


@pytest.mark.parametrize("password", ["", ":wrong@", "nobody:s3cr%3At%2F%40@"])
def test_who_is_not_let_in_is_told_that_the_store_is_unavailable(
    guarded: EmbeddedServer, password: str
) -> None:
    with pytest.raises(StoreUnavailable):
        run_all(f"unix://{password}{guarded.url.removeprefix('unix://')}", GET)


def test_what_is_no_redis_is_unavailable() -> None:
    async def story() -> None:
        async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        store = AsyncStore(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(StoreUnavailable):
            await store.run(GET)
        await store.close()
        server.close()

    asyncio.run(story())


def test_a_connection_that_is_not_greeted_in_time_or_is_closed_meanwhile_is_not_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "ANSWER_S", 60.0)

    async def story(connect_s: float, *, close: bool) -> None:
        monkeypatch.setattr(line, "CONNECT_S", connect_s)
        asked, left = asyncio.Event(), asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            asked.set()
            await reader.read()
            left.set()
            writer.close()

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        store = AsyncStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
        asking = asyncio.ensure_future(store.run(GET))
        await asked.wait()
        if close:
            await store.close()
        with pytest.raises(StoreUnavailable):
            await asking
        async with asyncio.timeout(10):
            await left.wait()
        server.close()

    asyncio.run(story(0.1, close=False))
    asyncio.run(story(60.0, close=True))


@asynccontextmanager
async def behind_tls(url: str, authority: trustme.CA) -> AsyncIterator[int]:
    """The port of a server that takes TLS off and hands on to Redis."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_unix_connection(url.removeprefix("unix://"))
        with suppress(OSError):
            await asyncio.gather(carry(reader, inner[1]), carry(inner[0], writer))

    server = await asyncio.start_server(hand_on, "localhost", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_tls_is_spoken_with_who_proves_to_be_the_server_and_with_nobody_else(
    url: str, tmp_path: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    for name, ca in (("ours", authority), ("strange", stranger)):
        ca.cert_pem.write_to_path(tmp_path / name)

    async def story() -> None:
        async with behind_tls(url, authority) as port:
            place = f"rediss://localhost:{port}/0?ssl_ca_certs={tmp_path}"
            trusting, wary = AsyncStore(f"{place}/ours"), AsyncStore(f"{place}/strange")
            assert await trusting.run_all((SET, GET)) == [b"OK", b"1"]
            with pytest.raises(StoreUnavailable, match="certificate"):
                await wary.run(GET)
            await trusting.close()
            await wary.close()
            await asyncio.sleep(0.1)

    asyncio.run(story())


def test_a_url_that_makes_no_sense_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="scheme"):
        AsyncStore("http://127.0.0.1")


def test_a_redis_that_hangs_keeps_nobody_waiting_for_three_seconds() -> None:
    """Scanners and senders are promised that. One that hangs greets nobody and answers nobody.

    So whoever waits for its greeting does not wait for its answer as well.
    """
    assert line.ANSWER_S < 3
    assert line.CONNECT_S < 3


def test_a_connection_that_is_ready_just_when_all_is_closed_is_not_left_open(url: str) -> None:
    async def story() -> None:
        one = line.Line(url)
        asking = asyncio.ensure_future(one.ask([("PING",)]))
        while one._connecting is None or not one._connecting.done():  # noqa: ASYNC110 - each turn
            await asyncio.sleep(0)
        made = one._connecting.result()
        assert one._wire is None, "nobody has heard of it yet"
        one.close()
        await asyncio.gather(asking, return_exceptions=True)
        assert not made.is_open

    asyncio.run(story())
