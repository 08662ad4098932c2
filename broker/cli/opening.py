"""The store of the broker that runs; a command ends with 69 and the remedy when there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store.executors import Store


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """The store of the broker that runs; exit 69 with the remedy when there is none."""
    from broker.store.executors import Store, StoreUnavailable
    from broker.store.server import ServerProblem

    try:
        with closing(Store(store_url(settings))) as store:
            yield store
    except (StoreUnavailable, ServerProblem) as away:
        typer.echo(f"{_remedy(settings)} ({away})", err=True)
        raise typer.Exit(os.EX_UNAVAILABLE) from None


def store_url(settings: Settings) -> str:
    """Where the records are: the given server, or the socket of the one that `broker run` has."""
    from urllib.parse import quote

    from broker.store.server import socket_path

    if settings.redis.mode == "url":
        return settings.redis.url
    return f"unix://{quote(str(socket_path((settings.data / 'redis').absolute())))}"


def _remedy(settings: Settings) -> str:
    if settings.redis.mode == "url":
        return "redis.url: the store does not answer; start it, or mend the URL"
    return (
        f"data: no broker runs on {settings.data}; start it with `broker run`, "
        "or name its folder (BROKER_DATA) or its Redis (BROKER_REDIS__URL)"
    )
