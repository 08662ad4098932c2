"""A message tried against a bundle without any effect: what would become of it, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from broker.hl7.charsets import decode
from broker.hl7.header import Header, read_header
from broker.hl7.message import parse
from broker.hl7.refusal import Refusal
from broker.mapping.applying import Outcome, Source, outcomes
from broker.mapping.bundle import Bundle


@dataclass(frozen=True)
class Trial:
    """What a message would become. Holds patient data: for the person who tries, not for logs."""

    header: Header | None = None
    source: Source | None = None
    mapping: str = ""
    place: str = ""
    codec: str = ""
    repaired: bool = False
    outcomes: tuple[Outcome, ...] = ()
    refusal: Refusal | None = None


def try_message(bundle: Bundle, raw: bytes, *, received: datetime, site_zone: ZoneInfo) -> Trial:
    """Read, decode and map one message, with each attribute's origin; a refusal is a value."""
    header = source = None
    mapping = place = codec = ""
    repaired = False
    try:
        header = read_header(raw)
        source = bundle.source(header)
        inbound = bundle.accepting(header)
        mapping, place = inbound.name, inbound.place
        decoded = decode(raw, header, source.charset)
        codec, repaired = decoded.codec, decoded.repaired
        message = parse(decoded.text, decoded.codec)
        worked = outcomes(
            inbound, source, message, received=received, site_zone=site_zone, explain=True
        )
        return Trial(header, source, mapping, place, codec, repaired, tuple(worked))
    except Refusal as refusal:
        return Trial(header, source, mapping, place, codec, repaired, (), refusal)
