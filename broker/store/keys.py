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


def unlinked(kind: str, value: str) -> str:
    """Sorted set of performed steps that wait for an order with this number: accession | study."""
    return f"{PREFIX}unlinked-{kind}:{value}"


def alias(kind: str, key: str) -> str:
    """Where a former order or patient key leads; kind order | patient."""
    return f"{PREFIX}alias:{kind}:{key}"


def tombstone(name: str) -> str:
    """When each sender cancelled an order unknown then, or said nothing new of a patient.

    Or when a person has undone a merge. Names are by `finding.tombstones`, `finding.heard_of` and
    `finding.separated_of`.
    """
    return f"{PREFIX}tombstone:{name}"


def numbers(kind: str, value: str) -> str:
    """Sorted set of order keys that a number leads to; kind accession | study | placer | filler."""
    return f"{PREFIX}by-{kind}:{value}"


def patient_ids(patient_id: str) -> str:
    """Sorted set of patient keys with this patient ID, of whatever issuer."""
    return f"{PREFIX}by-patient_id:{patient_id}"


def orders_of(patient_key: str) -> str:
    """Sorted set of the order keys of a patient."""
    return f"{PREFIX}orders-of:{patient_key}"


def steps_of(patient_key: str) -> str:
    """Hash of a patient's open steps: member to its places in the indexes by start."""
    return f"{PREFIX}steps-of:{patient_key}"


def starts(kind: str, value: str = "") -> str:
    """Sorted set of open steps by start (YYYYMMDDHHMMSS); kind start | station | modality."""
    return f"{PREFIX}open-{kind}:{value}" if value else f"{PREFIX}open-{kind}"


def outbox(ris: str, order_key: str) -> str:
    """List of the status messages of one order that one RIS has not taken yet."""
    return f"{PREFIX}outbox:{ris}:{order_key}"


def sent(order_key: str) -> str:
    """List of what was sent of one order, to whomever, and what was answered."""
    return f"{PREFIX}sent:{order_key}"


def lease(ris: str, order_key: str) -> str:
    """Token of the worker that sends for this order at the moment."""
    return f"{PREFIX}lease:{ris}:{order_key}"


def dirty(ris: str) -> str:
    """Sorted set of orders with messages for a RIS, by the time (ms) of their next try."""
    return f"{PREFIX}dirty:{ris}"


def parked(ris: str, order_key: str) -> str:
    """Hash of the dead letters of a mailbox: when each arose (s), or what overtook it."""
    return f"{PREFIX}parked:{ris}:{order_key}"


def holding(ris: str) -> str:
    """Hash of the mailboxes that wait for a person: the dead letter that holds each."""
    return f"{PREFIX}holding:{ris}"


def troubles(ris: str) -> str:
    """Hash of what went wrong with the first message of a mailbox so far."""
    return f"{PREFIX}troubles:{ris}"


def guard(digest: str) -> str:
    """Remembered answer to a message, by the digest of its sender and bytes."""
    return f"{PREFIX}guard:{digest}"


def asked(title: str) -> str:
    """Hash of the last queries of an AE, one of each kind; they hold patients' names."""
    return f"{PREFIX}asked:{title}"


def sightings(order_key: str) -> str:
    """Hash of the AEs that have received the entries of an order: first and last time (s)."""
    return f"{PREFIX}sightings:{order_key}"


AES = f"{PREFIX}aes"
"""Hash of the AEs that have called, by title."""
AES_BY_TIME = f"{PREFIX}aes-by-time"
"""Sorted set of their titles by the time (s) they were heard last."""
REJECTED_AES = f"{PREFIX}rejected-aes"
"""Hash of the peers whose associations were rejected, by calling and called title and address."""
REJECTED_AES_BY_TIME = f"{PREFIX}rejected-aes-by-time"
"""Sorted set of the same by the time (s) of the last one."""
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
RUNNING = f"{PREFIX}mpps-running"
"""Sorted set of performed steps in progress that nobody was told of, by their last request (s)."""
EXCEPTIONS = f"{PREFIX}mpps-exceptions"
"""Sorted set of performed steps that a person should look at, by the time (s) of their N-CREATE."""
ARCHIVE = f"{PREFIX}archive"
ARCHIVE_BYTES = f"{PREFIX}archive-bytes"
HELD = f"{PREFIX}held"
"""Hash of the messages that wait for a row in a table, by the digest of their bytes."""
HELD_BY_TIME = f"{PREFIX}held-by-time"
"""Sorted set of their digests by the time (s) they came."""
REFUSED = f"{PREFIX}refused"
"""Hash of the messages that could not be applied, by their digest: first and last stream ID."""
REFUSED_BY_TIME = f"{PREFIX}refused-by-time"
"""Sorted set of their digests by the time (ms) they were refused last."""
DEAD_LETTERS = f"{PREFIX}dead-letters"
"""Hash of the messages that a destination refused, by their MSH-10."""
DEAD_LETTERS_BY_TIME = f"{PREFIX}dead-letters-by-time"
"""Sorted set of those that hold no mailbox by the time (ms) they were parked."""
PAUSED = f"{PREFIX}paused"
"""Hash of the destinations to which nothing is sent for now: since when, by whom, why."""
UNREACHABLE = f"{PREFIX}unreachable"
"""Hash of the destinations that cannot be reached: since when, what the last try found."""
WAKE = f"{PREFIX}wake"
"""List of RIS names that have something to send: hints, which may be lost or doubled."""
INDEXED = f"{PREFIX}indexed"
"""Which form the indexes have; absent in what earlier versions wrote."""
INDEXING = f"{PREFIX}indexing"
"""Held by the one who makes the indexes anew."""
REVISION = f"{PREFIX}revision"
GIVEN = f"{PREFIX}numbers-given"
"""How many accession numbers were generated, behind a revision as every record."""
SELFTEST = f"{PREFIX}selftest"
"""What the last self-test found."""
SELFTEST_RUNS = f"{PREFIX}selftest-runs"
"""Held by the self-test that runs."""
SELFTEST_TRACES = f"{PREFIX}selftest-traces"
"""What the self-test that runs, or died, leaves in the store."""
METRICS = f"{PREFIX}metrics"
REFUSE_WRITES = f"{PREFIX}refuse-writes"
"""Set by the supervisor while the disk is nearly full; its value says why."""
BUNDLES = f"{PREFIX}bundles"
"""Hash of mapping bundles by their version: every file that belongs to one."""
ACTIVATIONS = f"{PREFIX}bundle-activations"
"""List of which bundle came into force when, newest first: the first is the one in force."""
FAILED_RELOAD = f"{PREFIX}bundle-failed"
"""Why the last attempt to put other mappings in force failed; absent when it did not."""
