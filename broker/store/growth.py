"""Everything in the store that grows: what bounds it, and who removes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from broker.store import keys
from broker.store.call import Call, script

RETENTION = "retention (updates door)"


class Growing(NamedTuple):
    """One kind of key: a pattern as of Redis' MATCH, what bounds it, and who removes it."""

    what: str
    pattern: str
    bound: str
    removed_by: str


GROWING: tuple[Growing, ...] = (
    Growing("messages received", keys.ARCHIVE, "keep.messages, keep.message_bytes", RETENTION),
    Growing("size of the archive", keys.ARCHIVE_BYTES, "one number", "counted by trim.lua"),
    Growing("remembered answers", keys.guard("*"), "keep.guard", "expiry"),
    Growing("messages that wait for a code", keys.HELD, "keep.past, 4,000 of 64 KiB", RETENTION),
    Growing("their turns", keys.HELD_BY_TIME, "goes with the message", "commit, retention"),
    Growing("former keys", keys.alias("*", "*"), "keep.patients", "expiry"),
    Growing("cancels ahead of orders", keys.tombstone("*"), "keep.guard", "expiry"),
    Growing("orders", keys.order("*"), "keep.completed or keep.past", RETENTION),
    Growing("orders by number", keys.numbers("*", "*"), "goes with its order", "commit"),
    Growing("orders by patient", keys.orders_of("*"), "goes with its orders", "commit"),
    Growing("open steps by start", keys.starts("*"), "goes when the step closes", "commit"),
    Growing("closed orders", keys.CLOSED, "goes with its order", "commit"),
    Growing("open orders", keys.UNPERFORMED, "goes with its order", "commit"),
    Growing("patients", keys.patient("*"), "keep.patients without an order", RETENTION),
    Growing("patients by ID", keys.patient_ids("*"), "goes with its patient", "commit"),
    Growing("patients by name", keys.NAMES, "goes with its patient", "commit"),
    Growing("patients without orders", keys.IDLE, "goes with its patient", "commit, retention"),
    Growing("performed steps", keys.mpps("*"), "keep.past after N-CREATE", RETENTION),
    Growing("their data sets", keys.mpps_received("*"), "two, go with the step", "forget.lua"),
    Growing("performed steps by time", keys.MPPS_BY_TIME, "goes with the step", "forget.lua"),
    Growing("status messages", keys.outbox("*", "*"), "till the RIS takes or refuses it", "worker"),
    Growing("orders to report", keys.dirty("*"), "goes with the last message", "deliver.lua"),
    Growing("orders being reported", keys.lease("*", "*"), "seconds", "expiry"),
    Growing("dead letters", keys.DEAD, "keep.dead, 100,000 of them", RETENTION),
    Growing("wake-ups", keys.WAKE, "1,000", "whoever pushes one"),
    Growing("jobs of the engine", f"{keys.PREFIX}rq:*", "a few nudges; failed ones 7 days", "RQ"),
    Growing("mapping bundles", keys.BUNDLES, "20 versions", "activate.lua"),
    Growing("their activations", keys.ACTIVATIONS, "100, of bundles that are kept", "activate.lua"),
    Growing("reason of a failed reload", keys.FAILED_RELOAD, "one text", "activate.lua"),
    Growing("metrics", keys.METRICS, "one of each process", "whoever publishes"),
    Growing("revision counter", keys.REVISION, "one number", "nobody"),
    Growing("sign of writes refused", keys.REFUSE_WRITES, "one text", "supervisor"),
    Growing("signs of life of doors", f"{keys.PREFIX}writable", "a minute", "expiry"),
    Growing("signs of life of roles", f"{keys.PREFIX}probe", "a second", "expiry"),
)
"""The one list; a test holds it against keys.py and against what a busy store really holds."""


def trim_dead(*, before_ms: int) -> Call[int]:
    """Remove the dead letters parked before `before_ms` (epoch); gives how many went."""
    return Call(("XTRIM", keys.DEAD, "MINID", before_ms), int)


def forget_mpps(*, before: float, at_most: int) -> Call[int]:
    """Remove performed steps created before `before` (epoch s); gives how many went."""
    return Call((int(before), at_most), int, script("forget"))


def any_mpps(uids: Iterable[str]) -> Call[bool]:
    """Tell whether one of these performed steps is still there; at least one is asked for."""
    return Call(("EXISTS", *map(keys.mpps, uids)), bool)


def put_off(index: str, member: str, *, at: float) -> Call[int]:
    """Let a member of a sorted set wait as if it had come at `at` (epoch s)."""
    return Call(("ZADD", index, "XX", int(at), member), int)


def unlist(index: str, member: str) -> Call[int]:
    """Take a member that leads nowhere, or that has no business there, off a sorted set."""
    return Call(("ZREM", index, member), int)
