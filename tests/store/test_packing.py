"""What is packed comes back byte for byte, and messages of real styles become small."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.store import archive
from broker.store.packing import packed, unpacked
from broker.store.stored import order as read_order
from broker.store.stored import written
from tests.store.test_archive import MESSAGE
from tests.store.writing import order

SAID = (
    b"MSH|^~\\&|RIS|NORTH|MWL|NORTH|20261130080000||ORM^O01|77|P|2.3.1\r"
    b"PID|1||4711^^^NORTH||DOE^JOHN\rORC|NW|P1"
)
DEFLATED = (
    "014389013fffa0108f1adf709f1a080b6297b18181056a44989bc3ec8365381373434360e28268ab71f1778df3f2"
    "f7f003277860da0e300400"
)
"""The same as version 0.1 packed it until its data had format 4."""


@given(st.binary(max_size=5000))
def test_any_bytes_come_back(content: bytes) -> None:
    assert unpacked(packed(content, "message"), "message") == content


@pytest.mark.parametrize(
    "content", [b"", b"\x03abc", b"\x02abc", b"\x02", b"\x01\xff\xff", b"\x01", b"x\x9c\x03"]
)
def test_what_was_never_packed_is_said(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"packed|damaged|broken off"):
        unpacked(content, "message")


@pytest.mark.parametrize("kind", ["message", "record"])
def test_what_is_cut_damaged_or_has_more_behind_it_is_said(kind: str) -> None:
    whole = packed(b"MSH|^~\\&|RIS|NORTH|" * 20, kind)
    for content in (whole[:-1], whole + b"x", whole[:9] + b"\xff" + whole[10:]):
        with pytest.raises(ValueError, match=r"damaged|broken off"):
            unpacked(content, kind)


@pytest.mark.parametrize("size", [2**48, 2**63 - 1])
def test_what_claims_to_be_larger_than_all_memory_is_damaged(size: int) -> None:
    """Else one damaged record would be the end of every list that has it."""
    header = b"\x02\x28\xb5\x2f\xfd\xe0"  # a frame of one segment that says its size
    claims = header + size.to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(ValueError, match="damaged"):
        unpacked(claims, "record")


def test_what_was_deflated_before_is_still_read() -> None:
    deflated = bytes.fromhex(DEFLATED)
    assert unpacked(deflated, "message") == SAID
    assert len(packed(SAID, "message")) < len(SAID)


def test_two_threads_may_pack_and_unpack_at_once() -> None:
    contents = [f"MSH|^~\\&|RIS|{number}|".encode() * 50 for number in range(200)]

    def there_and_back(content: bytes) -> bytes:
        return unpacked(packed(content, "record"), "record")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(there_and_back, contents)) == contents


def test_a_message_of_the_corpus_takes_less_than_a_kibibyte(corpus: Path) -> None:
    sizes = []
    for file in corpus.glob("*.hl7"):
        raw = file.read_bytes()
        (_, *words), _ = archive.adding(replace(MESSAGE, raw=raw))
        sizes.append(len(bytes(words[3])))
    assert len(sizes) > 10
    assert statistics.median(sizes) < 600


def test_a_record_that_lies_in_redis_takes_a_fraction_and_reads_as_it_was() -> None:
    one = order(facts={"attributes": {"RequestingPhysician": "WALDEN^PIA", "AdmissionID": "V1"}})
    lies = written(one)
    assert read_order(lies) == one
    assert len(lies) < len(one.model_dump_json()) / 2


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"0003H|1", b"0003H|1\x01\xff", b'{"schema_version":1}']
)
def test_what_is_no_order_is_said(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says, the door says "cannot be read"
        read_order(raw)
