"""The store of the broker that runs; a command ends with 69 and the remedy when there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store.executors import Store
    from broker.store.server import EmbeddedServer

PASSING: Final = {
    "Timeout": "the store is there and does not answer; try again, and see the broker's log",
    "went away": "the store was there and is no more; try again, and see the broker's log",
    "Loading": "the store is loading what it has on disk; try again",
    "OutOfMemory": "the store is full: see `broker status`; raise redis.max_memory or shorten keep",
    "OOM": "the store is full: see `broker status`; raise redis.max_memory or shorten keep",
    "writes are refused": "the store takes no writes: see `broker status`; make room on its disk",
}
"""What the store says when it is there but cannot do it now, and the remedy."""


@contextmanager
def opened(settings: Settings, *, of_any_version: bool = False) -> Iterator[Store]:
    """The store of the broker that runs; exit 69 when there is none, 75 when it is busy or full.

    Exit 75 also where the broker is of a version that could not read what this one writes.
    """
    from broker.store.executors import Store, StoreUnavailable
    from broker.store.indexing import OthersRun, refuse_another
    from broker.store.stamping import ServerProblem

    try:
        with closing(Store(store_url(settings))) as store:
            if not of_any_version:
                refuse_another(store)
            yield store
    except OthersRun as other:
        typer.echo(f"{other}", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    except (StoreUnavailable, ServerProblem) as away:
        passing = _passing(f"{away}")
        typer.echo(f"{passing or _remedy(settings)} ({away})", err=True)
        raise typer.Exit(os.EX_TEMPFAIL if passing else os.EX_UNAVAILABLE) from None


def unopened(settings: Settings, away: str) -> str:
    """Give the remedy for a store that cannot be reached."""
    return _passing(away) or _remedy(settings)


def _passing(away: str) -> str:
    return next((fact for sign, fact in PASSING.items() if sign in away), "")


def store_url(settings: Settings) -> str:
    """Where the records are: the given server, or the socket of the one that `broker run` has."""
    from urllib.parse import quote

    from broker.store.server import socket_path

    if not settings.redis.is_ours:
        return settings.redis.full_url
    return f"unix://{quote(str(socket_path((settings.data / 'redis').absolute())))}"


def _remedy(settings: Settings) -> str:
    if not settings.redis.is_ours:
        mend = "the hosts and the master" if settings.redis.sentinel else "the URL"
        return f"{settings.redis.place}: the store does not answer; start it, or mend {mend}"
    return (
        f"data: no broker runs on {settings.data}; start it with `broker run`, "
        "or name its folder (BROKER_DATA) or its Redis (BROKER_REDIS__URL)"
    )


@contextmanager
def served(settings: Settings, *, new: bool = False) -> Iterator[Store]:
    """The store of the broker that runs, else a server of ours on its folder for the while.

    A folder without a store is made where a `new` one may be; else exit 69 with the remedy.
    """
    from broker.store.server import DataInUse, DataLock

    if not settings.redis.is_ours or not (new or (settings.data / "redis").is_dir()):
        with opened(settings) as store:
            yield store
        return
    lock = DataLock(settings.data)
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.__enter__()
    except DataInUse:
        with opened(settings) as store:
            yield store
        return
    except OSError as trouble:
        typer.echo(f"data: {settings.data}: {trouble.strerror}; run this as its owner", err=True)
        raise typer.Exit(os.EX_CONFIG) from None
    try:
        with _own_server(settings), opened(settings) as store:
            yield store
    finally:
        lock.__exit__()


@contextmanager
def _own_server(settings: Settings) -> Iterator[None]:
    from datetime import datetime

    from broker.store.executors import Store
    from broker.store.indexing import IndexesTooNew, ensure_indexed
    from broker.store.server import EmbeddedServer, NoServer, find_server
    from broker.store.stamping import DataTooNew, ServerProblem, StampDamaged

    server = None
    try:
        binary = find_server(settings.redis.server)
        server = EmbeddedServer(settings.data, binary=binary, max_memory=settings.redis.max_memory)
        server.start()
        with closing(Store(server.url)) as store:
            ensure_indexed(store, datetime.now(settings.timezone))
    except (NoServer, DataTooNew, StampDamaged, IndexesTooNew) as problem:
        _end(server)
        typer.echo(f"{problem}", err=True)
        raise typer.Exit(os.EX_CONFIG) from None
    except ServerProblem as problem:
        _end(server)
        typer.echo(f"{problem}", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    try:
        yield
    finally:
        server.stop()


def _end(server: EmbeddedServer | None) -> None:
    if server is not None:
        server.stop()
