"""A Redis that is not ours: what it must promise before orders are entrusted to it."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from broker.store.keys import PREFIX
from broker.store.server import ServerProblem

OLDEST = (6, 2)
PROBE_KEY = f"{PREFIX}probe"


def objections(url: str) -> list[str]:
    """Why acknowledged orders would not be safe in this server, one sentence each.

    INFO is asked and not CONFIG, which hosted servers forbid. Raises ServerProblem.
    """
    try:
        with _client(url) as client:
            info: Any = client.info("everything")
    except RedisError as error:
        raise ServerProblem(f"the server does not answer INFO: {error}") from error
    found = []
    version = str(info.get("redis_version", "0.0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        found.append(f"it is Redis {version}; 6.2 or newer is needed")
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        policy = info["maxmemory_policy"]
        found.append(f"maxmemory-policy is {policy}: a full server drops orders; set noeviction")
    if not info.get("aof_enabled"):
        found.append("appendonly is off: a restart loses acknowledged orders; set appendonly yes")
    return found


def writable(url: str) -> bool:
    """Whether the server takes a write now. Raises ServerProblem for a URL that makes no sense."""
    try:
        with _client(url) as client:
            return bool(client.set(PROBE_KEY, "1", px=1000))
    except RedisError:
        return False


def _client(url: str) -> redis.Redis:
    try:
        return redis.Redis.from_url(
            url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        raise ServerProblem(f"not the URL of a Redis: {error}") from error
