"""What is packed comes back byte for byte, and messages of real styles become small."""

from __future__ import annotations

import statistics
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


@given(st.binary(max_size=5000))
def test_any_bytes_come_back(content: bytes) -> None:
    assert unpacked(packed(content, "message"), "message") == content


@pytest.mark.parametrize("content", [b"", b"\x02abc", b"\x01\xff\xff", b"\x01", b"x\x9c\x03"])
def test_what_was_never_packed_is_said(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"packed|damaged|broken off"):
        unpacked(content, "message")


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
