"""Every key of the store, under one prefix with a hash tag: one slot, should it be sharded."""

from __future__ import annotations

PREFIX = "{broker}:"


def order(key: str) -> str:
    """Record of an order, by issuer and accession number."""
    return f"{PREFIX}order:{key}"


def patient(key: str) -> str:
    """Record of a patient, by issuer and patient ID."""
    return f"{PREFIX}patient:{key}"


def mpps(sop_instance_uid: str) -> str:
    """Record of a performed procedure step."""
    return f"{PREFIX}mpps:{sop_instance_uid}"


def mpps_received(sop_instance_uid: str) -> str:
    """Hash of the data sets of a performed procedure step, compressed: `created` and `newest`."""
    return f"{PREFIX}mpps-received:{sop_instance_uid}"


def alias(kind: str, key: str) -> str:
    """Where a former order or patient key leads; kind order | patient."""
    return f"{PREFIX}alias:{kind}:{key}"


def tombstone(name: str) -> str:
    """When each sender cancelled an order that was not known then, by `finding.tombstone`."""
    return f"{PREFIX}tombstone:{name}"


def numbers(kind: str, value: str) -> str:
    """Set of order keys that a number leads to; kind accession | study | placer | filler."""
    return f"{PREFIX}by-{kind}:{value}"


def patient_ids(patient_id: str) -> str:
    """Set of patient keys with this patient ID, of whatever issuer."""
    return f"{PREFIX}by-patient_id:{patient_id}"


def orders_of(patient_key: str) -> str:
    """Set of the order keys of a patient."""
    return f"{PREFIX}orders-of:{patient_key}"


def starts(kind: str, value: str = "") -> str:
    """Sorted set of open steps by start (YYYYMMDDHHMM); kind start | station | modality."""
    return f"{PREFIX}open-{kind}:{value}" if value else f"{PREFIX}open-{kind}"


def outbox(ris: str, order_key: str) -> str:
    """List of the status messages of one order that one RIS has not taken yet."""
    return f"{PREFIX}outbox:{ris}:{order_key}"


def lease(ris: str, order_key: str) -> str:
    """Token of the worker that sends for this order at the moment."""
    return f"{PREFIX}lease:{ris}:{order_key}"


def dirty(ris: str) -> str:
    """Sorted set of orders with messages for a RIS, by the time (ms) of their next try."""
    return f"{PREFIX}dirty:{ris}"


def guard(digest: str) -> str:
    """Remembered answer to a message, by the digest of its sender and bytes."""
    return f"{PREFIX}guard:{digest}"


NAMES = f"{PREFIX}by-name"
"""Sorted set 'FOLDED NAME\\0patient key', for name prefixes."""
CLOSED = f"{PREFIX}closed"
"""Sorted set of orders without an open step, by the time (s) they closed."""
UNPERFORMED = f"{PREFIX}unperformed"
"""Sorted set of orders with an open step, by the later of their last start and last change (s)."""
IDLE = f"{PREFIX}idle-patients"
"""Sorted set of patients without orders, by the time (s) of their last message."""
MPPS_BY_TIME = f"{PREFIX}mpps-by-time"
"""Sorted set of performed steps by the time (s) of their N-CREATE."""
ARCHIVE = f"{PREFIX}archive"
ARCHIVE_BYTES = f"{PREFIX}archive-bytes"
HELD = f"{PREFIX}held"
"""Hash of the messages that wait for a row in a table, by the digest of their bytes."""
HELD_BY_TIME = f"{PREFIX}held-by-time"
"""Sorted set of their digests by the time (s) they came."""
DEAD = f"{PREFIX}dead"
"""Stream of status messages that a RIS refused."""
WAKE = f"{PREFIX}wake"
"""List of RIS names that have something to send: hints, which may be lost or doubled."""
REVISION = f"{PREFIX}revision"
METRICS = f"{PREFIX}metrics"
REFUSE_WRITES = f"{PREFIX}refuse-writes"
"""Set by the supervisor while the disk is nearly full; its value says why."""
BUNDLES = f"{PREFIX}bundles"
"""Hash of mapping bundles by their version: every file that belongs to one."""
ACTIVATIONS = f"{PREFIX}bundle-activations"
"""List of which bundle came into force when, newest first: the first is the one in force."""
FAILED_RELOAD = f"{PREFIX}bundle-failed"
"""Why the last attempt to put other mappings in force failed; absent when it did not."""
