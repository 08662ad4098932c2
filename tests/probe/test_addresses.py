"""Addresses as people type them."""

from __future__ import annotations

import pytest

from broker.probe.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:2575", Address("127.0.0.1", 2575)),
        ("ris.local:104", Address("ris.local", 104)),
        ("[::1]:11112", Address("::1", 11112)),
    ],
)
def test_an_address_reads_and_prints_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "2575", "host:", ":2575", "host:0", "host:65536", "host:x"])
def test_what_is_no_address_says_how_one_looks(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("text", ["a b:104", "10.1.2.300:104", f"{'h' * 64}:104", "tcp://h:104"])
def test_what_is_no_host_says_how_one_looks(text: str) -> None:
    with pytest.raises(ValueError, match="the host is a name as"):
        parse_address(text)
