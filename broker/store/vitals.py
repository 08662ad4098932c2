"""How the Redis behind the store is: memory, its file, its clock; as far as it tells."""

from __future__ import annotations

from typing import Any, NamedTuple

from broker.store.call import Call


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


def clock() -> Call[float]:
    """Give the time of the server, epoch s."""
    return Call(("TIME",), _moment)


def _moment(reply: Any) -> float:
    seconds, microseconds = (int(part) for part in reply)
    return seconds + microseconds / 1e6


def _read(reply: Any) -> Vitals:
    said = reply if isinstance(reply, dict) else _parsed(reply)
    return Vitals(
        int(said.get("used_memory", 0)),
        int(said.get("maxmemory", 0)),
        bool(int(said.get("aof_enabled", 0))),
        said.get("aof_last_write_status", "ok") == "ok",
        str(said.get("redis_version", "?")),
    )


def _parsed(reply: Any) -> dict[str, str]:
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in lines}
