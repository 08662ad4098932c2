"""The audit trail of what is done or shown by a command, whether it can be told or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from broker.cli.login import who

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store.archive import Archived
    from broker.store.executors import Store
    from broker.worklist.records import Order

T = TypeVar("T")
Objects = dict[str, tuple[str, ...]]
"""Patients, accession numbers, exams."""
AT_ONCE: Final = 50
"""Orders or exams of one message: a receiver takes 32,768 octets at least (RFC 5425)."""


def of_orders(
    settings: Settings, action: str, said: str, orders: Iterable[Order], *, by: str = ""
) -> None:
    """Order Records: C, R, U or D."""

    def named(some: list[Order]) -> Objects:
        patients = tuple(dict.fromkeys(_number(order.patient) for order in some))
        return {"patients": patients, "accessions": tuple(order.accession for order in some)}

    _tell(settings, "ORDER", action, said, map(named, _some(orders)), by=by)


def of_keys(settings: Settings, store: Store, action: str, said: str, keys: Iterable[str]) -> None:
    """Order Records of the orders with these keys, as far as they are still there."""
    if settings.audit.to != "off":
        of_orders(settings, action, said, orders_of(store, keys))


@contextmanager
def removal(
    settings: Settings, store: Store, orders: list[str], exams: list[str]
) -> Iterator[None]:
    """Order and Procedure Records, D, of those of these that go meanwhile."""
    from broker.store import reads

    if settings.audit.to == "off":
        yield
        return
    before = orders_of(store, orders)
    try:
        yield
    finally:
        left = {order.key for order in orders_of(store, orders)}
        of_orders(settings, "D", "purge", (each for each in before if each.key not in left))
        gone = (uid for uid in exams if store.run(reads.mpps(uid))[0] is None)
        of_exams(settings, "D", "purge", gone)


def orders_of(store: Store, keys: Iterable[str]) -> list[Order]:
    """The orders with these keys, some at a time."""
    from broker.store import reads

    found: list[Order] = []
    for some in _some(dict.fromkeys(keys)):
        found += store.run(reads.orders(some)).known.orders.values()
    return found


def of_exams(
    settings: Settings, action: str, said: str, uids: Iterable[str], *, by: str = ""
) -> None:
    """Procedure Records: R, U or D."""
    of = ({"exams": tuple(some)} for some in _some(uids))
    _tell(settings, "EXAM", action, said, of, by=by)


def of_messages(settings: Settings, action: str, said: str) -> None:
    """Order Record, R or D, of so many messages, whose orders perhaps never came to be."""
    _tell(settings, "ORDER", action, said)


def of_message(settings: Settings, said: str, message: Archived) -> None:
    """Order Record, R, of one message and the patients that it names."""
    if settings.audit.to == "off":
        return
    from broker.audit.events import patients_of
    from broker.worklist.identity import parted

    accessions = tuple(parted(key)[-1] for key in message.orders)
    patients = patients_of(message.raw)
    _tell(settings, "ORDER", "R", said, [{"patients": patients, "accessions": accessions}])


def of_reading(settings: Settings, said: str, rows: Iterable[tuple[str, str]]) -> None:
    """Order Records, R, of what is shown: patient ID and accession number of each row."""

    def named(some: list[tuple[str, str]]) -> Objects:
        patients, accessions = (tuple(dict.fromkeys(each)) for each in zip(*some, strict=True))
        return {"patients": patients, "accessions": accessions}

    _tell(settings, "ORDER", "R", said, map(named, _some(rows)))


def of_patient(settings: Settings, said: str, key: str) -> None:
    """Patient Record: U."""
    _tell(settings, "PATIENT", "U", said, [{"patients": (_number(key),)}])


def of_export(settings: Settings, said: str, file: Path) -> None:
    """Export, of everything."""
    _tell(settings, "EXPORT", "R", said, file=file)


def of_import(settings: Settings, said: str, file: Path) -> None:
    """Import, of everything."""
    _tell(settings, "IMPORT", "C", said, file=file)


def of_mappings(settings: Settings, said: str) -> None:
    """Security Alert, Software Configuration: the broker reads messages otherwise from now on."""
    _tell(settings, "ALERT", "E", said)


def _tell(
    settings: Settings,
    event: str,
    action: str,
    said: str,
    of: Iterable[Objects] = ({},),
    *,
    by: str = "",
    file: Path | None = None,
) -> None:
    """Tell of these objects, a message each, all at once: a collector that is away costs once."""
    if settings.audit.to == "off":
        return
    from broker.audit import deeds
    from broker.audit.places import TooLong
    from broker.tls.credentials import Unusable

    code, now, moved = (
        getattr(deeds, event),
        datetime.now(UTC),
        f"{file.absolute()}" if file else "",
    )
    told = [deeds.Deed(now, by or who(), code, action, said, **each, file=moved) for each in of]
    try:
        deeds.tell(settings, told)
    except (OSError, Unusable, TooLong) as problem:
        why = getattr(problem, "strerror", None) or f"{problem}" or type(problem).__name__
        typer.echo(f"done, but the audit trail could not be told: {why}", err=True)


def _number(key: str) -> str:
    from broker.worklist.identity import parted

    return parted(key)[1]


def _some(everything: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(everything)
    while some := list(islice(rest, AT_ONCE)):
        yield some
