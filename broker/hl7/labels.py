"""MSH-18 as it is written: HL7 table 0211 and what senders send instead, to Python's codecs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from broker.hl7 import cns11643

ASCII: Final = "ascii"
JAPANESE: Final = "iso2022_jp_ext"  # all of IR6, IR13/14, IR87 and IR159 in one codec
UNTRANSPORTABLE: Final = "utf-16"  # its bytes are full of MLLP's own
cns11643.register()

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
    "CNS116431992": cns11643.CODEC,
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
    "ISO10646": "utf-8",
    "UTF16": UNTRANSPORTABLE,
    "UTF16LE": UNTRANSPORTABLE,
    "UTF16BE": UNTRANSPORTABLE,
    "UTF32": UNTRANSPORTABLE,
    "UCS2": UNTRANSPORTABLE,
    **{f"ISO8859{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15)},
    **{f"8859{part}": f"iso8859_{part}" for part in (10, 13, 14)},
    **{f"{word}{page}": f"cp{page}" for page in range(1250, 1259) for word in ("CP", "WINDOWS")},
    **{f"{word}{page}": f"cp{page}" for page in (437, 850, 852, 858) for word in ("CP", "IBM")},
    "ANSI": "cp1252",
    "KOI8R": "koi8_r",
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
    "TIS620": "cp874",
    "ISOIR13": "shift_jis",
    "SHIFTJIS": "cp932",
    "SJIS": "cp932",
    "CP932": "cp932",
    "WINDOWS31J": "cp932",
    "MS932": "cp932",
    "EUCJP": "euc_jp",
    "ISO2022JP": JAPANESE,
    "ISO2022IR6": ASCII,
    "ISO2022IR13": "shift_jis",
    "ISO2022IR87": JAPANESE,
    "ISO2022IR159": JAPANESE,
    "ISO2022IR149": "euc_kr",
    "ISO2022IR58": "gb18030",
    "EUCKR": "euc_kr",
    "KSC5601": "euc_kr",
    "CP949": "cp949",
    "GB18030": "gb18030",
    "GBK": "gb18030",
    "GB2312": "gb18030",
    "CP936": "gb18030",
    "CP950": "cp950",
    "CNS11643": cns11643.CODEC,
    "EUCTW": cns11643.CODEC,
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


def codec_of(label: str) -> str | None:
    """The codec of one label, None for one that nobody knows."""
    key = _key(label)
    return TABLE_0211.get(key) or ALIASES.get(key)


def _key(label: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", label.upper())


def chosen(codecs: Iterable[str]) -> str | None:
    """The codec of the whole message among those of MSH-18's repetitions; None for no label.

    Alternates are reached by escape sequences; Japanese holds all of its sets in one codec.
    """
    found = list(codecs)
    if UNTRANSPORTABLE in found:
        return UNTRANSPORTABLE
    if JAPANESE in found:
        return JAPANESE
    eight_bit = [codec for codec in found if codec != ASCII]
    if eight_bit:
        return eight_bit[0]
    return ASCII if found else None


@lru_cache(maxsize=256)
def reply_codec(charsets: tuple[str, ...]) -> str | None:
    """The codec in which to answer whoever labels like that, None where nobody can."""
    codecs = [codec_of(label) for label in charsets if label and label != '""']
    if None in codecs:
        return None
    codec = chosen(codec for codec in codecs if codec) or ASCII
    if codec == JAPANESE:
        return ASCII  # its shifts could be taken for separators; our words need none
    return None if codec == UNTRANSPORTABLE else codec
