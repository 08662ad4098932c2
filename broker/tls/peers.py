"""What a certificate that was verified calls its holder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

COMMON_NAME = "commonName"


def names_of(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The common names and alternative names of a certificate as `ssl` tells of it, folded."""
    if not certificate:
        return frozenset()
    subject = (pair for relative in certificate.get("subject", ()) for pair in relative)
    found = [value for kind, value in subject if kind == COMMON_NAME]
    found += [value for _, value in certificate.get("subjectAltName", ()) if isinstance(value, str)]
    return frozenset(map(str.casefold, found))


def is_named(wanted: Iterable[str], names: frozenset[str]) -> bool:
    """Whether one of the wanted names is among those of a certificate."""
    return any(each.casefold() in names for each in wanted)
