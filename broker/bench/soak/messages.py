"""The messages of a soak, in three styles of a RIS; written by hand, as those of the other benches.

The style is that of the order: ORM^O01 2.3.1, OMG^O19 and OMI^O23 2.5.1.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta

from broker.bench.entries import Entry, framed, order_frame
from broker.bench.soak.plan import Fate, Kind, Message

HEAD = (
    "MSH|^~\\&|BENCHRIS|NORTH|BROKER|NORTH|{sent}||{type}|{control_id}|P|{version}"
    "||||||UNICODE UTF-8\n"
)
PID = (
    "PID|1||P{number}^^^NORTH^MR||{name}||19800229|F|||77 QUARRY RD^^GLENHAVEN^OR^97401^US^L"
    "||5550139\n"
)
PV1 = (
    "PV1|1|O|RADIO^2^1^NORTH||||1144^HALVORSEN^PIPPA^^^^MD|30112^WALDEN^PIA^^^DR"
    "|||||||||||V{number}\n"
)
ORC = "ORC|{code}|PL{number}|FL{number}||{status}||||{sent}|7781^RADIOLOGY||30112^WALDEN^PIA^^^DR\n"
TQ1 = "TQ1|1||||||{start}||R^Routine^HL70485\n"
OMG = (
    f"{HEAD}{PID}{PV1}{ORC}{TQ1}"
    "OBR|1|PL{number}|FL{number}|MRORB^MR orbits^L||||||||||||||ACC{number}|RP{number}|SPS{number}"
    "|{station}|||CT\n"
    "NTE|1||Claustrophobic\n"
    "OBX|1|NM|29463-7^Body weight^LN||70|kg|||||F\n"
    "ZDS|{study_uid}^BENCH^Application^DICOM\n"
)
OMI = (
    f"{HEAD}{PID}{PV1}{ORC}{TQ1}"
    "OBR|1|PL{number}|FL{number}|CTABD^CT abdomen^L|||||||||||||||||||||||||||^Pain\n"
    "IPC|ACC{number}|RP{number}|{study_uid}|SPS{number}|CT|CTABD^CT abdomen^L||ROOM 4|{station}\n"
)
CANCEL = f"{HEAD}{PID}{ORC}OBR|1|PL{{number}}|FL{{number}}|CTHEAD^CT head^BENCH\n"
ADT = f"{HEAD}EVN|A08|{{sent}}\n{PID}{PV1}"

STYLES = (
    ("ORM^O01", "2.3.1", ""),
    ("OMG^O19^OMG_O19", "2.5.1", OMG),
    ("OMI^O23^OMI_O23", "2.5.1", OMI),
)


def frame(message: Message, tick: int, *, sent: datetime) -> bytes:
    """The message of a tick as an MLLP block."""
    kind, number, fate, place = message
    later = timedelta(hours=2) if kind is Kind.UPDATE and fate is Fate.CHANGED else timedelta()
    start = datetime.combine(place.day, time(7)) + timedelta(minutes=number % 600) + later
    entry = Entry(number, place.station, start)
    control_id = f"S{tick}"
    named, version, text = STYLES[number % len(STYLES)]
    if kind is Kind.PATIENT:
        named, version, text = "ADT^A08", "2.3.1", ADT
    elif kind is Kind.CANCEL:
        text = CANCEL
    elif not text:
        return order_frame(entry, sent=sent, code=kind, control_id=control_id)
    return framed(
        text.format(
            type=named,
            version=version,
            control_id=control_id,
            sent=f"{sent:%Y%m%d%H%M%S}",
            code=kind,
            status="CA" if kind is Kind.CANCEL else "SC",
            number=number,
            name=new_name(number) if kind is Kind.PATIENT else f"MUSTER{number}^MIRJAM^ANNA^^DR.",
            station=place.station,
            start=f"{start:%Y%m%d%H%M%S}",
            study_uid=entry.study_uid,
        )
    )


def first_name(number: int) -> str:
    """What the patient of an order is called in a C-FIND answer."""
    return f"MUSTER{number}^MIRJAM^ANNA^DR."


def new_name(number: int) -> str:
    """What it is called after an ADT^A08."""
    return f"MUSTER{number}^RENATA"
