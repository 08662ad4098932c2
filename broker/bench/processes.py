"""What processes cost while they serve: CPU and memory of a broker and its Redis, on Linux."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.store.executors import Store
from broker.store.server import socket_path


@dataclass(frozen=True)
class Broker:
    """A broker that is measured: its MLLP address, its process, and its folder of data."""

    hl7: tuple[str, int]
    pid: int
    data: Path


@dataclass(frozen=True)
class Cost:
    """What one process has: open descriptors, threads, resident MiB, and its share of those.

    `heap_mib` is what is in no file: other programs on the machine neither take nor give any of it.
    """

    descriptors: int
    threads: int
    resident_mib: float
    share_mib: float
    heap_mib: float


_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 2**20


def cpu_s(pid: int) -> Mapping[str, float]:
    """CPU seconds so far of a process and all below it, by what they are; {} where /proc is not."""
    used: dict[str, float] = {}
    for each in _tree(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        name = _name(each)
        used[name] = used.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS
    return used


def resident_mib(pid: int) -> Mapping[str, float]:
    """Resident memory in MiB of a process and all below it, the largest of each kind."""
    found: dict[str, float] = {}
    for each in _tree(pid):
        try:
            pages = int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except OSError:
            continue
        name = _name(each)
        found[name] = max(found.get(name, 0.0), pages * os.sysconf("SC_PAGESIZE") / _MIB)
    return found


def cost(pid: int, name: str) -> Cost | None:
    """What the process of this name below `pid` has; None where there is none, or no /proc."""
    found = next((each for each in _tree(pid) if _name(each) == name), None)
    return None if found is None else _cost(found)


def costs(pid: int) -> Mapping[str, Cost]:
    """What a broker's processes have, by role; a door of several has its instance with it.

    What Redis forks to write its file anew is left out.
    """
    found: dict[str, Cost] = {}
    for each in _tree(pid):
        name = _name(each) or ("supervisor" if each == pid else "forkserver")
        if name in found:
            name = f"{name} {_command(each).rpartition(' ')[2]}"
        has = None if name.startswith("redis ") else _cost(each)
        if has is not None:
            found[name] = has
    return found


def _cost(pid: int) -> Cost | None:
    place = Path(f"/proc/{pid}")
    try:
        pages = int((place / "statm").read_text().split()[1])
        resident_mib = pages * os.sysconf("SC_PAGESIZE") / _MIB
        return Cost(
            len(list((place / "fd").iterdir())),
            len(list((place / "task").iterdir())),
            resident_mib,
            _mib(place, "Pss") or resident_mib,
            _mib(place, "Anonymous") or resident_mib,
        )
    except OSError:
        return None


def _mib(place: Path, name: str) -> float:
    """A line of its memory: Pss, of what it shares only its part, or Anonymous; 0 where none is."""
    try:
        told = (place / "smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(told.partition(f"\n{name}:")[2].split()[0]) / 1024


def process(pid: int, name: str) -> int:
    """The first process of this name below `pid`. Raises LookupError where none is, or no /proc."""
    found = next((each for each in _tree(pid) if _name(each) == name), None)
    if found is None:
        raise LookupError(f"no process {name} below {pid}")
    return found


def door(pid: int, role: str, instance: int) -> int:
    """One process of a door below `pid`. Raises LookupError where it is not, or no /proc."""
    wanted = f" door {role} --instance {instance}"
    found = next((each for each in _tree(pid) if _command(each).endswith(wanted)), None)
    if found is None:
        raise LookupError(f"no process{wanted} below {pid}")
    return found


def store_of(broker: Broker) -> Store:
    """The embedded Redis of a broker."""
    return Store(f"unix://{socket_path((broker.data / 'redis').absolute())}")


def used_bytes(store: Store) -> int:
    """What Redis has allocated."""
    return int(store.redis.info("memory")["used_memory"])


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in below:
        yield from _tree(int(child))


def _name(pid: int) -> str:
    """orders, modality, updates, console, redis, or '' for what is none of them."""
    words = _command(pid).split()
    if words and "redis" in Path(words[0]).name:
        return "redis"
    return words[words.index("door") + 1] if "door" in words else ""


def _command(pid: int) -> str:
    """The command line; a door has set it as one text."""
    try:
        said = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
    return " ".join(said.replace("\0", " ").split())
