"""The connection that the job engine (RQ) works on, and its failures as the store's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError

from broker.store.executors import Store, StoreUnavailable


def connection(url: str) -> Any:
    """Open a pool of its own: RQ stretches the socket time-out of the one it is given.

    It needs raw replies (decode_responses off). Raises ValueError for a URL that makes no sense.
    """
    return Store(url).redis


@contextmanager
def reached() -> Iterator[None]:
    """Within this block a Redis that fails is StoreUnavailable."""
    try:
        yield
    except RedisError as error:
        raise StoreUnavailable(type(error).__name__) from error
