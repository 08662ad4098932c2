"""How records lie in Redis: behind their revision, an order behind its patient's key as well."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pydantic_core import from_json

from broker.store.packing import packed, unpacked
from broker.worklist.mpps import Performed
from broker.worklist.records import Order, Patient

REVISION_LENGTH: Final = 12
_OWNER_LENGTH: Final = 4
"""Digits that say how many bytes the patient's key takes: scripts follow it, they read no JSON."""
_BEFORE_OWNER: Final = REVISION_LENGTH + _OWNER_LENGTH

R = TypeVar("R")


def written(record: Order | Patient | Performed) -> bytes:
    """Give what is stored behind the revision.

    An order of one step takes 2.0 KB as JSON and 0.4 KB packed, for 11 µs when it is written and
    5 µs when it is read; a patient of 0.4 KB is not worth it. A performed step of 30 images takes
    4.6 KB and 0.4 KB.
    """
    text = record.__pydantic_serializer__.to_json(record)  # model_dump_json makes a text of it
    if isinstance(record, Patient):
        return text
    if isinstance(record, Performed):
        return packed(text, "record")
    owner = record.patient.encode()
    return b"%0*d" % (_OWNER_LENGTH, len(owner)) + owner + packed(text, "record")


def order(raw: bytes) -> Order:
    """Read an order from what lies behind the revision. Raises ValueError."""
    digits = raw[:_OWNER_LENGTH]
    if not digits.isdigit():
        raise ValueError("no order")
    return Order.model_validate_json(unpacked(raw[_OWNER_LENGTH + int(digits) :], "record"))


def patient(raw: bytes) -> Patient:
    """Read a patient from what lies behind the revision. Raises ValueError."""
    return Patient.model_validate_json(raw)


def performed(raw: bytes) -> Performed:
    """Read a performed step from what lies behind the revision. Raises ValueError."""
    text = raw if raw[:1] == b"{" else unpacked(raw, "record")  # 0.1 did not pack them
    return Performed.model_validate_json(text)


def received(raw: bytes) -> bytes:
    """Read the data set of an MPPS request as it came. Raises ValueError."""
    if raw[:1] != b"x":
        return unpacked(raw, "record")
    try:
        return zlib.decompress(raw)  # as it was stored till format 4 of the data
    except zlib.error as error:
        raise ValueError("damaged") from error


def order_values(raw: bytes) -> tuple[bytes, Any]:
    """Read the patient's key and an order's plain values from all of it. Raises ValueError."""
    digits = raw[REVISION_LENGTH:_BEFORE_OWNER]
    if not digits.isdigit():
        raise ValueError("no order")
    end = _BEFORE_OWNER + int(digits)
    return raw[_BEFORE_OWNER:end], from_json(unpacked(raw[end:], "record"), cache_strings="keys")


def patient_values(raw: bytes) -> Any:
    """Read a patient's plain values from all of it. Raises ValueError."""
    return from_json(raw[REVISION_LENGTH:], cache_strings="keys")


def number(raw: bytes) -> bytes:
    """Give the revision of a record as the members of indexes show it; b'' of none."""
    return raw[:REVISION_LENGTH].lstrip(b"0")


def versioned(raw: bytes, read: Callable[[bytes], R]) -> tuple[R, str]:
    """Read a record with its revision. Raises ValueError."""
    return read(raw[REVISION_LENGTH:]), raw[:REVISION_LENGTH].decode()
