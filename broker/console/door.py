"""Opens the console: an HTTP server that runs until SIGTERM and then lets answers finish."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime

import uvicorn
from prometheus_client import CollectorRegistry

from broker.audit.events import Alarm
from broker.audit.trail import Silence, Trail, kept
from broker.console.pages import application
from broker.console.telling import told
from broker.settings import Address, Settings
from broker.store import reads
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.tls.credentials import Credentials
from broker.tls.metrics import DaysLeft

DRAIN_S = 10
CONNECTIONS = 100
STORE_LOOK_S = 0.1


class _Server(uvicorn.Server):
    """uvicorn, except that signals are ours: it would raise SIGTERM again after draining."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def serve(
    settings: Settings, *, ready: Callable[[Mapping[str, str]], None], instance: int = 0
) -> None:
    """Serve health and metrics until SIGTERM or SIGINT; returns when the last answer is out.

    Answers from the start; `ready` is called with where it listens once the store answers too.
    """
    ours = CollectorRegistry()
    with kept(settings, "console", ours, instance) as trail:
        asyncio.run(_serve(settings, ready, ours, trail))


async def _serve(
    settings: Settings,
    ready: Callable[[Mapping[str, str]], None],
    ours: CollectorRegistry,
    trail: Trail | Silence,
) -> None:
    listening = _listen(settings.console.listen)
    bound = Address(*listening.getsockname()[:2])
    store = AsyncStore(settings.redis.full_url)
    names = [each.name for each in settings.destinations]
    tls = settings.console.tls
    credentials = Credentials("console", tls) if tls else None
    if credentials:
        ours.register(DaysLeft("console", [credentials]))

    def alarm(address: str) -> None:
        trail.note(Alarm(datetime.now(UTC), "", address, "password refused"))

    every = _test_every_s(settings)
    config = uvicorn.Config(
        told(application(store, names, every, settings.console, ours, alarm)),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # an address that is judged is the peer's own, not what it says
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=DRAIN_S,
    )
    config.load()
    if credentials:
        config.ssl = _following(credentials)
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listening]))
            if await _store_answers(store, server):
                ready({"console": str(bound)})
    finally:
        await store.close()


def _following(credentials: Credentials) -> ssl.SSLContext:
    """A context that goes over to renewed files as each handshake begins."""

    def renewed(connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        connection.context = credentials.context()

    first = credentials.context()
    first.sni_callback = renewed
    return first


def _test_every_s(settings: Settings) -> float | None:
    every = settings.selftest.every
    return every.total_seconds() if every else None


async def _store_answers(store: AsyncStore, server: _Server) -> bool:
    """Wait until it does; False when the door is to close before."""
    while not server.should_exit:
        try:
            return await store.run(reads.ping())
        except StoreUnavailable:
            await asyncio.sleep(STORE_LOOK_S)
    return False


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server(address, family=family)
