"""Strategies: DICOM conversations that are nearly right, with lies in any length at any depth."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from random import Random

from hypothesis import strategies as st

from tests.dicom.requestor import MPPS, VERIFICATION, WORKLIST, associate_rq, pdu

RETRIEVE = "1.2.840.10008.3.1.2.3.4"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
UNDEFINED = 0xFFFFFFFF
UIDS = (
    *(VERIFICATION, WORKLIST, MPPS, WORKLIST, MPPS, "1.2.840.10008.5.1.4.34.6.1", "1.2.3", ""),
    *("1." * 40, "1.2.03", "x\0", "1.2.840.10008.5.1.4.31\0", "\xff\xfe"),
)
SYNTAXES = (IMPLICIT, EXPLICIT, IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
TITLES = (
    *(b"CT1", b"BROKER", b"", b"CT1\0\0", b"ct1 ", b"R\xd6NTGEN", b"\x1b[2J", b"A\\B", b"\r\n"),
    *(b"*", b"ANY-SCP", b" LEADING", b"0123456789ABCDEF"),
)
CONTEXT_IDS = (1, 3, 5, 1, 3, 5, 1, 3, 5, 7, 0, 2, 255)
MAXIMA = (16384, 0, 1, 7, 128, 2**31)
OFFERS = [(uid, (IMPLICIT, EXPLICIT)) for uid in (VERIFICATION, WORKLIST, MPPS, RETRIEVE)]
HONEST = tuple(associate_rq(OFFERS, max_pdu=most) for most in MAXIMA)
USER_ITEMS = (0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x00, 0xFF)
KINDS = (0x20, 0x20, 0x20, 0x30, 0x140, 0x120, 0x0FFF, 0x01, 0x21, 0x110, 0x150, 0x8020, 0xFFFF, 0)
# Keys of worklist queries and of MPPS, with their VR; the last ones have no business there.
ELEMENTS: tuple[tuple[int, bytes], ...] = (
    *((0x00080005, b"CS"), (0x00080016, b"UI"), (0x00080050, b"SH"), (0x00080060, b"CS")),
    *((0x00080090, b"PN"), (0x00100010, b"PN"), (0x00100020, b"LO"), (0x00100030, b"DA")),
    *((0x00101030, b"DS"), (0x001021C0, b"US"), (0x0020000D, b"UI"), (0x00321060, b"LO")),
    *((0x00400001, b"AE"), (0x00400002, b"DA"), (0x00400003, b"TM"), (0x00400006, b"PN")),
    *((0x00400009, b"SH"), (0x00400020, b"CS"), (0x00401001, b"SH"), (0x00401008, b"LO")),
    *((0x00400241, b"AE"), (0x00400244, b"DA"), (0x00400245, b"TM"), (0x00400250, b"DA")),
    *((0x00400251, b"TM"), (0x00400252, b"CS"), (0x00400253, b"SH"), (0x00402016, b"LO")),
    *((0x00080000, b"UL"), (0x00090010, b"LO"), (0x00091001, b"UN"), (0x7FE00010, b"OW")),
    *((0xFFFCFFFC, b"OB"), (0x00000000, b"UL"), (0xFFFEE00D, b""), (0xFFFEE0DD, b"")),
)
SEQUENCES = (0x00400100, 0x00400100, 0x00400270, 0x00321064, 0x00400008, 0x00080096, 0x00091002)
LONG_FORM = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OD")
ODD_VRS = (b"XX", b"zz", b"\0\0", b"UN", b"SQ", b"OB", b"US", b"UT", b"AT", b"FD", b"UC")
VALUES = (
    *(b"", b"CT1", b"CT\\MR", b"*", b"?", b"A*", b"\\", b"\\\\\\", b"^^^^", b"==", b"*^*", b"**"),
    *(b"20260316", b"20260316-", b"-20260316", b"20260401-20260301", b"2026.03.16", b"2026*"),
    *(b"12-14", b"0800-1800", b"-", b"2400", b"093000.123456", b"1800-0600", b"99999999"),
    *(b"IN PROGRESS", b"COMPLETED", b"DISCONTINUED", b"1.2.3\\1.2.4", b"1.2.3\0", b"CT1\0\0\0"),
    *(b"ISO_IR 100", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"GB18030", b"KLINGON", b"ISO_IR 13"),
    *(b"M\xfcller", "Müller*".encode(), b"\x1b$B8^Lf\x1b(B", b"\x1b", b"\x81\xff", b"\x1b$)C"),
    *(b"key*?[x]|{}", b"A" * 65, b"9" * 400, b"\0\0\0\0\0\0\0\0", b"\r\n", b"\xff" * 16),
)
LIES_16 = (0, 1, 2, 7, 0x7FFF, 0xFFFF)
LIES_32 = (0, 1, 2, 6, 8, 0x10000, 0x20001, 0x7FFFFFFF, 0xFFFFFFFE, UNDEFINED)


def _value(dice: Random) -> bytes:
    return dice.choice(VALUES) if dice.randint(0, 4) else dice.randbytes(dice.randint(0, 24))


def _length(dice: Random, size: int, lies: tuple[int, ...]) -> int:
    """The length of so many bytes, or, one time in a hundred, a lie."""
    if dice.randint(0, 99):
        return min(size, lies[-1])
    return dice.choice((*lies, max(0, size - 1), min(size + 1, lies[-1])))


# Data sets


def data_set(dice: Random, depth: int = 3) -> bytes:
    """An identifier or an MPPS, in either syntax or, now and then, in both."""
    explicit = dice.random() < 0.5
    return b"".join(_elements(dice, explicit, depth))


def _elements(dice: Random, explicit: bool, depth: int) -> Iterator[bytes]:
    for _ in range(dice.randint(0, 6 if depth == 3 else 3)):
        if depth and dice.randint(0, 3) == 0:
            yield _sequence(dice, explicit, depth)
            continue
        tag, vr = dice.choice(ELEMENTS)
        if dice.randint(0, 9) == 0:
            vr = dice.choice(ODD_VRS)
        value = _value(dice)
        yield _head(dice, tag, vr, len(value), explicit ^ (not dice.randint(0, 39))) + value


def _head(dice: Random, tag: int, vr: bytes, size: int, explicit: bool) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit or not vr:
        return head + struct.pack("<I", _length(dice, size, LIES_32))
    if vr in LONG_FORM:
        return head + vr + bytes(2) + struct.pack("<I", _length(dice, size, LIES_32))
    return head + vr + struct.pack("<H", _length(dice, size, LIES_16))


def _sequence(dice: Random, explicit: bool, depth: int) -> bytes:
    body = b""
    for _ in range(dice.randint(0, 2)):
        inside = b"".join(_elements(dice, explicit, depth - 1))
        if dice.random() < 0.5:
            body += struct.pack("<HHI", 0xFFFE, 0xE000, _length(dice, len(inside), LIES_32))
            body += inside
        else:
            end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
            body += struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + inside + end
    tag = dice.choice(SEQUENCES)
    if dice.random() < 0.5:
        return _head(dice, tag, b"SQ", len(body), explicit) + body
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + (b"SQ\0\0" if explicit else b"")
    return head + struct.pack("<I", UNDEFINED) + body + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


# Associations


def request(dice: Random) -> bytes:
    """An A-ASSOCIATE-RQ; three of four have nothing wrong."""
    if dice.randint(0, 3):
        return dice.choice(HONEST)
    head = struct.pack(">Hxx", dice.choice((1, 1, 1, 1, 1, 1, 3, 0, 2)))
    titles = b"".join(dice.choice(TITLES).ljust(16) for _ in range(2))
    proposals = b"".join(_context(dice) for _ in range(dice.randint(0, 4)))
    body = head + titles + bytes(32) + _item(dice, 0x10, b"1.2.840.10008.3.1.1.1") + proposals
    body += _item(dice, 0x50, b"".join(_user_items(dice)))
    return struct.pack(">BxI", 1, _length(dice, len(body), LIES_32)) + body


def _context(dice: Random) -> bytes:
    inside = bytes((dice.choice(CONTEXT_IDS), 0, 0, 0))
    inside += _item(dice, 0x30, dice.choice(UIDS).encode("latin-1"))
    for _ in range(dice.randint(0, 3)):
        inside += _item(dice, 0x40, dice.choice(SYNTAXES).encode())
    return _item(dice, 0x20, inside)


def _user_items(dice: Random) -> Iterator[bytes]:
    yield _item(dice, 0x51, struct.pack(">I", dice.choice(MAXIMA)))
    for _ in range(dice.randint(0, 3)):
        uid = dice.choice(UIDS).encode("latin-1")
        extended = struct.pack(">H", _length(dice, len(uid), LIES_16)) + uid + _value(dice)
        yield _item(dice, dice.choice(USER_ITEMS), dice.choice((extended, _value(dice))))


def _item(dice: Random, kind: int, inside: bytes) -> bytes:
    return struct.pack(">BxH", kind, _length(dice, len(inside), LIES_16)) + inside


# Messages


def message(dice: Random) -> bytes:
    """One DIMSE message in P-DATA-TF PDUs of one or several fragments."""
    kind, context = dice.choice(KINDS), dice.choice(CONTEXT_IDS)
    if dice.randint(0, 9):
        context = {0x30: 1, 0x20: 3, 0x0FFF: 3, 0x140: 5, 0x120: 5, 0x110: 7}.get(kind, context)
    has_data_set = dice.randint(0, 9) and kind not in (0x30, 0x0FFF, 0x110)
    values = [_fragments(dice, context, _command(dice, kind, context, bool(has_data_set)), 1)]
    if has_data_set:
        values.append(_fragments(dice, context, data_set(dice), 0))
    if dice.randint(0, 4) == 0:
        return _p_data(dice, [value for each in values for value in each])
    return b"".join(_p_data(dice, [value]) for each in values for value in each)


def _command(dice: Random, kind: int, context: int, has_data_set: bool) -> bytes:
    usual = {1: VERIFICATION, 3: WORKLIST, 5: MPPS, 7: RETRIEVE}.get(context, "")
    uid = usual if dice.randint(0, 9) else dice.choice(UIDS)
    elements = {
        0x0003 if kind in (0x110, 0x120) else 0x0002: uid.encode("latin-1"),
        0x0100: struct.pack("<H", kind),
        0x0110: dice.choice((b"\1\0", b"\2\0", b"\7\0", b"", b"\1\0\0\0", b"\xff")),
        0x0120: dice.choice((b"\1\0", b"\2\0", b"")),
        0x0700: dice.choice((b"\0\0", b"\1\0", b"\x09\0", b"")),
        0x0800: b"\1\0" if has_data_set else b"\1\1",
        0x1005: dice.choice((b"", b"\x40\0\x52\x02", b"\x40\0\x52", b"\xff" * 12)),
        0x1001 if kind in (0x110, 0x120) else 0x1000: dice.choice(UIDS).encode("latin-1"),
    }
    for element in dice.sample(sorted(elements), dice.choice((0, 0, 0, 1, 2))):
        del elements[element]
    body = b"".join(
        struct.pack("<HHI", 0, element, _length(dice, len(value), LIES_32)) + value
        for element, value in elements.items()
    )
    return struct.pack("<HHII", 0, 0, 4, _length(dice, len(body), LIES_32)) + body


def _fragments(dice: Random, context: int, data: bytes, command_bit: int) -> list[bytes]:
    cuts = sorted(dice.randint(0, len(data)) for _ in range(dice.choice((0, 0, 1, 2))))
    pieces = [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]
    found = []
    for number, piece in enumerate(pieces, 1):
        control = command_bit | (2 if number == len(pieces) else 0)
        if not dice.randint(0, 99):
            control, context = dice.randint(0, 255), dice.choice(CONTEXT_IDS)
        length = _length(dice, len(piece) + 2, LIES_32)
        found.append(struct.pack(">IBB", length, context, control) + piece)
    return found


def _p_data(dice: Random, fragments: list[bytes]) -> bytes:
    body = b"".join(fragments)
    return struct.pack(">BxI", 4, _length(dice, len(body), LIES_32)) + body


# Conversations

SHORT_PDUS = (
    *(pdu(5, bytes(4)), pdu(6, bytes(4)), pdu(7, bytes(4)), pdu(7, b"\0\0\2\6"), pdu(5, b"")),
    *(pdu(2, bytes(68)), pdu(3, b"\0\1\1\1"), pdu(4, b""), pdu(1, b""), pdu(0x41, b"abc")),
    *(
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"\x04\0\xff\xff\xff\xff",
        b"\x04",
        b"\0",
    ),
)


def conversation(dice: Random) -> list[bytes]:
    """An association request and what follows it, part by part."""
    said = [request(dice)]
    for _ in range(dice.randint(0, 5)):
        said.append(message(dice) if dice.randint(0, 9) else dice.choice(SHORT_PDUS))
    return said


def stream(dice: Random) -> bytes:
    """What a peer sends in all, as it should have been or damaged on the way."""
    parts = conversation(dice)
    damage = dice.choice((*["none"] * 8, "cut", "flip", "insert", "twice", "swap"))
    if damage == "twice":
        parts.insert(0, dice.choice(parts))
    if damage == "swap":
        parts.reverse()
    whole = b"".join(parts)
    at = dice.randint(0, len(whole))
    match damage:
        case "cut":
            return whole[:at]
        case "flip":
            return whole[:at] + dice.randbytes(dice.randint(1, 4)) + whole[at + 1 :]
        case "insert":
            return whole[:at] + dice.randbytes(dice.randint(0, 20)) + whole[at:]
    return whole


# From a seed each, for speed: a length at a time is a hundred decisions a stream.
dice = st.integers(0, 2**64 - 1).map(Random)
streams = dice.map(stream)
data_sets = dice.map(data_set)


def cut(stream: bytes, places: list[float]) -> list[bytes]:
    """The stream in pieces, cut at these fractions of its length."""
    cuts = [0, *sorted(int(each * len(stream)) for each in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(cuts)]
