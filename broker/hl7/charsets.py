"""MSH-18 to text: table 0211 with the labels that senders really use, and what to do about lies."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from broker.hl7.header import BOM, Header, trim_start
from broker.hl7.refusal import Location, Refusal

MSH_18: Final = Location("MSH", 1, 18)
ASCII: Final = "ascii"
JAPANESE: Final = "iso2022_jp_ext"  # all of IR6, IR13/14, IR87 and IR159 in one codec
UNTRANSPORTABLE: Final = "utf-16"  # its bytes are full of MLLP's own

# HL7 table 0211 → Python codec; keys are letters and digits only, see _key()
TABLE_0211: Final[dict[str, str]] = {
    "ASCII": ASCII,
    "ISOIR6": ASCII,
    **{f"8859{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "ISOIR14": "shift_jis",
    "ISOIR87": JAPANESE,
    "ISOIR159": JAPANESE,
    "KSX1001": "euc_kr",
    "GB180302000": "gb18030",
    "BIG5": "cp950",
    "UNICODE": "utf-8",
    "UNICODEUTF8": "utf-8",
    "UNICODEUTF16": UNTRANSPORTABLE,
    "UNICODEUTF32": UNTRANSPORTABLE,
}
# Labels outside the table, from real messages (hazards: they are sent, so they are read)
ALIASES: Final[dict[str, str]] = {
    "USASCII": ASCII,
    "UTF8": "utf-8",
    "ISOIR192": "utf-8",
    "UTF16": UNTRANSPORTABLE,
    "UTF32": UNTRANSPORTABLE,
    **{f"ISO8859{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15)},
    **{f"8859{part}": f"iso8859_{part}" for part in (10, 13, 14)},
    **{f"{word}{page}": f"cp{page}" for page in range(1250, 1259) for word in ("CP", "WINDOWS")},
    **{f"LATIN{number}": f"iso8859_{number}" for number in (1, 2, 3, 4)},
    "LATIN5": "iso8859_9",
    "LATIN9": "iso8859_15",
    "ISOIR100": "iso8859_1",
    "ISOIR101": "iso8859_2",
    "ISOIR109": "iso8859_3",
    "ISOIR110": "iso8859_4",
    "ISOIR144": "iso8859_5",
    "ISOIR127": "iso8859_6",
    "ISOIR126": "iso8859_7",
    "ISOIR138": "iso8859_8",
    "ISOIR148": "iso8859_9",
    "ISOIR203": "iso8859_15",
    "ISOIR166": "cp874",
    "885911": "cp874",
    "ISO885911": "cp874",
    "ISOIR13": "shift_jis",
    "SHIFTJIS": "shift_jis",
    "SJIS": "cp932",
    "ISO2022JP": JAPANESE,
    "ISO2022IR6": ASCII,
    "ISO2022IR87": JAPANESE,
    "ISO2022IR159": JAPANESE,
    "ISO2022IR149": "euc_kr",
    "EUCKR": "euc_kr",
    "GB18030": "gb18030",
    "GBK": "gb18030",
    "GB2312": "gb18030",
}
# Python codec → Specific Character Set (0008,0005) that holds the same text; else ISO_IR 192
DICOM_CHARSETS: Final[dict[str, str]] = {
    ASCII: "",
    "iso8859_1": "ISO_IR 100",
    "iso8859_2": "ISO_IR 101",
    "iso8859_3": "ISO_IR 109",
    "iso8859_4": "ISO_IR 110",
    "iso8859_5": "ISO_IR 144",
    "iso8859_6": "ISO_IR 127",
    "iso8859_7": "ISO_IR 126",
    "iso8859_8": "ISO_IR 138",
    "iso8859_9": "ISO_IR 148",
    "cp874": "ISO_IR 166",
    "shift_jis": "ISO_IR 13",
    JAPANESE: "\\ISO 2022 IR 87",
    "euc_kr": "\\ISO 2022 IR 149",
    "gb18030": "GB18030",
}
# 0x80-0x9F are control characters in ISO 8859: whoever sends them means the code page of Windows
WINDOWS_TWINS: Final[dict[str, str]] = {
    "iso8859_1": "windows-1252",
    "iso8859_15": "windows-1252",
    "iso8859_2": "windows-1250",
    "iso8859_4": "windows-1257",
    "iso8859_5": "windows-1251",
    "iso8859_6": "windows-1256",
    "iso8859_7": "windows-1253",
    "iso8859_8": "windows-1255",
    "iso8859_9": "windows-1254",
}
_C1: Final = re.compile(rb"[\x80-\x9f]")
_ESC: Final = b"\x1b"
_ISO_2022: Final = re.compile(rb"\x1b(?:\$[@AB]|\$\(D|\([IJ])")
# HL7's printable shifts into and out of Japanese sets (HL7 2.3 §2.9.2) → the real escape sequences
_SHIFT: Final = re.compile(rb"\\(M2442|M242844|C2842|C284A|C2849)\\")


@dataclass(frozen=True, slots=True)
class CharsetPolicy:
    """What a source's bytes mean when MSH-18 does not say, lies, or says something unknown.

    `unlabelled` codecs are tried in order without (or with a useless) label, `fallback` when the
    label proves wrong; `unknown` is 'refuse' (AE 103) or the codec to use for an unknown label.
    """

    unlabelled: tuple[str, ...] = ("utf-8", "windows-1252")
    fallback: tuple[str, ...] = ("windows-1252",)
    unknown: str = "refuse"

    def __post_init__(self) -> None:
        """Raise LookupError for a codec that Python does not have."""
        for codec in (*self.unlabelled, *self.fallback):
            codecs.lookup(codec)
        if self.unknown != "refuse":
            codecs.lookup(self.unknown)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text, the codec that it came from, whether the label was wrong, the nearest (0008,0005)."""

    text: str
    codec: str
    repaired: bool
    dicom_charset: str


STANDARD_POLICY: Final = CharsetPolicy()


def decode(raw: bytes, header: Header, policy: CharsetPolicy = STANDARD_POLICY) -> Decoded:
    """Decode a whole message by MSH-18, before anything is split.

    Raises Refusal AE 103 (unknown label), AR 102 (UTF-16), AE 102 (no codec fits the bytes).
    """
    start = trim_start(raw)
    if raw is not start and raw.lstrip().startswith(BOM):
        policy = CharsetPolicy(("utf-8", *policy.unlabelled), policy.fallback, policy.unknown)
    labelled = _labelled(header.charsets, policy)
    if labelled is None:
        return _unlabelled(start, policy, repaired=False)
    if labelled == ASCII:  # a label that 8-bit bytes or escape sequences prove wrong
        return _unlabelled(start, policy, repaired=not start.isascii())
    if labelled == JAPANESE:
        start = _SHIFT.sub(lambda match: _ESC + bytes.fromhex(match[1][1:].decode()), start)
    if labelled in WINDOWS_TWINS and not start.isascii() and _C1.search(start):
        candidates: tuple[str, ...] = ("utf-8", WINDOWS_TWINS[labelled], labelled)
    else:
        candidates = (labelled, *policy.fallback)
    text, codec = _first_fit(start, candidates)
    return Decoded(text, codec, codec != labelled, _dicom_charset(codec))


def _labelled(charsets: Iterable[str], policy: CharsetPolicy) -> str | None:
    """Return the codec for MSH-18, None when nothing is labelled."""
    found = [_codec(label, policy) for label in charsets if label and label != '""']
    if UNTRANSPORTABLE in found:
        raise Refusal(
            "UTF-16 and UTF-32 cannot be carried in MLLP blocks",
            code="102",
            acknowledgement="AR",
            location=MSH_18,
            remedy="send UNICODE UTF-8",
        )
    if JAPANESE in found:  # alternates are reached by escape sequences, all in one codec
        return JAPANESE
    eight_bit = [codec for codec in found if codec != ASCII]
    if eight_bit:
        return eight_bit[0]
    return ASCII if found else None


def _codec(label: str, policy: CharsetPolicy) -> str:
    key = _key(label)
    codec = TABLE_0211.get(key) or ALIASES.get(key)
    if codec:
        return codec
    if policy.unknown != "refuse":
        return policy.unknown
    raise Refusal(
        "character set is not in HL7 table 0211",
        code="103",
        location=MSH_18,
        remedy="send a value of table 0211, or set the source's policy for unknown character sets",
    )


def _key(label: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", label.upper())


def _unlabelled(raw: bytes, policy: CharsetPolicy, *, repaired: bool) -> Decoded:
    candidates = policy.unlabelled
    if _ESC in raw and _ISO_2022.search(raw):  # 7-bit, so "valid UTF-8" would prove nothing
        candidates = (JAPANESE, *candidates)
    text, codec = _first_fit(raw, candidates)
    charset = "" if codec != JAPANESE and raw.isascii() else _dicom_charset(codec)
    return Decoded(text, codec, repaired, charset)


def _first_fit(raw: bytes, candidates: Iterable[str]) -> tuple[str, str]:
    for codec in candidates:
        try:
            return raw.decode(codec), codec
        except UnicodeDecodeError:
            continue
    raise Refusal(
        "the bytes fit no character set that MSH-18 or the source allows",
        code="102",
        location=MSH_18,
        remedy="label the message with the character set that it is in",
    )


def _dicom_charset(codec: str) -> str:
    return DICOM_CHARSETS.get(codec, "ISO_IR 192")
