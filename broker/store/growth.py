"""Everything in the store that grows: what bounds it, and who removes it."""

from __future__ import annotations

from typing import NamedTuple

from broker.store import keys
from broker.store.call import Call

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
    Growing("messages refused", keys.REFUSED, "keep.messages, 20,000", f"{RETENTION}, refuse.lua"),
    Growing("their times", keys.REFUSED_BY_TIME, "goes with the message", "commit, retention"),
    Growing("former keys", keys.alias("*", "*"), "keep.patients", "expiry"),
    Growing("cancels ahead of orders", keys.tombstone("*"), "keep.guard", "expiry"),
    Growing("orders", keys.order("*"), "keep.completed or keep.past, when no exam runs", RETENTION),
    Growing("orders by number", keys.numbers("*", "*"), "goes with its order", "commit"),
    Growing("orders by patient", keys.orders_of("*"), "goes with its orders", "commit"),
    Growing("open steps by start", keys.starts("*"), "goes when the step closes", "commit"),
    Growing("open steps by patient", keys.steps_of("*"), "goes when the step closes", "commit"),
    Growing("closed orders", keys.CLOSED, "goes with its order", "commit"),
    Growing("open orders", keys.UNPERFORMED, "goes with its order", "commit"),
    Growing("patients", keys.patient("*"), "keep.patients without an order", RETENTION),
    Growing("patients by ID", keys.patient_ids("*"), "goes with its patient", "commit"),
    Growing("patients by name", keys.NAMES, "goes with its patient", "commit"),
    Growing("patients without orders", keys.IDLE, "goes with its patient", "commit, retention"),
    Growing(
        "performed steps", keys.mpps("*"), "keep.past after N-CREATE, when it has ended", RETENTION
    ),
    Growing("their data sets", keys.mpps_received("*"), "two, go with the step", "commit"),
    Growing("performed steps by time", keys.MPPS_BY_TIME, "goes with the step", "commit"),
    Growing("those without an order", keys.unlinked("*", "*"), "goes with the step", "commit"),
    Growing("those in progress", keys.RUNNING, "goes with the step, or its end", "commit"),
    Growing("those to look at", keys.EXCEPTIONS, "goes with the step", "commit"),
    Growing("status messages", keys.outbox("*", "*"), "till the RIS takes or refuses it", "worker"),
    Growing("orders to report", keys.dirty("*"), "goes with the last message", "deliver.lua"),
    Growing("orders being reported", keys.lease("*", "*"), "seconds", "expiry"),
    Growing("what was sent of an order", keys.sent("*"), "keep.sightings, 64 of it", "expiry"),
    Growing("what went wrong with them", keys.troubles("*"), "goes with its message", "worker"),
    Growing("dead letters", keys.DEAD_LETTERS, "keep.dead, 100,000 of them", RETENTION),
    Growing("their times", keys.DEAD_LETTERS_BY_TIME, "goes with the letter", "decide.lua"),
    Growing("dead letters by order", keys.parked("*", "*"), "goes with the letter", "decide.lua"),
    Growing("orders that wait for a person", keys.holding("*"), "till one decides", "decide.lua"),
    Growing("destinations paused", keys.PAUSED, "one of each destination", "whoever resumes"),
    Growing("destinations away", keys.UNREACHABLE, "one of each destination", "worker"),
    Growing("AEs that have called", keys.AES, "keep.sightings, 1,000", "noted.lua"),
    Growing("their times", keys.AES_BY_TIME, "goes with the AE", "noted.lua"),
    Growing("rejected peers", keys.REJECTED_AES, "keep.sightings, 200", "noted.lua"),
    Growing("their times", keys.REJECTED_AES_BY_TIME, "goes with the peer", "noted.lua"),
    Growing(
        "last queries of AEs", keys.asked("*"), "keep.queries, 4 of an AE", "expiry, noted.lua"
    ),
    Growing("who received an order", keys.sightings("*"), "keep.sightings, 128 of it", "expiry"),
    Growing("wake-ups", keys.WAKE, "1,000", "whoever pushes one"),
    Growing("jobs of the engine", f"{keys.PREFIX}rq:*", "a few nudges; failed ones 7 days", "RQ"),
    Growing("mapping bundles", keys.BUNDLES, "20 versions", "activate.lua"),
    Growing("their activations", keys.ACTIVATIONS, "100, of bundles that are kept", "activate.lua"),
    Growing("reason of a failed reload", keys.FAILED_RELOAD, "one text", "activate.lua"),
    Growing("count of generated numbers", keys.GIVEN, "one number", "nobody"),
    Growing("metrics", keys.METRICS, "one of each process", "whoever publishes"),
    Growing("result of the self-test", keys.SELFTEST, "the last one", "self-test"),
    Growing("sign of a self-test", keys.SELFTEST_RUNS, "five minutes", "self-test, expiry"),
    Growing("traces of a self-test", keys.SELFTEST_TRACES, "those of one", "self-test"),
    Growing("revision counter", keys.REVISION, "one number", "nobody"),
    Growing("form of the indexes", keys.INDEXED, "one number", "nobody"),
    Growing("sign of indexes being made", keys.INDEXING, "a minute", "expiry"),
    Growing("sign of writes refused", keys.REFUSE_WRITES, "one text", "supervisor"),
    Growing("signs of life of doors", f"{keys.PREFIX}writable", "a minute", "expiry"),
    Growing("signs of life of roles", f"{keys.PREFIX}probe", "a second", "expiry"),
)
"""The one list; a test holds it against keys.py and against what a busy store really holds."""


def put_off(index: str, member: str, *, at: float) -> Call[int]:
    """Let a member of a sorted set wait as if it had come at `at` (epoch s)."""
    return Call(("ZADD", index, "XX", int(at), member), int)


def unlist(index: str, member: str) -> Call[int]:
    """Take a member that leads nowhere, or that has no business there, off a sorted set."""
    return Call(("ZREM", index, member), int)
