"""A whole message from bytes to text by MSH-18, and by policy where MSH-18 lies or is silent."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from broker.hl7 import iso2022
from broker.hl7.header import BOM, Header, Separators, trim_start
from broker.hl7.labels import (
    ASCII,
    DICOM_CHARSETS,
    JAPANESE,
    UNTRANSPORTABLE,
    chosen,
    codec_of,
)
from broker.hl7.refusal import Location, Refusal

MSH_18: Final = Location("MSH", 1, 18)
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
# What senders mean who label a standard set and use what their vendor added to it
SUPERSETS: Final[dict[str, tuple[str, ...]]] = {
    "shift_jis": ("cp932",),
    "euc_kr": ("cp949",),
    "cp950": ("big5hkscs",),
    JAPANESE: ("utf-8", "cp932"),
}
UTF8: Final = frozenset({"utf-8", "utf8", "utf_8"})
_C1: Final = bytes(range(0x80, 0xA0))
_SINGLE_BYTE: Final = ("iso8859_", "cp125")


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


@dataclass(slots=True)  # frozen ones are slow to make, and every message has one
class Decoded:
    """Text, the codec that it came from, whether the label was wrong, the nearest (0008,0005).

    `unswitched` tells of an ISO 2022 switch that was not taken back before a delimiter.
    """

    text: str
    codec: str
    repaired: bool
    dicom_charset: str
    unswitched: bool = False

    @property
    def oddity(self) -> str:
        """What had to be mended, as people are told of it; '' where nothing had to."""
        if self.unswitched:
            return "ISO 2022 was not switched back before a delimiter"
        return f"MSH-18 does not fit the bytes, read as {self.codec}" if self.repaired else ""


STANDARD_POLICY: Final = CharsetPolicy()


def decode(raw: bytes, header: Header, policy: CharsetPolicy = STANDARD_POLICY) -> Decoded:
    """Decode a whole message by MSH-18, before anything is split.

    Raises Refusal AE 103 (unknown label), AR 102 (UTF-16), AE 102 (no codec fits the bytes).
    """
    start = trim_start(raw)
    labelled = _labelled(header.charsets, policy.unknown)
    start = iso2022.shifted(start, header.separators.escape)
    if iso2022.ESC in start and iso2022.SWITCH.search(start):
        switched = _switched(start, labelled, policy, header.separators)
        if switched is not None:
            return switched
    if raw is not start and raw.lstrip().startswith(BOM):  # the best label there is
        policy = replace(policy, unlabelled=("utf-8", *policy.unlabelled))
        labelled = labelled if labelled in UTF8 else None
    if labelled is None or labelled == ASCII:
        # ASCII is a label that 8-bit bytes prove wrong
        candidates, honest = policy.unlabelled, labelled is None or start.isascii()
    else:
        candidates, honest = _candidates(start, labelled, policy), True
    text, codec, mixed = _first_fit(start, candidates)
    lie = not honest or mixed or (labelled not in (None, ASCII) and codec != labelled)
    silent = labelled in (None, ASCII) and start.isascii()
    return Decoded(text, codec, lie, "" if silent else _dicom_charset(codec))


def _candidates(raw: bytes, labelled: str, policy: CharsetPolicy) -> tuple[str, ...]:
    twin = WINDOWS_TWINS.get(labelled)
    likely = (twin,) if twin else SUPERSETS.get(labelled, ())
    if twin and not raw.isascii() and any(byte in raw for byte in _C1):
        return ("utf-8", twin, labelled)
    if labelled.startswith(_SINGLE_BYTE) and not raw.isascii() and _is_utf8_of(raw, labelled):
        return ("utf-8", labelled)
    return (labelled, *likely, *policy.fallback)


def _is_utf8_of(raw: bytes, labelled: str) -> bool:
    """Whether the bytes are UTF-8 of letters that the label has too: no text looks so by chance.

    STRÓŻ in 8859/2 is UTF-8 too, but of a letter that no sender of 8859/2 means.
    """
    try:
        raw.decode("utf-8").encode(labelled)
    except UnicodeError:
        return False
    return True


@lru_cache(maxsize=256)
def _labelled(charsets: tuple[str, ...], unknown: str) -> str | None:
    """Return the codec for MSH-18, None when nothing is labelled. Raises Refusal."""
    labels = [label for label in charsets if label and label != '""']
    codec = chosen([_codec(label, unknown) for label in labels])
    if codec == UNTRANSPORTABLE:
        raise Refusal(
            "UTF-16 and UTF-32 cannot be carried in MLLP blocks",
            code="102",
            acknowledgement="AR",
            location=MSH_18,
            remedy="send UNICODE UTF-8",
        )
    return codec


def _codec(label: str, unknown: str) -> str:
    codec = codec_of(label)
    if codec:
        return codec
    if unknown != "refuse":
        return unknown
    raise Refusal(
        "character set is not in HL7 table 0211",
        code="103",
        location=MSH_18,
        remedy="send a value of table 0211, or say in the mapping what it is, as "
        "source: {charset: {unknown: windows-1252}}",
    )


def _switched(
    raw: bytes, labelled: str | None, policy: CharsetPolicy, separators: Separators
) -> Decoded | None:
    """Follow ISO 2022 switches; they are 7-bit, so that a fit of another codec proves nothing.

    Raises Refusal AE 102 for Japanese that none of them can read: what it says would be garbage.
    """
    delimiters = f"{separators.field}{separators.component}{separators.repetition}".encode(
        "latin-1"
    )
    japanese = labelled in (None, ASCII, JAPANESE)
    before = "shift_jis" if japanese else labelled  # of 8-bit bytes before any switch
    candidates = (before, "utf-8", *policy.fallback) if japanese else (before, *policy.fallback)
    for codec in candidates:
        try:
            text, unswitched = iso2022.decode(raw, codec or ASCII, delimiters)
        except UnicodeDecodeError:
            continue
        found = JAPANESE if japanese else codec or ASCII
        # without a label there was nothing to be wrong
        mended = labelled == ASCII or unswitched
        return Decoded(text, found, mended, _dicom_charset(found), unswitched)
    if labelled == JAPANESE:
        raise _fits_nothing()
    return None


def _first_fit(raw: bytes, candidates: Iterable[str]) -> tuple[str, str, bool]:
    """The text, its codec, and whether single bytes had to be read by the next codec."""
    wanted = tuple(candidates)
    for at, codec in enumerate(wanted):
        try:
            return raw.decode(codec), codec, False
        except UnicodeDecodeError:
            if codec in UTF8 and (text := _mostly_utf8(raw, wanted[at + 1 :])):
                return text, codec, True
    raise _fits_nothing()


def _fits_nothing() -> Refusal:
    return Refusal(
        "the bytes fit no character set that MSH-18 or the source allows",
        code="102",
        location=MSH_18,
        remedy="label the message with the character set that it is in",
    )


def _mostly_utf8(raw: bytes, others: Iterable[str]) -> str:
    """UTF-8 with some bytes of another codec, as where a system cut a character in two; '' if not.

    One such byte must not turn every name of the message into that other codec's letters.
    """
    lenient = raw.decode("utf-8", "surrogateescape")
    strange = [character for character in lenient if "\udc80" <= character <= "\udcff"]
    proper = sum(character > "\x7f" for character in lenient) - len(strange)
    if proper < len(strange):
        return ""
    for codec in others:
        try:
            meant = {ord(each): _alone(each, codec) for each in set(strange)}
        except UnicodeDecodeError:
            continue
        return lenient.translate(meant)
    return ""


def _alone(stray: str, codec: str) -> str:
    return stray.encode("ascii", "surrogateescape").decode(codec)


def _dicom_charset(codec: str) -> str:
    return DICOM_CHARSETS.get(codec, "ISO_IR 192")
