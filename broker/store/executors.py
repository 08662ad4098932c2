"""Two short executors of calls, async for the doors that serve and sync for the worker."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.retry import Retry

from broker.store.call import Call

T = TypeVar("T")

_UNABLE = (
    "OOM",
    "MISCONF",
    "READONLY",
    "LOADING",
    "NOREPLICAS",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "BUSY",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "UNKILLABLE",
)
"""Error replies that say 'not now' or 'not you', as against 'your command is wrong'."""


class StoreUnavailable(Exception):
    """Redis is away, full, read-only or too slow; nothing was promised to anyone."""


# redis-py would retry ten times with five seconds each (59 s for one command). A sender or a
# scanner resends by itself, and the guard makes that harmless, so one short try is right.
_ONE_SHORT_TRY: dict[str, Any] = {
    "socket_timeout": 2.5,
    "socket_connect_timeout": 1.5,
    "decode_responses": False,
}


class Store:
    """Runs calls and waits for each."""

    def __init__(self, url: str) -> None:
        retry = Retry(NoBackoff(), 0)
        self.redis: Any = redis.Redis.from_url(url, retry=retry, **_ONE_SHORT_TRY)

    def run(self, call: Call[T]) -> T:
        """Run one call; raises StoreUnavailable."""
        try:
            try:
                reply = self.redis.execute_command(*call.command())
            except NoScriptError:
                reply = self.redis.execute_command(*call.command(whole_script=True))
        except RedisError as error:
            raise _judged(error) from error
        return call.read(reply)

    def close(self) -> None:
        """Close every connection."""
        self.redis.close()


class AsyncStore:
    """Runs calls on the event loop."""

    def __init__(self, url: str) -> None:
        retry = AsyncRetry(NoBackoff(), 0)
        self.redis: Any = redis.asyncio.Redis.from_url(url, retry=retry, **_ONE_SHORT_TRY)

    async def run(self, call: Call[T]) -> T:
        """Run one call; raises StoreUnavailable."""
        task = asyncio.current_task()
        asked = task.cancelling() if task else 0
        try:
            try:
                reply = await self.redis.execute_command(*call.command())
            except NoScriptError:
                reply = await self.redis.execute_command(*call.command(whole_script=True))
        except RedisError as error:
            raise _judged(error) from error
        # redis-py sends inside asyncio.wait_for, which before Python 3.12 may swallow a
        # cancellation (19 of 400 in a measurement): a door that is to stop would go on for ever.
        if task and task.cancelling() > asked:
            raise asyncio.CancelledError
        return call.read(reply)

    async def close(self) -> None:
        """Close every connection."""
        await self.redis.aclose()


def _judged(error: RedisError) -> Exception:
    """Tell a store that cannot answer from a command of ours that is wrong (a bug)."""
    if isinstance(error, ResponseError) and not str(error).startswith(_UNABLE):
        unable = type(error) is not ResponseError or any(word in str(error) for word in _UNABLE)
        return StoreUnavailable(type(error).__name__) if unable else error
    return StoreUnavailable(f"{type(error).__name__}: {error}")
