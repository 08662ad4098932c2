"""Until when certificates are valid: the few bytes of X.509 (RFC 5280 4.1) that say so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ssl import PEM_cert_to_DER_cert
from typing import Final

SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
CERTIFICATE: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL
)


def ends(pem: str) -> datetime | None:
    """When the first certificate of a file ends that ends; None when there is none to read."""
    found = []
    for text in CERTIFICATE.findall(pem):
        try:
            found.append(_not_after(PEM_cert_to_DER_cert(text)))
        except (ValueError, IndexError):  # not base64, cut off, or no times in it
            continue
    return min(found, default=None)


def _not_after(der: bytes) -> datetime:
    """Give notAfter of a certificate: serial, algorithm and issuer stand before its validity."""
    (certificate,) = _values(der)
    to_be_signed, *_ = _values(certificate[1])
    fields = [field for field in _values(to_be_signed[1]) if field[0] != VERSION]
    _not_before, (tag, text) = _values(fields[3][1])
    written = text.decode("ascii")
    if tag == UTC_TIME:  # two digits of the year: RFC 5280 4.1.2.5.1
        written = ("20" if written < "5" else "19") + written
    return datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Read tag and content of each value that stands in `der`, one after the other."""
    at = 0
    while at < len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size & 0x80:
            digits = size & 0x7F
            size, at = int.from_bytes(der[at : at + digits], "big"), at + digits
        yield tag, der[at : at + size]
        at += size
