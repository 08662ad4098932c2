"""Which of several Redis servers is the master, by the word of Sentinels.

One string says it all, as a URL does for one server: `sentinel:?name=…&server=…&sentinel=…`, in
which `server` and each `sentinel` are URLs that redis-py reads, with their passwords and files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlencode

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError
from redis.retry import Retry

from broker.store.keys import PREFIX

SCHEME: Final = "sentinel:?"
ANSWER_S: Final = 0.4
"""For one Sentinel: they are asked one after the other, and a machine that is off says nothing."""
LOOK_S: Final = 1.0
"""How long what was said of the master is believed while a connection to it stands."""
QUIET_S: Final = 10.0
"""The same where no Sentinel has answered."""


@dataclass(frozen=True)
class Group:
    """A master with its replicas, and the Sentinels that watch it.

    `server` is the URL of any of its servers, whose address counts for nothing. A commit waits
    `wait_ms` for so many `replicas`.
    """

    name: str
    server: str
    sentinels: tuple[str, ...]
    replicas: int
    wait_ms: int

    @property
    def url(self) -> str:
        """All of it as one string, with passwords: never to be shown."""
        said = [("name", self.name), ("server", self.server)]
        said += [("replicas", f"{self.replicas}"), ("wait_ms", f"{self.wait_ms}")]
        return SCHEME + urlencode([*said, *(("sentinel", each) for each in self.sentinels)])


def group_of(url: str) -> Group | None:
    """Read the string that a Group gives; None for the URL of one server."""
    if not url.startswith(SCHEME):
        return None
    said = parse_qs(url.removeprefix(SCHEME), strict_parsing=True)
    (name,), (server,) = said["name"], said["server"]
    (replicas,), (wait_ms,) = said["replicas"], said["wait_ms"]
    return Group(name, server, tuple(said["sentinel"]), int(replicas), int(wait_ms))


def awaited(group: Group) -> tuple[tuple[str | int, ...], ...]:
    """Give the commands that wait for the replicas; the last reply is how many have all.

    WAIT alone is about what its own connection has written, and what is promised may be the word of
    another one. A message to nobody is replicated, and is taken when memory is full.
    """
    return ("PUBLISH", f"{PREFIX}awaited", ""), ("WAIT", group.replicas, group.wait_ms)


class Place(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Word(NamedTuple):
    """What a Sentinel says of the master; the word of the highest epoch is the newest."""

    epoch: int
    master: Place


class Sentinels:
    """The Sentinels of one group, asked when a connection is made, and now and then after."""

    def __init__(self, group: Group) -> None:
        """Open nothing yet. Raises ValueError for a URL that makes no sense."""
        self.group = group
        retry = Retry(NoBackoff(), 0)
        self._clients: list[Any] = [
            redis.Redis.from_url(
                url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, retry=retry
            )
            for url in group.sentinels
        ]
        self._seen: Place | None = None
        self._again_at = 0.0

    def master(self) -> Place:
        """Ask every Sentinel; the newest word counts. Raises RedisError where none has one.

        One that was cut off, or has not heard yet of a failover, names a deposed master.
        """
        words = [word for each in self._clients if (word := self._asked(each)) is not None]
        self._seen = max(words).master if words else None
        self._again_at = time.monotonic() + (LOOK_S if words else QUIET_S)
        if self._seen is None:
            raise Disconnected(f"no Sentinel names a master '{self.group.name}'")
        return self._seen

    def moved_from(self, place: Place) -> bool:
        """Whether another server is master by now, as far as any Sentinel says; asks at times."""
        if time.monotonic() >= self._again_at:
            try:
                self.master()
            except RedisError:
                return False  # nobody knows better, and the master may well be there
        return self._seen is not None and self._seen != place

    def quorum(self) -> tuple[int, list[str]]:
        """How many would carry a failover, and why one may not succeed, one sentence each."""
        found, agree = [], 0
        for url, client in zip(self.group.sentinels, self._clients, strict=True):
            try:
                client.execute_command("SENTINEL", "CKQUORUM", self.group.name)
            except RedisError as error:
                found.append(f"Sentinel {url.rsplit('@')[-1].partition('//')[2] or url}: {error}")
            else:
                agree += 1
        if len(self._clients) < 3:
            found.append("fewer than three Sentinels are named: name all of them, three at least")
        return agree, found

    def replicas(self) -> list[Place]:
        """Give the replicas that the Sentinels know. Raises RedisError."""
        for client in self._clients:
            try:
                told: Any = client.execute_command("SENTINEL", "REPLICAS", self.group.name)
            except RedisError:
                continue
            return [_place(facts["ip"], facts["port"]) for facts in map(_facts, told)]
        raise Disconnected(f"no Sentinel tells of '{self.group.name}'")

    def close(self) -> None:
        """Close every connection."""
        for client in self._clients:
            client.close()

    def _asked(self, client: Any) -> Word | None:
        pipe = client.pipeline(transaction=False)
        pipe.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.group.name)
        pipe.execute_command("SENTINEL", "MASTER", self.group.name)
        try:
            address, facts = pipe.execute()
        except RedisError:
            return None
        return Word(int(_facts(facts)["config-epoch"]), _place(*address)) if address else None


def _place(host: Any, port: Any) -> Place:
    return Place(_text(host), int(port))


def _facts(told: Any) -> dict[str, str]:
    pairs = told.items() if isinstance(told, dict) else zip(told[::2], told[1::2], strict=True)
    return {_text(name): _text(value) for name, value in pairs}


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else f"{word}"
