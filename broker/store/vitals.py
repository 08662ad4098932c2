"""How the Redis behind the store is: memory, its file, its clock; as far as it tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from broker.store.call import Call

_FOLLOWER: Final = re.compile(r"slave\d+")


class Vitals(NamedTuple):
    """Bytes used and allowed (0: no bound), and whether its last writes to disk succeeded."""

    used: int
    allowed: int
    appends: bool
    append_ok: bool
    version: str


def vitals() -> Call[Vitals]:
    """Ask for them; INFO is asked and not CONFIG, which hosted servers forbid."""
    return Call(("INFO",), _read)


class Followers(NamedTuple):
    """How many replicas follow, and how many bytes and seconds the last of them is behind."""

    there: int
    behind: int
    silent_s: int


def followers() -> Call[Followers]:
    """Ask a master who follows it."""
    return Call(("INFO", "replication"), lambda reply: followers_of(_said(reply)))


def followers_of(info: Mapping[str, Any]) -> Followers:
    """Read them in what INFO says: those that have all, or are about to."""
    names = (name for name in info if _FOLLOWER.fullmatch(name))
    online = [facts for facts in map(_facts, map(info.get, names)) if facts["state"] == "online"]
    written = int(info.get("master_repl_offset", 0))
    behind = [written - int(facts["offset"]) for facts in online]
    silent_s = [int(facts["lag"]) for facts in online]
    return Followers(len(online), max(0, *behind, 0), max(silent_s, default=0))


def clock() -> Call[float]:
    """Give the time of the server, epoch s."""
    return Call(("TIME",), _moment)


def _moment(reply: Any) -> float:
    seconds, microseconds = (int(part) for part in reply)
    return seconds + microseconds / 1e6


def _read(reply: Any) -> Vitals:
    said = _said(reply)
    return Vitals(
        int(said.get("used_memory", 0)),
        int(said.get("maxmemory", 0)),
        bool(int(said.get("aof_enabled", 0))),
        said.get("aof_last_write_status", "ok") == "ok",
        str(said.get("redis_version", "?")),
    )


def _said(reply: Any) -> dict[str, Any]:
    return reply if isinstance(reply, dict) else _parsed(reply)


def _facts(said: Any) -> dict[str, Any]:
    """Read `ip=…,port=…,state=…,offset=…,lag=…`, which redis-py has read already."""
    return said if isinstance(said, dict) else dict(pair.split("=", 1) for pair in said.split(","))


def _parsed(reply: Any) -> dict[str, str]:
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in lines}
