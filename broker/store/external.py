"""A Redis that is not ours: what it must promise before orders are entrusted to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import RedisError, ResponseError

from broker.store.clients import at
from broker.store.clients import client as client_of
from broker.store.keys import PREFIX
from broker.store.sentinels import Group, Sentinels, group_of
from broker.store.stamping import ServerProblem
from broker.store.vitals import followers_of

OLDEST = (6, 2)
PATIENT: Final = {"socket_timeout": 5, "socket_connect_timeout": 5}
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
    return _objections(info)


def _objections(info: dict[str, Any]) -> list[str]:
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


def remarks(url: str) -> list[str]:
    """What this server may lose all the same, as far as it lets itself be asked.

    Raises ServerProblem.
    """
    try:
        with _client(url) as client:
            info: Any = client.info("everything")
            said: Any = client.config_get("appendfsync")
    except ResponseError:
        return ["it does not say its appendfsync (CONFIG is forbidden): see that it is always"]
    except RedisError as error:
        raise ServerProblem(f"the server does not answer: {error}") from error
    found = []
    if info.get("aof_enabled") and (sync := said.get("appendfsync", "always")) != "always":
        lost = "up to a second" if sync == "everysec" else "all that the system has not written"
        found.append(f"appendfsync is {sync}: a crash loses {lost} of acknowledged orders")
    if not info.get("maxmemory"):
        found.append("maxmemory is not set: a full machine ends the server; set it")
    if group := group_of(url):
        found += _of_failover(group, info)
    return found


def _of_failover(group: Group, info: dict[str, Any]) -> Iterator[str]:
    """What would be lost, or not go on, when the master dies: any replica may be the next one."""
    if (there := followers_of(info).there) < group.replicas:
        yield f"{there} replicas follow: no order is acknowledged until {group.replicas} do"
    sentinels = Sentinels(group)
    try:
        yield from sentinels.quorum()[1]
        for place in sentinels.replicas():
            try:
                with at(group, place, **PATIENT) as replica:
                    told: Any = replica.info("everything")
            except RedisError as error:
                yield f"the replica {place} does not answer: {error}"
            else:
                yield from (f"the replica {place}: {each}" for each in _objections(told))
    except RedisError as error:
        yield f"{error}"
    finally:
        sentinels.close()


@dataclass(frozen=True)
class Standing:
    """Who is master of a group now, how many replicas follow, and what stands in a failover's way.

    `behind` is how many bytes the last of them lacks, `silent_s` how long one has said nothing,
    `agree` how many of `sentinels` would carry a failover. `short`: nothing is acknowledged now.
    """

    master: str
    replicas: int
    needed: int
    behind: int
    silent_s: int
    sentinels: int
    agree: int
    short: bool
    troubles: tuple[str, ...]


def standing(url: str) -> Standing | None:
    """Look at a group of servers; None where there is only one. Raises ServerProblem."""
    group = group_of(url)
    if group is None:
        return None
    sentinels = Sentinels(group)
    try:
        with _client(url) as client:
            info: Any = client.info("replication")
        found, (agree, troubles) = followers_of(info), sentinels.quorum()
        return Standing(
            master=f"{sentinels.master()}",
            replicas=found.there,
            needed=group.replicas,
            behind=found.behind,
            silent_s=found.silent_s,
            sentinels=len(group.sentinels),
            agree=agree,
            short=found.there < group.replicas,
            troubles=tuple(troubles),
        )
    except RedisError as error:
        raise ServerProblem(f"the master does not answer: {error}") from error
    finally:
        sentinels.close()


def writable(url: str) -> bool:
    """Whether the server takes a write now. Raises ServerProblem for a URL that makes no sense."""
    try:
        with _client(url) as client:
            return bool(client.set(PROBE_KEY, "1", px=1000))
    except RedisError:
        return False


def _client(url: str) -> redis.Redis:
    try:
        return client_of(url, **PATIENT)
    except ValueError as error:
        raise ServerProblem(f"not the URL of a Redis: {error}") from error
