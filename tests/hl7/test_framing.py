"""MLLP blocks: every case is read whole, byte by byte, and with rubbish before and after."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.hl7.framing import HEAD_BYTES, Block, Deframer, Oversize, frame

A = b"MSH|^~\\&|A\rPID|1\r"
B = b"MSH|^~\\&|B\rPID|2\r"

# stream → payloads after the last byte and an end of stream
CASES = {
    "a proper block": (b"\x0b" + A + b"\x1c\r", [A]),
    "two blocks at once": (b"\x0b" + A + b"\x1c\r\x0b" + B + b"\x1c\r", [A, B]),
    "no CR after the end, then the next start": (b"\x0b" + A + b"\x1c\x0b" + B + b"\x1c\r", [A, B]),
    "no CR after the end, then the stream ends": (b"\x0b" + A + b"\x1c", [A]),
    "LF after the end": (b"\x0b" + A + b"\x1c\n\x0b" + B + b"\x1c\n", [A, B]),
    "end byte inside data": (b"\x0bMSH|a\x1cb\r\x1c\r", [b"MSH|a\x1cb\r"]),
    "two end bytes": (b"\x0b" + A + b"\x1c\x1c\r", [A + b"\x1c"]),
    "blank lines between": (b"\r\n\x0b" + A + b"\x1c\r\r\n\n\x0b" + B + b"\x1c\r\r\n", [A, B]),
    "NULs between": (b"\x00\x00\x0b" + A + b"\x1c\r\x00\x00\x0b" + B + b"\x1c\r", [A, B]),
    "no start byte": (A + b"\x1c\r" + B + b"\x1c\r", [A, B]),
    "no start byte the second time": (b"\x0b" + A + b"\x1c\r\n" + B + b"\x1c\r", [A, B]),
    "byte order mark before a bare block": (b"\xef\xbb\xbf" + A + b"\x1c\r", [A]),
    "byte order mark after the start": (b"\x0b\xef\xbb\xbf" + A + b"\x1c\r", [b"\xef\xbb\xbf" + A]),
    "log text before the start": (b"16:20 INFO MSH sent\x0b" + A + b"\x1c\r", [A]),
    "log text that quotes a header": (b"sent: MSH|^~\\&|\x0b" + A + b"\x1c\r", [A]),
    "log text that quotes a header before a byte order mark": (
        b"sent: MSH|^~\\&|\x0b\xef\xbb\xbf" + A + b"\x1c\r",
        [b"\xef\xbb\xbf" + A],
    ),
    "a word that only begins like MSH": (b"MSHELL\x0b" + A + b"\x1c\r", [A]),
    "a lone M before the start": (b"M\x0b" + A + b"\x1c\r", [A]),
    "an empty block": (b"\x0b\x1c\r\x0b" + A + b"\x1c\r", [b"", A]),
    "broken off and begun again": (b"\x0bMSH|^~\\&|X\rPID|\x0b" + A + b"\x1c\r", [A]),
    "broken off by the end of the stream": (b"\x0b" + A, []),
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n", []),
}


def payloads(chunks: list[bytes]) -> list[bytes]:
    deframer = Deframer(1 << 20)
    found = [block for chunk in chunks for block in deframer.receive(chunk)] + deframer.eof()
    assert not deframer.in_block
    return [block.payload for block in found if isinstance(block, Block)]


@pytest.mark.parametrize("case", CASES)
def test_a_stream_gives_its_blocks_whole(case: str) -> None:
    """One read."""
    stream, expected = CASES[case]
    assert payloads([stream]) == expected


@pytest.mark.parametrize("case", CASES)
def test_a_stream_gives_its_blocks_byte_by_byte(case: str) -> None:
    """One byte per read."""
    stream, expected = CASES[case]
    assert payloads([stream[at : at + 1] for at in range(len(stream))]) == expected


@pytest.mark.parametrize("case", CASES)
def test_a_stream_gives_its_blocks_between_rubbish(case: str) -> None:
    """A block before and noise with a block after change nothing in between."""
    stream, expected = CASES[case]
    before, after = frame(B), b"\r\n rubbish \x00" + frame(B)
    closed = stream if stream.endswith((b"\r", b"\n")) else stream + b"\r"
    if case == "broken off by the end of the stream":
        expected = [B]  # the block that follows takes the place of the one broken off
        assert payloads([before, stream + frame(B)]) == [B, *expected]
    else:
        assert payloads([before, closed, after]) == [B, *expected, B]


@given(
    st.lists(
        st.binary(max_size=60).filter(
            lambda p: (
                b"\x0bMSH" not in p
                and not any(end in p for end in (b"\x1c\r", b"\x1c\n", b"\x1c\x0b"))
            )
        ),
        max_size=6,
    ),
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
def test_any_chunking_of_any_frames_yields_the_same_frames(
    sent: list[bytes], sizes: list[int]
) -> None:
    """The one property of a framer."""
    stream = b"".join(map(frame, sent))
    chunks, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        chunks.append(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert payloads(chunks) == sent


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_no_bytes_make_the_framer_raise(chunks: list[bytes]) -> None:
    """Whatever comes, blocks or nothing come out."""
    payloads(chunks)


def test_an_end_byte_waits_for_the_gap() -> None:
    """FS without CR is the end once nothing follows for a while, and not before."""
    deframer = Deframer(1000)
    assert deframer.receive(b"\x0b" + A + b"\x1c") == []
    assert deframer.ending
    assert deframer.in_block
    assert deframer.idle() == [Block(A)]
    assert deframer.receive(b"\r" + frame(B)) == [Block(B)]
    assert deframer.dropped_bytes == 0


def test_silence_inside_a_block_is_not_its_end() -> None:
    """Only a pending FS may be confirmed by silence."""
    deframer = Deframer(1000)
    deframer.receive(b"\x0bMSH|")
    assert deframer.idle() == []
    assert deframer.in_block


def test_a_bare_block_says_so_and_noise_is_counted() -> None:
    """The door counts what senders get wrong."""
    deframer = Deframer(1000)
    assert deframer.receive(A + b"\x1c\r") == [Block(A, bare=True)]
    assert deframer.receive(b"rubbish" + frame(B)) == [Block(B)]
    assert deframer.dropped_bytes == len("rubbish")


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_block_that_is_too_long_is_reported_and_the_next_is_read(step: int) -> None:
    """Memory stays at the limit; the head is kept to find out who sent it."""
    long = b"MSH|" + b"x" * 9_000
    stream = frame(long) + frame(A)
    deframer = Deframer(5_000)
    found = [
        b for at in range(0, len(stream), step) for b in deframer.receive(stream[at : at + step])
    ]
    assert found == [Oversize(long[:HEAD_BYTES], len(long)), Block(A)]


def test_a_block_that_never_ends_takes_no_more_memory_than_the_limit() -> None:
    """10 MB of it in a framer for 5,000 bytes."""
    deframer = Deframer(5_000)
    tracemalloc.start()
    deframer.receive(b"\x0b")
    chunk = b"x" * 100_000
    for _ in range(100):
        deframer.receive(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_block_of_exactly_the_limit_passes() -> None:
    """The limit is inclusive."""
    assert Deframer(len(A)).receive(frame(A)) == [Block(A)]


def test_a_large_block_in_small_chunks_takes_linear_time() -> None:
    """16 MiB in packets of 512 bytes; a quadratic buffer would copy 256 GiB."""
    payload = b"MSH|" + b"0" * (16 * 1024 * 1024 - 4)
    stream = frame(payload)
    deframer = Deframer(len(payload))
    began = time.process_time()
    found: list[Block | Oversize] = []
    for at in range(0, len(stream), 512):
        found += deframer.receive(stream[at : at + 512])
    assert time.process_time() - began < 5
    assert found == [Block(payload)]
