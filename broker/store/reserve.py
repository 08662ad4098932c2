"""Writes are refused while the disk is nearly full: Redis ends when it cannot write its file."""

from __future__ import annotations

import shutil
from pathlib import Path

from broker.store import keys
from broker.store.call import Call


def shortage(data: Path, reserve: int) -> str:
    """Say why no more may be written to the data directory, '' while `reserve` bytes are free."""
    try:
        free = shutil.disk_usage(data).free
    except OSError as problem:
        return f"the data directory cannot be read: {problem.strerror}"
    if free >= reserve:
        return ""
    return f"{free // 2**20} MiB are free for data, less than redis.disk_reserve"


def refuse_writes(reason: str) -> Call[bool]:
    """Let every commit be refused, but those that free space; '' lets them through again."""
    if reason:
        return Call(("SET", keys.REFUSE_WRITES, reason), bool)
    return Call(("DEL", keys.REFUSE_WRITES), bool)
